package cache

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

func TestStaleWhileRevalidateAnswersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, always(200, "old", "Cache-Control: max-age=60, stale-while-revalidate=30"))
		g.run("GET /a")
		time.Sleep(70 * time.Second)
		g.serve = func(r *request.Request) error {
			if r.In.Method != msg.GET {
				t.Errorf("refresh with %v", r.In.Method)
			}
			time.Sleep(time.Second)
			return reply(r, 200, "new", "Cache-Control: max-age=60, stale-while-revalidate=30")
		}
		g.want(g.run("HEAD /a"), 200, "UPDATING", "")
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { g.want(g.run("GET /a"), 200, "UPDATING", "old") })
		}
		wg.Wait()
		time.Sleep(2 * time.Second)
		g.want(g.run("GET /a"), 200, "HIT", "new")
		g.wantFetches(2)
		time.Sleep(100 * time.Second) // beyond the window: wait for the origin
		g.want(g.run("GET /a"), 200, "EXPIRED", "new")
	})
}

func TestStaleObjectIsRefreshedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, always(200, "old", `ETag: "1"`, "Cache-Control: max-age=60"))
		g.run("GET /a")
		time.Sleep(70 * time.Second)
		g.serve = func(r *request.Request) error {
			time.Sleep(time.Second)
			return reply(r, 304, "", "Cache-Control: max-age=60")
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { g.want(g.run("GET /a"), 200, "REVALIDATED", "old") })
		}
		wg.Wait()
		g.wantFetches(2)
	})
}

func TestVary(t *testing.T) {
	g := newRig(t, Config{}, nil)
	g.serve = func(r *request.Request) error {
		return reply(r, 200, fmt.Sprintf("%s|%s", r.In.Fields.Get(msg.AcceptEncoding), r.In.Fields.Lookup("X-Kind")),
			"Cache-Control: max-age=60", "Vary: Accept-Encoding", "Vary: x-kind")
	}
	for _, test := range []struct{ accept, kind, want string }{
		{"gzip, br", "a", "MISS"},
		{"gzip,br", "a", "HIT"},
		{"GZIP ,, br", "a", "HIT"},
		{"br, gzip", "a", "HIT"},
		{"gzip, br", "A", "MISS"},
		{"gzip, br", "", "MISS"},
		{"", "a", "MISS"},
		{"", "a", "HIT"},
	} {
		var lines []string
		if test.accept != "" {
			lines = append(lines, "Accept-Encoding: "+test.accept)
		}
		if test.kind != "" {
			lines = append(lines, "X-KIND: "+test.kind)
		}
		if a := g.run("GET /a", lines...); a.cache != test.want {
			t.Errorf("%q %q: %s, want %s", test.accept, test.kind, a.cache, test.want)
		}
	}
	if st := g.e.Stats(); st.Objects != 4 {
		t.Errorf("%d variants, want 4", st.Objects)
	}
	for i := range 2 * maxVariants {
		g.run("GET /b", fmt.Sprintf("X-Kind: %d", i))
	}
	if st := g.e.Stats(); st.Objects != 4+maxVariants {
		t.Errorf("%d objects, want %d: variants are bounded", st.Objects, 4+maxVariants)
	}
}

func TestAbsentFieldIsNotTheEmptyOne(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60", "Vary: Cookie"))
	g.want(g.run("GET /a"), 200, "MISS", "x")
	g.want(g.run("GET /a", "Cookie:"), 200, "MISS", "x")
	g.want(g.run("GET /a"), 200, "HIT", "x")
}

