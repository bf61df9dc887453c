// Package strictjson reads JSON member by member, so that each refusal names the
// path of what is refused: rules[3].action_parameters.edge_ttl.mode. Unlike
// encoding/json it refuses a member that stands there twice and null for a
// value that is needed.
package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Reader reads JSON. The first failure stays in Err, and begins with the path;
// what is asked after it does nothing.
type Reader struct{ Err error }

// Fail notes what is wrong at path.
func (d *Reader) Fail(path, format string, args ...any) {
	if d.Err != nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	if path == "" {
		path = "body"
	}
	d.Err = fmt.Errorf("%s: %s", path, text)
}

// Unknown refuses the member at path.
func (d *Reader) Unknown(path string) { d.Fail(path, "no field has this name") }

// Object calls each for every member in order. A name that stands there twice
// is refused: readers differ on which of the two counts.
func (d *Reader) Object(raw json.RawMessage, path string, each func(name, path string, v json.RawMessage)) {
	if d.Err != nil {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		d.Fail(path, "must be a JSON object")
		return
	}
	seen := make(map[string]bool)
	for d.Err == nil && dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			d.Fail(path, "must be a JSON object")
			return
		}
		inner := name
		if path != "" {
			inner = path + "." + name
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			d.Fail(inner, "is not JSON")
			return
		}
		if seen[name] {
			d.Fail(inner, "stands here twice")
			return
		}
		seen[name] = true
		each(name, inner, v)
	}
	d.end(dec, path)
}

// Array calls each for every element; more than limit of them are refused.
func (d *Reader) Array(raw json.RawMessage, path string, limit int, each func(path string, v json.RawMessage)) {
	if d.Err != nil {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		d.Fail(path, "must be a JSON array")
		return
	}
	for i := 0; d.Err == nil && dec.More(); i++ {
		if i == limit {
			d.Fail(path, "at most %d are allowed", limit)
			return
		}
		inner := fmt.Sprintf("%s[%d]", path, i)
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			d.Fail(inner, "is not JSON")
			return
		}
		each(inner, v)
	}
	d.end(dec, path)
}

// end takes the closing bracket and refuses what comes after it.
func (d *Reader) end(dec *json.Decoder, path string) {
	if d.Err != nil {
		return
	}
	if _, err := dec.Token(); err != nil {
		d.Fail(path, "is not JSON")
		return
	}
	if _, err := dec.Token(); err == nil || dec.More() {
		d.Fail(path, "something follows the JSON value")
	}
}

// Text reads a string.
func (d *Reader) Text(raw json.RawMessage, path string) string {
	if d.Err != nil {
		return ""
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		d.Fail(path, "must be a string, got %s", Short(raw))
		return ""
	}
	return *s
}

// Bool reads true or false.
func (d *Reader) Bool(raw json.RawMessage, path string) bool {
	if d.Err != nil {
		return false
	}
	var b *bool
	if err := json.Unmarshal(raw, &b); err != nil || b == nil {
		d.Fail(path, "must be true or false, got %s", Short(raw))
		return false
	}
	return *b
}

// Int reads a whole number from least to most.
func (d *Reader) Int(raw json.RawMessage, path string, least, most int64) int64 {
	if d.Err != nil {
		return 0
	}
	var n *int64
	if err := json.Unmarshal(raw, &n); err != nil || n == nil || *n < least || *n > most {
		d.Fail(path, "must be %d..%d, got %s", least, most, Short(raw))
		return 0
	}
	return *n
}

// Texts reads an array of at most limit strings.
func (d *Reader) Texts(raw json.RawMessage, path string, limit int) []string {
	list := []string{}
	d.Array(raw, path, limit, func(path string, v json.RawMessage) { list = append(list, d.Text(v, path)) })
	return list
}

// Short is a value for a message, cut where it is long.
func Short(raw json.RawMessage) string {
	const most = 80
	if len(raw) > most {
		return string(raw[:most]) + "…"
	}
	return string(raw)
}
