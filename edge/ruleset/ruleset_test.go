package ruleset

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/internal/strictjson"
	"github.com/selvage-edge/selvage/zone"
)

var kind = Kind{Phase: "http_request_test", Action: "set", Most: 3}

// number takes {"n":1..9}.
func number(d *strictjson.Reader, raw json.RawMessage, path string) (n int64) {
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		if name != "n" {
			d.Unknown(path)
			return
		}
		n = d.Int(v, path, 1, 9)
	})
	return n
}

const rule = `{"expression":"true","action":"set","action_parameters":{"n":4}}`

func TestRead(t *testing.T) {
	list, err := Read(json.RawMessage(`{"id":"a","name":"b","description":"c","kind":"zone","version":"1","last_updated":"d","phase":"http_request_test","rules":[`+
		rule+`,{"expression":"false","action":"set","action_parameters":{"n":5},"enabled":false},`+
		`{"id":"x","ref":"y","version":"2","last_updated":"z","description":"","enabled":true,"action_parameters":{"n":6},"action":"set","expression":"http.host eq \"a\""}]}`), kind, number)
	if err != nil || len(list) != 2 || list[0].Set != 4 || list[1].Set != 6 || list[0].When == nil || list[1].When == nil {
		t.Errorf("got %+v, %v", list, err)
	}
	for _, body := range []string{`{}`, `{"rules":[]}`} {
		if list, err := Read(json.RawMessage(body), kind, number); err != nil || list != nil {
			t.Errorf("%s: got %v, %v", body, list, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	one := func(member string) string { return `{"rules":[` + rule + `,{` + member + `}]}` }
	for body, want := range map[string]string{
		``:                               "body: must be a JSON object",
		`{"rulez":[]}`:                   "rulez: no field has this name",
		`{"phase":"http_request_other"}`: `phase: must be "http_request_test", got "http_request_other"`,
		`{"version":2}`:                  "version: must be a string",
		`{"rules":{}}`:                   "rules: must be a JSON array",
		`{"rules":[` + rule + "," + rule + "," + rule + "," + rule + `]}`: "rules: at most 3 are allowed",
		one(`"what":1`):                                                       "rules[1].what: no field has this name",
		one(`"logging":{"enabled":true}`):                                     "rules[1].logging: is not supported in this phase",
		one(`"expression":"(","action":"set"`):                                "rules[1].expression: ",
		one(`"expression":""`):                                                "rules[1].expression: ",
		one(`"action":"set","action_parameters":{"n":1}`):                     "rules[1].expression: is needed",
		one(`"expression":"true","action_parameters":{"n":1}`):                "rules[1].action: is needed",
		one(`"expression":"true","action":"set"`):                             "rules[1].action_parameters: is needed",
		one(`"expression":"true","action":"block"`):                           `rules[1].action: must be "set", got "block"`,
		one(`"expression":"true","action":"set","action_parameters":{"n":0}`): "rules[1].action_parameters.n: must be 1..9, got 0",
		one(`"expression":"true","action":"set","action_parameters":{"m":0}`): "rules[1].action_parameters.m: no field has this name",
		`{"description":"` + strings.Repeat("a", zone.MaxRulesetBytes) + `"}`: "rules: at most ",
		one(`"enabled":"yes"`):                                                "rules[1].enabled: must be true or false",
	} {
		if list, err := Read(json.RawMessage(body), kind, number); err == nil || list != nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.120s: got %v, %v, want %q", body, list, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`{"rules":[` + rule + `]}`)
	f.Add(`{"phase":"http_request_test","rules":[{"enabled":false}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		list, err := Read(json.RawMessage(body), kind, number)
		if err != nil && list != nil || len(list) > kind.Most {
			t.Fatalf("%d rules, %v", len(list), err)
		}
		for _, r := range list {
			if r.When == nil || r.Set < 1 || r.Set > 9 {
				t.Errorf("accepted %+v", r)
			}
		}
	})
}
