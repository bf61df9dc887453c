package dns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/selvage-edge/selvage/zone"
)

func ptr[T any](v T) *T { return &v }

var testShared = &zone.Shared{Colo: "FRA", Advertise: []netip.Addr{
	netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8:ed9e::1"),
}}

// secrets are origins of proxied names: no answer may ever hold one.
var secrets = []netip.Addr{
	netip.MustParseAddr("203.0.113.66"), netip.MustParseAddr("203.0.113.67"), netip.MustParseAddr("2001:db8:5ec::66"),
}

func testSpec() *zone.Spec {
	long := strings.Repeat("x", 300)
	return &zone.Spec{
		Meta:       zone.Meta{ID: "z1", Name: "example.com", NameServers: []string{"ada.ns.test", "bob.ns.test"}},
		RecordsSeq: 1<<32 + 77,
		Records: []zone.Record{
			{Name: "example.com", Type: "A", Content: "203.0.113.66", TTL: 1, Proxied: true},
			{Name: "example.com", Type: "AAAA", Content: "2001:db8:5ec::66", TTL: 1, Proxied: true},
			{Name: "example.com", Type: "MX", Content: "mail.example.com", TTL: 600, Priority: ptr(uint16(10))},
			{Name: "example.com", Type: "MX", Content: "proxied.example.com", TTL: 600, Priority: ptr(uint16(20))},
			{Name: "example.com", Type: "MX", Content: "mx.other.test", TTL: 600, Priority: ptr(uint16(30))},
			{Name: "example.com", Type: "TXT", Content: "v=spf1 -all", TTL: 120},
			{Name: "example.com", Type: "TXT", Content: `"two" "strings \"q\" \065"`, TTL: 120},
			{Name: "example.com", Type: "CAA", Content: `0 issue "letsencrypt.org"`, TTL: 120},
			{Name: "example.com", Type: "CAA", Data: json.RawMessage(`{"flags":128,"tag":"iodef","value":"mailto:a@example.com"}`), TTL: 120},
			{Name: "www.example.com", Type: "CNAME", Content: "proxied.example.com", TTL: 60},
			{Name: "proxied.example.com", Type: "A", Content: "203.0.113.67", TTL: 60, Proxied: true},
			{Name: "proxied.example.com", Type: "A", Content: "203.0.113.66", TTL: 60},
			{Name: "proxied.example.com", Type: "HTTPS", Content: "1 . alpn=h2 ipv4hint=203.0.113.67 ipv6hint=2001:db8:5ec::66", TTL: 60},
			{Name: "alias.example.com", Type: "CNAME", Content: "hidden.origin.test", TTL: 60, Proxied: true},
			{Name: "mail.example.com", Type: "A", Content: "192.0.2.25", TTL: 1},
			{Name: "mail.example.com", Type: "AAAA", Content: "2001:db8::25", TTL: 1},
			{Name: "out.example.com", Type: "CNAME", Content: "target.other.test", TTL: 60},
			{Name: "chain.example.com", Type: "CNAME", Content: "Chain2.Example.com.", TTL: 60},
			{Name: "chain2.example.com", Type: "CNAME", Content: "mail.example.com", TTL: 70},
			{Name: "dangling.example.com", Type: "CNAME", Content: "nothing.example.com", TTL: 60},
			{Name: "loop.example.com", Type: "CNAME", Content: "loop2.example.com", TTL: 60},
			{Name: "loop2.example.com", Type: "CNAME", Content: "loop.example.com", TTL: 60},
			{Name: "deep.ent.example.com", Type: "A", Content: "192.0.2.7", TTL: 60},
			{Name: "*.wild.example.com", Type: "A", Content: "192.0.2.8", TTL: 60},
			{Name: "*.wild.example.com", Type: "TXT", Content: "wild", TTL: 60},
			{Name: "exists.wild.example.com", Type: "TXT", Content: "here", TTL: 60},
			{Name: "below.exists2.wild.example.com", Type: "TXT", Content: "here", TTL: 60},
			{Name: "*.hide.example.com", Type: "A", Content: "203.0.113.67", TTL: 60, Proxied: true},
			{Name: "towild.example.com", Type: "CNAME", Content: "any.wild.example.com", TTL: 60},
			{Name: "sub.example.com", Type: "NS", Content: "ns1.sub.example.com", TTL: 3600},
			{Name: "sub.example.com", Type: "NS", Content: "ns.other.test", TTL: 3600},
			{Name: "ns1.sub.example.com", Type: "A", Content: "192.0.2.53", TTL: 3600},
			{Name: "tosub.example.com", Type: "CNAME", Content: "host.sub.example.com", TTL: 60},
			{Name: "_sip._tcp.example.com", Type: "SRV", Content: "5 5060 mail.example.com", Priority: ptr(uint16(1)), TTL: 60},
			{Name: "_xmpp._tcp.example.com", Type: "SRV", Data: json.RawMessage(`{"priority":1,"weight":2,"port":5222,"target":"proxied.example.com"}`), TTL: 60},
			{Name: "https.example.com", Type: "HTTPS", Content: `1 . alpn="h2,h3"`, TTL: 60},
			{Name: "https2.example.com", Type: "HTTPS", Data: json.RawMessage(`{"priority":1,"target":".","value":"alpn=\"h2\" port=8443"}`), TTL: 60},
			{Name: "ptr.example.com", Type: "PTR", Content: "host.example.com", TTL: 60},
			{Name: "long.example.com", Type: "TXT", Content: long, TTL: 60},
			{Name: "big.example.com", Type: "TXT", Content: strings.Repeat("a", 250), TTL: 60},
			{Name: "big.example.com", Type: "TXT", Content: strings.Repeat("b", 250), TTL: 60},
			{Name: "big.example.com", Type: "TXT", Content: strings.Repeat("c", 250), TTL: 60},
			{Name: "huge.example.com", Type: "TXT", Content: strings.Repeat("d", 2000), TTL: 60},
			{Name: "tobig.example.com", Type: "CNAME", Content: "huge.example.com", TTL: 60},
		},
	}
}

