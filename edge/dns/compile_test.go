package dns

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/selvage-edge/selvage/zone"
)

func TestRefusedRecords(t *testing.T) {
	seven := ptr(uint16(7))
	cases := []struct {
		record zone.Record
		want   string
	}{
		{zone.Record{Type: "A", Content: "2001:db8::1"}, "content: \"2001:db8::1\" is not an IPv4 address"},
		{zone.Record{Type: "A", Content: "192.0.2.256"}, "content: "},
		{zone.Record{Type: "A", Content: ""}, "content: "},
		{zone.Record{Type: "AAAA", Content: "192.0.2.1"}, "content: "},
		{zone.Record{Type: "AAAA", Content: "::ffff:192.0.2.1"}, "content: "},
		{zone.Record{Type: "AAAA", Content: "fe80::1%eth0"}, "content: "},
		{zone.Record{Type: "CNAME", Content: "."}, "content: must name a host"},
		{zone.Record{Type: "CNAME", Content: "a..b"}, "content: "},
		{zone.Record{Type: "CNAME", Content: "bücher.example"}, "content: "},
		{zone.Record{Type: "CNAME", Content: strings.Repeat("a", 64) + ".test"}, "content: "},
		{zone.Record{Type: "NS", Content: "a b"}, "content: "},
		{zone.Record{Type: "MX", Content: "mail.test"}, "priority: is missing"},
		{zone.Record{Type: "MX", Content: "5 mail.test", Priority: seven}, "priority: 7 contradicts"},
		{zone.Record{Type: "MX", Content: "x mail.test"}, "content: "},
		{zone.Record{Type: "TXT", Content: ""}, "content: is empty"},
		{zone.Record{Type: "TXT", Content: `"open`}, "content: a quote is not closed"},
		{zone.Record{Type: "TXT", Content: `"a" b`}, "content: text"},
		{zone.Record{Type: "TXT", Content: `"\256"`}, "content: escape"},
		{zone.Record{Type: "TXT", Content: strings.Repeat("x", maxContent+1)}, "content: longer"},
		{zone.Record{Type: "SRV", Content: "1 2"}, "content: "},
		{zone.Record{Type: "SRV", Content: "1 2 a.test"}, "content: "},
		{zone.Record{Type: "SRV", Content: "1 70000 a.test", Priority: seven}, "content: \"70000\""},
		{zone.Record{Type: "SRV", Content: "1 1 1 a.test", Priority: seven}, "priority: 7 contradicts"},
		{zone.Record{Type: "SRV", Data: json.RawMessage(`{"priority":1,"weight":1,"target":"a.test"}`)}, "data: priority, weight and port"},
		{zone.Record{Type: "SRV", Data: json.RawMessage(`{"priority":"1","weight":1,"port":1,"target":"a.test"}`)}, "data.priority: cannot be a string"},
		{zone.Record{Type: "SRV", Data: json.RawMessage(`{"priority":1,"weight":1,"port":1}`)}, "data.target: "},
		{zone.Record{Type: "SRV", Data: json.RawMessage(`[`)}, "data: "},
		{zone.Record{Type: "CAA", Content: `0 issue`}, "content: "},
		{zone.Record{Type: "CAA", Content: `0 is-sue "x"`}, "content: CAA tag"},
		{zone.Record{Type: "CAA", Content: ""}, "content: "},
		{zone.Record{Type: "CAA", Content: "0 issue \"a\"\nexample.com. IN A 192.0.2.1"}, "content: holds a control character"},
		{zone.Record{Type: "CAA", Data: json.RawMessage(`{"tag":"issue","value":"a"}`)}, "data.flags: "},
		{zone.Record{Type: "CAA", Data: json.RawMessage(`{"flags":0,"tag":"","value":"a"}`)}, "data.tag: "},
		{zone.Record{Type: "HTTPS", Content: "1"}, "content: "},
		{zone.Record{Type: "HTTPS", Data: json.RawMessage(`{"target":"."}`)}, "data.priority: "},
		{zone.Record{Type: "HTTPS", Data: json.RawMessage(`{"priority":1,"target":".","value":"port=x"}`)}, "data: "},
		{zone.Record{Type: "LOC", Content: "x"}, `type: "LOC" cannot be served; may be one of A, AAAA`},
		{zone.Record{Type: "SOA", Content: "x"}, "type: "},
		{zone.Record{Type: "TXT", Content: "x", Proxied: true}, "proxied: a TXT record cannot be proxied"},
		{zone.Record{Type: "A", Content: "192.0.2.1", TTL: 1 << 31}, "ttl: "},
		{zone.Record{Name: "other.test", Type: "A", Content: "192.0.2.1"}, "name: \"other.test\" is not in zone example.com"},
		{zone.Record{Name: "notexample.com", Type: "A", Content: "192.0.2.1"}, "name: "},
		{zone.Record{Name: "a..example.com", Type: "A", Content: "192.0.2.1"}, "name: "},
		{zone.Record{Name: "*.example.com", Type: "NS", Content: "ns.test"}, "name: a wildcard cannot be delegated"},
		{zone.Record{Name: "example.com", Type: "CNAME", Content: "elsewhere.test"}, "content: a CNAME at the apex that is not proxied must end inside the zone"},
		{zone.Record{Name: "example.com", Type: "CNAME", Content: "none.example.com"}, "content: \"none.example.com\" comes to no address"},
		{zone.Record{Name: "example.com", Type: "CNAME", Content: "example.com"}, "content: "},
	}
	for _, c := range cases {
		r := c.record
		r.ID = "r1"
		if r.Name == "" {
			r.Name = "host.example.com"
		}
		_, err := Compile(&zone.Spec{Meta: zone.Meta{Name: "example.com"}, Records: []zone.Record{r}}, testShared)
		prefix := fmt.Sprintf("dns record %s %s (id r1): ", r.Name, r.Type)
		if err == nil || !strings.HasPrefix(err.Error(), prefix) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q %s: %v, want %q", r.Type, r.Content, r.Data, err, prefix+c.want)
		}
	}
}

