package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// ranger is an origin with one resource that answers Range, If-Range and
// If-None-Match as RFC 9110 says, by rules of its own.
type ranger struct {
	mu    sync.Mutex
	body  string
	tag   string
	extra []string
	asks  []string // Range of each request, with If-Range after a blank
}

func (o *ranger) serve(r *request.Request) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	in := &r.In.Fields
	ask := string(in.Get(msg.Range))
	if in.Has(msg.IfRange) {
		ask += " " + string(in.Get(msg.IfRange))
	}
	if in.Has(msg.IfNoneMatch) {
		ask += " !" + string(in.Get(msg.IfNoneMatch))
	}
	o.asks = append(o.asks, ask)
	lines := append([]string{"Cache-Control: max-age=60"}, o.extra...)
	if o.tag != "" {
		lines = append(lines, "ETag: "+o.tag)
	}
	if o.tag != "" && string(in.Get(msg.IfNoneMatch)) == o.tag {
		return reply(r, 304, "", lines...)
	}
	var from, to int
	switch value := string(in.Get(msg.Range)); {
	case value == "", in.Has(msg.IfRange) && string(in.Get(msg.IfRange)) != o.tag:
		return reply(r, 200, o.body, lines...)
	case strings.HasPrefix(value, "bytes=-"):
		fmt.Sscanf(value, "bytes=-%d", &from)
		from, to = max(0, len(o.body)-from), len(o.body)
	default:
		to = len(o.body) - 1
		fmt.Sscanf(value, "bytes=%d-%d", &from, &to)
		to = min(to+1, len(o.body))
	}
	if from >= to {
		return reply(r, 416, "", fmt.Sprintf("Content-Range: bytes */%d", len(o.body)))
	}
	return reply(r, 206, o.body[from:to], append(lines, fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, to-1, len(o.body)))...)
}

// asked returns what the origin was asked for since the last call.
func (o *ranger) asked() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.Join(o.asks, "; ")
	o.asks = nil
	return text
}