func mustCompile(t testing.TB, spec *zone.Spec) *Plan {
	t.Helper()
	p, err := Compile(spec, testShared)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// modes are the two forms of the UDP loop, which have to be the same.
var modes = []struct {
	name    string
	generic bool
}{{"batched", false}, {"generic", true}}

// start runs a server on loopback and returns its address, UDP and TCP.
func start(t testing.TB, c Config, plans map[string]*Plan) (*Server, string) {
	t.Helper()
	return startAt(t, "127.0.0.1:0", c, plans)
}

func startAt(t testing.TB, address string, c Config, plans map[string]*Plan) (*Server, string) {
	t.Helper()
	udp, l, err := Listen(t.Context(), address, 2)
	if err != nil {
		t.Fatal(err)
	}
	s := New(c)
	for zoneName, p := range plans {
		s.Set(zoneName, p)
	}
	errs := make(chan error, len(udp)+1)
	for _, conn := range udp {
		go func() { errs <- s.ServeUDP(conn) }()
	}
	go func() { errs <- s.ServeTCP(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Errorf("serve: %v", err)
			}
		}
	})
	return s, l.Addr().String()
}

func question(name string, typ uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), typ)
	return m
}

func exchange(t testing.TB, network, address string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 5 * time.Second, UDPSize: 4096}
	r, _, err := c.Exchange(m, address)
	if err != nil {
		t.Fatalf("%s %v: %v", network, m.Question, err)
	}
	return r
}

// show renders sections compactly: "A www.example.com. 300 192.0.2.1".
func show(records []dns.RR) []string {
	var lines []string
	for _, rr := range records {
		h := rr.Header()
		if h.Rrtype == dns.TypeOPT {
			continue
		}
		data := strings.TrimPrefix(rr.String(), h.String())
		lines = append(lines, fmt.Sprintf("%s %s %d %s", h.Name, dns.TypeToString[h.Rrtype], h.Ttl, data))
	}
	return lines
}

const testSOA = "example.com. SOA 1800 ada.ns.test. dns.example.com. 77 10000 2400 604800 1800"

var edge4 = func(owner string) []string {
	return []string{owner + " A 300 198.51.100.1", owner + " A 300 198.51.100.2"}
}

func edge6(owner string) string { return owner + " AAAA 300 2001:db8:ed9e::1" }

type answerCase struct {
	name       string
	typ        uint16
	rcode      int
	notAA      bool
	answer     []string
	authority  []string
	additional []string
}

