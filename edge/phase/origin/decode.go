package origin

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// decoder reads JSON field by field, so that each refusal names its path. The
// first failure stays; what is asked after it does nothing.
type decoder struct{ err error }

func (d *decoder) fail(path, format string, args ...any) {
	if d.err != nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	if path == "" {
		path = "body"
	}
	d.err = fmt.Errorf("%s: %s", path, text)
}

// object calls each for every member in order. A name that stands there twice
// is refused: readers differ on which of the two counts.
func (d *decoder) object(raw json.RawMessage, path string, each func(name, path string, v json.RawMessage)) {
	if d.err != nil {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		d.fail(path, "must be a JSON object")
		return
	}
	seen := make(map[string]bool)
	for d.err == nil && dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			d.fail(path, "must be a JSON object")
			return
		}
		inner := name
		if path != "" {
			inner = path + "." + name
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			d.fail(inner, "is not JSON")
			return
		}
		if seen[name] {
			d.fail(inner, "stands here twice")
			return
		}
		seen[name] = true
		each(name, inner, v)
	}
	d.end(dec, path)
}

// array calls each for every element; more than limit of them are refused.
func (d *decoder) array(raw json.RawMessage, path string, limit int, each func(path string, v json.RawMessage)) {
	if d.err != nil {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		d.fail(path, "must be a JSON array")
		return
	}
	for i := 0; d.err == nil && dec.More(); i++ {
		if i == limit {
			d.fail(path, "at most %d are allowed", limit)
			return
		}
		inner := fmt.Sprintf("%s[%d]", path, i)
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			d.fail(inner, "is not JSON")
			return
		}
		each(inner, v)
	}
	d.end(dec, path)
}

// end takes the closing bracket and refuses what comes after it.
func (d *decoder) end(dec *json.Decoder, path string) {
	if d.err != nil {
		return
	}
	if _, err := dec.Token(); err != nil {
		d.fail(path, "is not JSON")
		return
	}
	if _, err := dec.Token(); err == nil || dec.More() {
		d.fail(path, "something follows the JSON value")
	}
}

func (d *decoder) text(raw json.RawMessage, path string) string {
	if d.err != nil {
		return ""
	}
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		d.fail(path, "must be a string, got %s", short(raw))
		return ""
	}
	return *s
}

func (d *decoder) boolean(raw json.RawMessage, path string) bool {
	if d.err != nil {
		return false
	}
	var b *bool
	if err := json.Unmarshal(raw, &b); err != nil || b == nil {
		d.fail(path, "must be true or false, got %s", short(raw))
		return false
	}
	return *b
}

func (d *decoder) port(raw json.RawMessage, path string) uint16 {
	if d.err != nil {
		return 0
	}
	var n *uint16
	if err := json.Unmarshal(raw, &n); err != nil || n == nil || *n == 0 {
		d.fail(path, "must be 1..65535, got %s", short(raw))
		return 0
	}
	return *n
}

func short(raw json.RawMessage) string {
	const most = 80
	if len(raw) > most {
		return string(raw[:most]) + "…"
	}
	return string(raw)
}
