package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/zone"
)

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// oneZone is a server's view of the test zone, without sockets.
func oneZone(t testing.TB) *zones {
	t.Helper()
	s := New(Config{})
	s.Set("example.com", mustCompile(t, testSpec()))
	return &s.zones
}

// respond answers one message as over UDP; nil when it is not answered.
func respond(t testing.TB, z *zones, msg []byte) *dns.Msg {
	t.Helper()
	var r reply
	buf := make([]byte, DefaultUDPSize)
	n := r.answer(z, msg, buf, DefaultUDPSize, false)
	if n == 0 {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil {
		t.Fatalf("answer %x does not parse: %v", buf[:n], err)
	}
	return m
}

func TestOddQueries(t *testing.T) {
	z := oneZone(t)
	base := func(change func(*dns.Msg)) []byte {
		m := question("mail.example.com", dns.TypeA)
		change(m)
		return packed(t, m)
	}
	raw := func(change func([]byte) []byte) []byte {
		return change(packed(t, question("mail.example.com", dns.TypeA)))
	}
	twoOPT := func(m *dns.Msg) { m.SetEdns0(1232, false).SetEdns0(1232, false) }
	cases := []struct {
		name  string
		msg   []byte
		rcode int // -1: not answered
	}{
		{"empty", nil, -1},
		{"half a header", make([]byte, 11), -1},
		{"an answer", base(func(m *dns.Msg) { m.Response = true }), -1},
		{"notify", base(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), dns.RcodeNotImplemented},
		{"update", base(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"no question", base(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		{"two questions", base(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"class CH", base(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeRefused},
		{"class ANY", base(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }), dns.RcodeRefused},
		{"type OPT", base(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeOPT }), dns.RcodeFormatError},
		{"type MAILB", base(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMAILB }), dns.RcodeRefused},
		{"unknown type", base(func(m *dns.Msg) { m.Question[0].Qtype = 65280 }), dns.RcodeSuccess},
		{"EDNS version 1", base(func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
		{"unknown option", base(func(m *dns.Msg) {
			m.SetEdns0(1232, false).IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}}
		}), dns.RcodeSuccess},
		{"two OPT", base(twoOPT), dns.RcodeFormatError},
		{"a signature", base(func(m *dns.Msg) { m.SetTsig("k.", dns.HmacSHA256, 300, time.Now().Unix()) }), dns.RcodeSuccess},
		{"an answer section", base(func(m *dns.Msg) {
			m.Answer = []dns.RR{&dns.NULL{Hdr: dns.RR_Header{Name: "x.test.", Rrtype: dns.TypeNULL}}}
		}), dns.RcodeSuccess},
		{"bytes after the end", raw(func(b []byte) []byte { return append(b, 0) }), dns.RcodeFormatError},
		{"cut in the question", raw(func(b []byte) []byte { return b[:len(b)-3] }), dns.RcodeFormatError},
		{"cut in the name", raw(func(b []byte) []byte { return b[:14] }), dns.RcodeFormatError},
		{"records promised", raw(func(b []byte) []byte { b[11] = 1; return b }), dns.RcodeFormatError},
		{"65535 records promised", raw(func(b []byte) []byte { b[10], b[11] = 255, 255; return append(b, make([]byte, 30)...) }), dns.RcodeFormatError},
		{"pointer in the question", raw(func(b []byte) []byte { b[12], b[13] = 0xc0, 0x0c; return b }), dns.RcodeFormatError},
		{"label type 01", raw(func(b []byte) []byte { b[12] = 0x44; return b }), dns.RcodeFormatError},
		{"malformed option", raw(func(b []byte) []byte {
			b[11] = 1
			return append(b, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 3, 0, 1, 0)
		}), dns.RcodeFormatError},
		{"OPT with a name", raw(func(b []byte) []byte {
			b[11] = 1
			return append(b, 1, 'x', 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)
		}), dns.RcodeFormatError},
		{"a name of 256 bytes", longName(256), dns.RcodeFormatError},
		{"a name of 255 bytes", longName(255), dns.RcodeRefused},
	}
	for _, c := range cases {
		m := respond(t, z, c.msg)
		if m == nil {
			if c.rcode != -1 {
				t.Errorf("%s: not answered", c.name)
			}
			continue
		}
		if m.Rcode != c.rcode || m.Id != binary.BigEndian.Uint16(c.msg) || !m.Response {
			t.Errorf("%s: %s, want %d", c.name, m, c.rcode)
		}
	}
}

// longName is a query for a name whose wire form has size bytes.
func longName(size int) []byte {
	msg := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for size > 1 {
		n := min(63, size-2)
		msg = append(append(msg, byte(n)), bytes.Repeat([]byte{'x'}, n)...)
		size -= n + 1
	}
	return append(msg, 0, 0, 1, 0, 1)
}

func TestQuestionComesBackAsSent(t *testing.T) {
	z := oneZone(t)
	for _, name := range []string{"ChAiN.eXaMpLe.CoM.", "A.b.WILD.example.COM.", "NOPE.example.com.", "OTHER.test."} {
		msg := packed(t, question(name, dns.TypeA))
		m := respond(t, z, msg)
		if m == nil || m.Question[0].Name != name {
			t.Errorf("%s: came back as %v", name, m)
		}
		if len(m.Answer) > 0 && m.Answer[0].Header().Name != name {
			t.Errorf("%s: answered for owner %s", name, m.Answer[0].Header().Name)
		}
	}
}

func TestSizes(t *testing.T) {
	_, address := start(t, Config{}, map[string]*Plan{"example.com": mustCompile(t, testSpec())})
	cases := []struct {
		name    string
		network string
		edns    uint16 // 0: without
		tc      bool
		answers int
		max     int
	}{
		{"big.example.com", "udp", 0, true, 0, 512},
		{"big.example.com", "udp", 100, true, 0, 512},
		{"big.example.com", "udp", 900, false, 3, 900},
		{"big.example.com", "udp", 4096, false, 3, 1232},
		{"huge.example.com", "udp", 4096, true, 0, 1232},
		{"huge.example.com", "tcp", 0, false, 1, 65535},
		{"huge.example.com", "tcp", 512, false, 1, 65535},
		{"tobig.example.com", "udp", 4096, true, 1, 1232},
		{"tobig.example.com", "tcp", 0, false, 2, 65535},
	}
	for _, c := range cases {
		m := question(c.name, dns.TypeTXT)
		if c.edns > 0 {
			m.SetEdns0(c.edns, true)
		}
		r := exchange(t, c.network, address, m)
		r.Compress = true
		if r.Truncated != c.tc || len(r.Answer) != c.answers || r.Len() > c.max {
			t.Errorf("%s over %s with EDNS %d: TC %v, %d answers, %d bytes", c.name, c.network, c.edns, r.Truncated, len(r.Answer), r.Len())
		}
		if opt := r.IsEdns0(); (opt != nil) != (c.edns > 0) || (opt != nil && !opt.Do()) {
			t.Errorf("%s over %s with EDNS %d: OPT %v", c.name, c.network, c.edns, opt)
		}
	}
}

func TestAnswersStayWithinEverySize(t *testing.T) {
	z := oneZone(t)
	var r reply
	buf := make([]byte, DefaultUDPSize)
	for _, c := range answerCases() {
		for size := uint16(512); size <= 1300; size += 37 {
			msg := packed(t, question(c.name, c.typ).SetEdns0(size, false))
			n := r.answer(z, msg, buf, DefaultUDPSize, false)
			if n > min(int(size), DefaultUDPSize) {
				t.Errorf("%s %d: %d bytes for a limit of %d", c.name, c.typ, n, size)
			}
			if err := new(dns.Msg).Unpack(buf[:n]); err != nil {
				t.Errorf("%s %d at %d: %v", c.name, c.typ, size, err)
			}
		}
	}
}

func TestMissingGlueSetsTC(t *testing.T) {
	spec := &zone.Spec{Meta: zone.Meta{Name: "example.com"}}
	for i := range 12 {
		host := "a-rather-long-label-for-a-name-server-" + string(rune('a'+i)) + ".sub.example.com"
		spec.Records = append(spec.Records,
			zone.Record{Name: "sub.example.com", Type: "NS", Content: host, TTL: 60},
			zone.Record{Name: host, Type: "A", Content: "192.0.2.1", TTL: 60})
	}
	s := New(Config{})
	s.Set("example.com", mustCompile(t, spec))
	m := respond(t, &s.zones, packed(t, question("x.sub.example.com", dns.TypeA).SetEdns0(900, false)))
	if !m.Truncated || m.Authoritative || len(m.Ns) != 12 || len(m.Extra) >= 13 {
		t.Errorf("a referral without its glue: TC %v, AA %v, %d NS, %d additional", m.Truncated, m.Authoritative, len(m.Ns), len(m.Extra))
	}
}

func TestZonesNestAndChange(t *testing.T) {
	compile := func(name string) *Plan {
		return mustCompile(t, &zone.Spec{Meta: zone.Meta{Name: name, NameServers: []string{"ns." + name}}, Records: []zone.Record{
			{Name: "*." + name, Type: "TXT", Content: name, TTL: 60},
		}})
	}
	s := New(Config{})
	ask := func(name string, typ uint16) *dns.Msg { return respond(t, &s.zones, packed(t, question(name, typ))) }
	s.Set("example.com", compile("example.com"))
	s.Set("Sub.Example.com.", compile("sub.example.com"))
	s.Set("wrong.test", compile("example.com"))
	if m := ask("x.wrong.test", dns.TypeTXT); m.Rcode != dns.RcodeRefused {
		t.Errorf("a plan was set under another zone's name: %v", m)
	}
	if m := ask("a.sub.example.com", dns.TypeTXT); len(m.Answer) != 1 || m.Answer[0].(*dns.TXT).Txt[0] != "sub.example.com" {
		t.Errorf("the child zone did not answer: %v", m)
	}
	if m := ask("sub.example.com", dns.TypeDS); len(m.Ns) != 1 || m.Ns[0].Header().Name != "example.com." {
		t.Errorf("DS of a child zone was not answered by its parent: %v", m)
	}
	if m := ask("example.com", dns.TypeDS); len(m.Ns) != 1 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("DS without a parent here: %v", m)
	}
	s.Remove("sub.example.com")
	if m := ask("a.sub.example.com", dns.TypeTXT); len(m.Answer) != 1 || m.Answer[0].(*dns.TXT).Txt[0] != "example.com" {
		t.Errorf("the parent did not answer for a removed child: %v", m)
	}
	s.Remove("example.com")
	s.Remove("never.test")
	if m := ask("a.example.com", dns.TypeTXT); m.Rcode != dns.RcodeRefused {
		t.Errorf("a removed zone answered: %v", m)
	}
}

func TestPortZeroIsNotAnswered(t *testing.T) {
	s := New(Config{})
	var r reply
	c := new(counters)
	msg := packed(t, question("example.com", dns.TypeA))
	out := make([]byte, DefaultUDPSize)
	if n, _ := s.answerUDP(&r, c, msg, out, netip.MustParseAddrPort("192.0.2.1:0"), nil); n != 0 {
		t.Errorf("%d bytes to port 0", n)
	}
	if n, _ := s.answerUDP(&r, c, msg, out, netip.MustParseAddrPort("192.0.2.1:1"), nil); n == 0 {
		t.Error("no answer to port 1")
	}
}

func TestAnswersLeaveFromTheAddressAsked(t *testing.T) {
	if !batched {
		return // only the batched loop promises it
	}
	cases := []struct{ listen, ask string }{{"0.0.0.0:0", "127.0.0.2"}}
	if probe, err := net.ListenPacket("udp6", "[::1]:0"); err == nil { // a machine may be without IPv6
		probe.Close()
		cases = append(cases, struct{ listen, ask string }{"[::]:0", "127.0.0.3"}, struct{ listen, ask string }{"[::]:0", "::1"})
	}
	for _, c := range cases {
		_, address := startAt(t, c.listen, Config{}, map[string]*Plan{"example.com": mustCompile(t, testSpec())})
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		// A connected socket takes datagrams from the address it asked only.
		r := exchange(t, "udp", net.JoinHostPort(c.ask, port), question("mail.example.com", dns.TypeA))
		if len(r.Answer) != 1 {
			t.Errorf("%s by %s: %v", c.listen, c.ask, r)
		}
	}
}

func TestManyQueriesAtOnce(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			_, address := start(t, Config{Generic: mode.generic}, map[string]*Plan{"example.com": mustCompile(t, testSpec())})
			conn, err := net.Dial("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			cases := answerCases()
			for round := range 4 {
				for i := range 100 {
					c := cases[(round*100+i)%len(cases)]
					m := question(c.name, c.typ)
					m.Id = uint16(i)
					if _, err := conn.Write(packed(t, m)); err != nil {
						t.Fatal(err)
					}
				}
				if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
					t.Fatal(err)
				}
				seen := map[uint16]bool{}
				buf := make([]byte, 4096)
				for range 100 {
					n, err := conn.Read(buf)
					if err != nil {
						t.Fatalf("after %d answers: %v", len(seen), err)
					}
					m := new(dns.Msg)
					if err := m.Unpack(buf[:n]); err != nil {
						t.Fatal(err)
					}
					want := cases[(round*100+int(m.Id))%len(cases)]
					if seen[m.Id] || m.Question[0].Name != dns.Fqdn(want.name) || m.Question[0].Qtype != want.typ || m.Rcode != want.rcode {
						t.Fatalf("id %d: %v", m.Id, m)
					}
					seen[m.Id] = true
				}
			}
		})
	}
}