func answerCases() []answerCase {
	soa := []string{testSOA}
	mailA, mailAAAA := "mail.example.com. A 300 192.0.2.25", "mail.example.com. AAAA 300 2001:db8::25"
	withEdge := func(lines []string, owner string) []string {
		return append(append(lines, edge4(owner)...), edge6(owner))
	}
	return append(placeCases(), []answerCase{
		{name: "example.com", typ: dns.TypeA, answer: edge4("example.com.")},
		{name: "example.com", typ: dns.TypeAAAA, answer: []string{edge6("example.com.")}},
		{name: "example.com", typ: dns.TypeSOA, answer: soa},
		{name: "example.com", typ: dns.TypeNS, answer: []string{"example.com. NS 86400 ada.ns.test.", "example.com. NS 86400 bob.ns.test."}},
		{name: "example.com", typ: dns.TypeMX,
			answer:     []string{"example.com. MX 600 10 mail.example.com.", "example.com. MX 600 20 proxied.example.com.", "example.com. MX 600 30 mx.other.test."},
			additional: withEdge([]string{mailA, mailAAAA}, "proxied.example.com.")},
		{name: "example.com", typ: dns.TypeTXT, answer: []string{`example.com. TXT 120 "v=spf1 -all"`, `example.com. TXT 120 "two" "strings \"q\" A"`}},
		{name: "example.com", typ: dns.TypeCAA, answer: []string{`example.com. CAA 120 0 issue "letsencrypt.org"`, `example.com. CAA 120 128 iodef "mailto:a@example.com"`}},
		{name: "example.com", typ: dns.TypeSRV, authority: soa},
		{name: "example.com", typ: dns.TypeHTTPS, authority: soa},
		{name: "example.com", typ: dns.TypeANY, answer: []string{`example.com. HINFO 3600 "RFC8482" ""`}},
		{name: "ent.example.com", typ: dns.TypeANY, authority: soa},
		{name: "www.example.com", typ: dns.TypeA, answer: append([]string{"www.example.com. CNAME 60 proxied.example.com."}, edge4("proxied.example.com.")...)},
		{name: "www.example.com", typ: dns.TypeAAAA, answer: []string{"www.example.com. CNAME 60 proxied.example.com.", edge6("proxied.example.com.")}},
		{name: "www.example.com", typ: dns.TypeCNAME, answer: []string{"www.example.com. CNAME 60 proxied.example.com."}},
		{name: "www.example.com", typ: dns.TypeTXT, answer: []string{"www.example.com. CNAME 60 proxied.example.com."}, authority: soa},
		{name: "proxied.example.com", typ: dns.TypeA, answer: edge4("proxied.example.com.")},
		{name: "proxied.example.com", typ: dns.TypeHTTPS, answer: []string{`proxied.example.com. HTTPS 60 1 . alpn="h2"`}},
		{name: "alias.example.com", typ: dns.TypeA, answer: edge4("alias.example.com.")},
		{name: "alias.example.com", typ: dns.TypeAAAA, answer: []string{edge6("alias.example.com.")}},
		{name: "alias.example.com", typ: dns.TypeCNAME, authority: soa},
		{name: "mail.example.com", typ: dns.TypeA, answer: []string{mailA}},
		{name: "out.example.com", typ: dns.TypeA, answer: []string{"out.example.com. CNAME 60 target.other.test."}},
		{name: "chain.example.com", typ: dns.TypeA, answer: []string{"chain.example.com. CNAME 60 Chain2.example.com.", "Chain2.example.com. CNAME 70 mail.example.com.", mailA}},
		{name: "dangling.example.com", typ: dns.TypeA, rcode: dns.RcodeNameError, answer: []string{"dangling.example.com. CNAME 60 nothing.example.com."}, authority: soa},
		{name: "loop.example.com", typ: dns.TypeA, answer: []string{"loop.example.com. CNAME 60 loop2.example.com.", "loop2.example.com. CNAME 60 loop.example.com."}},
		{name: "_sip._tcp.example.com", typ: dns.TypeSRV, answer: []string{"_sip._tcp.example.com. SRV 60 1 5 5060 mail.example.com."}, additional: []string{mailA, mailAAAA}},
		{name: "_xmpp._tcp.example.com", typ: dns.TypeSRV, answer: []string{"_xmpp._tcp.example.com. SRV 60 1 2 5222 proxied.example.com."}, additional: withEdge(nil, "proxied.example.com.")},
		{name: "https.example.com", typ: dns.TypeHTTPS, answer: []string{`https.example.com. HTTPS 60 1 . alpn="h2,h3"`}},
		{name: "https2.example.com", typ: dns.TypeHTTPS, answer: []string{`https2.example.com. HTTPS 60 1 . alpn="h2" port="8443"`}},
		{name: "ptr.example.com", typ: dns.TypePTR, answer: []string{"ptr.example.com. PTR 60 host.example.com."}},
		{name: "long.example.com", typ: dns.TypeTXT, answer: []string{`long.example.com. TXT 60 "` + strings.Repeat("x", 255) + `" "` + strings.Repeat("x", 45) + `"`}},
		{name: "other.test", typ: dns.TypeA, rcode: dns.RcodeRefused, notAA: true},
		{name: "notexample.com", typ: dns.TypeA, rcode: dns.RcodeRefused, notAA: true},
		{name: "com", typ: dns.TypeNS, rcode: dns.RcodeRefused, notAA: true},
		{name: ".", typ: dns.TypeNS, rcode: dns.RcodeRefused, notAA: true},
		{name: "example.com", typ: dns.TypeAXFR, rcode: dns.RcodeRefused, notAA: true},
		{name: "example.com", typ: dns.TypeIXFR, rcode: dns.RcodeRefused, notAA: true},
	}...)
}