func TestPartsAreKeptAndCombined(t *testing.T) {
	type step struct{ ask, status, body, cache, origin string }
	for _, c := range []struct {
		name  string
		tag   string
		steps []step
	}{
		{"within a part", `"v"`, []step{
			{"bytes=2-7", "206", "234567", "MISS", "bytes=2-7"},
			{"bytes=2-7", "206", "234567", "HIT", ""},
			{"bytes=3-4", "206", "34", "HIT", ""},
			{"bytes=-1", "206", "f", "MISS", "bytes=15- \"v\""},
			{"bytes=99-", "416", "", "HIT", ""},
		}},
		{"what is missing is fetched and put between", `"v"`, []step{
			{"bytes=0-3", "206", "0123", "MISS", "bytes=0-3"},
			{"bytes=8-11", "206", "89ab", "MISS", `bytes=8-11 "v"`},
			{"bytes=2-9", "206", "23456789", "MISS", `bytes=4-7 "v"`},
			{"bytes=0-11", "206", "0123456789ab", "HIT", ""},
			{"", "200", "0123456789abcdef", "MISS", `bytes=12- "v"`},
			{"", "200", "0123456789abcdef", "HIT", ""},
			{"bytes=-4", "206", "cdef", "HIT", ""},
		}},
		{"the whole around a part", `"v"`, []step{
			{"bytes=5-6", "206", "56", "MISS", "bytes=5-6"},
			{"", "200", "0123456789abcdef", "MISS", `bytes=0- "v"`},
			{"", "200", "0123456789abcdef", "HIT", ""},
		}},
		{"a suffix first", `"v"`, []step{
			{"bytes=-4", "206", "cdef", "MISS", "bytes=-4"},
			{"bytes=14-", "206", "ef", "HIT", ""},
			{"bytes=10-", "206", "abcdef", "MISS", `bytes=10-11 "v"`},
		}},
		{"from the first byte on is all", `"v"`, []step{
			{"bytes=0-", "206", "0123456789abcdef", "MISS", ""},
			{"bytes=4-5", "206", "45", "HIT", ""},
			{"", "200", "0123456789abcdef", "HIT", ""},
		}},
		{"several parts", `"v"`, []step{
			{"bytes=0-7", "206", "01234567", "MISS", "bytes=0-7"},
			{"bytes=0-8,12-12", "200", "", "DYNAMIC", "bytes=0-8,12-12"},
		}},
		{"no validator: kept, not combined", "", []step{
			{"bytes=0-3", "206", "0123", "MISS", "bytes=0-3"},
			{"bytes=1-2", "206", "12", "HIT", ""},
			{"bytes=4-7", "206", "4567", "MISS", "bytes=4-7"},
			{"bytes=0-3", "206", "0123", "MISS", "bytes=0-3"},
			{"", "200", "0123456789abcdef", "MISS", ""},
			{"", "200", "0123456789abcdef", "HIT", ""},
		}},
		{"a weak one: likewise", `W/"v"`, []step{
			{"bytes=0-3", "206", "0123", "MISS", "bytes=0-3"},
			{"bytes=2-7", "206", "234567", "MISS", "bytes=2-7"},
		}},
	} {
		o := &ranger{body: "0123456789abcdef", tag: c.tag, extra: []string{"Content-Type: text/plain"}}
		g := newRig(t, Config{}, o.serve)
		for i, s := range c.steps {
			var lines []string
			if s.ask != "" {
				lines = append(lines, "Range: "+s.ask)
			}
			a := g.run("GET /a", lines...)
			g.e.work.Wait()
			origin := o.asked()
			if s.body == "" && s.status == "200" {
				s.body = a.body // what an origin makes of several ranges
				if a.status == 206 {
					a.status = 200
				}
			}
			if fmt.Sprint(a.status) != s.status || a.body != s.body || a.cache != s.cache || origin != s.origin {
				t.Errorf("%s, step %d (%s): %d %q %s, origin asked %q; want %s %q %s, %q",
					c.name, i, s.ask, a.status, a.body, a.cache, origin, s.status, s.body, s.cache, s.origin)
			}
			if a.status == 206 {
				want := contentRangeOf(o.body, a.body)
				if got := a.get("Content-Range"); got != want {
					t.Errorf("%s, step %d: Content-Range %q, want %q", c.name, i, got, want)
				}
			}
			if a.get("Content-Type") == "" && a.status < 300 {
				t.Errorf("%s, step %d: no Content-Type", c.name, i)
			}
		}
		g.e.Close()
		checkStore(t, g.e)
	}
}

func contentRangeOf(whole, part string) string {
	from := strings.Index(whole, part)
	return fmt.Sprintf("bytes %d-%d/%d", from, from+len(part)-1, len(whole))
}

// A new version is never mixed with the parts of an old one.
func TestPartsOfAnotherVersionGo(t *testing.T) {
	o := &ranger{body: "0123456789abcdef", tag: `"1"`}
	g := newRig(t, Config{}, o.serve)
	g.want(g.run("GET /a", "Range: bytes=0-3"), 206, "MISS", "0123")
	o.body, o.tag = "ABCDEFGHIJKLMNOP", `"2"`
	o.asked()
	// The origin ignores the range, as If-Range fails, and sends all.
	g.want(g.run("GET /a", "Range: bytes=2-5"), 206, "MISS", "CDEF")
	g.e.work.Wait()
	g.want(g.run("GET /a", "Range: bytes=0-3"), 206, "HIT", "ABCD")
	if got := o.asked(); got != `bytes=4-5 "1"` {
		t.Errorf("asked %q", got)
	}

	// An origin that does not know If-Range sends a part of the new version.
	deaf := &ranger{body: "0123456789abcdef", tag: `"1"`}
	g = newRig(t, Config{}, func(r *request.Request) error {
		r.In.Fields.Del(msg.IfRange)
		return deaf.serve(r)
	})
	g.want(g.run("GET /a", "Range: bytes=0-3"), 206, "MISS", "0123")
	deaf.body, deaf.tag = "ABCDEFGHIJKLMNOP", `"2"`
	deaf.asked()
	g.want(g.run("GET /a", "Range: bytes=2-5"), 206, "MISS", "CDEF")
	if got := deaf.asked(); got != "bytes=4-5; bytes=2-5" {
		t.Errorf("asked %q", got)
	}
	g.want(g.run("GET /a", "Range: bytes=2-3"), 206, "HIT", "CD")
	g.want(g.run("GET /a"), 200, "MISS", deaf.body)
	deaf.asked()
	g.want(g.run("GET /a"), 200, "HIT", deaf.body)
}