func TestPipelinedTCP(t *testing.T) {
	_, address := start(t, Config{}, map[string]*Plan{"example.com": mustCompile(t, testSpec())})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var all []byte
	const queries = 300
	for i := range queries {
		m := question("huge.example.com", dns.TypeTXT)
		m.Id = uint16(i)
		wire := packed(t, m)
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(wire))), wire...)
	}
	sent := make(chan error, 1)
	go func() {
		for len(all) > 0 { // in odd pieces, so that messages come torn
			n := min(len(all), 333)
			if _, err := conn.Write(all[:n]); err != nil {
				sent <- err
				return
			}
			all = all[n:]
		}
		sent <- nil
	}()
	in := &dns.Conn{Conn: conn}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for i := range queries {
		m, err := in.ReadMsg()
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if m.Id != uint16(i) || len(m.Answer) != 1 {
			t.Fatalf("answer %d: %v", i, m)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// ended waits for the other side to close.
func ended(t *testing.T, conn net.Conn) error {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := conn.Read(make([]byte, 1))
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Error("the connection stays open")
	}
	return err
}

func TestTCPLimits(t *testing.T) {
	s, address := start(t, Config{TCPConns: 2, IdleTimeout: 200 * time.Millisecond}, nil)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	asked := func(conn net.Conn) bool {
		c := &dns.Conn{Conn: conn}
		if c.WriteMsg(question("x.test", dns.TypeA)) != nil || conn.SetReadDeadline(time.Now().Add(5*time.Second)) != nil {
			return false
		}
		m, err := c.ReadMsg()
		return err == nil && m.Rcode == dns.RcodeRefused
	}
	first, second := dial(), dial()
	if !asked(first) || !asked(second) {
		t.Fatal("connections within the limit are not served")
	}
	if err := ended(t, dial()); err == nil {
		t.Error("a connection over the limit was served")
	}
	if n := s.refusedConns.Load(); n != 1 {
		t.Errorf("%d refused connections counted, want 1", n)
	}
	if err := ended(t, first); !errors.Is(err, io.EOF) {
		t.Errorf("an idle connection ended with %v, want EOF", err)
	}
	ended(t, second)

	long := dial()
	if _, err := long.Write([]byte{0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	ended(t, long)
}

func TestDrain(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			udp, l, err := Listen(t.Context(), "127.0.0.1:0", 3)
			if err != nil {
				t.Fatal(err)
			}
			s := New(Config{Generic: mode.generic, IdleTimeout: time.Hour})
			errs := make(chan error, 4)
			for _, conn := range udp {
				go func() { errs <- s.ServeUDP(conn) }()
			}
			go func() { errs <- s.ServeTCP(l) }()
			address := l.Addr().String()
			idle, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer idle.Close()
			exchange(t, "udp", address, question("x.test", dns.TypeA))
			c := &dns.Conn{Conn: idle}
			if err := c.WriteMsg(question("x.test", dns.TypeA)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.ReadMsg(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := s.Drain(ctx); err != nil {
				t.Errorf("drain: %v", err)
			}
			for range 4 {
				if err := <-errs; err != nil {
					t.Errorf("serve: %v", err)
				}
			}
			ended(t, idle)
			if conn, err := net.Dial("tcp", address); err == nil {
				conn.Close()
				t.Error("a drained server accepts connections")
			}
			again, _, err := Listen(t.Context(), "127.0.0.1:0", 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.ServeUDP(again[0]); err != nil {
				t.Errorf("serving after the drain: %v", err)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	s, address := start(t, Config{}, map[string]*Plan{"example.com": mustCompile(t, testSpec())})
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		exchange(t, "udp", address, question("mail.example.com", dns.TypeA))
	}
	exchange(t, "udp", address, question("huge.example.com", dns.TypeTXT))
	exchange(t, "tcp", address, question("nope.example.com", 65280))
	want := []string{
		"selvage_dns_queries_total NOERROR udp A 3", "selvage_dns_queries_total NOERROR udp TXT 1",
		"selvage_dns_queries_total NXDOMAIN tcp other 1", "selvage_dns_truncated_total udp 1",
		"selvage_dns_answer_seconds 5",
	}
	// A query is counted after its answer is sent, so the last may come late.
	var got []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		got = gathered(t, registry)
		if !slices.ContainsFunc(want, func(line string) bool { return !slices.Contains(got, line) }) {
			return
		}
	}
	t.Errorf("metrics are\n%s\nwant among them\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
}

func TestDigAgrees(t *testing.T) {
	_, address := start(t, Config{}, map[string]*Plan{"example.com": mustCompile(t, testSpec())})
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		args []string
		want string
	}{
		{[]string{"example.com", "A", "+short"}, "198.51.100.1\n198.51.100.2\n"},
		{[]string{"www.example.com", "A", "+short"}, "proxied.example.com.\n198.51.100.1\n198.51.100.2\n"},
		{[]string{"example.com", "MX", "+short", "+tcp"}, "10 mail.example.com.\n20 proxied.example.com.\n30 mx.other.test.\n"},
		{[]string{"https.example.com", "HTTPS", "+short"}, "1 . alpn=\"h2,h3\"\n"},
		{[]string{"_sip._tcp.example.com", "SRV", "+short"}, "1 5 5060 mail.example.com.\n"},
		{[]string{"example.com", "CAA", "+short"}, "0 issue \"letsencrypt.org\"\n128 iodef \"mailto:a@example.com\"\n"},
		{[]string{"huge.example.com", "TXT", "+noall", "+comments"}, "NOERROR"}, // falls back to TCP
		{[]string{"nope.example.com", "A", "+noall", "+comments"}, "status: NXDOMAIN"},
		{[]string{"example.com", "A", "+edns=1", "+noednsneg", "+noall", "+comments"}, "status: BADVERS"},
	}
	for _, c := range cases {
		args := append([]string{"@" + host, "-p", port, "+norecurse", "+tries=1", "+time=5"}, c.args...)
		out, err := exec.CommandContext(t.Context(), "dig", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("dig %v: %v (Debian package dnsutils)\n%s", c.args, err, out)
		}
		if got := string(out); got != c.want && (strings.HasSuffix(c.want, "\n") || !strings.Contains(got, c.want)) {
			t.Errorf("dig %v says\n%s\nwant\n%s", c.args, got, c.want)
		}
		if strings.Contains(string(out), "WARNING") || strings.Contains(string(out), "malformed") {
			t.Errorf("dig %v complains:\n%s", c.args, out)
		}
	}
}

// gathered renders samples as "name labels… value", histograms by their count.
func gathered(t *testing.T, registry *prometheus.Registry) []string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			line := family.GetName()
			// Labels come sorted by their names: proto, rcode, type.
			labels := m.GetLabel()
			if len(labels) == 3 {
				line += " " + labels[1].GetValue() + " " + labels[0].GetValue() + " " + labels[2].GetValue()
			} else if len(labels) == 1 {
				line += " " + labels[0].GetValue()
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			lines = append(lines, line+" "+strconv.FormatFloat(value, 'f', -1, 64))
		}
	}
	return lines
}
