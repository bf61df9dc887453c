package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
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

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func sample() *Record {
	phases := [MaxPhases]uint32{1: 120, 4: 7}
	return &Record{
		Time: time.Unix(1_700_000_000, 123456000), Duration: 1500, Ray: 0xabc, Seq: 7, Bytes: 1024, Status: 200,
		Country: [2]byte{'D', 'E'}, ASN: 64500, Client: netip.MustParseAddr("192.0.2.1"),
		OriginAddr: netip.MustParseAddrPort("198.51.100.2:8080"), OriginStatus: 200, OriginReused: true, OriginWait: 99,
		Phases: &phases, Zone: "example.com", CacheStatus: "HIT", Tier: "ram", Scheme: "https", Proto: "HTTP/1.1", TLS: "1.3",
		Host: []byte("www.example.com"), Method: []byte("GET"), Path: []byte("/a\"b\\\x01\xffü"), Query: []byte("x=1"),
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

func TestFullRingDropsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{}
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

// What is held is rendered in small portions as it comes, so that requests never
// wait behind a large one; it is written after flushEvery at the latest.
func TestRendersInPortions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &sink{}
		l := NewAccessLog(out, "FRA", nil, 1, quiet())
		n := 1 + portion/len(sample().appendTo(make([]byte, 2)))
		for range n {
			l.Append(0, sample())
		}
		synctest.Wait()
		if got := l.Written(); got != uint64(n) || out.Len() > 0 {
			t.Errorf("%d of %d lines are rendered, %d bytes written before their time", got, n, out.Len())
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

func BenchmarkAppendAndRender(b *testing.B) {
	l := &AccessLog{shards: make([]shard, 1), colo: "FRA", phases: []string{"normalize", "settings", "route", "cache", "origin"}, wake: make(chan struct{}, 1)}
	l.shards[0].fill = make([]byte, 0, ringBytes)
	r := sample()
	buf := make([]byte, 0, renderBuffer)
	b.ReportAllocs()
	for b.Loop() {
		l.Append(0, r)
		p := l.shards[0].fill
		buf = l.render(buf[:0], p[2:])
		l.shards[0].fill = p[:0]
	}
}

// Whatever visitors send, the line is one line of valid JSON with their text in
// it, as far as the text is UTF-8.
func FuzzLine(f *testing.F) {
	f.Add([]byte("/a\"b\\"), []byte("x=\n"), []byte("agent\x00\xff"))
	l := &AccessLog{colo: "FRA"}
	f.Fuzz(func(t *testing.T, path, query, agent []byte) {
		r := sample()
		r.Path, r.Query, r.UserAgent = path, query, agent
		line := l.render(nil, r.appendTo(nil))
		if bytes.Count(line, []byte{'\n'}) != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("not one line: %q", line)
		}
		var got struct {
			Path string `json:"path"`
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if len(path) <= maxPath && utf8.Valid(path) && got.Path != string(path) {
			t.Errorf("path %q is logged as %q", path, got.Path)
		}
	})
}
