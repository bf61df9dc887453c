package h3

import (
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/wire/h3/qpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// parsed takes what a stream carries apart, in pieces of size bytes.
func parsed(text []byte, size int) (*exchange, error) {
	s := NewServer(&handler{}, Limits{Unknown: 1 << 30})
	x := newExchange(&conn{s: s})
	for {
		if x.w == len(x.in) {
			x.grow(max(16, 2*len(x.in)))
		}
		n := copy(x.in[x.w:min(len(x.in), x.w+size)], text)
		x.w, text = x.w+n, text[n:]
		x.eof = len(text) == 0
		if err := x.parse(); err != nil || x.phase == whole {
			return x, err
		}
		if x.eof {
			return x, errIncomplete
		}
		if x.skip > 0 && x.r == x.w {
			x.r, x.w = 0, 0
		}
	}
}

// FuzzRequest: what comes in pieces is what comes whole, and what passes can
// be written as HTTP/1.1.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(head3("GET", "/a?b", "accept", "*/*", "cookie", "a=1", "cookie", "b=2")), 3)
	f.Add([]byte(frame(0x21, "grease")+head3("POST", "/", "content-length", "3")+frame(frameData, "abc")), 1)
	f.Add([]byte(connect()+frame(frameData, "abc")), 7)
	f.Add([]byte(head3("GET", "/")+frame(frameData, "")+frame(0x40, "x")), 2)
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		if size < 1 {
			return
		}
		whole, err := parsed(text, len(text)+1)
		pieces, piecesErr := parsed(text, size)
		if (err == nil) != (piecesErr == nil) {
			t.Fatalf("whole: %v; in pieces: %v", err, piecesErr)
		}
		if err != nil {
			return
		}
		a, b := &whole.req, &pieces.req
		if string(a.Target) != string(b.Target) || string(a.Authority) != string(b.Authority) || a.Fields.Len() != b.Fields.Len() {
			t.Fatalf("whole: %+v; in pieces: %+v", a, b)
		}
		all := string(a.MethodText) + string(a.Target) + string(a.Authority) + string(a.Upgrade)
		for _, l := range a.Fields.All() {
			all += string(l.Name) + string(l.Value)
		}
		if strings.ContainsAny(all, "\r\n\x00") || len(a.Target) == 0 || a.Fields.Count(msg.Host) != 1 {
			t.Errorf("%q passes as %+v", text, a)
		}
	})
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(varints(settingConnect, 1, settingSectionSize, 4096, 0x21, 7)))
	f.Fuzz(func(t *testing.T, p []byte) {
		if s, err := parseSettings(p); err != nil && s.sectionSize > 1<<62 {
			t.Error(s)
		}
	})
}

func FuzzVarint(f *testing.F) {
	f.Add(uint64(63), []byte{0x40})
	f.Fuzz(func(t *testing.T, v uint64, p []byte) {
		v &= 1<<62 - 1
		q := appendVarint(nil, v)
		if got, n := readVarint(append(q, p...)); got != v || n != len(q) {
			t.Errorf("%d reads as %d, %d bytes", v, got, n)
		}
		if kind, length, n := readFrame(p); n > len(p) || n == 0 && (kind != 0 || length != 0) {
			t.Errorf("%x: %d %d %d", p, kind, length, n)
		}
	})
}

func FuzzTrailer(f *testing.F) {
	f.Add([]byte(section("grpc-status", "0")))
	f.Fuzz(func(t *testing.T, p []byte) {
		var to msg.Fields
		l := Limits{}.withDefaults()
		err := decodeTrailer(p, &to, &l)
		if err != nil && to.Len() > 0 {
			t.Errorf("%x: %v, and %d lines are kept", p, err, to.Len())
		}
		if err == nil && !head.TrailerAllowed(&to) {
			t.Errorf("%x passes", p)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := []byte(head3("GET", "/assets/app.3f9ab1.js", "user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
		"accept", "*/*", "accept-encoding", "gzip, deflate, br, zstd", "accept-language", "en-US,en;q=0.9"))
	x := newExchange(&conn{s: NewServer(&handler{}, Limits{})})
	x.in = text
	b.ReportAllocs()
	for b.Loop() {
		x.r, x.w, x.eof, x.phase = 0, len(text), true, wantHead
		x.req.Reset()
		if err := x.parse(); err != nil || x.phase != whole {
			b.Fatal(err)
		}
	}
}

func BenchmarkHead(b *testing.B) {
	var f msg.Fields
	f.AddID(msg.ContentType, []byte("text/html; charset=utf-8"))
	f.AddID(msg.CacheControl, []byte("public, max-age=3600"))
	block := qpack.AppendStatic(nil, &f)
	x := newExchange(&conn{s: NewServer(&handler{}, Limits{})})
	x.req.Method, x.res.Status, x.res.Bytes = msg.GET, 200, make([]byte, 1024)
	x.res.Fields.AddID(msg.Age, []byte("10"))
	x.res.Fields.AddID(msg.CFCacheStatus, []byte("HIT"))
	x.res.Fields.AddID(msg.Server, []byte("selvage"))
	b.ReportAllocs()
	for b.Loop() {
		p, err := x.appendHead(x.out[:0], x.shape())
		if err != nil {
			b.Fatal(err)
		}
		x.out = append(p, block...)
	}
}