func TestConditionsOnStoredObject(t *testing.T) {
	g := newRig(t, Config{}, always(200, "body", `ETag: W/"v1"`, "Last-Modified: "+at(-time.Hour), "Date: "+at(0),
		"Cache-Control: max-age=2000000000", "Content-Type: text/plain", "X-Other: 1"))
	first := g.run("GET /a", `If-None-Match: W/"v1"`)
	g.want(first, 304, "MISS", "") // the condition is met by what was just fetched
	for _, test := range []struct {
		line string
		want int
	}{
		{`If-None-Match: "v1"`, 304},
		{`If-None-Match: W/"v1"`, 304},
		{`If-None-Match: "v0", "v1"`, 304},
		{`If-None-Match: *`, 304},
		{`If-None-Match: "v2"`, 200},
		{`If-None-Match: "a\", "v1"`, 304},
		{`If-None-Match: v1`, 200},
		{"If-Modified-Since: " + at(-time.Hour), 304},
		{"If-Modified-Since: " + at(0), 304},
		{"If-Modified-Since: " + at(-2*time.Hour), 200},
		{"If-Modified-Since: yesterday", 200},
	} {
		a := g.run("GET /a", test.line)
		if a.status != test.want || a.cache != "HIT" || (a.body == "") != (test.want == 304) {
			t.Errorf("%s: %d %s %q, want %d", test.line, a.status, a.cache, a.body, test.want)
		}
		if test.want == 304 && (a.get("ETag") != `W/"v1"` || a.get("Cache-Control") == "" || a.get("Date") == "" || a.get("Content-Type") != "" || a.get("X-Other") != "") {
			t.Errorf("%s: fields of the 304: %v", test.line, a.fields)
		}
	}
	// If-None-Match speaks alone where both are there.
	if a := g.run("GET /a", `If-None-Match: "v2"`, "If-Modified-Since: "+at(0)); a.status != 200 {
		t.Errorf("both conditions: %d, want 200", a.status)
	}
	g.wantFetches(1)
	g.serve = always(412, "no")
	g.want(g.run("GET /a", `If-Match: "v9"`), 412, "DYNAMIC", "no")
	g.wantFetches(2)
}

func TestRangeOfStoredObject(t *testing.T) {
	g := newRig(t, Config{}, always(200, "0123456789", `ETag: "v1"`, "Last-Modified: "+at(0), "Cache-Control: max-age=60"))
	g.run("GET /a")
	for _, test := range []struct {
		rng, ifRange string
		status       int
		body, span   string
	}{
		{"bytes=0-3", "", 206, "0123", "bytes 0-3/10"},
		{"bytes=4-", "", 206, "456789", "bytes 4-9/10"},
		{"bytes=-3", "", 206, "789", "bytes 7-9/10"},
		{"bytes=-30", "", 206, "0123456789", "bytes 0-9/10"},
		{"bytes=8-100", "", 206, "89", "bytes 8-9/10"},
		{"BYTES=9-9", "", 206, "9", "bytes 9-9/10"},
		{"bytes=10-", "", 416, "", "bytes */10"},
		{"bytes=-0", "", 416, "", "bytes */10"},
		{"bytes=99999999999999999999-", "", 416, "", "bytes */10"},
		{"bytes=3-2", "", 200, "0123456789", ""},
		{"bytes=a-b", "", 200, "0123456789", ""},
		{"bytes=-", "", 200, "0123456789", ""},
		{"lines=1-2", "", 200, "0123456789", ""},
		{"bytes=0-0", `"v1"`, 206, "0", "bytes 0-0/10"},
		{"bytes=0-0", `"v2"`, 200, "0123456789", ""},
		{"bytes=0-0", `W/"v1"`, 200, "0123456789", ""},
		{"bytes=0-0", at(0), 206, "0", "bytes 0-0/10"},
		{"bytes=0-0", at(time.Hour), 200, "0123456789", ""},
	} {
		lines := []string{"Range: " + test.rng}
		if test.ifRange != "" {
			lines = append(lines, "If-Range: "+test.ifRange)
		}
		a := g.run("GET /a", lines...)
		if a.status != test.status || a.body != test.body || a.get("Content-Range") != test.span || a.cache != "HIT" {
			t.Errorf("%s if %q: %d %q %q %s", test.rng, test.ifRange, a.status, a.body, a.get("Content-Range"), a.cache)
		}
	}
	g.want(g.run("HEAD /a", "Range: bytes=0-3"), 200, "HIT", "")
	g.wantFetches(1)
}

func TestAWholeWithAContentRangeStaysWhole(t *testing.T) {
	g := newRig(t, Config{}, always(200, "0123456789", "Content-Range: odd", "Cache-Control: max-age=60"))
	g.run("GET /a")
	a := g.run("GET /a", "Range: bytes=0-3")
	g.want(a, 200, "HIT", "0123456789")
	if a.get("Content-Range") != "odd" {
		t.Errorf("Content-Range %q: all fields are stored (RFC 9111 §3.1)", a.get("Content-Range"))
	}
}