func TestContradictions(t *testing.T) {
	rec := func(name, typ, content string, proxied bool) zone.Record {
		return zone.Record{Name: name, Type: typ, Content: content, TTL: 60, Proxied: proxied}
	}
	const www, apex = "www.example.com", "example.com"
	cases := []struct {
		name    string
		records []zone.Record
		want    string
	}{
		{"two CNAMEs", []zone.Record{rec(www, "CNAME", "a.test", false), rec(www, "CNAME", "b.test", false)}, "only one"},
		{"CNAME and A", []zone.Record{rec(www, "CNAME", "a.test", false), rec(www, "A", "192.0.2.1", false)}, "beside a A record"},
		{"proxied CNAME and AAAA", []zone.Record{rec(www, "CNAME", "a.test", true), rec(www, "AAAA", "2001:db8::1", false)}, "CNAME"},
		{"CNAME and TXT", []zone.Record{rec(www, "TXT", "x", false), rec(www, "CNAME", "a.test", false)}, "beside a TXT record"},
		{"proxied CNAME and TXT", []zone.Record{rec(www, "TXT", "x", false), rec(www, "CNAME", "a.test", true)}, ""},
		{"apex CNAME and MX", []zone.Record{rec(apex, "TXT", "x", false), rec(apex, "CNAME", "a.test", true)}, ""},
		{"apex CNAME in the zone, and TXT", []zone.Record{rec(apex, "TXT", "x", false), rec(apex, "CNAME", www, false), rec(www, "A", "192.0.2.1", false)}, ""},
	}
	for _, c := range cases {
		_, err := Compile(&zone.Spec{Meta: zone.Meta{Name: apex}, Records: c.records}, testShared)
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestApexAlias(t *testing.T) {
	rec := func(name, typ, content string, proxied bool) zone.Record {
		return zone.Record{Name: name, Type: typ, Content: content, TTL: 60, Proxied: proxied}
	}
	edge := edge4("example.com.")
	cases := []struct {
		name    string
		records []zone.Record
		paused  bool
		want    []string
	}{
		{"proxied", []zone.Record{rec("example.com", "CNAME", "origin.test", true)}, false, edge},
		{"to an address", []zone.Record{rec("example.com", "CNAME", "a.example.com", false), rec("a.example.com", "A", "192.0.2.1", false)}, false, []string{"example.com. A 60 192.0.2.1"}},
		{"along a chain", []zone.Record{rec("example.com", "CNAME", "b.example.com", false), rec("b.example.com", "CNAME", "x.w.example.com", false), rec("*.w.example.com", "A", "192.0.2.2", false)}, false, []string{"example.com. A 60 192.0.2.2"}},
		{"to a proxied name", []zone.Record{rec("example.com", "CNAME", "a.example.com", false), rec("a.example.com", "A", "203.0.113.66", true)}, false, []string{"example.com. A 60 198.51.100.1", "example.com. A 60 198.51.100.2"}},
		{"paused", []zone.Record{rec("example.com", "A", "192.0.2.9", true)}, true, []string{"example.com. A 60 192.0.2.9"}},
	}
	for _, c := range cases {
		s := New(Config{})
		s.Set("example.com", mustCompile(t, &zone.Spec{Meta: zone.Meta{Name: "example.com", Paused: c.paused}, Records: c.records}))
		m := respond(t, &s.zones, packed(t, question("example.com", dns.TypeA)))
		if got := show(m.Answer); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if m := respond(t, &s.zones, packed(t, question("example.com", dns.TypeCNAME))); len(m.Answer) != 0 || len(m.Ns) != 1 {
			t.Errorf("%s: asked for the CNAME: %v", c.name, m)
		}
	}
}

func TestBareZone(t *testing.T) {
	p, err := Compile(&zone.Spec{Meta: zone.Meta{Name: "bare.test"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{})
	s.Set("bare.test", p)
	m := respond(t, &s.zones, packed(t, question("bare.test", dns.TypeSOA)))
	if got, want := show(m.Answer), []string{"bare.test. SOA 1800 bare.test. dns.bare.test. 0 10000 2400 604800 1800"}; !slices.Equal(got, want) {
		t.Errorf("SOA %q, want %q", got, want)
	}
	if m := respond(t, &s.zones, packed(t, question("bare.test", dns.TypeNS))); len(m.Answer) != 0 || len(m.Ns) != 1 {
		t.Errorf("NS of a zone without name servers: %v", m)
	}
}

func TestOwnNameServersWin(t *testing.T) {
	spec := testSpec()
	spec.Records = append(spec.Records, zone.Record{Name: "example.com", Type: "NS", Content: "own.ns.test", TTL: 77})
	s := New(Config{})
	s.Set("example.com", mustCompile(t, spec))
	m := respond(t, &s.zones, packed(t, question("example.com", dns.TypeNS)))
	if got, want := show(m.Answer), []string{"example.com. NS 77 own.ns.test."}; !slices.Equal(got, want) {
		t.Errorf("NS %q, want %q", got, want)
	}
}

func TestSetRules(t *testing.T) {
	s := New(Config{})
	s.Set("example.com", mustCompile(t, &zone.Spec{Meta: zone.Meta{Name: "example.com"}, Records: []zone.Record{
		{Name: "x.example.com", Type: "A", Content: "192.0.2.1", TTL: 600},
		{Name: "x.example.com", Type: "A", Content: "192.0.2.2", TTL: 60},
		{Name: "X.example.com", Type: "A", Content: "192.0.2.1", TTL: 90},
	}}))
	m := respond(t, &s.zones, packed(t, question("x.example.com", dns.TypeA)))
	if got, want := show(m.Answer), []string{"x.example.com. A 60 192.0.2.1", "x.example.com. A 60 192.0.2.2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want one TTL and no record twice: %q", got, want)
	}
}

func TestLimits(t *testing.T) {
	many := func(n int, record func(i int) zone.Record) []zone.Record {
		records := make([]zone.Record, n)
		for i := range records {
			records[i] = record(i)
		}
		return records
	}
	cases := []struct {
		name    string
		records []zone.Record
		want    string
	}{
		{"records", make([]zone.Record, zone.MaxRecords+1), "more than the limit"},
		{"one set", many(5000, func(i int) zone.Record {
			return zone.Record{Name: "a.example.com", Type: "A", Content: fmt.Sprintf("192.0.%d.%d", i>>8, i&255)}
		}), "do not fit into one answer"},
		{"names between", many(2000, func(i int) zone.Record {
			return zone.Record{Name: strings.Repeat("x.", 100) + fmt.Sprintf("y%d.example.com", i), Type: "A", Content: "192.0.2.1"}
		}), "counting those between"},
		{"bytes", many(6000, func(i int) zone.Record {
			return zone.Record{Name: fmt.Sprintf("y%d.example.com", i), Type: "TXT", Content: strings.Repeat("x", maxContent)}
		}), "bytes when packed"},
	}
	for _, c := range cases {
		if _, err := Compile(&zone.Spec{Meta: zone.Meta{Name: "example.com"}, Records: c.records}, testShared); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for _, name := range []string{"", ".", "a b", "bücher.test"} {
		if _, err := Compile(&zone.Spec{Meta: zone.Meta{Name: name}}, nil); err == nil {
			t.Errorf("zone %q compiled", name)
		}
	}
}
