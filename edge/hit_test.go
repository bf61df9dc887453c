package edge

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/geo"
	"github.com/selvage-edge/selvage/edge/phase/cache"
	pages "github.com/selvage-edge/selvage/edge/phase/errors"
	"github.com/selvage-edge/selvage/edge/phase/normalize"
	"github.com/selvage-edge/selvage/edge/phase/origin"
	"github.com/selvage-edge/selvage/edge/phase/settings"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/edge/shelf"
	"github.com/selvage-edge/selvage/edge/snapshot"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/telemetry"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// inMemory is an edge without sockets, disk and feed, whose origin is a
// function: the pipeline called directly.
func inMemory(tb testing.TB, spec *zone.Spec, answer func(*Request) error) *Edge {
	tb.Helper()
	log := slog.New(slog.DiscardHandler)
	e := &Edge{
		cfg: Config{Colo: "FRA"}, log: log, zones: shelf.New(shelf.Config{}), clock: clock.New(nil), counters: newCounters(), registry: prometheus.NewRegistry(),
		normalize: normalize.New(), settings: settings.New(443), errors: pages.New(),
	}
	var err error
	if e.geo, err = geo.Open(); err != nil {
		tb.Fatal(err)
	}
	e.requests, e.cutRequests = context.WithCancel(tb.Context())
	e.origin = origin.New(origin.Config{})
	e.cache = cache.New(cache.Config{Bytes: 16 << 20, Ctx: e.requests, Fetch: answer})
	e.access = telemetry.NewAccessLog(discard{}, "FRA", rowNames(), 2, log)
	tb.Cleanup(func() {
		e.cutRequests()
		e.cache.Close()
		e.origin.Close()
		if err := e.access.Close(); err != nil {
			tb.Error(err)
		}
	})
	z, err := snapshot.Compile(spec, &zone.Shared{Advertise: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Colo: "FRA"})
	if err != nil {
		tb.Fatal(err)
	}
	e.zones.Publish(z)
	return e
}

func site() *zone.Spec {
	return &zone.Spec{
		Meta:     zone.Meta{ID: "0123456789abcdef0123456789abcdef", Name: "site.test", Status: "active", NameServers: []string{"ns1.selvage.test", "ns2.selvage.test"}},
		Records:  []zone.Record{{ID: "r1", Name: "site.test", Type: "A", Content: "192.0.2.1", TTL: 1, Proxied: true}},
		Settings: zone.Settings{"ssl": json.RawMessage(`"flexible"`)}, Seq: 3,
	}
}

// ask is a browser's GET as the protocol hands it over.
func ask(path string) *msg.Request {
	in := &msg.Request{
		MethodText: []byte("GET"), Method: msg.GET, Authority: []byte("site.test"), Target: []byte(path), Path: []byte(path), Proto: msg.HTTP11,
	}
	for _, f := range [][2]string{
		{"Host", "site.test"}, {"User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"},
		{"Accept", "text/html,application/xhtml+xml"}, {"Accept-Encoding", "gzip, deflate, br"}, {"Accept-Language", "en"},
	} {
		in.Fields.Add([]byte(f[0]), []byte(f[1]))
	}
	return in
}

func conn() *msg.Conn {
	return &msg.Conn{Remote: netip.MustParseAddrPort("192.0.2.200:4711"), Local: netip.MustParseAddrPort("192.0.2.201:80")}
}

func stored(r *Request) error {
	r.Out.Status = 200
	r.Out.Length = 1024
	r.Out.Fields.AddID(msg.CacheControl, []byte("max-age=3600"))
	r.Out.Fields.AddID(msg.ContentType, []byte("application/octet-stream"))
	r.Out.Fields.AddID(msg.ETag, []byte(`"v1"`))
	r.Out.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", 1024)))
	return nil
}

// turn runs one request through a session as a protocol server does.
func turn(s msg.Session, in *msg.Request, out *msg.Response) (status int, body int64, err error) {
	out.Reset()
	s.Serve(in, out)
	body = int64(len(out.Bytes))
	if out.Body != nil {
		body, err = io.Copy(io.Discard, out.Body)
	}
	status = out.Status
	out.Close()
	s.Done(in, out, body, err)
	return status, body, err
}

