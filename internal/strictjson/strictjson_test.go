package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestRefusalsNameThePath(t *testing.T) {
	for body, want := range map[string]string{
		`[]`: "body: must be a JSON object", `{"a":1,"a":2}`: "a: stands here twice", `{"list":[1]}`: "list[0]: must be a string, got 1",
		`{"list":["a","b","c"]}`: "list: at most 2 are allowed", `{"list":null}`: "list: must be a JSON array", `{"n":null}`: "n: must be 1..5, got null",
		`{"n":6}`: "n: must be 1..5, got 6", `{"n":1.5}`: "n: must be 1..5", `{"b":"true"}`: `b: must be true or false, got "true"`,
		`{"t":` + `"` + strings.Repeat("x", 200) + `"`: "body: is not JSON", `{"b":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`: "b: must be true or false, got [[[",
		`{"n":1} x`: "body: something follows the JSON value", `{"n":1`: "body: is not JSON", `{"n"}`: "n: is not JSON", ``: "body: must be a JSON object",
	} {
		d := &Reader{}
		read(d, body)
		if d.Err == nil || !strings.HasPrefix(d.Err.Error(), want) || len(d.Err.Error()) > 200 {
			t.Errorf("%.40s: %v, want %s", body, d.Err, want)
		}
	}
	d := &Reader{}
	if got := read(d, `{"list":["a","b"],"n":5,"b":true,"t":"x"}`); d.Err != nil || got != 2 {
		t.Errorf("%v, %d texts", d.Err, got)
	}
}

func read(d *Reader, body string) (texts int) {
	d.Object(json.RawMessage(body), "", func(name, path string, v json.RawMessage) {
		switch name {
		case "list":
			texts = len(d.Texts(v, path, 2))
		case "n":
			d.Int(v, path, 1, 5)
		case "b":
			d.Bool(v, path)
		case "t":
			d.Text(v, path)
		}
	})
	return texts
}

func FuzzReader(f *testing.F) {
	f.Add(`{"list":["a"],"n":5,"b":true,"t":"x"}`)
	f.Fuzz(func(t *testing.T, body string) {
		d := &Reader{}
		read(d, body)
		if d.Err == nil && !json.Valid([]byte(body)) {
			t.Fatalf("%q is accepted", body)
		}
	})
}
