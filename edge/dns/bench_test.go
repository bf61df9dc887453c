package dns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/miekg/dns"

	"github.com/selvage-edge/selvage/zone"
)

func TestAnswersAllocateNothing(t *testing.T) {
	z := oneZone(t)
	var r reply
	c := new(counters)
	buf := make([]byte, DefaultUDPSize)
	for _, ac := range answerCases() {
		msg := packed(t, question(ac.name, ac.typ).SetEdns0(1232, true))
		n := testing.AllocsPerRun(100, func() {
			c.count(&r, r.answer(z, msg, buf, DefaultUDPSize, false), protoUDP)
		})
		if n != 0 {
			t.Errorf("%s %s: %v allocations", ac.name, dns.TypeToString[ac.typ], n)
		}
	}
}

// TestSocketLoopsAllocateNothing counts the whole way through a socket and back.
func TestSocketLoopsAllocateNothing(t *testing.T) {
	for _, mode := range modes {
		_, address := start(t, Config{Generic: mode.generic}, map[string]*Plan{"example.com": mustCompile(t, testSpec())})
		conn, err := net.Dial("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		msg := packed(t, question("www.example.com", dns.TypeA))
		buf := make([]byte, 1500)
		n := testing.AllocsPerRun(500, func() {
			if _, err := conn.Write(msg); err != nil {
				t.Error(err)
			}
			if _, err := conn.Read(buf); err != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations per query", mode.name, n)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	z := oneZone(b)
	for _, c := range []struct {
		name string
		typ  uint16
	}{
		{"example.com", dns.TypeA}, {"www.example.com", dns.TypeA}, {"a.b.c.wild.example.com", dns.TypeTXT},
		{"nope.example.com", dns.TypeA}, {"other.test", dns.TypeA}, {"example.com", dns.TypeMX},
	} {
		b.Run(c.name+"/"+dns.TypeToString[c.typ], func(b *testing.B) {
			msg := packed(b, question(c.name, c.typ).SetEdns0(1232, false))
			var r reply
			buf := make([]byte, DefaultUDPSize)
			b.ReportAllocs()
			for b.Loop() {
				r.answer(z, msg, buf, DefaultUDPSize, false)
			}
		})
	}
}

// BenchmarkManyZones asks ten thousand zones in turn, past the caches.
func BenchmarkManyZones(b *testing.B) {
	s := New(Config{})
	var queries [][]byte
	for i := range 10_000 {
		name := fmt.Sprintf("zone-%d.example", i)
		s.Set(name, mustCompile(b, &zone.Spec{Meta: zone.Meta{Name: name, NameServers: []string{"a.ns.test", "b.ns.test"}}, Records: []zone.Record{
			{Name: name, Type: "A", Content: "192.0.2.1", TTL: 1, Proxied: true}, {Name: "www." + name, Type: "CNAME", Content: name, TTL: 60},
		}}))
		queries = append(queries, packed(b, question("www."+name, dns.TypeA)))
	}
	var r reply
	buf := make([]byte, DefaultUDPSize)
	b.ReportAllocs()
	for i := 0; b.Loop(); i = (i + 7919) % len(queries) {
		r.answer(&s.zones, queries[i], buf, DefaultUDPSize, false)
	}
}

// BenchmarkUDP sends bursts of 32 through the socket: both sides' cost.
func BenchmarkUDP(b *testing.B) {
	for _, mode := range modes {
		b.Run(mode.name, func(b *testing.B) {
			_, address := start(b, Config{Generic: mode.generic}, map[string]*Plan{"example.com": mustCompile(b, testSpec())})
			conn, err := net.Dial("udp", address)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			msg := packed(b, question("example.com", dns.TypeA))
			buf := make([]byte, 1500)
			const burst = 32
			b.ReportAllocs()
			for b.Loop() {
				for range burst {
					if _, err := conn.Write(msg); err != nil {
						b.Fatal(err)
					}
				}
				for range burst {
					if _, err := conn.Read(buf); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*burst), "ns/query")
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	spec := &zone.Spec{Meta: zone.Meta{Name: "example.com"}}
	for i := range zone.MaxRecords {
		spec.Records = append(spec.Records, zone.Record{Name: fmt.Sprintf("host-%d.example.com", i), Type: "A", Content: "192.0.2.1", TTL: 60})
	}
	b.ReportAllocs()
	for b.Loop() {
		mustCompile(b, spec)
	}
}

// FuzzQuery holds the server to this for any input: no panic, and either
// silence or an answer that another implementation parses, with the same id,
// the same question and a legal size.
func FuzzQuery(f *testing.F) {
	for _, c := range answerCases() {
		f.Add(packed(f, question(c.name, c.typ)), false)
		f.Add(packed(f, question(c.name, c.typ).SetEdns0(4096, true)), true)
	}
	f.Add(longName(255), false)
	z := oneZone(f)
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) {
		limit := DefaultUDPSize
		if tcp {
			limit = maxTCPAnswer
		}
		var r reply
		buf := make([]byte, limit)
		before := bytes.Clone(msg)
		n := r.answer(z, msg, buf, limit, tcp)
		if !bytes.Equal(before, msg) {
			t.Fatal("the query was written to")
		}
		if n == 0 {
			if len(msg) >= headerSize && msg[2]&0x80 == 0 {
				t.Fatalf("a query was not answered: %x", msg)
			}
			return
		}
		var m dns.Msg
		if err := m.Unpack(buf[:n]); err != nil {
			t.Fatalf("answer %x to %x: %v", buf[:n], msg, err)
		}
		if m.Id != binary.BigEndian.Uint16(msg) || !m.Response {
			t.Fatalf("answer %v to %x", &m, msg)
		}
		if !tcp && n > max(plainUDP, int(r.size)) {
			t.Fatalf("%d bytes for a client that takes %d", n, r.size)
		}
		if len(m.Question) == 1 {
			if end := r.question; !bytes.Equal(buf[headerSize:end], msg[headerSize:end]) {
				t.Fatalf("question %x came back as %x", msg[headerSize:end], buf[headerSize:end])
			}
		}
		if m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError {
			if len(m.Question) != 1 || m.Question[0].Qclass != dns.ClassINET {
				t.Fatalf("%s without a question of ours: %v", dns.RcodeToString[m.Rcode], &m)
			}
		}
		for _, secret := range secrets {
			// The question is the client's own; only what follows is ours.
			if bytes.Contains(buf[max(headerSize, r.question):n], secret.AsSlice()) {
				t.Fatalf("an origin's address is in %x", buf[:n])
			}
		}
	})
}

// FuzzRecord compiles records of any content; what compiles must be answered
// with something that parses.
func FuzzRecord(f *testing.F) {
	for _, r := range testSpec().Records {
		f.Add(r.Type, r.Content, []byte(r.Data))
	}
	f.Fuzz(func(t *testing.T, typ, content string, data []byte) {
		priority := uint16(1)
		spec := &zone.Spec{Meta: zone.Meta{Name: "example.com"}, Records: []zone.Record{
			{Name: "x.example.com", Type: typ, Content: content, Data: data, Priority: &priority, TTL: 60},
		}}
		p, err := Compile(spec, testShared)
		if err != nil {
			return
		}
		var n name
		n.set("\x01x\x07example\x03com\x00")
		number, how := p.find(&n)
		if how == foundNothing || (how == foundNode && p.nodes[number].count != 1) {
			t.Fatalf("%s %q compiled to nothing", typ, content)
		}
		s := New(Config{})
		s.Set("example.com", p)
		var r reply
		buf := make([]byte, maxTCPAnswer)
		size := r.answer(&s.zones, packed(t, question("x.example.com", dns.StringToType[typ])), buf, maxTCPAnswer, true)
		var m dns.Msg
		if err := m.Unpack(buf[:size]); err != nil || m.Rcode != dns.RcodeSuccess || len(m.Answer)+len(m.Ns) == 0 {
			t.Fatalf("%s %q: %v, %v", typ, content, &m, err)
		}
	})
}
