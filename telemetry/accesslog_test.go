package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

type sink struct {
	bytes.Buffer
	err    error
	closed bool
}

func (s *sink) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	return s.Buffer.Write(p)
}
func (s *sink) Close() error { s.closed = true; return nil }

// slow is a disk that takes nothing until it is freed.
type slow struct {
	sink
	free chan struct{}
}

func (s *slow) Write(p []byte) (int, error) {
	<-s.free
	return s.sink.Write(p)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func sample() *Record {
	phases := [MaxPhases]uint32{1: 120, 4: 7}
	return &Record{
		Visitor: &Visitor{
			Country: [2]byte{'D', 'E'}, ASN: 64500, Client: netip.MustParseAddr("192.0.2.1"),
			Zone: "example.com", Scheme: "https", Proto: "HTTP/1.1", TLS: "1.3", Host: []byte("www.example.com"),
		},
		Time: time.Unix(1_700_000_000, 123456000), Duration: 1500, Ray: 0xabc, Seq: 7, Bytes: 1024, Status: 200,
		OriginAddr: netip.MustParseAddrPort("198.51.100.2:8080"), OriginStatus: 200, OriginReused: true, OriginWait: 99,
		Phases: &phases, CacheStatus: "HIT", Tier: "ram",
		Method: []byte("GET"), Path: []byte("/a\"b\\\x01\xffü"), Query: []byte("x=1"),
	}
}

func TestLineIsJSONWhateverTheVisitorSent(t *testing.T) {
	out := &sink{}
	l := NewAccessLog(out, "FRA", []string{"a", "normalize", "c", "d", "cache"}, 2, quiet())
	l.Append(1, sample())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	want := map[string]any{
		"time": "2023-11-14T22:13:20.123456Z", "ray": "0000000000000abc", "colo": "FRA", "zone": "example.com",
		"host": "www.example.com", "method": "GET", "path": "/a\"b\\\x01\ufffdü", "query": "x=1", "status": 200.0,
		"bytes": 1024.0, "age": 0.0, "cache_status": "HIT", "tier": "ram", "client_ip": "192.0.2.1", "country": "DE",
		"asn": 64500.0, "scheme": "https", "proto": "HTTP/1.1", "tls": "1.3", "seq": 7.0, "duration_ns": 1500.0,
		"origin_ip": "198.51.100.2", "origin_port": 8080.0, "origin_status": 200.0, "origin_reused": true,
		"origin_connect_ns": 0.0, "origin_wait_ns": 99.0,
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s = %v, want %v", name, got[name], value)
		}
	}
	if phases := got["phases_ns"].(map[string]any); phases["normalize"] != 120.0 || phases["cache"] != 7.0 || len(phases) != 2 {
		t.Errorf("phases_ns = %v", phases)
	}
	if !out.closed {
		t.Error("output left open")
	}
}

