package h2

import (
	"testing"

	"github.com/selvage-edge/selvage/wire/h2/h2test"
	"github.com/selvage-edge/selvage/wire/msg"
)

var age, status, server, ray = []byte("17"), []byte("HIT"), []byte("selvage"), []byte("0123456789abcdef-FRA")

// hit answers as a cache does.
func hit(prepared *msg.Prepared, body []byte) func(*msg.Request, *msg.Response) {
	return func(_ *msg.Request, res *msg.Response) {
		res.Status, res.Prepared, res.Bytes = 200, prepared, body
		res.Fields.AddID(msg.Age, age)
		res.Fields.AddID(msg.CFCacheStatus, status)
		res.Fields.AddID(msg.Server, server)
		res.Fields.AddID(msg.CFRay, ray)
	}
}

// quick is a session that answers inline and notes nothing.
type quick struct {
	serve func(*msg.Request, *msg.Response)
}

func (q quick) Open(*msg.Conn) msg.Session                     { return q }
func (q quick) Step(req *msg.Request, res *msg.Response) bool  { q.serve(req, res); return true }
func (q quick) Serve(req *msg.Request, res *msg.Response)      { q.serve(req, res) }
func (q quick) Done(*msg.Request, *msg.Response, int64, error) {}
func (q quick) Refused(int, error)                             {}
func (q quick) Close()                                         {}

var prepared = &msg.Prepared{H1: []byte("Content-Type: text/html\r\nCache-Control: max-age=3600\r\nETag: \"v1\"\r\nLast-Modified: Mon, 02 Nov 2026 10:00:00 GMT\r\n")}

// browser is what one asks for.
var browser = [][2]string{
	{":method", "GET"}, {":scheme", "https"}, {":authority", "a.test"}, {":path", "/index.html"},
	{"user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"},
	{"accept", "text/html,application/xhtml+xml"}, {"accept-encoding", "gzip, deflate, br, zstd"}, {"accept-language", "en"},
}

func serveHits(tb testing.TB, n, rounds int) *h2test.Feeder {
	f := h2test.New(browser, n, rounds, 1100)
	s := NewServer(quick{hit(prepared, make([]byte, 1024))}, Limits{})
	s.ServeConn(f, new(msg.Conn))
	if want := (n*rounds + 1) * 1024; f.Written < want {
		tb.Fatalf("%d bytes written for %d rounds, want at least %d", f.Written, rounds, want)
	}
	return f
}

// BenchmarkHit is one request of 10 that came in one read, answered with 1 KiB
// from memory, without TLS.
func BenchmarkHit(b *testing.B) {
	const n = 10
	b.ReportAllocs()
	serveHits(b, n, b.N/n+1)
}