func TestStalePartsAreRevalidated(t *testing.T) {
	o := &ranger{body: "0123456789abcdef", tag: `"1"`}
	g := newRig(t, Config{}, o.serve)
	g.run("GET /a", "Range: bytes=0-7")
	g.sleep(time.Hour)
	o.asked()
	g.want(g.run("GET /a", "Range: bytes=2-5"), 206, "REVALIDATED", "2345")
	if got := o.asked(); got != `bytes=2-5 !"1"` {
		t.Errorf("asked %q", got)
	}
	g.want(g.run("GET /a", "Range: bytes=0-7"), 206, "HIT", "01234567")
	g.sleep(time.Hour)
	// What is missing is fetched at once: its validator confirms the rest.
	g.want(g.run("GET /a", "Range: bytes=6-9"), 206, "EXPIRED", "6789")
	if got := o.asked(); got != `bytes=8-9 "1"` {
		t.Errorf("asked %q", got)
	}
	g.want(g.run("GET /a", "Range: bytes=0-9"), 206, "HIT", "0123456789")
	// And stand in when the origin is away.
	g.sleep(time.Hour)
	g.serve = func(*request.Request) error { return originFault(fault.Timeout) }
	g.want(g.run("GET /a", "Range: bytes=0-9"), 206, "STALE", "0123456789")
	if a := g.run("GET /a", "Range: bytes=0-12"); a.fault == nil {
		t.Errorf("bytes that nobody has: %d %q", a.status, a.body)
	}
	if a := g.run("GET /a"); a.fault == nil {
		t.Errorf("the whole that nobody has: %d %q", a.status, a.body)
	}
}

func TestIfRangeOnParts(t *testing.T) {
	o := &ranger{body: "0123456789abcdef", tag: `"1"`}
	g := newRig(t, Config{}, o.serve)
	g.want(g.run("GET /a", "Range: bytes=0-3", `If-Range: "1"`), 206, "DYNAMIC", "0123")
	g.want(g.run("GET /a", "Range: bytes=0-3"), 206, "MISS", "0123")
	g.want(g.run("GET /a", "Range: bytes=0-3", `If-Range: "1"`), 206, "HIT", "0123")
	g.want(g.run("GET /a", "Range: bytes=0-5", `If-Range: "1"`), 206, "MISS", "012345")
	g.want(g.run("GET /a", "Range: bytes=0-3", `If-Range: "0"`), 200, "DYNAMIC", o.body)
	o.body, o.tag = "ABCDEFGHIJKLMNOP", `"2"`
	a := g.run("GET /a", "Range: bytes=0-9", `If-Range: "1"`)
	g.want(a, 200, "MISS", "ABCDEFGHIJKLMNOP")
	g.want(g.run("HEAD /a", "Range: bytes=0-9"), 200, "HIT", "")
}

// Two visitors who want the same part share a fetch; others do not wait.
func TestPartsAreFetchedOnce(t *testing.T) {
	o := &ranger{body: "0123456789abcdef", tag: `"1"`}
	gate := make(chan struct{})
	g := newRig(t, Config{}, func(r *request.Request) error {
		<-gate
		return o.serve(r)
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if a := g.run("GET /a", "Range: bytes=4-7"); a.body != "4567" || a.status != 206 {
				t.Errorf("%d %q", a.status, a.body)
			}
		})
		wg.Go(func() {
			if a := g.run("GET /a", "Range: bytes=0-1"); a.body != "01" || a.status != 206 {
				t.Errorf("%d %q", a.status, a.body)
			}
		})
	}
	for g.e.Stats().Fills < 2 {
		runtime.Gosched()
	}
	close(gate)
	wg.Wait()
	if n := g.fetches.Load(); n > 4 { // two, or more where one came late
		t.Errorf("%d fetches", n)
	}
}

