package manifest

import (
	"reflect"
	"slices"
)

// Kind is what a schema says of one kind of services.
type Kind struct {
	Name     string
	Parts    []string
	Settings map[string]any // JSON schema of each
}

// Schema is the JSON schema of a manifest (2020-12), with the kinds that there
// are. Editors check and complete by it.
func Schema(kinds []Kind) map[string]any {
	root := schemaOf(reflect.TypeFor[Manifest]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Nutshell manifest"
	root["required"] = []string{"Services"}
	service := root["properties"].(map[string]any)["Services"].(map[string]any)["items"].(map[string]any)
	var names []string
	var rules []any
	for _, k := range kinds {
		names = append(names, k.Name)
		of := map[string]any{"Type": map[string]any{"const": k.Name}}
		parts := map[string]any{"count": map[string]any{"type": "integer", "minimum": 0}}
		for _, p := range k.Parts {
			parts[p] = map[string]any{"type": "integer", "minimum": 0}
		}
		for old, now := range older[k.Name] {
			if slices.Contains(k.Parts, now) {
				parts[old] = map[string]any{"type": "integer", "minimum": 0, "deprecated": true}
			}
		}
		rules = append(rules, map[string]any{"if": map[string]any{"properties": of, "required": []string{"Type"}}, "then": map[string]any{"properties": map[string]any{
			"StartupInstances": map[string]any{"properties": parts, "additionalProperties": false},
			"Settings":         map[string]any{"properties": k.Settings, "additionalProperties": false},
		}}})
	}
	service["properties"].(map[string]any)["Type"].(map[string]any)["enum"] = names
	service["allOf"] = rules
	return root
}

func schemaOf(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[Flag]():
		return map[string]any{"enum": []any{0, 1, false, true}}
	case reflect.TypeFor[Count]():
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.TypeFor[Size]():
		return map[string]any{"type": []string{"string", "integer"}}
	case reflect.TypeFor[Variable]():
		one := func(name string, of map[string]any) map[string]any {
			return map[string]any{"type": "object", "properties": map[string]any{name: of}, "required": []string{name}, "additionalProperties": false}
		}
		return map[string]any{"anyOf": []any{map[string]any{"type": []string{"string", "number", "boolean"}}, one("secret", map[string]any{"type": []string{"string", "null"}}),
			one("random", map[string]any{"type": "integer", "minimum": 8, "maximum": longestRandom})}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Struct:
		return schemaOfStruct(t)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return map[string]any{"type": "object"}
		}
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Int:
		return map[string]any{"type": "integer", "minimum": 0}
	default:
		return map[string]any{"type": "string"}
	}
}

func schemaOfStruct(t reflect.Type) map[string]any {
	properties := map[string]any{}
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		name := fieldName(f)
		if name == "" {
			continue
		}
		p := schemaOf(f.Type)
		p["description"] = f.Tag.Get("help")
		properties[name] = p
		if f.Tag.Get("required") == "true" {
			required = append(required, name)
		}
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// Field is a field for the table in the docs.
type Field struct{ Level, Name, Help string }

// Fields lists all fields in their order.
func Fields() []Field {
	var list []Field
	for _, of := range []struct {
		level string
		t     reflect.Type
	}{{"manifest", reflect.TypeFor[Manifest]()}, {"service", reflect.TypeFor[Service]()}, {"VolumeStartup", reflect.TypeFor[VolumeStartup]()}, {"Volumes", reflect.TypeFor[Volume]()}} {
		for i := range of.t.NumField() {
			if name := fieldName(of.t.Field(i)); name != "" {
				list = append(list, Field{of.level, name, of.t.Field(i).Tag.Get("help")})
			}
		}
	}
	return list
}
