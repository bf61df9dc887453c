package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

const testZone = "0123456789abcdef0123456789abcdef"

// rig is an engine over an origin that a test writes as a function.
type rig struct {
	t       testing.TB
	e       *Engine
	plan    Plan
	fetches atomic.Int64
	mu      sync.Mutex
	skew    time.Duration // what the clock is ahead
	serve   func(r *request.Request) error
}

// newRig ends its engine with the test.
func newRig(t testing.TB, c Config, serve func(*request.Request) error) *rig {
	g := &rig{t: t, plan: Plan{alwaysOnline: true, sortQuery: true}, serve: serve}
	ctx, cancel := context.WithCancel(t.Context())
	if c.Ctx == nil {
		c.Ctx = ctx
	}
	c.Now, c.poison = g.now, true
	c.Fetch = func(r *request.Request) error {
		g.fetches.Add(1)
		return g.serve(r)
	}
	g.e = New(c)
	t.Cleanup(func() {
		cancel()
		g.e.Close()
		g.e.Drop()
		if st := g.e.slab.Stats(); st.Blocks != 0 {
			t.Errorf("somebody holds what is not stored: %+v", st)
		}
	})
	return g
}

func (g *rig) now() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Add(g.skew)
}

// sleep moves the clock.
func (g *rig) sleep(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.skew += d
}

// ask makes a request from "GET /path?query" and field lines.
func ask(ctx context.Context, line string, lines ...string) *request.Request {
	method, target, _ := strings.Cut(line, " ")
	in := &msg.Request{
		MethodText: []byte(method), Method: msg.MethodOf([]byte(method)), Scheme: msg.HTTPS,
		Authority: []byte("www.example.com"), Target: []byte(target), Proto: msg.HTTP11,
	}
	path, query, asked := strings.Cut(target, "?")
	in.Path = []byte(path)
	if asked {
		in.Query = []byte(query)
	}
	addLines(&in.Fields, lines...)
	return &request.Request{
		In: in, Out: new(msg.Response), Ctx: ctx, Arena: new(arena.Arena),
		Conn: &msg.Conn{Remote: netip.MustParseAddrPort("192.0.2.1:1")},
		Host: []byte("www.example.com"), ZoneID: testZone,
	}
}

func addLines(f *msg.Fields, lines ...string) {
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		f.Add([]byte(name), []byte(strings.TrimSpace(value)))
	}
}

// reply fills an answer as an origin does: the body as a stream.
func reply(r *request.Request, status int, body string, lines ...string) error {
	r.Out.Status, r.Out.Length = status, int64(len(body))
	addLines(&r.Out.Fields, lines...)
	if status != 304 && r.In.Method != msg.HEAD {
		r.Out.Body = io.NopCloser(strings.NewReader(body))
	}
	return nil
}

// answer is what a visitor saw.
type answer struct {
	status int
	cache  string
	body   string
	fault  *fault.Error
	readAs error
	fields msg.Fields
	note   request.CacheNote
}

func (a *answer) get(name string) string { return string(a.fields.Lookup(name)) }

func (g *rig) run(line string, lines ...string) *answer {
	g.t.Helper()
	return g.do(ask(g.t.Context(), line, lines...))
}

func (g *rig) do(r *request.Request) *answer {
	v, err := g.e.Run(&g.plan, r)
	if err != nil || v != request.Respond {
		g.t.Errorf("Run = %v, %v, want Respond, nil", v, err)
	}
	a := readAnswer(r)
	r.Out.Close()
	return a
}

func readAnswer(r *request.Request) *answer {
	a := &answer{status: r.Out.Status, fault: r.Fault, note: r.Cache}
	keep := func(b []byte) []byte { return bytes.Clone(b) }
	if r.Out.Prepared != nil {
		r.Out.Prepared.Fields().CopyTo(&a.fields, keep)
	}
	r.Out.Fields.CopyTo(&a.fields, keep)
	a.cache = a.get("CF-Cache-Status")
	body := r.Out.Bytes
	if r.Out.Body != nil {
		body, a.readAs = io.ReadAll(r.Out.Body)
	}
	a.body = string(body)
	return a
}