func TestConnectionCutKeepsWhatCame(t *testing.T) {
	whole := strings.Repeat("0123456789", 5000)
	o := &ranger{body: whole, tag: `"1"`}
	cut := true
	g := newRig(t, Config{}, func(r *request.Request) error {
		err := o.serve(r)
		if cut {
			r.Out.Body = io.NopCloser(io.MultiReader(strings.NewReader(whole[:30_000]), brokenReader{}))
		}
		return err
	})
	a := g.run("GET /a")
	if a.status != 200 || a.readAs == nil || len(a.body) != 30_000 {
		t.Errorf("%d, %d bytes, %v", a.status, len(a.body), a.readAs)
	}
	g.e.work.Wait()
	cut = false
	o.asked()
	g.want(g.run("GET /a", "Range: bytes=10-19"), 206, "HIT", "0123456789")
	g.want(g.run("GET /a"), 200, "MISS", whole)
	if got := o.asked(); got != `bytes=30000- "1"` {
		t.Errorf("asked %q", got)
	}
	g.want(g.run("GET /a"), 200, "HIT", whole)
	// Without a validator nothing is kept.
	o.tag, cut = "", true
	g.run("GET /b")
	g.e.work.Wait()
	cut = false
	g.want(g.run("GET /b"), 200, "MISS", whole)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// What an origin says wrongly of its parts is not believed.
func TestStrangePartsAreNotKept(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		body  string
		again string
	}{
		{"no Content-Range", nil, "0123", "DYNAMIC"},
		{"two", []string{"Content-Range: bytes 0-3/16", "Content-Range: bytes 0-3/20"}, "0123", "DYNAMIC"},
		{"unknown length", []string{"Content-Range: bytes 0-3/*"}, "0123", "DYNAMIC"},
		{"beyond the end", []string{"Content-Range: bytes 14-17/16"}, "0123", "DYNAMIC"},
		{"more than it says", []string{"Content-Range: bytes 0-2/16"}, "0123", "DYNAMIC"},
		{"several", []string{"Content-Type: multipart/byteranges; boundary=x"}, "--x--", "DYNAMIC"},
		{"not to be stored", []string{"Content-Range: bytes 0-3/16", "Cache-Control: no-store"}, "0123", "BYPASS"},
		{"a cookie", []string{"Content-Range: bytes 0-3/16", "Set-Cookie: a=b"}, "0123", "BYPASS"},
		{"fewer than it says", []string{"Content-Range: bytes 0-9/16"}, "0123", "MISS"},
	} {
		g := newRig(t, Config{}, always(206, c.body, append(c.lines, "Cache-Control: max-age=60")...))
		a := g.run("GET /a", "Range: bytes=0-3")
		g.want(a, 206, c.again, c.body)
		g.e.work.Wait()
		b := g.run("GET /a", "Range: bytes=0-3")
		if want := map[bool]string{true: "HIT", false: "DYNAMIC"}[c.again == "MISS"]; b.cache != want && b.cache != c.again {
			t.Errorf("%s: %s, want %s", c.name, b.cache, want)
		}
		if b.body != c.body {
			t.Errorf("%s: %q", c.name, b.body)
		}
	}
}

// A visitor's strange range keeps nobody else's page out of the cache.
func TestRangesBeyondTheEndMarkNothing(t *testing.T) {
	o := &ranger{body: "0123456789abcdef", tag: `"1"`}
	g := newRig(t, Config{}, o.serve)
	if a := g.run("GET /a", "Range: bytes=99-"); a.status != 416 {
		t.Errorf("%d", a.status)
	}
	g.want(g.run("GET /a"), 200, "MISS", o.body)
	g.want(g.run("GET /a"), 200, "HIT", o.body)
	// Nor does a private part.
	o.extra = []string{"Set-Cookie: a=b"}
	g.run("GET /b", "Range: bytes=0-1")
	o.extra = nil
	g.want(g.run("GET /b"), 200, "MISS", o.body)
	g.want(g.run("GET /b"), 200, "HIT", o.body)
}

