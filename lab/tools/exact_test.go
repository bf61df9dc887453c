package tools

import (
	"reflect"
	"strings"
	"testing"
)

// exact fails when an answer has fields that the SDK does not know, or lacks
// fields that it requires. allowed are extra fields that are there on purpose.
func exact(t *testing.T, what string, v any, allowed ...string) {
	t.Helper()
	skip := map[string]bool{}
	for _, name := range allowed {
		skip[name] = true
	}
	walk(t, what, reflect.ValueOf(v), skip)
}

func walk(t *testing.T, path string, v reflect.Value, skip map[string]bool) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			walk(t, path, v.Elem(), skip)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(t, path+"[]", v.Index(i), skip)
		}
	case reflect.Struct:
		walkStruct(t, path, v, skip)
	}
}

func walkStruct(t *testing.T, path string, v reflect.Value, skip map[string]bool) {
	t.Helper()
	meta := v.FieldByName("JSON")
	if !meta.IsValid() {
		return
	}
	// A union keeps what its variants share as fields of its own and lists them
	// as extra all the same.
	known := map[string]bool{}
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		known[name] = true
	}
	if extra := meta.FieldByName("ExtraFields"); extra.IsValid() {
		for _, key := range extra.MapKeys() {
			if !skip[key.String()] && !known[key.String()] {
				t.Errorf("%s: the SDK does not know the field %q", path, key)
			}
		}
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Name == "JSON" || !field.IsExported() {
			continue
		}
		if absent(meta.FieldByName(field.Name)) {
			if field.Tag.Get("api") == "required" {
				t.Errorf("%s: the SDK requires the field %s", path, field.Tag.Get("json"))
			}
			continue
		}
		walk(t, path+"."+field.Name, v.Field(i), skip)
	}
}

func absent(meta reflect.Value) bool {
	if !meta.IsValid() {
		return false
	}
	state, ok := meta.Interface().(interface{ IsMissing() bool })
	return ok && state.IsMissing()
}
