package services

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"nutshell/roles/api"
)

// Describe turns a kind into what clients are shown. Settings come from the
// struct's tags, and those of structs embedded in it: json (name), title,
// help, type (string, integer, boolean, size, list, text; by default from the
// Go type), enum ("a|b"), pattern, min, max, unit, restart ("true"); defaults
// are the values in the struct.
func (k Kind) Describe() api.Kind {
	d := api.Kind{Name: k.Name, Title: k.Title, Summary: k.Summary, Actions: k.Actions, Code: k.Code, Packages: k.Packages, Settings: []api.Setting{}, Parts: []api.Part{},
		Offers: append([]api.Offer{}, k.Offers...), Secrets: []api.Secret{}, Volumes: k.Volumes, Backups: k.Backups != nil}
	for _, s := range k.Secrets {
		d.Secrets = append(d.Secrets, api.Secret{Name: s.Name, Title: s.Title, Help: s.Help, Own: s.Own})
	}
	if d.Actions == nil {
		d.Actions = []api.Action{}
	}
	for i := range d.Actions {
		if d.Actions[i].Params == nil {
			d.Actions[i].Params = []api.Parameter{}
		}
	}
	for _, p := range k.Parts {
		ports := p.Ports
		if ports == nil {
			ports = []api.Port{}
		}
		part := api.Part{Name: p.Name, Title: p.Title, Summary: p.Summary, Default: p.Default, Min: p.Min, Max: p.Max, Fixed: p.Fixed, Ports: ports, To: append([]string{}, p.To...)}
		if p.Volume != nil {
			part.Volume = p.Volume.Name
		}
		d.Parts = append(d.Parts, part)
	}
	if k.Settings == nil {
		return d
	}
	for _, f := range fields(reflect.ValueOf(k.Settings).Elem()) {
		d.Settings = append(d.Settings, describeField(f.StructField, f.value))
	}
	return d
}

type field struct {
	reflect.StructField
	value reflect.Value
}

// fields are those of a struct and of the structs embedded in it.
func fields(v reflect.Value) []field {
	var all []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			all = append(all, fields(v.Field(i))...)
			continue
		}
		all = append(all, field{f, v.Field(i)})
	}
	return all
}

func describeField(f reflect.StructField, v reflect.Value) api.Setting {
	def, err := json.Marshal(v.Interface())
	if err != nil {
		panic("services: setting " + f.Name + " cannot be JSON: " + err.Error()) // a bug in the kind
	}
	s := api.Setting{Name: f.Tag.Get("json"), Title: f.Tag.Get("title"), Help: f.Tag.Get("help"), Type: f.Tag.Get("type"), Default: def,
		Pattern: f.Tag.Get("pattern"), Unit: f.Tag.Get("unit"), Restart: f.Tag.Get("restart") == "true"}
	if e := f.Tag.Get("enum"); e != "" {
		s.Enum = strings.Split(e, "|")
	}
	if s.Type == "" {
		s.Type = map[reflect.Kind]string{reflect.Bool: "boolean", reflect.Int: "integer", reflect.Int64: "integer", reflect.Slice: "list"}[v.Kind()]
		if s.Type == "" {
			s.Type = "string"
		}
	}
	s.Min, s.Max = tagNumber(f, "min"), tagNumber(f, "max")
	return s
}

func tagNumber(f reflect.StructField, tag string) *int64 {
	t := f.Tag.Get(tag)
	if t == "" {
		return nil
	}
	n, err := strconv.ParseInt(t, 10, 64)
	if err != nil {
		panic("services: setting " + f.Name + ": tag " + tag + ": " + err.Error()) // a bug in the kind
	}
	return &n
}

// DefaultSettings are the kind's settings as JSON.
func (k Kind) DefaultSettings() json.RawMessage {
	if k.Settings == nil {
		return json.RawMessage("{}")
	}
	b, err := json.Marshal(k.Settings)
	if err != nil {
		panic("services: settings of " + k.Name + " cannot be JSON: " + err.Error()) // a bug in the kind
	}
	return b
}