// What lines have in common is rendered again as soon as anything in it differs,
// also where it lies in memory that was used before.
func TestLinesTellOfTheirOwnVisitor(t *testing.T) {
	out := &sink{}
	l := NewAccessLog(out, "FRA", nil, 1, quiet())
	r := sample()
	host := []byte("www.example.com")
	v := r.Visitor
	for _, change := range []func(){
		func() { v.Host = host },
		func() { copy(host, "api") },
		func() { v.UserAgent = []byte("curl/8") },
		func() { v.Zone = "example.net" },
		func() { v.Client = netip.MustParseAddr("2001:db8::1") },
		func() { v.Country, v.ASN = [2]byte{}, 0 },
		func() { v.Proto, v.Scheme, v.TLS = "HTTP/2", "http", "" },
		func() { v.Host = nil },
	} {
		change()
		l.Append(0, r)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const rest = `"method":"GET","path"`
	var got []string
	for line := range strings.Lines(out.String()) {
		_, line, _ = strings.Cut(line, `"colo":"FRA",`)
		line, _, _ = strings.Cut(line, rest)
		got = append(got, line)
	}
	want := []string{
		`"zone":"example.com","host":"www.example.com","scheme":"https","proto":"HTTP/1.1","tls":"1.3","client_ip":"192.0.2.1","country":"DE","asn":64500,`,
		`"zone":"example.com","host":"api.example.com","scheme":"https","proto":"HTTP/1.1","tls":"1.3","client_ip":"192.0.2.1","country":"DE","asn":64500,`,
		`"zone":"example.com","host":"api.example.com","scheme":"https","proto":"HTTP/1.1","tls":"1.3","user_agent":"curl/8","client_ip":"192.0.2.1","country":"DE","asn":64500,`,
		`"zone":"example.net","host":"api.example.com","scheme":"https","proto":"HTTP/1.1","tls":"1.3","user_agent":"curl/8","client_ip":"192.0.2.1","country":"DE","asn":64500,`,
		`"zone":"example.net","host":"api.example.com","scheme":"https","proto":"HTTP/1.1","tls":"1.3","user_agent":"curl/8","client_ip":"2001:db8::1","country":"DE","asn":64500,`,
		`"zone":"example.net","host":"api.example.com","scheme":"https","proto":"HTTP/1.1","tls":"1.3","user_agent":"curl/8","client_ip":"2001:db8::1",`,
		`"zone":"example.net","host":"api.example.com","scheme":"http","proto":"HTTP/2","user_agent":"curl/8","client_ip":"2001:db8::1",`,
		`"zone":"example.net","scheme":"http","proto":"HTTP/2","user_agent":"curl/8","client_ip":"2001:db8::1",`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The largest line there can be fits the room that Append looks for.
func TestLongestLine(t *testing.T) {
	phases := [MaxPhases]uint32{}
	names := make([]string, MaxPhases)
	for i := range phases {
		phases[i], names[i] = math.MaxUint32, "a row with a long name, "+strconv.Itoa(i)
	}
	ctl := bytes.Repeat([]byte{1}, 4<<10)
	far := netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666")
	l := &AccessLog{colo: "FRANKFURT", phases: phaseKeys(names)}
	line := l.line(nil, &stamp{}, &Record{
		Visitor: &Visitor{Client: far, Country: [2]byte{1, 1}, ASN: math.MaxUint32, Zone: string(ctl), Host: ctl, UserAgent: ctl, Scheme: "https", Proto: "HTTP/1.1", TLS: "1.3"},
		Time:    time.Unix(1<<33, 0), Duration: math.MaxInt64, Ray: math.MaxUint64, Seq: math.MaxUint64, Bytes: math.MaxInt64, Status: math.MaxUint16, Age: math.MaxUint32,
		OriginAddr: netip.AddrPortFrom(far, 65535), OriginStatus: math.MaxUint16, OriginConnect: math.MaxInt64, OriginWait: math.MaxInt64,
		Phases: &phases, CacheStatus: "REVALIDATED", Tier: "reserve", Fault: string(ctl), Method: ctl, Path: ctl, Query: ctl, Referer: ctl,
	})
	if len(line) > maxLine {
		t.Errorf("%d bytes, room for %d is looked for", len(line), maxLine)
	}
	if !json.Valid(line) {
		t.Errorf("not JSON: %s", line)
	}
}

func TestFullRingDropsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &slow{free: make(chan struct{})}
		l := NewAccessLog(out, "FRA", nil, 1, quiet())
		r := sample()
		r.Path = bytes.Repeat([]byte("p"), 9000)
		const n = 2000
		for range n {
			l.Append(0, r)
		}
		if l.Dropped() == 0 {
			t.Error("nothing dropped although the ring holds far less")
		}
		close(out.free)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(out.String(), "\n")
		if got := uint64(lines) + l.Dropped(); got != n {
			t.Errorf("%d lines + %d dropped, want %d together", lines, l.Dropped(), n)
		}
		if !strings.Contains(out.String(), `"path":"`+strings.Repeat("p", maxPath)+`"`) {
			t.Error("path not cut at its limit")
		}
	})
}