func TestPipelineServesMissThenHit(t *testing.T) {
	e := inMemory(t, site(), stored)
	s := e.Open(conn())
	defer s.Close()
	out := &msg.Response{}
	for i, want := range []string{"MISS", "HIT"} {
		in := ask("/a")
		out.Reset()
		s.Serve(in, out)
		if got := string(out.Fields.Get(msg.CFCacheStatus)); got != want || out.Status != 200 {
			t.Errorf("request %d: %d %s, want 200 %s", i, out.Status, got, want)
		}
		if ray := string(out.Fields.Get(msg.CFRay)); len(ray) != 20 || !strings.HasSuffix(ray, "-FRA") {
			t.Errorf("ray %q", ray)
		}
		if out.Body != nil {
			if _, err := io.Copy(io.Discard, out.Body); err != nil {
				t.Error(err)
			}
		}
		out.Close()
		s.Done(in, out, 1024, nil)
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	e := inMemory(t, site(), stored)
	s := e.Open(conn())
	defer s.Close()
	in, out := ask("/a"), &msg.Response{}
	if status, n, err := turn(s, in, out); status != 200 || n != 1024 || err != nil {
		t.Fatalf("miss: %d, %d bytes, %v", status, n, err)
	}
	allocs := testing.AllocsPerRun(1000, func() {
		if status, n, _ := turn(s, in, out); status != 200 || n != 1024 {
			t.Errorf("hit: %d, %d bytes", status, n)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per hit with all phases and the log on, want 0", allocs)
	}
}

func TestFaultsBecomePagesWithTheRay(t *testing.T) {
	e := inMemory(t, site(), stored)
	s := e.Open(conn())
	defer s.Close()
	for host, want := range map[string]int{"unknown.example": 421, "192.0.2.201": 403, "unproxied.site.test": 421} {
		in := ask("/")
		in.Authority = []byte(host)
		out := &msg.Response{}
		s.Serve(in, out)
		if out.Status != want || out.Fields.Get(msg.CFRay) == nil || len(out.Bytes) == 0 {
			t.Errorf("%s: %d, ray %q, %d bytes", host, out.Status, out.Fields.Get(msg.CFRay), len(out.Bytes))
		}
		out.Close()
		s.Done(in, out, 0, nil)
	}
}

// What waits for an origin on behalf of a visitor who has left ends, and so
// does the connection: its context will not come back.
func TestWaitsEndWhenTheVisitorLeaves(t *testing.T) {
	asked := make(chan struct{})
	e := inMemory(t, site(), func(r *Request) error {
		close(asked)
		<-r.Ctx.Done()
		return &fault.Error{Op: "test", Side: fault.Visitor, Kind: fault.Closed, Err: r.Ctx.Err()}
	})
	s := e.Open(conn())
	defer s.Close()
	go func() {
		<-asked
		s.(msg.Leaver).Left()
	}()
	in, out := ask("/slow"), new(msg.Response)
	in.Method, in.MethodText = msg.POST, []byte("POST")
	s.Serve(in, out)
	defer out.Close()
	if out.Status != 499 || !out.EndConn {
		t.Errorf("status %d, connection ends %v, want 499 and an end", out.Status, out.EndConn)
	}
	s.Done(in, out, 0, nil)
}

func TestReentryIsBounded(t *testing.T) {
	e := inMemory(t, site(), stored)
	z, _ := e.zones.Find([]byte("site.test"))
	r := &Request{Zone: z, Depth: request.MaxDepth}
	if err := e.Reenter(rowNamed("origin"), r); err == nil {
		t.Error("a request may come round for ever")
	}
}

func BenchmarkHit(b *testing.B) {
	e := inMemory(b, site(), stored)
	s := e.Open(conn())
	defer s.Close()
	in, out := ask("/a"), &msg.Response{}
	if _, _, err := turn(s, in, out); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		turn(s, in, out)
	}
}