func TestPartsAreBounded(t *testing.T) {
	body := strings.Repeat("x", 100_000)
	o := &ranger{body: body, tag: `"1"`}
	g := newRig(t, Config{Bytes: 64 << 20, MaxObject: 10_000}, o.serve)
	for i := range 60 {
		a := g.run("GET /a", fmt.Sprintf("Range: bytes=%d-%d", i*1500, i*1500+99))
		if a.status != 206 || len(a.body) != 100 {
			t.Fatalf("%d %d bytes", a.status, len(a.body))
		}
		g.e.work.Wait()
	}
	k := g.e.keyOf(&g.plan, ask(t.Context(), "GET /a"))
	obj := g.e.shardOf(k.hash).find(k, ask(t.Context(), "GET /a"))
	if obj == nil || len(obj.layout().held) > maxStretches || len(obj.body()) > 10_000 {
		t.Fatalf("kept %v", obj.layout().held)
	}
	if a := g.run("GET /a", "Range: bytes=88500-88599"); a.cache != "HIT" {
		t.Errorf("the newest part is %s", a.cache)
	}
	obj.Release()
	// A part over the limit passes.
	if a := g.run("GET /b", "Range: bytes=0-20000"); a.cache != "BYPASS" || len(a.body) != 20_001 {
		t.Errorf("%s, %d bytes", a.cache, len(a.body))
	}
}

