package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Format writes a manifest as YAML or JSON ("yaml", "json"). Fields that say
// nothing are left out. note stands above it as a comment in YAML.
func (m Manifest) Format(format, note string) ([]byte, error) {
	y := encode(reflect.ValueOf(m))
	if y == nil {
		y = &yaml.Node{Kind: yaml.MappingNode}
	}
	if format == "json" {
		var b bytes.Buffer
		writeJSON(&b, y)
		var out bytes.Buffer
		if err := json.Indent(&out, b.Bytes(), "", "  "); err != nil {
			return nil, fmt.Errorf("write manifest: %w", err)
		}
		return append(out.Bytes(), '\n'), nil
	}
	var out bytes.Buffer
	for line := range strings.Lines(note) {
		out.WriteString("# " + strings.TrimRight(line, "\n") + "\n")
	}
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(y); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return out.Bytes(), e.Close()
}

func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s) // quoted where it would be read as something else
	return n
}

func bare(s, tag string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: s} }

// encode is nil for what says nothing.
func encode(v reflect.Value) *yaml.Node {
	switch x := v.Interface().(type) {
	case Flag:
		return bare(map[bool]string{true: "1", false: "0"}[bool(x)], "!!int")
	case Count:
		return bare(strconv.Itoa(int(x)), "!!int")
	case Size:
		return bare(sizeText(int64(x)), "!!str")
	case Variable:
		return encodeVariable(x)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return encode(v.Elem())
	case reflect.Struct:
		return encodeStruct(v)
	case reflect.Slice:
		if v.IsNil() {
			return nil
		}
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			n.Content = append(n.Content, encode(v.Index(i)))
		}
		return n
	case reflect.Map:
		return encodeMap(v)
	case reflect.Interface:
		n := &yaml.Node{}
		if n.Encode(v.Interface()) != nil {
			return nil
		}
		return n
	case reflect.Int:
		if v.Int() == 0 {
			return nil
		}
		return bare(strconv.FormatInt(v.Int(), 10), "!!int")
	default:
		if v.String() == "" {
			return nil
		}
		return text(v.String())
	}
}

func encodeStruct(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		name := fieldName(v.Type().Field(i))
		if name == "" {
			continue
		}
		if item := encode(v.Field(i)); item != nil {
			n.Content = append(n.Content, text(name), item)
		}
	}
	return n
}

func encodeMap(v reflect.Value) *yaml.Node {
	if v.Len() == 0 {
		return nil
	}
	byName := map[string]reflect.Value{}
	for _, k := range v.MapKeys() {
		byName[k.String()] = v.MapIndex(k)
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, k := range sortedKeys(byName) {
		item := encode(byName[k])
		if item == nil {
			item = text("")
		}
		n.Content = append(n.Content, text(k), item)
	}
	return n
}

func encodeVariable(v Variable) *yaml.Node {
	pair := func(name string, item *yaml.Node) *yaml.Node {
		return &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle, Content: []*yaml.Node{text(name), item}}
	}
	switch {
	case v.Left:
		return pair("secret", bare("null", "!!null"))
	case v.Random > 0:
		return pair("random", bare(strconv.Itoa(v.Random), "!!int"))
	case v.Secret:
		return pair("secret", text(v.Value))
	}
	return text(v.Value)
}

func sizeText(bytes int64) string {
	for _, u := range []struct {
		suffix string
		unit   int64
	}{{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}} {
		if bytes%u.unit == 0 {
			return strconv.FormatInt(bytes/u.unit, 10) + u.suffix
		}
	}
	return strconv.FormatInt((bytes+1<<10-1)/(1<<10), 10) + "K"
}

// writeJSON writes the same in the same order.
func writeJSON(b *bytes.Buffer, n *yaml.Node) {
	quoted := func(s string) {
		var q bytes.Buffer
		e := json.NewEncoder(&q)
		e.SetEscapeHTML(false)
		_ = e.Encode(s) // a text always encodes
		b.Write(bytes.TrimRight(q.Bytes(), "\n"))
	}
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			quoted(n.Content[i].Value)
			b.WriteByte(':')
			writeJSON(b, n.Content[i+1])
		}
		b.WriteByte('}')
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			writeJSON(b, item)
		}
		b.WriteByte(']')
	default:
		switch n.ShortTag() {
		case "!!int", "!!float", "!!bool", "!!null":
			if json.Valid([]byte(n.Value)) {
				b.WriteString(n.Value)
				return
			}
			if n.ShortTag() == "!!null" {
				b.WriteString("null")
				return
			}
		}
		quoted(n.Value)
	}
}