func TestLinesOfAVaryingFieldAreJoined(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60", "Vary: X-Kind"))
	g.want(g.run("GET /a", "X-Kind: a", "X-Kind: b"), 200, "MISS", "x")
	g.want(g.run("GET /a", "X-Kind: a, b"), 200, "HIT", "x")
	g.want(g.run("GET /a", "X-Kind: a,b"), 200, "HIT", "x")
	g.want(g.run("GET /a", "X-Kind: a b"), 200, "MISS", "x")
}

func TestHeadOnMissPasses(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
	g.want(g.run("HEAD /a"), 200, "DYNAMIC", "")
	g.want(g.run("GET /a"), 200, "MISS", "x")
	g.want(g.run("HEAD /a"), 200, "HIT", "")
}

func TestRequestDirectives(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
	a := g.run("GET /a", "Cache-Control: only-if-cached")
	if a.status != 504 || a.cache != "" {
		t.Errorf("only-if-cached on a miss: %d %q", a.status, a.cache)
	}
	g.want(g.run("GET /a", "Cache-Control: no-store"), 200, "BYPASS", "x")
	g.want(g.run("GET /a"), 200, "MISS", "x")
	for _, line := range []string{"Cache-Control: no-cache", "Cache-Control: max-age=0", "Cache-Control: no-store", "Pragma: no-cache", "Cache-Control: only-if-cached"} {
		g.want(g.run("GET /a", line), 200, "HIT", "x")
	}
	g.wantFetches(2)
}

func TestDevelopmentModeAndMethodsPass(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60", "CF-Cache-Status: HIT"))
	g.plan.bypass = true
	a := g.run("GET /a")
	g.want(a, 200, "BYPASS", "x")
	if a.fields.Count(msg.CFCacheStatus) != 1 {
		t.Errorf("the origin's own CF-Cache-Status came through: %v", a.fields)
	}
	g.plan.bypass = false
	for _, line := range []string{"OPTIONS /a", "POST /a", "TRACE /a", "PURGE /a"} {
		g.want(g.run(line), 200, "DYNAMIC", "x")
	}
	r := ask(t.Context(), "GET /a")
	r.In.Length = 3
	g.want(g.do(r), 200, "DYNAMIC", "x")
	g.want(g.run("GET /a"), 200, "MISS", "x")
}

func TestRequestsThatNameAnotherURLPassTheCacheBy(t *testing.T) {
	for name, passes := range map[string]bool{
		"X-Original-URL": true, "x-rewrite-url": true, "X-HTTP-Method-Override": true, "X_HTTP_METHOD": true,
		"X-Method-Override": true, "X-Host": true, "X-Original-Host": true,
		"X-Hosts": false, "X-Requested-With": false, "Y-Host": false, "X": false,
	} {
		g := newRig(t, Config{}, nil)
		g.serve = func(r *request.Request) error {
			return reply(r, 200, string(r.In.Fields.Lookup(name)), "Cache-Control: max-age=60")
		}
		odd := name + ": /admin"
		if !passes {
			g.want(g.run("GET /", odd), 200, "MISS", "/admin")
			g.want(g.run("GET /"), 200, "HIT", "/admin")
			continue
		}
		g.want(g.run("GET /", odd), 200, "BYPASS", "/admin")
		g.want(g.run("GET /"), 200, "MISS", "")
		g.want(g.run("GET /", odd), 200, "BYPASS", "/admin")
		g.want(g.run("GET /"), 200, "HIT", "")
	}
}

