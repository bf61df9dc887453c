package edge

import (
	"testing"

	"github.com/selvage-edge/selvage/wire/h2"
	"github.com/selvage-edge/selvage/wire/h2/h2test"
	"github.com/selvage-edge/selvage/wire/msg"
)

// loader is what a load generator asks for.
var loader = [][2]string{
	{":method", "GET"}, {":path", "/a"}, {":scheme", "https"}, {":authority", "site.test"},
	{"user-agent", "h2load nghttp2/1.52.0"}, {"accept", "*/*"},
}

// BenchmarkHitOverHTTP2 is one of ten requests that came in one read, answered
// from memory with all phases and the log on; TLS and the kernel left out.
func BenchmarkHitOverHTTP2(b *testing.B) {
	e := inMemory(b, site(), stored)
	s := e.Open(conn())
	defer s.Close()
	if _, _, err := turn(s, ask("/a"), &msg.Response{}); err != nil {
		b.Fatal(err)
	}
	c := h2test.New(loader, 10, b.N/10+1, 1<<10)
	b.ReportAllocs()
	h2.NewServer(e, h2.Limits{}).ServeConn(c, conn())
	if c.Written < b.N*1024 {
		b.Fatalf("%d bytes for %d requests", c.Written, b.N)
	}
}
