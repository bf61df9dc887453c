package onboard

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

func TestParseOrigin(t *testing.T) {
	tests := []struct {
		text     string
		host     string
		port     uint16
		record   string
		ssl      string
		standard bool
	}{
		{"http://127.0.0.1:9000", "127.0.0.1", 9000, "A", "flexible", false},
		{"http://192.0.2.10", "192.0.2.10", 80, "A", "flexible", true},
		{"http://192.0.2.10:80/", "192.0.2.10", 80, "A", "flexible", true},
		{"https://192.0.2.10", "192.0.2.10", 443, "A", "full", true},
		{"https://192.0.2.10:80", "192.0.2.10", 80, "A", "full", false},
		{"http://192.0.2.10:443", "192.0.2.10", 443, "A", "flexible", false},
		{"http://[2001:db8::1]:8080", "2001:db8::1", 8080, "AAAA", "flexible", false},
		{"http://[::ffff:192.0.2.1]", "192.0.2.1", 80, "A", "flexible", true},
		{"https://Origin.Example.NET", "origin.example.net", 443, "CNAME", "full", true},
		{"https://origin.example.net:8443", "origin.example.net", 8443, "CNAME", "full", false},
		{"http://localhost:9000", "127.0.0.1", 9000, "A", "flexible", false},
		{"http://bücher.example", "xn--bcher-kva.example", 80, "CNAME", "flexible", true},
	}
	for _, tt := range tests {
		o, err := ParseOrigin(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if o.Host != tt.host || o.Port != tt.port || o.RecordType() != tt.record || o.SSL() != tt.ssl || o.Standard() != tt.standard {
			t.Errorf("%s = %+v, record %s, ssl %s, standard %t; want %+v", tt.text, o, o.RecordType(), o.SSL(), o.Standard(), tt)
		}
	}
}

func TestParseOriginRefuses(t *testing.T) {
	for text, why := range map[string]string{
		"":                         "does not start with",
		"127.0.0.1:9000":           "",
		"example.com":              "does not start with",
		"ftp://192.0.2.1":          "does not start with",
		"http://":                  "has no host",
		"http://:80":               "has no host",
		"http://user:pw@192.0.2.1": "user name or password",
		"http://192.0.2.1/path":    "path, query or fragment",
		"http://192.0.2.1/?q":      "path, query or fragment",
		"http://192.0.2.1?":        "path, query or fragment",
		"http://192.0.2.1#":        "path, query or fragment",
		"http://192.0.2.1:0":       "port",
		"http://192.0.2.1:":        "port",
		"http://192.0.2.1:65536":   "port",
		"http://192.0.2.1:port":    "is no URL",
		"http://0.0.0.0":           "no server can be reached",
		"http://[fe80::1%25eth0]":  "no server can be reached",
		"http://224.0.0.1":         "no server can be reached",
		"http://intranet":          "neither an address nor a full name",
		"http://exa mple.com":      "is no URL",
		"http://-a.example":        "neither an address nor a full name",
		"http://" + strings.Repeat("a.", 150) + "com": "neither an address nor a full name",
	} {
		_, err := ParseOrigin(text)
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "; give a URL such as") {
			t.Errorf("%q: err = %v, want one with %q and the next step", text, err, why)
		}
	}
}

