package v4

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

// What a zone file gives is either refused or a record that the API would take
// as sent: no name outside the zone, no type that is not served.
func FuzzZoneFile(f *testing.F) {
	f.Add([]byte("@ IN A 192.0.2.1\nwww 300 IN CNAME @\n"))
	f.Add([]byte("$ORIGIN x.a.test.\n$TTL 1h\n@ IN TXT \"a\" \"b\\\"c\"\n_s._t IN SRV 1 2 3 .\n"))
	f.Add([]byte("$GENERATE 1-3 h$ A 192.0.2.$\n"))
	f.Add([]byte("$INCLUDE /etc/passwd\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		inputs, parsed, err := parseZoneFile(text, "a.test", true)
		if err != nil {
			return
		}
		if parsed > zone.MaxRecords || len(inputs) > parsed {
			t.Fatalf("%d inputs of %d records", len(inputs), parsed)
		}
		z := &store.Zone{Meta: zone.Meta{Name: "a.test"}}
		for i := range inputs {
			r, err := inputs[i].post(z, newID())
			if err != nil {
				continue
			}
			if r.Name != "a.test" && !strings.HasSuffix(r.Name, ".a.test") {
				t.Fatalf("record %q outside the zone", r.Name)
			}
			if strings.ContainsAny(exportLine(r), "\x00") || strings.Count(exportLine(r), "\n") != 1 {
				t.Fatalf("exported line %q", exportLine(r))
			}
		}
	})
}

// What a ruleset's answer is composed of is JSON, with the rules as sent.
func FuzzEntrypoint(f *testing.F) {
	f.Add(`{"rules":[]}`)
	f.Add(`{"rules":[{"expression":"true"}],"name":"x","description":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		if checkEntrypoint([]byte(body), "http_request_origin") != nil {
			return
		}
		text, err := renderRuleset(&store.Ruleset{ID: newID(), Phase: "http_request_origin", Version: 1, Body: json.RawMessage(body)})
		if err != nil || !json.Valid(text) {
			t.Fatalf("%s, %v", text, err)
		}
	})
}

// A name is in its one form, or refused; and its form is its own form.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"www", "@", "A.Test.", "bücher", "*.x", "a..b", "192.0.2.1", "xn--a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		if name, err := ZoneName(sent); err == nil {
			if again, err := ZoneName(name); err != nil || again != name {
				t.Fatalf("zone %q became %q, then %q, %v", sent, name, again, err)
			}
		}
		if name, err := RecordName(sent, "a.test"); err == nil {
			if again, err := RecordName(name, "a.test"); err != nil || again != name || len(name) > 253 {
				t.Fatalf("record %q became %q, then %q, %v", sent, name, again, err)
			}
		}
	})
}

// Certificates and keys from the network are read or refused, never a panic.
func FuzzCertificate(f *testing.F) {
	f.Add("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n")
	f.Fuzz(func(t *testing.T, chain, key string) {
		if got, err := readChain(chain); err == nil && len(got) == 0 {
			t.Fatal("an empty chain was accepted")
		}
		if got, err := readKey(key); err == nil && got == nil {
			t.Fatal("no key was accepted")
		}
	})
}