func (g *rig) want(a *answer, status int, cache, body string) {
	g.t.Helper()
	if a.status != status || a.cache != cache || a.body != body || a.fault != nil {
		g.t.Errorf("got %d %q %q (fault %v), want %d %q %q", a.status, a.cache, a.body, a.fault, status, cache, body)
	}
	if a.cache != "" && a.note.Status.String() != a.cache {
		g.t.Errorf("note says %s, answer %s", a.note.Status, a.cache)
	}
}

func (g *rig) wantFetches(n int64) {
	g.t.Helper()
	if got := g.fetches.Load(); got != n {
		g.t.Errorf("%d fetches, want %d", got, n)
	}
}

func always(status int, body string, lines ...string) func(*request.Request) error {
	return func(r *request.Request) error { return reply(r, status, body, lines...) }
}

func originFault(kind fault.Kind) error {
	return &fault.Error{Op: "test", Side: fault.Origin, Kind: kind, Err: errors.New("origin is away")}
}

func TestSecondRequestIsHit(t *testing.T) {
	g := newRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=60", "Content-Type: text/plain", "Connection: x-hop", "X-Hop: 1"))
	g.want(g.run("GET /a"), 200, "MISS", "hello")
	g.sleep(7 * time.Second)
	a := g.run("GET /a")
	g.want(a, 200, "HIT", "hello")
	if a.get("Age") != "7" || a.note.Age != 7 || a.note.Tier != request.TierRAM {
		t.Errorf("Age %q, note %+v, want 7 and RAM", a.get("Age"), a.note)
	}
	if a.get("Content-Type") != "text/plain" || a.get("Date") == "" || a.get("X-Hop") != "" || a.get("Connection") != "" {
		t.Errorf("wrong fields: %v", a.fields)
	}
	g.wantFetches(1)
	head := g.run("HEAD /a")
	g.want(head, 200, "HIT", "")
	if head.get("Content-Length") != "5" {
		t.Errorf("HEAD Content-Length %q, want 5", head.get("Content-Length"))
	}
}

func TestNilPlanAndUpgradeGoOn(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x"))
	r := ask(t.Context(), "GET /")
	if v, err := g.e.Run(nil, r); v != request.Next || err != nil || r.Cache.Status != request.CacheNone {
		t.Errorf("nil plan: %v %v %v", v, err, r.Cache)
	}
	r.In.Upgrade = []byte("websocket")
	if v, err := g.e.Run(&g.plan, r); v != request.Next || err != nil || r.Cache.Status != request.CacheDynamic {
		t.Errorf("upgrade: %v %v %v", v, err, r.Cache)
	}
	g.wantFetches(0)
}

func TestCompile(t *testing.T) {
	p, err := Compile(&zone.Spec{})
	if err != nil || !p.alwaysOnline || !p.sortQuery || p.bypass || p.static || p.level != aggressive || p.HasRules() || p.base.plain.policy.browser.least != 0 {
		t.Errorf("defaults: %+v, %v", p, err)
	}
	p, err = Compile(&zone.Spec{Settings: zone.Settings{
		"always_online": []byte(`"off"`), "browser_cache_ttl": []byte(`7200`),
		"development_mode": []byte(`"on"`), "sort_query_string_for_cache": []byte(`"off"`)}})
	if err != nil || p.alwaysOnline || p.sortQuery || !p.bypass || p.base.plain.policy.browser.least != 2*time.Hour {
		t.Errorf("all set: %+v, %v", p, err)
	}
	for name, value := range map[string]string{"always_online": `"maybe"`, "browser_cache_ttl": `-1`, "development_mode": `1`} {
		_, err := Compile(&zone.Spec{Settings: zone.Settings{name: []byte(value)}})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: error %v does not name it", name, value, err)
		}
	}
}

// browsersKeep is browser_cache_ttl.
func (p *Plan) browsersKeep(least time.Duration) {
	p.base = &bases{plain: ruled{policy: policy{browser: browserTTL{least: least}}}}
}