func TestParseZone(t *testing.T) {
	for text, want := range map[string]string{
		"example.com": "example.com", "Example.COM.": "example.com", "bücher.example": "xn--bcher-kva.example", "a-b.c.example": "a-b.c.example",
	} {
		if got, err := ParseZone(text); err != nil || got != want {
			t.Errorf("%q = %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".", "com", "example..com", "-a.com", "a b.com", "http://example.com", "example.com/x", "192.0.2.1", "*.example.com", strings.Repeat("a", 64) + ".com"} {
		if got, err := ParseZone(text); err == nil {
			t.Errorf("%q was taken as %q", text, got)
		}
	}
}

// memory is an API that keeps what it is told and can fail at one step.
type memory struct {
	calls   []string
	failAt  string
	zones   map[string]string
	rule    json.RawMessage
	records []zone.Record
}

var errRefused = errors.New("refused")

func (m *memory) call(name string, v any) (uint64, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	m.calls = append(m.calls, name+" "+string(text))
	if m.failAt == name {
		return 0, errRefused
	}
	return uint64(len(m.calls)), nil
}

func (m *memory) CreateZone(_ context.Context, name, account string) (client.Zone, uint64, error) {
	seq, err := m.call("zone", name+account)
	return client.Zone{ID: "z1", Name: name}, seq, err
}

func (m *memory) PatchSetting(_ context.Context, _, name string, value any) (uint64, error) {
	return m.call("setting", []any{name, value})
}

func (m *memory) PutEntrypoint(_ context.Context, _, phase string, ruleset any) (uint64, error) {
	return m.call("rule", []any{phase, ruleset})
}

func (m *memory) Batch(_ context.Context, _ string, b client.Batch) (uint64, error) {
	return m.call("records", b)
}

func (m *memory) FindZone(_ context.Context, name string) (client.Zone, error) {
	id, ok := m.zones[name]
	if !ok {
		return client.Zone{}, &fault.Error{Op: "test", Kind: fault.NotFound}
	}
	return client.Zone{ID: id, Name: name}, nil
}

func (m *memory) Entrypoint(context.Context, string, string) (json.RawMessage, error) {
	if m.rule == nil {
		return nil, &fault.Error{Op: "test", Kind: fault.NotFound}
	}
	return m.rule, nil
}

func (m *memory) Records(context.Context, string, client.RecordFilter) ([]zone.Record, error) {
	return m.records, nil
}

func origin(t *testing.T, text string) Origin {
	t.Helper()
	o, err := ParseOrigin(text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

const ruleCall = `rule ["http_request_origin",{"rules":[{"action":"route","expression":"true","description":"the origin of this zone","action_parameters":{"origin":{"host":"127.0.0.1","port":9000}}}]}]`

func TestAddMakesZoneRuleAndRecords(t *testing.T) {
	m := &memory{}
	z, seq, err := Add(t.Context(), m, "example.com", origin(t, "http://127.0.0.1:9000"))
	if err != nil || z.ID != "z1" || seq != 4 {
		t.Fatalf("zone %+v, seq %d, err %v", z, seq, err)
	}
	want := []string{
		`zone "example.com"`,
		`setting ["ssl","flexible"]`,
		ruleCall,
		`records {"posts":[{"name":"example.com","type":"A","content":"127.0.0.1","ttl":1,"proxied":true},{"name":"www.example.com","type":"A","content":"127.0.0.1","ttl":1,"proxied":true}]}`,
	}
	if !reflect.DeepEqual(m.calls, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(m.calls, "\n"), strings.Join(want, "\n"))
	}
}

func TestAddNeedsNoRuleForAStandardPort(t *testing.T) {
	m := &memory{}
	if _, _, err := Add(t.Context(), m, "example.com", origin(t, "https://origin.example.net")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`zone "example.com"`,
		`setting ["ssl","full"]`,
		`records {"posts":[{"name":"example.com","type":"CNAME","content":"origin.example.net","ttl":1,"proxied":true},{"name":"www.example.com","type":"CNAME","content":"origin.example.net","ttl":1,"proxied":true}]}`,
	}
	if !reflect.DeepEqual(m.calls, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(m.calls, "\n"), strings.Join(want, "\n"))
	}
}

func TestAddSaysWhatExistsWhenAStepFails(t *testing.T) {
	m := &memory{failAt: "records"}
	_, _, err := Add(t.Context(), m, "example.com", origin(t, "http://127.0.0.1:9000"))
	want := `the records of example.com and www.example.com of zone example.com failed: refused; what exists: the zone, setting ssl, the origin rule; ` +
		`run "selvage zone delete example.com" to take it back, then add it again`
	if err == nil || err.Error() != want {
		t.Errorf("err = %v\nwant %s", err, want)
	}
	if !errors.Is(err, errRefused) {
		t.Error("the cause is lost")
	}
	m = &memory{failAt: "zone"}
	if _, _, err := Add(t.Context(), m, "example.com", origin(t, "http://127.0.0.1:9000")); !errors.Is(err, errRefused) || len(m.calls) != 1 {
		t.Errorf("calls %v, err %v", m.calls, err)
	}
}

func TestEnsure(t *testing.T) {
	o := origin(t, "http://127.0.0.1:9000")
	zones := map[string]string{"demo.test": "z1"}
	have := []zone.Record{{ID: "r1"}}
	tests := []struct {
		name  string
		m     *memory
		calls []string // names alone
	}{
		{"new", &memory{}, []string{"zone", "setting", "rule", "records"}},
		{"there", &memory{zones: zones, records: have, rule: json.RawMessage(`{"rules":[{"action_parameters":{"origin":{"host":"127.0.0.1","port":9000}}}]}`)}, nil},
		{"on another port", &memory{zones: zones, records: have, rule: json.RawMessage(`{"rules":[{"action_parameters":{"origin":{"host":"127.0.0.1","port":1}}}]}`)}, []string{"rule"}},
		{"without its rule", &memory{zones: zones, records: have}, []string{"rule"}},
		{"cut off before its records", &memory{zones: zones}, []string{"rule", "setting", "rule", "records"}},
	}
	for _, tt := range tests {
		if _, err := Ensure(t.Context(), tt.m, "demo.test", o); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var names []string
		for _, c := range tt.m.calls {
			name, _, _ := strings.Cut(c, " ")
			names = append(names, name)
		}
		if !reflect.DeepEqual(names, tt.calls) {
			t.Errorf("%s: calls %v, want %v", tt.name, names, tt.calls)
		}
	}
}
