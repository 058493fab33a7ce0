package httpapi

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// worded is a type of text that says what it can be.
type worded interface{ Words() []string }

// document is the OpenAPI document as it is sent. It says more than requests
// are checked against, so that types can be made of it: which words a text can
// be, that lists are never null, and what embedded types hold. Handlers check
// words themselves and say what is meant.
func (s *Server) document() ([]byte, error) {
	raw, err := json.Marshal(s.api.OpenAPI())
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	components, _ := doc["components"].(map[string]any)
	schemas, _ := components["schemas"].(map[string]any)
	d := described{s.api.OpenAPI().Components.Schemas, schemas}
	for name := range schemas {
		d.object(name)
	}
	d.unused(doc)
	noNulls(doc)
	return json.Marshal(doc)
}

// described is the schemas of the document with the types that they are of.
type described struct {
	registry huma.Registry
	schemas  map[string]any
}

func (d described) object(name string) {
	t := d.registry.TypeFromRef("#/components/schemas/" + name)
	schema, _ := d.schemas[name].(map[string]any)
	if t == nil || t.Kind() != reflect.Struct || schema == nil {
		return
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous && !f.IsExported() { // huma passes it over, JSON does not
			d.embed(schema, properties, f.Type)
			continue
		}
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		property, ok := properties[key].(map[string]any)
		if !ok {
			continue
		}
		if of := f.Tag.Get("schema"); of != "" {
			property["type"], property["additionalProperties"] = of, true
		}
		if f.Type.Kind() == reflect.Pointer && strings.Contains(options, "omit") {
			notNull(property)
		}
		words(property, f.Type)
	}
}

func (d described) embed(schema, properties map[string]any, t reflect.Type) {
	raw, err := json.Marshal(d.registry.Schema(t, false, ""))
	if err != nil {
		return
	}
	var inner struct {
		Properties map[string]any `json:"properties"`
		Required   []any          `json:"required"`
	}
	if json.Unmarshal(raw, &inner) != nil {
		return
	}
	for k, v := range inner.Properties {
		properties[k] = v
	}
	required, _ := schema["required"].([]any)
	schema["required"] = append(required, inner.Required...)
}

// words says which words a text can be, however deep it is.
func words(schema map[string]any, t reflect.Type) {
	if w, ok := reflect.Zero(t).Interface().(worded); ok && t.Kind() == reflect.String {
		schema["enum"] = w.Words()
		return
	}
	next := ""
	switch t.Kind() { //nolint:exhaustive // the others hold no texts
	case reflect.Pointer:
		words(schema, t.Elem())
	case reflect.Slice, reflect.Array:
		next = "items"
	case reflect.Map:
		next = "additionalProperties"
	}
	if inner, ok := schema[next].(map[string]any); ok {
		words(inner, t.Elem())
	}
}

// unused takes out what huma describes for itself only.
func (d described) unused(doc map[string]any) {
	for gone := true; gone; {
		gone = false
		used := map[string]bool{}
		references(doc, used)
		for name := range d.schemas {
			if !used["#/components/schemas/"+name] {
				delete(d.schemas, name)
				gone = true
			}
		}
	}
}

// references collects the texts of a document: what refers to another part of
// it is one of them.
func references(v any, used map[string]bool) {
	switch v := v.(type) {
	case string:
		used[v] = true
	case map[string]any:
		for _, inner := range v {
			references(inner, used)
		}
	case []any:
		for _, inner := range v {
			references(inner, used)
		}
	}
}

// noNulls makes every list one that is never null: api.Encode sees to it.
func noNulls(v any) {
	switch v := v.(type) {
	case map[string]any:
		if types, ok := v["type"].([]any); ok && slices.Contains(types, any("array")) {
			notNull(v)
		}
		for _, inner := range v {
			noNulls(inner)
		}
	case []any:
		for _, inner := range v {
			noNulls(inner)
		}
	}
}

func notNull(schema map[string]any) {
	if types, ok := schema["type"].([]any); ok && len(types) == 2 && types[1] == "null" {
		schema["type"] = types[0]
	}
}