func TestPurgeReachesParts(t *testing.T) {
	o := &ranger{body: "0123456789abcdef", tag: `"1"`, extra: []string{"Cache-Tag: a"}}
	g := newRig(t, Config{}, o.serve)
	g.run("GET /a", "Range: bytes=0-3")
	if err := g.e.Purge(testZone, 5, zone.Purge{Tags: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	o.asked()
	g.want(g.run("GET /a", "Range: bytes=0-7"), 206, "MISS", "01234567")
	if got := o.asked(); got != "bytes=0-7" {
		t.Errorf("asked %q", got)
	}
	if err := g.e.Purge(testZone, 6, zone.Purge{Tags: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	g.want(g.run("GET /a", "Range: bytes=0-3"), 206, "MISS", "0123")
}

func TestSeveralRangesOfStoredObject(t *testing.T) {
	g := newRig(t, Config{}, always(200, "0123456789", `ETag: "v1"`, "Cache-Control: max-age=60", "Content-Type: text/plain", "X-Other: 1"))
	g.run("GET /a")
	a := g.run("GET /a", "Range: bytes=6-7, 0-1,-1,99-")
	kind, params, err := mime.ParseMediaType(a.get("Content-Type"))
	if a.status != 206 || a.cache != "HIT" || kind != "multipart/byteranges" || err != nil || a.get("X-Other") != "1" || a.get("Content-Range") != "" {
		t.Fatalf("%d %s %v %v", a.status, a.cache, a.fields, err)
	}
	parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	for _, want := range []struct{ span, body string }{{"bytes 6-7/10", "67"}, {"bytes 0-1/10", "01"}, {"bytes 9-9/10", "9"}} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(p)
		if err != nil || string(body) != want.body || p.Header.Get("Content-Range") != want.span || p.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("%q %v, want %s %q (%v)", body, p.Header, want.span, want.body, err)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("a part too many: %v", err)
	}
	r := ask(t.Context(), "GET /a", "Range: bytes=6-7, 0-1")
	g.want(g.run("GET /a", "Range: bytes=0-1,2-3"), 206, "HIT", "0123")
	if _, err := g.e.Run(&g.plan, r); err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Out.Body)
	if int64(len(body)) != r.Out.Length || err != nil {
		t.Errorf("%d bytes of %d: %v", len(body), r.Out.Length, err)
	}
	r.Out.Close()
}

// However an object comes together, its bytes are the origin's.
func TestAnyOrderOfRangesGivesTheSameBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	body := make([]byte, 3000)
	for i := range body {
		body[i] = byte('a' + random.IntN(26))
	}
	o := &ranger{body: string(body), tag: `"1"`}
	g := newRig(t, Config{MaxObject: 4000, Bytes: 1 << 20}, o.serve)
	for i := range 2000 {
		if i%100 == 0 {
			o.tag = fmt.Sprintf(`"%d"`, i)
			body[random.IntN(len(body))]++
			o.body = string(body)
			g.sleep(time.Hour)
		}
		from := random.IntN(len(body))
		to := min(len(body), from+1+random.IntN(400))
		var lines []string
		want := o.body
		switch random.IntN(12) {
		case 0: // all
		case 1:
			lines, want = []string{fmt.Sprintf("Range: bytes=-%d", len(body)-from)}, o.body[from:]
		case 2:
			lines, want = []string{fmt.Sprintf("Range: bytes=%d-", from)}, o.body[from:]
		default:
			lines, want = []string{fmt.Sprintf("Range: bytes=%d-%d", from, to-1)}, o.body[from:to]
		}
		a := g.run("GET /a", lines...)
		if a.body != want {
			t.Fatalf("step %d, %v: %s, %d bytes differ from the origin's %d", i, lines, a.cache, len(a.body), len(want))
		}
		if random.IntN(30) == 0 {
			if err := g.e.Purge(testZone, uint64(i), zone.Purge{Everything: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	g.e.Close()
	checkStore(t, g.e)
}

func TestPatch(t *testing.T) {
	p := patch{total: 100, list: []piece{{stretch{40, 50}, bytes.Repeat([]byte("n"), 10)}}}
	if l := p.layout(); l.whole() || l.total != 100 || len(l.held) != 1 {
		t.Errorf("%+v", l)
	}
	if l := (layout{}); !l.whole() || l.encode() != nil {
		t.Error("the zero layout is not whole")
	}
	l := layout{100, []stretch{{10, 20}, {30, 60}}}
	for _, c := range []struct{ s, lacks stretch }{
		{stretch{12, 15}, stretch{15, 15}},
		{stretch{0, 15}, stretch{0, 10}},
		{stretch{15, 35}, stretch{20, 30}},
		{stretch{5, 70}, stretch{5, 70}},
		{stretch{20, 30}, stretch{20, 30}},
		{stretch{0, 100}, stretch{0, 100}},
		{stretch{10, 100}, stretch{20, 100}},
	} {
		if got := l.lacks(c.s); got.size() != c.lacks.size() || got.size() > 0 && got != c.lacks {
			t.Errorf("%v lacks %v, want %v", c.s, got, c.lacks)
		}
	}
	if at, ok := l.find(stretch{35, 40}); !ok || at != 15 {
		t.Errorf("find: %d %v", at, ok)
	}
	if _, ok := l.find(stretch{15, 31}); ok {
		t.Error("found what is not there")
	}
}

// What is held of an object may be a part, and the rest not for the store: too
// large, or by now said not to be stored. Who asked gets what it asked for all the
// same.
func TestPartsWhoseRestIsNotStored(t *testing.T) {
	body := strings.Repeat("0123456789", 3000)
	for name, change := range map[string]func(*ranger){
		"too large": func(*ranger) {},
		"no longer": func(o *ranger) { o.extra = []string{"Cache-Control: no-store"} },
	} {
		o := &ranger{body: body, tag: `"v"`}
		c := Config{Bytes: 64 << 10, Shards: 1} // 16 KiB for an object
		if name == "no longer" {
			c = Config{}
		}
		g := newRig(t, c, o.serve)
		for i, want := range []struct {
			held, asks string
			status     int
			body       string
		}{
			{"bytes=10-19", "", 200, body},
			{"bytes=0-9", "", 200, body},
			{"bytes=10-19", "bytes=15-29994", 206, body[15:29995]},
		} {
			path := fmt.Sprintf("GET /%d", i)
			o.extra = nil
			g.run(path, "Range: "+want.held)
			change(o)
			var lines []string
			if want.asks != "" {
				lines = append(lines, "Range: "+want.asks)
			}
			a := g.run(path, lines...)
			if a.status != want.status || a.body != want.body || want.status == 206 && a.get("Content-Range") != "bytes 15-29994/30000" {
				t.Errorf("%s, %s held, %q asked: %d %q, %d bytes", name, want.held, want.asks, a.status, a.get("Content-Range"), len(a.body))
			}
		}
	}
}
