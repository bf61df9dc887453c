package cache

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
)

// prime stores one object and returns a request for it.
func prime(t testing.TB) (*rig, *request.Request) {
	g := newRig(t, Config{}, always(200, strings.Repeat("x", 1024), "Cache-Control: max-age=86400", `ETag: "v1"`, "Content-Type: text/html", "Vary: Accept-Encoding"))
	g.e.clock = nil // as in production: the request's own start will do
	lines := []string{"Accept-Encoding: gzip, br", "User-Agent: Mozilla/5.0", "Accept: */*"}
	g.run("GET /some/path/index.html?b=1&a=2", lines...)
	return g, ask(t.Context(), "GET /some/path/index.html?b=1&a=2", lines...)
}

// hit asks again with the same request, as a kept connection does.
func (g *rig) hit(r *request.Request) {
	r.Arena.Reset()
	r.Out.Reset()
	r.Start = time.Now()
	if _, err := g.e.Run(&g.plan, r); err != nil || r.Cache.Status != request.CacheHit {
		g.t.Fatalf("not a hit: %v %v", r.Cache, err)
	}
	r.Out.Close()
}

func TestHitAllocatesNothing(t *testing.T) {
	g, r := prime(t)
	g.hit(r)
	if n := testing.AllocsPerRun(1000, func() { g.hit(r) }); n != 0 {
		t.Errorf("%v allocations per hit", n)
	}
	addLines(&r.In.Fields, `If-None-Match: "v0", "v1"`)
	if n := testing.AllocsPerRun(1000, func() { g.hit(r) }); n != 0 || r.Out.Status != 304 {
		t.Errorf("%v allocations per 304, status %d", n, r.Out.Status)
	}
	r.In.Fields.Reset()
	addLines(&r.In.Fields, "Accept-Encoding: gzip, br", "Range: bytes=5-9")
	if n := testing.AllocsPerRun(1000, func() { g.hit(r) }); n != 0 || r.Out.Status != 206 {
		t.Errorf("%v allocations per 206, status %d", n, r.Out.Status)
	}
}

func BenchmarkHit(b *testing.B) {
	g, r := prime(b)
	b.ReportAllocs()
	for b.Loop() {
		g.hit(r)
	}
}

func BenchmarkHitParallel(b *testing.B) {
	g, _ := prime(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := ask(b.Context(), "GET /some/path/index.html?b=1&a=2", "Accept-Encoding: gzip, br")
		for pb.Next() {
			g.hit(r)
		}
	})
}

func BenchmarkMissStore(b *testing.B) {
	g := newRig(b, Config{Bytes: 16 << 20}, nil)
	body := strings.Repeat("x", 1024)
	g.serve = func(r *request.Request) error {
		return reply(r, 200, body, "Cache-Control: max-age=60", "Content-Type: text/html")
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := ask(b.Context(), fmt.Sprintf("GET /%d", i))
		if _, err := g.e.Run(&g.plan, r); err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Out.Body)
		r.Out.Close()
	}
}