// MergeSettings lays patch over current, checks the result against the
// description and returns it complete. Unknown names and bad values are
// errors of code invalid that name the field.
func (k Kind) MergeSettings(current, patch json.RawMessage) (json.RawMessage, error) {
	invalid := func(field, format string, args ...any) error {
		return &api.Error{Code: api.CodeInvalid, Object: "setting " + api.Shorten(field), Message: fmt.Sprintf(format, args...), Fields: []string{field}}
	}
	var set map[string]json.RawMessage
	if err := json.Unmarshal(patch, &set); err != nil {
		return nil, &api.Error{Code: api.CodeInvalid, Message: "settings must be a JSON object", Err: err}
	}
	description := k.Describe().Settings
	for name := range set {
		if !slices.ContainsFunc(description, func(s api.Setting) bool { return s.Name == name }) {
			names := make([]string, len(description))
			for i, s := range description {
				names[i] = s.Name
			}
			return nil, invalid(name, "%s has no such setting; it has: %s", k.Name, strings.Join(names, ", "))
		}
	}
	if k.Settings == nil {
		return json.RawMessage("{}"), nil
	}
	full := reflect.New(reflect.TypeOf(k.Settings).Elem())
	for _, layer := range []json.RawMessage{k.DefaultSettings(), current, patch} { // not a copy of the struct: decoding would write into the defaults' own lists
		if len(layer) == 0 {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(layer))
		if err := d.Decode(full.Interface()); err != nil {
			field := "settings"
			var te *json.UnmarshalTypeError
			if errors.As(err, &te) {
				field = te.Field[strings.LastIndexByte(te.Field, '.')+1:] // without the struct it is embedded in
			}
			return nil, invalid(field, "%v", err)
		}
	}
	values := fields(full.Elem())
	for i, s := range description {
		if err := checkSetting(s, values[i].value); err != nil {
			return nil, invalid(s.Name, "%v", err)
		}
	}
	if k.Check != nil {
		if err := k.Check(full.Interface()); err != nil {
			return nil, err
		}
	}
	return json.Marshal(full.Interface())
}

var sizePattern = regexp.MustCompile(`^[1-9][0-9]{0,8}[KMG]?$`)

func checkSetting(s api.Setting, v reflect.Value) error {
	switch v.Kind() { //nolint:exhaustive // others have no limits
	case reflect.Int, reflect.Int64:
		if s.Min != nil && v.Int() < *s.Min {
			return fmt.Errorf("%d is less than %d", v.Int(), *s.Min)
		}
		if s.Max != nil && v.Int() > *s.Max {
			return fmt.Errorf("%d is more than %d", v.Int(), *s.Max)
		}
	case reflect.String:
		text := v.String()
		if s.Max != nil && int64(len(text)) > *s.Max {
			return fmt.Errorf("%d bytes are more than %d", len(text), *s.Max)
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
			return fmt.Errorf("%s is not one of %s", api.Shorten(text), strings.Join(s.Enum, ", "))
		}
		if s.Type == "size" && !sizePattern.MatchString(text) {
			return fmt.Errorf("%s is not a size such as 64M", api.Shorten(text))
		}
		if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text) {
			return fmt.Errorf("%s does not have the form %s", api.Shorten(text), s.Pattern)
		}
		if s.Type != "text" && strings.ContainsAny(text, "\x00\r\n") {
			return fmt.Errorf("%s holds a line break", api.Shorten(text))
		}
	}
	return nil
}

// Bytes reads a setting of type size that has passed its pattern, such as 64M.
func Bytes(size string) int64 {
	unit := int64(1)
	switch {
	case strings.HasSuffix(size, "K"):
		unit = 1 << 10
	case strings.HasSuffix(size, "M"):
		unit = 1 << 20
	case strings.HasSuffix(size, "G"):
		unit = 1 << 30
	}
	n, err := strconv.ParseInt(strings.TrimRight(size, "KMG"), 10, 64)
	if err != nil {
		return 0
	}
	return n * unit
}