func TestUnsafeMethodInvalidates(t *testing.T) {
	for _, test := range []struct {
		line   string
		status int
		reply  string
		gone   string // paths that are fetched again
	}{
		{"POST /a?y=2&x=1", 200, "", "/a?x=1&y=2"},
		{"PUT /a", 204, "", "/a"},
		{"DELETE /a", 303, "", "/a"},
		{"PATCH /a", 200, "", "/a"},
		{"MERGE /a", 200, "", "/a"},
		{"POST /a", 404, "", ""},
		{"POST /a", 500, "", ""},
		{"OPTIONS /a", 200, "", ""},
		{"POST /c", 201, "Location: /b", "/b"},
		{"POST /c", 201, "Content-Location: https://www.example.com/b", "/b"},
		{"POST /d/c", 201, "Location: ../b", "/b"},
		{"POST /c", 201, "Location: https://other.example.com/b", ""},
		{"POST /c", 201, "Location: ::bad", ""},
	} {
		g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
		paths := []string{"/a", "/b", "/a?x=1&y=2"}
		for _, path := range paths {
			g.run("GET " + path)
		}
		g.serve = func(r *request.Request) error {
			var lines []string
			if test.reply != "" {
				lines = append(lines, test.reply)
			}
			return reply(r, test.status, "", lines...)
		}
		g.run(test.line)
		g.serve = always(200, "x", "Cache-Control: max-age=60")
		for _, path := range paths {
			want := "HIT"
			if path == test.gone {
				want = "MISS"
			}
			if a := g.run("GET " + path); a.cache != want {
				t.Errorf("after %s → %d %s: %s is %s, want %s", test.line, test.status, test.reply, path, a.cache, want)
			}
		}
	}
}

func TestBrowserCacheTTL(t *testing.T) {
	for _, test := range []struct {
		name, origin, want, expires string
	}{
		{"shorter is raised", "Cache-Control: public, max-age=60", "public, max-age=7200", ""},
		{"longer stays", "Cache-Control: max-age=99999", "max-age=99999", ""},
		{"s-maxage stays ours", "Cache-Control: s-maxage=99999", "s-maxage=99999, max-age=7200", ""},
		{"expires gives way", "Expires: " + at(time.Hour), "max-age=7200", ""},
		{"longer expires stays", "Expires: " + at(3*time.Hour), "", at(3 * time.Hour)},
		{"no-cache stays", "Cache-Control: no-cache", "no-cache", ""},
	} {
		g := newRig(t, Config{}, always(200, "x", test.origin, "Date: "+at(0), `ETag: "v1"`))
		g.plan.browsersKeep(2 * time.Hour)
		a := g.run("GET /a")
		if a.get("Cache-Control") != test.want || a.get("Expires") != test.expires {
			t.Errorf("%s: Cache-Control %q, Expires %q", test.name, a.get("Cache-Control"), a.get("Expires"))
		}
	}
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60", `ETag: "v1"`))
	g.plan.browsersKeep(2 * time.Hour)
	g.run("GET /a")
	if a := g.run("GET /a", `If-None-Match: "v1"`); a.status != 304 || a.get("Cache-Control") != "max-age=7200" {
		t.Errorf("304: %d %q", a.status, a.get("Cache-Control"))
	}
	g.plan.browsersKeep(0) // the zone's setting changes: so does the stored head
	if a := g.run("GET /a"); a.cache != "HIT" || a.get("Cache-Control") != "max-age=60" {
		t.Errorf("after the change: %s %q", a.cache, a.get("Cache-Control"))
	}
	g.sleep(61 * time.Second) // what browsers are told does not change our own freshness
	if a := g.run("GET /a"); a.cache != "EXPIRED" {
		t.Errorf("after a minute: %s", a.cache)
	}
}

func TestPreparedHeadIsWellFormed(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60", "Content-Type: text/html", "Set-Cookie2: x", "Transfer-Encoding: chunked", "Keep-Alive: 5", "Age: 3"))
	g.run("GET /a")
	r := ask(t.Context(), "GET /a")
	_, _ = g.e.Run(&g.plan, r)
	if got := string(r.Out.Prepared.H1); got != "Cache-Control: max-age=60\r\nContent-Type: text/html\r\nSet-Cookie2: x\r\n" {
		t.Errorf("H1 = %q", got)
	}
	var text strings.Builder
	for _, f := range r.Out.Prepared.Fields().All() {
		fmt.Fprintf(&text, "%s: %s\r\n", f.Name, f.Value)
	}
	if text.String() != string(r.Out.Prepared.H1) {
		t.Errorf("Fields = %q", text.String())
	}
	r.Out.Close()
}
