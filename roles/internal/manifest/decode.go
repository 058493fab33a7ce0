package manifest

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"nutshell/roles/api"
)

// Parse reads a manifest, JSON or YAML. Fields that do not exist are errors
// with their line and the name that was probably meant. Check is to follow.
func Parse(text []byte) (Manifest, error) {
	var m Manifest
	n, err := parse(text)
	if err != nil {
		return m, err
	}
	if n.shape != mapping {
		return m, wrong(n.line, "", "begin with Services:", "a manifest is a set of fields, such as Application and Services")
	}
	return m, decode(n, reflect.ValueOf(&m).Elem(), "")
}

// fieldName is what a Go field is called in a manifest; empty: it is not there.
func fieldName(f reflect.StructField) string {
	switch {
	case f.Tag.Get("manifest") == "-":
		return ""
	case f.Tag.Get("json") != "":
		return f.Tag.Get("json")
	}
	return f.Name
}

// decode fills v. path says where n stands, for people.
func decode(n *node, v reflect.Value, path string) error {
	if n.kind == "null" && v.Type() != reflect.TypeFor[Variable]() {
		return nil // as if it were not there
	}
	switch v.Interface().(type) {
	case Flag:
		return decodeFlag(n, v, path)
	case Count:
		return decodeNumber(n, v, path, math.MaxInt32)
	case Size:
		return decodeSize(n, v, path)
	case Variable:
		return decodeVariable(n, v, path)
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decode(n, v.Elem(), path)
	case reflect.Struct:
		return decodeStruct(n, v, path)
	case reflect.Slice:
		return decodeList(n, v, path)
	case reflect.Map:
		return decodeMap(n, v, path)
	case reflect.Int:
		return decodeNumber(n, v, path, math.MaxInt32)
	case reflect.Interface:
		if value := plain(n); value != nil {
			v.Set(reflect.ValueOf(value))
		}
		return nil
	default:
		if n.shape != scalar {
			return wrong(n.line, path, "", "%s is a text, not a list or a set of fields", path)
		}
		v.SetString(n.text)
		return nil
	}
}

func decodeStruct(n *node, v reflect.Value, path string) error {
	if n.shape != mapping {
		return wrong(n.line, path, "", "%s is a set of fields", path)
	}
	var known []string
	at := map[string]int{}
	for i := range v.NumField() {
		if name := fieldName(v.Type().Field(i)); name != "" {
			known, at[name] = append(known, name), i
		}
	}
	for i, key := range n.keys {
		field, ok := at[key]
		if !ok {
			return unknown(n.lines[i], key, path, known)
		}
		if err := decode(n.items[i], v.Field(field), join(path, key)); err != nil {
			return err
		}
	}
	if s, ok := v.Addr().Interface().(*Service); ok {
		s.Line = n.line
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// unknown is the error of a field that does not exist.
func unknown(line int, key, path string, known []string) error {
	hint, best := "one of: "+strings.Join(known, ", "), 1+len(key)/2
	for _, k := range known {
		if d := api.Distance(strings.ToLower(key), strings.ToLower(k)); d < best {
			best, hint = d, "did you mean "+k+"?"
		}
	}
	where := "a manifest"
	if path != "" {
		where = path
	}
	return wrong(line, key, hint, "%s has no field %s", where, api.Shorten(key))
}

func decodeList(n *node, v reflect.Value, path string) error {
	if n.shape == scalar && v.Type().Elem().Kind() == reflect.String { // Bind: db
		v.Set(reflect.ValueOf([]string{n.text}))
		return nil
	}
	if n.shape != sequence {
		return wrong(n.line, path, "", "%s is a list", path)
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	for i, item := range n.items {
		if err := decode(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i+1)); err != nil {
			return err
		}
	}
	return nil
}

func decodeMap(n *node, v reflect.Value, path string) error {
	if n.shape != mapping {
		return wrong(n.line, path, "", "%s is a set of names with their values", path)
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.keys)))
	for i, key := range n.keys {
		item := reflect.New(v.Type().Elem()).Elem()
		if err := decode(n.items[i], item, join(path, key)); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key), item)
	}
	return nil
}

func decodeFlag(n *node, v reflect.Value, path string) error {
	switch strings.ToLower(n.text) {
	case "1", "true":
		v.SetBool(true)
	case "0", "false":
		v.SetBool(false)
	default:
		return wrong(n.line, path, "write 0 or 1", "%s is neither 0 nor 1: %s", path, api.Shorten(n.text))
	}
	return nil
}

func decodeNumber(n *node, v reflect.Value, path string, most int64) error {
	i, err := strconv.ParseInt(n.text, 10, 64)
	if n.shape != scalar || err != nil || i < 0 || i > most {
		return wrong(n.line, path, "", "%s is a whole number from 0 on, not %s", path, api.Shorten(n.text))
	}
	v.SetInt(i)
	return nil
}

// decodeSize reads 2G, 500M and, as ConPaaS did, plain megabytes.
func decodeSize(n *node, v reflect.Value, path string) error {
	text := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(n.text), "B"), "I")
	unit := int64(1 << 20)
	for suffix, bytes := range map[string]int64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = rest, bytes
			break
		}
	}
	i, err := strconv.ParseInt(text, 10, 64)
	if n.shape != scalar || err != nil || i <= 0 || i > math.MaxInt64/unit {
		return wrong(n.line, path, "write it as 500M or 2G", "%s is no size: %s", path, api.Shorten(n.text))
	}
	v.SetInt(i * unit)
	return nil
}

// longestRandom bounds a secret that is made up.
const longestRandom = 1024

func decodeVariable(n *node, v reflect.Value, path string) error {
	if n.shape == scalar {
		v.Set(reflect.ValueOf(Variable{Value: n.text}))
		return nil
	}
	bad := wrong(n.line, path, "write a text, {secret: TEXT} or {random: LENGTH}", "%s is no value of a variable", path)
	if n.shape != mapping || len(n.keys) != 1 || n.items[0].shape != scalar {
		return bad
	}
	item := n.items[0]
	switch n.keys[0] {
	case "secret":
		v.Set(reflect.ValueOf(Variable{Value: item.text, Secret: true, Left: item.kind == "null"}))
	case "random":
		length, err := strconv.Atoi(item.text)
		if err != nil || length < 8 || length > longestRandom {
			return wrong(item.line, path, "", "%s has a random secret of %s letters; 8 to %d can be", path, api.Shorten(item.text), longestRandom)
		}
		v.Set(reflect.ValueOf(Variable{Secret: true, Random: length}))
	default:
		return bad
	}
	return nil
}

// plain is a value of the kind's settings, which the kind checks.
func plain(n *node) any {
	switch n.shape { //nolint:exhaustive // scalars follow
	case mapping:
		m := make(map[string]any, len(n.keys))
		for i, k := range n.keys {
			m[k] = plain(n.items[i])
		}
		return m
	case sequence:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = plain(item)
		}
		return list
	}
	switch n.kind {
	case "number":
		if i, err := strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 0, 64); err == nil {
			return i
		}
		if f, err := strconv.ParseFloat(n.text, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
	case "boolean":
		return strings.EqualFold(n.text, "true")
	case "null":
		return nil
	}
	return n.text
}
