package origin

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

func BenchmarkRoute(b *testing.B) {
	e := New(Config{})
	defer e.Close()
	rules, err := CompileRules([]byte(`{"rules":[` + goodRule + `]}`))
	if err != nil {
		b.Fatal(err)
	}
	p := &Plan{rules: rules}
	r := ask(b, "GET", "/", nil, "CDN-Loop: other; v=1", "Accept: */*")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Route(p, r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRun is one request over a kept connection to an origin that costs
// nearly nothing: what is measured is our side of a miss, two system calls
// each way included.
func BenchmarkRun(b *testing.B) {
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":80": fixed(b, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")}}
	e := New(Config{Dial: w.Dial})
	defer e.Close()
	benchRun(b, e, plan(b, "flexible", addr))
}

func BenchmarkRunHTTP2(b *testing.B) {
	var conns atomic.Int32
	dial := serve2(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, &conns)
	e := New(Config{Dial: (&world{hosts: map[string]func() (net.Conn, error){addr + ":443": dial}}).Dial})
	defer e.Close()
	benchRun(b, e, plan(b, "full", addr))
}

func benchRun(b *testing.B, e *Engine, p *Plan) {
	r := ask(b, "GET", "/a", nil, "Accept: */*", "User-Agent: bench", "Accept-Encoding: gzip")
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		r.Arena.Reset()
		r.Out.Reset()
		if _, err := e.Run(p, r); err != nil {
			b.Fatal(err)
		}
		msgtest.Discard(b, r.Out, buf)
	}
}

// fixed returns an origin that answers each read with the same bytes.
func fixed(tb testing.TB, answer string) func() (net.Conn, error) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	tb.Cleanup(func() { _ = l.Close(); <-done })
	go func() { // ends when the listener is closed
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			for {
				if _, err := nc.Read(buf); err != nil {
					break
				}
				if _, err := io.WriteString(nc, answer); err != nil {
					break
				}
			}
			_ = nc.Close()
		}
	}()
	return func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
}

// What a CDN-Loop holds never makes trouble, and our own entry is always seen.
func FuzzLoops(f *testing.F) {
	f.Add([]byte("cloudflare; a=b, selvage; zone=x"))
	f.Add([]byte(`"selvage;`))
	f.Fuzz(func(t *testing.T, value []byte) {
		var fields msg.Fields
		fields.AddID(msg.CDNLoop, value)
		loops(&fields, zoneID)
		fields.AddID(msg.CDNLoop, []byte("selvage; zone="+zoneID))
		if !loops(&fields, zoneID) {
			t.Errorf("behind %q our own entry is not seen", value)
		}
	})
}

// Whatever an origin's Connection names, cleanAnswer leaves nothing of the
// connection's or of ours.
func FuzzCleanAnswer(f *testing.F) {
	f.Add([]byte("close, X-Hop"), []byte("X-Hop"))
	f.Add([]byte(`"x`), []byte("CF-Ray"))
	f.Fuzz(func(t *testing.T, connection, name []byte) {
		var fields msg.Fields
		fields.AddID(msg.Connection, connection)
		fields.Add(name, []byte("v"))
		fields.AddID(msg.ETag, []byte(`"e"`))
		cleanAnswer(&fields, false, false)
		for _, l := range fields.All() {
			if l.ID == msg.Connection || bytes.HasPrefix(bytes.ToLower(l.Name), []byte("cf-")) {
				t.Errorf("%q stays", l.Name)
			}
		}
	})
}