// Lines are written in small portions as they come, so that requests never wait
// behind a large one, and what is less than one after flushEvery at the latest.
func TestWritesInPortions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{}
		l := NewAccessLog(out, "FRA", nil, 1, quiet())
		size := len(l.line(nil, &stamp{}, sample()))
		n := (portion + size - 1) / size
		for range n - 1 {
			l.Append(0, sample())
		}
		synctest.Wait()
		if out.Len() > 0 {
			t.Errorf("%d bytes are written before their time", out.Len())
		}
		l.Append(0, sample())
		synctest.Wait()
		if got := strings.Count(out.String(), "\n"); got != n || l.Written() != uint64(n) {
			t.Errorf("%d lines are written, %d counted, want %d", got, l.Written(), n)
		}
		l.Append(0, sample())
		time.Sleep(flushEvery)
		synctest.Wait()
		if got := strings.Count(out.String(), "\n"); got != n+1 {
			t.Errorf("%d lines are written after %s, want %d", got, flushEvery, n+1)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A ring that got ahead of the disk is written in bounded writes of whole lines.
func TestWritesAreBounded(t *testing.T) {
	out := &parts{}
	l := NewAccessLog(out, "FRA", nil, 1, quiet())
	l.shards[0].mu.Lock() // the writer waits for it
	r := sample()
	for len(l.shards[0].fill) < 3*maxWrite {
		l.shards[0].fill = l.line(l.shards[0].fill, &l.shards[0].stamp, r)
	}
	want := string(l.shards[0].fill)
	l.shards[0].mu.Unlock()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(out.list, ""); got != want {
		t.Errorf("%d bytes written, want %d", len(got), len(want))
	}
	for _, p := range out.list {
		if len(p) > maxWrite || !strings.HasSuffix(p, "}\n") {
			t.Errorf("a write of %d bytes that ends in %q", len(p), p[len(p)-2:])
		}
	}
}

// parts keeps each write.
type parts struct{ list []string }

func (p *parts) Write(b []byte) (int, error) { p.list = append(p.list, string(b)); return len(b), nil }
func (p *parts) Close() error                { return nil }

func TestFailingDiskIsCountedNotFatal(t *testing.T) {
	l := NewAccessLog(&sink{err: errors.New("no space left on device")}, "FRA", nil, 1, quiet())
	l.Append(0, sample())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l.Failed() != 1 {
		t.Errorf("failed = %d, want 1", l.Failed())
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	l := NewAccessLog(&sink{}, "FRA", nil, 1, quiet())
	defer l.Close()
	r := sample()
	if n := testing.AllocsPerRun(200, func() { l.Append(0, r) }); n != 0 {
		t.Errorf("%v allocations per record, want 0", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	l := NewAccessLog(&sink{}, "FRA", []string{"normalize", "settings", "route", "cache", "origin"}, 1, quiet())
	defer l.Close()
	r := sample()
	b.ReportAllocs()
	for b.Loop() {
		l.Append(0, r)
		l.shards[0].fill = l.shards[0].fill[:0]
	}
}

// Whatever visitors send, the line is one line of valid JSON with their text in
// it, as far as the text is UTF-8.
func FuzzLine(f *testing.F) {
	f.Add([]byte("/a\"b\\"), []byte("x=\n"), []byte("agent\x00\xff"))
	l := &AccessLog{colo: "FRA"}
	f.Fuzz(func(t *testing.T, path, query, agent []byte) {
		r := sample()
		r.Path, r.Query, r.Visitor.UserAgent = path, query, agent
		line := l.line(nil, &stamp{}, r)
		if len(line) > maxLine {
			t.Fatalf("%d bytes", len(line))
		}
		if bytes.Count(line, []byte{'\n'}) != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("not one line: %q", line)
		}
		var got struct {
			Path  string `json:"path"`
			Agent string `json:"user_agent"`
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if len(path) <= maxPath && utf8.Valid(path) && got.Path != string(path) {
			t.Errorf("path %q is logged as %q", path, got.Path)
		}
		if len(agent) <= maxAgent && utf8.Valid(agent) && got.Agent != string(agent) {
			t.Errorf("agent %q is logged as %q", agent, got.Agent)
		}
	})
}
