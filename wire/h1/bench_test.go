package h1

import (
	"io"
	"net"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

const hitRequest = "GET /assets/app.css?v=3 HTTP/1.1\r\nHost: www.example.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/css,*/*;q=0.1\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.5\r\nConnection: keep-alive\r\n\r\n"

// hitSite answers as a cache hit does: a prepared head, some fields, a body
// in memory.
type hitSite struct {
	prepared msg.Prepared
	body     []byte
	fields   msg.Fields
}

func newHitSite(n int) *hitSite {
	h := &hitSite{
		prepared: msg.Prepared{H1: []byte("Content-Type: text/css\r\nETag: \"abc\"\r\nCache-Control: max-age=3600\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n")},
		body:     make([]byte, n),
	}
	h.fields.AddID(msg.Age, []byte("12"))
	h.fields.AddID(msg.CFCacheStatus, []byte("HIT"))
	h.fields.AddID(msg.CFRay, []byte("0123456789abcdef-FRA"))
	return h
}

func (h *hitSite) Open(*msg.Conn) msg.Session { return h }
func (h *hitSite) Serve(_ *msg.Request, res *msg.Response) {
	res.Status, res.Prepared, res.Bytes, res.Length = 200, &h.prepared, h.body, int64(len(h.body))
	for i := range h.fields.Len() {
		res.Fields.AddField(*h.fields.At(i))
	}
}
func (h *hitSite) Done(*msg.Request, *msg.Response, int64, error) {}
func (h *hitSite) Refused(int, error)                             {}
func (h *hitSite) Close()                                         {}

// loopback serves h on one TCP connection and returns a function that makes
// one round trip.
func loopback(tb testing.TB, h msg.Handler, request string) (round func()) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		nc, err := ln.Accept()
		if err == nil {
			NewServer(h, Limits{}).ServeConn(nc, new(msg.Conn))
		}
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = nc.Close()
		_ = ln.Close()
		<-served
	})
	in, out := []byte(request), make([]byte, 256<<10)
	if _, err := nc.Write(in); err != nil {
		tb.Fatal(err)
	}
	// The first answer tells how long each is: they are all alike.
	size := 0
	for size == 0 || !whole(out[:size]) {
		n, err := nc.Read(out[size:])
		if err != nil {
			tb.Fatal(err)
		}
		size += n
	}
	return func() {
		if _, err := nc.Write(in); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.ReadFull(nc, out[:size]); err != nil {
			tb.Fatal(err)
		}
	}
}

func whole(p []byte) bool {
	var res msg.Response
	var s scan
	s.start = 1
	n, err := s.end(p, &bounds{line: 1 << 14, head: 1 << 14, fields: 100})
	if err != nil || n == 0 {
		return false
	}
	h, err := parseResponse(p[:n], &res)
	return err == nil && int64(len(p)-n) == h.length
}

func BenchmarkHit1K(b *testing.B)  { benchmarkHit(b, 1<<10) }
func BenchmarkHit32K(b *testing.B) { benchmarkHit(b, 32<<10) }

func benchmarkHit(b *testing.B, n int) {
	round := loopback(b, newHitSite(n), hitRequest)
	b.SetBytes(int64(n))
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
}

// BenchmarkParse is the parser alone.
func BenchmarkParse(b *testing.B) {
	head := []byte(hitRequest)
	l := bounds{line: 16 << 10, head: 32 << 10, fields: 128}
	var req msg.Request
	b.ReportAllocs()
	for b.Loop() {
		req.Reset()
		s := scan{start: 1}
		if n, err := s.end(head, &l); err != nil || n != len(head) {
			b.Fatal(n, err)
		}
		if _, err := parseRequest(head, &req, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkClient is one request without a body and its answer, over TCP.
func BenchmarkClient(b *testing.B) {
	nc, err := net.Dial("tcp", listen(b, NewServer(newHitSite(1<<10), Limits{}), nil))
	if err != nil {
		b.Fatal(err)
	}
	c := NewClient(nc, ClientLimits{})
	defer c.Close()
	req := ask("GET", "/")
	var res msg.Response
	p := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		res.Reset()
		if err := c.Do(b.Context(), req, nil, &res); err != nil {
			b.Fatal(err)
		}
		msgtest.Discard(b, &res, p)
	}
}
