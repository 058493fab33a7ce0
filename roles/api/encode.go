package api

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// Encode is v as it is sent: JSON whose lists and maps are never null, without
// the escapes that only browsers of the nineties needed. It leaves v as it is.
func Encode(v any) ([]byte, error) {
	if whole, changed := filled(reflect.ValueOf(v)); changed {
		v = whole.Interface()
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// filled is v with empty lists and maps in place of nil ones, and whether
// there were any; what holds one is copied, because others may hold v, too.
func filled(v reflect.Value) (reflect.Value, bool) {
	switch v.Kind() { // the others hold nothing
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 { // bytes, and JSON that is sent as it is
			return v, false
		}
		if v.IsNil() {
			return reflect.MakeSlice(v.Type(), 0, 0), true
		}
		return filledList(v)
	case reflect.Map:
		if v.IsNil() {
			return reflect.MakeMap(v.Type()), true
		}
		return filledMap(v)
	case reflect.Pointer:
		if v.IsNil() {
			return v, false
		}
		inner, changed := filled(v.Elem())
		if !changed {
			return v, false
		}
		p := reflect.New(v.Type().Elem())
		p.Elem().Set(inner)
		return p, true
	case reflect.Interface:
		if v.IsNil() {
			return v, false
		}
		return filled(v.Elem())
	case reflect.Struct:
		return filledStruct(v)
	default:
		return v, false
	}
}

func filledList(v reflect.Value) (reflect.Value, bool) {
	var all reflect.Value
	for i := range v.Len() {
		one, changed := filled(v.Index(i))
		if !changed {
			continue
		}
		if !all.IsValid() {
			all = reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(all, v)
		}
		all.Index(i).Set(one)
	}
	if all.IsValid() {
		return all, true
	}
	return v, false
}

func filledMap(v reflect.Value) (reflect.Value, bool) {
	var all reflect.Value
	for _, key := range v.MapKeys() {
		one, changed := filled(v.MapIndex(key))
		if !changed {
			continue
		}
		if !all.IsValid() {
			all = reflect.MakeMapWithSize(v.Type(), v.Len())
			for _, k := range v.MapKeys() {
				all.SetMapIndex(k, v.MapIndex(k))
			}
		}
		all.SetMapIndex(key, one)
	}
	if all.IsValid() {
		return all, true
	}
	return v, false
}

func filledStruct(v reflect.Value) (reflect.Value, bool) {
	t := v.Type()
	if t == reflect.TypeFor[time.Time]() {
		return v, false
	}
	var all reflect.Value
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() || strings.Contains(f.Tag.Get("json"), ",omit") && v.Field(i).IsZero() {
			continue
		}
		one, changed := filled(v.Field(i))
		if !changed {
			continue
		}
		if !all.IsValid() {
			all = reflect.New(t).Elem()
			all.Set(v)
		}
		all.Field(i).Set(one)
	}
	if all.IsValid() {
		return all, true
	}
	return v, false
}