// placeCases are about where a name stands: between others, under a wildcard,
// below a delegation.
func placeCases() []answerCase {
	soa := []string{testSOA}
	return []answerCase{
		{name: "ent.example.com", typ: dns.TypeA, authority: soa},
		{name: "deep.ent.example.com", typ: dns.TypeA, answer: []string{"deep.ent.example.com. A 60 192.0.2.7"}},
		{name: "no.deep.ent.example.com", typ: dns.TypeA, rcode: dns.RcodeNameError, authority: soa},
		{name: "nope.example.com", typ: dns.TypeA, rcode: dns.RcodeNameError, authority: soa},
		{name: "any.wild.example.com", typ: dns.TypeA, answer: []string{"any.wild.example.com. A 60 192.0.2.8"}},
		{name: "a.b.c.wild.example.com", typ: dns.TypeTXT, answer: []string{`a.b.c.wild.example.com. TXT 60 "wild"`}},
		{name: "any.wild.example.com", typ: dns.TypeMX, authority: soa},
		{name: "*.wild.example.com", typ: dns.TypeA, answer: []string{"*.wild.example.com. A 60 192.0.2.8"}},
		{name: "wild.example.com", typ: dns.TypeA, authority: soa},
		{name: "exists.wild.example.com", typ: dns.TypeA, authority: soa},
		{name: "x.exists.wild.example.com", typ: dns.TypeA, rcode: dns.RcodeNameError, authority: soa},
		{name: "x.exists2.wild.example.com", typ: dns.TypeA, rcode: dns.RcodeNameError, authority: soa},
		{name: "any.hide.example.com", typ: dns.TypeA, answer: edge4("any.hide.example.com.")},
		{name: "towild.example.com", typ: dns.TypeA, answer: []string{"towild.example.com. CNAME 60 any.wild.example.com.", "any.wild.example.com. A 60 192.0.2.8"}},
		{name: "host.sub.example.com", typ: dns.TypeA, notAA: true,
			authority:  []string{"sub.example.com. NS 3600 ns1.sub.example.com.", "sub.example.com. NS 3600 ns.other.test."},
			additional: []string{"ns1.sub.example.com. A 3600 192.0.2.53"}},
		{name: "sub.example.com", typ: dns.TypeNS, notAA: true,
			authority:  []string{"sub.example.com. NS 3600 ns1.sub.example.com.", "sub.example.com. NS 3600 ns.other.test."},
			additional: []string{"ns1.sub.example.com. A 3600 192.0.2.53"}},
		{name: "sub.example.com", typ: dns.TypeDS, authority: soa},
		{name: "tosub.example.com", typ: dns.TypeA, answer: []string{"tosub.example.com. CNAME 60 host.sub.example.com."}},
	}
}

func TestAnswers(t *testing.T) {
	plan := mustCompile(t, testSpec())
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			_, address := start(t, Config{Generic: mode.generic}, map[string]*Plan{"example.com": plan})
			for _, c := range answerCases() {
				for _, network := range []string{"udp", "tcp"} {
					t.Run(network+"/"+c.name+"/"+dns.TypeToString[c.typ], func(t *testing.T) {
						checkAnswer(t, exchange(t, network, address, question(c.name, c.typ).SetEdns0(1232, false)), c)
					})
				}
			}
		})
	}
}

func checkAnswer(t *testing.T, r *dns.Msg, c answerCase) {
	t.Helper()
	if r.Rcode != c.rcode || r.Authoritative == c.notAA || r.Truncated || r.RecursionAvailable || !r.RecursionDesired {
		t.Errorf("rcode %s, want %s; header %+v", dns.RcodeToString[r.Rcode], dns.RcodeToString[c.rcode], r.MsgHdr)
	}
	for _, section := range []struct {
		name string
		got  []dns.RR
		want []string
	}{{"answer", r.Answer, c.answer}, {"authority", r.Ns, c.authority}, {"additional", r.Extra, c.additional}} {
		if got := show(section.got); !slices.Equal(got, section.want) {
			t.Errorf("%s:\n got %q\nwant %q", section.name, got, section.want)
		}
	}
	if opt := r.IsEdns0(); opt == nil || opt.UDPSize() != DefaultUDPSize {
		t.Errorf("OPT: %v", opt)
	}
}

func TestPlanHoldsNoOrigin(t *testing.T) {
	plan := mustCompile(t, testSpec())
	for _, secret := range secrets {
		if bytes.Contains(plan.slab, secret.AsSlice()) {
			t.Errorf("the plan holds %s, the origin of a proxied name", secret)
		}
	}
	if bytes.Contains(plan.slab, []byte("hidden")) {
		t.Error("the plan holds the target of a proxied CNAME")
	}
}
