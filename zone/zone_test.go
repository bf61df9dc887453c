package zone

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSettingTableHasValidDefaults(t *testing.T) {
	for i := range SettingTable {
		s := &SettingTable[i]
		if err := s.Check(json.RawMessage(s.Default)); err != nil {
			t.Errorf("default: %v", err)
		}
		if s.Doc == "" {
			t.Errorf("%s has no description", s.Name)
		}
		if i > 0 && SettingTable[i-1].Name >= s.Name {
			t.Errorf("%s is out of order", s.Name)
		}
	}
}

func TestSettingsRefuseNamingTheField(t *testing.T) {
	for name, value := range map[string]string{
		"ssl": `"fulll"`, "browser_cache_ttl": `31536001`, "development_mode": `true`, "min_tls_version": `"1.1"`, "nope": `1`,
	} {
		err := Settings{name: json.RawMessage(value)}.Check()
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	for _, value := range []string{`null`, `1.5`, `"0"`, `true`, `[]`, `-1`, `{}`, `"` + strings.Repeat("x", 1<<16) + `"`} {
		for _, name := range []string{"browser_cache_ttl", "ssl"} {
			if err := (Settings{name: json.RawMessage(value)}).Check(); err == nil || len(err.Error()) > 300 {
				t.Errorf("%s=%.20s: %.400v", name, value, err)
			}
		}
	}
	s := Settings{"browser_cache_ttl": json.RawMessage(`7200`), "ssl": json.RawMessage(`"strict"`)}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if s.Number("browser_cache_ttl") != 7200 || s.Text("ssl") != "strict" || !s.On("always_online") || s.On("always_use_https") {
		t.Errorf("values read wrongly from %s", s)
	}
}

func TestAssemble(t *testing.T) {
	row := func(key, value string, seq uint64) Row { return Row{Key: key, Value: []byte(value), Seq: seq} }
	good := []Row{
		row(MetaKey("z1"), `{"id":"z1","name":"example.com"}`, 3),
		row(SettingsKey("z1"), `{"ssl":"flexible"}`, 4),
		row(DNSKey("z1", "a.example.com"), `[{"id":"r1","type":"A"},{"id":"r2","type":"A"}]`, 9),
		row(RulesetKey("z1", "http_request_origin"), `{"phase":"http_request_origin","body":{"rules":[]}}`, 5),
		row(CertKey("z1", "c1"), `{"id":"c1","sealed":"AAEC"}`, 6),
	}
	spec, err := Assemble("z1", good)
	if err != nil {
		t.Fatal(err)
	}
	if spec.Seq != 9 || spec.Name != "example.com" || len(spec.Records) != 2 || len(spec.Rulesets) != 1 || len(spec.Certificates) != 1 || spec.Settings.Text("ssl") != "flexible" {
		t.Errorf("assembled %+v", spec)
	}
	for name, bad := range map[string]Row{
		"other zone": row(MetaKey("z2"), `{}`, 1), "kind": row(Prefix("z1")+"surprise", `{}`, 1), "torn": row(SettingsKey("z1"), `{"ssl`, 1),
	} {
		if _, err := Assemble("z1", append(good[:1:1], bad)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := Assemble("z1", good[1:]); err == nil {
		t.Error("a zone without meta is accepted")
	}
}
