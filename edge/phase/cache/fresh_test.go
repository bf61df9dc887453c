package cache

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// at names a date relative to noon as a field value.
func at(d time.Duration) string { return string(appendDate(nil, noon.Add(d))) }

func TestJudge(t *testing.T) {
	const s, h = time.Second, time.Hour
	date := "Date: " + at(0)
	for _, test := range []struct {
		name   string
		in     string
		status int
		out    string // lines separated by |
		want   request.CacheStatus
		life   time.Duration
	}{
		{"max-age", "", 200, "Cache-Control: max-age=60", request.CacheMiss, 60 * s},
		{"s-maxage wins", "", 200, "Cache-Control: max-age=60, s-maxage=90", request.CacheMiss, 90 * s},
		{"case and space", "", 200, "Cache-Control:  Public ,\tMAX-AGE=5", request.CacheMiss, 5 * s},
		{"two lines", "", 200, "Cache-Control: public|Cache-Control: max-age=5", request.CacheMiss, 5 * s},
		{"quoted number", "", 200, `Cache-Control: max-age="5"`, request.CacheMiss, 5 * s},
		{"huge number", "", 200, "Cache-Control: max-age=99999999999999999999", request.CacheMiss, maxSeconds * s},
		{"max-age before expires", "", 200, "Cache-Control: max-age=60|Expires: " + at(h), request.CacheMiss, 60 * s},
		{"expires", "", 200, "Expires: " + at(h), request.CacheMiss, h},
		{"expires past", "", 200, "Expires: " + at(-h), request.CacheBypass, 0},
		{"expires zero", "", 200, "Expires: 0", request.CacheBypass, 0},
		{"expires zero, validator", "", 200, `Expires: 0|ETag: "a"`, request.CacheMiss, 0},
		{"expires twice", "", 200, "Expires: " + at(h) + "|Expires: " + at(2*h), request.CacheBypass, 0},
		{"negative", "", 200, "Cache-Control: max-age=-1", request.CacheBypass, 0},
		{"fraction", "", 200, "Cache-Control: max-age=1.5", request.CacheBypass, 0},
		{"not a number, validator", "", 200, `Cache-Control: max-age=x|ETag: "a"`, request.CacheMiss, 0},
		{"contradiction", "", 200, `Cache-Control: max-age=5, max-age=9|ETag: "a"`, request.CacheMiss, 0},
		{"repetition", "", 200, "Cache-Control: max-age=5, max-age=5", request.CacheMiss, 5 * s},
		{"name in a quoted value", "", 200, `Cache-Control: x="no-store, y", max-age=5`, request.CacheMiss, 5 * s},
		{"no-store", "", 200, "Cache-Control: max-age=60, no-store", request.CacheBypass, 0},
		{"private", "", 200, "Cache-Control: max-age=60, private", request.CacheBypass, 0},
		{"private fields", "", 200, `Cache-Control: max-age=60, private="Set-Cookie"`, request.CacheBypass, 0},
		{"private beside s-maxage", "", 200, "Cache-Control: private, s-maxage=60", request.CacheBypass, 0},
		{"no-cache", "", 200, `Cache-Control: no-cache, max-age=60|ETag: "a"`, request.CacheMiss, 0},
		{"no-cache fields", "", 200, `Cache-Control: no-cache="x", max-age=60|ETag: "a"`, request.CacheMiss, 0},
		{"no-cache without validator", "", 200, "Cache-Control: no-cache", request.CacheDynamic, 0},
		{"cookie", "", 200, "Cache-Control: public, max-age=60|Set-Cookie: a=b", request.CacheBypass, 0},
		{"authorization", "Authorization: x", 200, "Cache-Control: max-age=60", request.CacheBypass, 0},
		{"authorization public", "Authorization: x", 200, "Cache-Control: public, max-age=60", request.CacheMiss, 60 * s},
		{"authorization s-maxage", "Authorization: x", 200, "Cache-Control: s-maxage=60", request.CacheMiss, 60 * s},
		{"authorization must-revalidate", "Authorization: x", 200, "Cache-Control: must-revalidate, max-age=60", request.CacheMiss, 60 * s},
		{"vary star", "", 200, "Cache-Control: max-age=60|Vary: accept, *", request.CacheBypass, 0},
		{"vary many", "", 200, "Cache-Control: max-age=60|Vary: " + strings.Repeat("x,", maxVary) + "y", request.CacheBypass, 0},
		{"nothing said", "", 200, "", request.CacheDynamic, 0},
		{"public alone", "", 200, "Cache-Control: public", request.CacheDynamic, 0},
		{"etag alone", "", 200, `ETag: "a"`, request.CacheMiss, 0},
		{"invalid etag alone", "", 200, `ETag: a`, request.CacheDynamic, 0},
		{"heuristic", "", 200, "Last-Modified: " + at(-100*time.Minute), request.CacheMiss, 10 * time.Minute},
		{"heuristic bound", "", 200, "Last-Modified: " + at(-9000*h), request.CacheMiss, 24 * h},
		{"modified in the future", "", 200, "Last-Modified: " + at(h), request.CacheMiss, 0},
		{"modified invalid", "", 200, "Last-Modified: yesterday", request.CacheDynamic, 0},
		{"heuristic 404", "", 404, "Last-Modified: " + at(-10*h), request.CacheMiss, h},
		{"heuristic 403", "", 403, "Last-Modified: " + at(-10*h), request.CacheDynamic, 0},
		{"heuristic 403 public", "", 403, "Cache-Control: public|Last-Modified: " + at(-10*h), request.CacheMiss, h},
		{"403 explicit", "", 403, "Cache-Control: max-age=9", request.CacheMiss, 9 * s},
		{"302 explicit", "", 302, "Cache-Control: max-age=9", request.CacheMiss, 9 * s},
		{"unknown status explicit", "", 299, "Cache-Control: max-age=9", request.CacheMiss, 9 * s},
		{"must-understand unknown", "", 299, "Cache-Control: max-age=9, must-understand", request.CacheBypass, 0},
		{"must-understand known", "", 200, "Cache-Control: max-age=9, must-understand, no-store", request.CacheMiss, 9 * s},
		{"206", "", 206, "Cache-Control: max-age=9", request.CacheDynamic, 0},
		{"304", "", 304, "Cache-Control: max-age=9", request.CacheDynamic, 0},
		{"416", "", 416, "Cache-Control: max-age=9", request.CacheDynamic, 0},
		{"500 explicit", "", 500, "Cache-Control: max-age=9", request.CacheMiss, 9 * s},
		{"pragma of an answer", "", 200, "Pragma: no-cache|Cache-Control: max-age=9", request.CacheMiss, 9 * s},
		{"only stale windows", "", 200, "Cache-Control: max-age=0, stale-while-revalidate=9", request.CacheMiss, 0},
		{"targeted wins", "", 200, "CDN-Cache-Control: max-age=7|Cache-Control: no-store", request.CacheMiss, 7 * s},
		{"targeted forbids", "", 200, "CDN-Cache-Control: no-store|Cache-Control: max-age=7", request.CacheBypass, 0},
		{"targeted without expires", "", 200, "CDN-Cache-Control: foo|Expires: " + at(h), request.CacheDynamic, 0},
		{"targeted not a dictionary", "", 200, "CDN-Cache-Control: MAX-AGE=7|Cache-Control: max-age=8", request.CacheMiss, 8 * s},
		{"targeted string for number", "", 200, `CDN-Cache-Control: max-age="7"|Cache-Control: max-age=8`, request.CacheMiss, 8 * s},
		{"targeted empty", "", 200, "CDN-Cache-Control:|Cache-Control: max-age=8", request.CacheMiss, 8 * s},
	} {
		t.Run(test.name, func(t *testing.T) {
			var in msg.Fields
			if test.in != "" {
				addLines(&in, test.in)
			}
			out := &msg.Response{Status: test.status}
			addLines(&out.Fields, date)
			if test.out != "" {
				addLines(&out.Fields, strings.Split(test.out, "|")...)
			}
			j := judge(&plain, &in, out, noon, noon)
			if j.store != (test.want == request.CacheMiss) || j.status != test.want {
				t.Fatalf("store %v, status %v, want %v", j.store, j.status, test.want)
			}
			if j.store && j.lifetime != test.life {
				t.Errorf("lifetime %v, want %v", j.lifetime, test.life)
			}
		})
	}
}

func TestInitialAge(t *testing.T) {
	for _, test := range []struct {
		date, age  string
		asked, got time.Duration
		want       time.Duration
	}{
		{at(0), "", 0, 0, 0},
		{at(-30 * time.Second), "", 0, 0, 30 * time.Second},
		{at(30 * time.Second), "", 0, 0, 0},
		{at(0), "10", 0, 0, 10 * time.Second},
		{at(-30 * time.Second), "10", 0, 0, 30 * time.Second},
		{at(0), "10", 0, 2 * time.Second, 12 * time.Second},
		{at(0), "10, 20", 0, 0, 10 * time.Second},
		{at(0), "-10", 0, 0, 0},
		{at(0), "ten", 0, 0, 0},
		{"", "10", 0, 0, 10 * time.Second},
		{"garbage", "", 0, time.Second, time.Second},
	} {
		out := &msg.Response{Status: 200}
		addLines(&out.Fields, "Cache-Control: max-age=60")
		if test.date != "" {
			addLines(&out.Fields, "Date: "+test.date)
		}
		if test.age != "" {
			addLines(&out.Fields, "Age: "+test.age)
		}
		j := judge(&plain, new(msg.Fields), out, noon.Add(test.asked), noon.Add(test.got))
		if j.age != test.want {
			t.Errorf("Date %q Age %q after %v: age %v, want %v", test.date, test.age, test.got-test.asked, j.age, test.want)
		}
	}
}

func TestReadDate(t *testing.T) {
	want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	for _, text := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"} {
		if got, ok := readDate([]byte(text), noon); !ok || !got.Equal(want) {
			t.Errorf("%q = %v, %v", text, got, ok)
		}
	}
	if got, ok := readDate([]byte("Monday, 06-Nov-34 08:49:37 GMT"), noon); !ok || got.Year() != 2034 {
		t.Errorf("two-digit year ahead = %v, %v", got, ok)
	}
	if got, ok := readDate([]byte("Saturday, 06-Nov-82 08:49:37 GMT"), noon); !ok || got.Year() != 1982 {
		t.Errorf("two-digit year over 50 years ahead = %v, %v", got, ok)
	}
	for _, text := range []string{"", "0", "-1", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 PST", "Sun, 31 Feb 1994 08:49:37 GMT", strings.Repeat("x", 100)} {
		if got, ok := readDate([]byte(text), noon); ok {
			t.Errorf("%q = %v, want refusal", text, got)
		}
	}
}

func TestObjectBecomesStaleByAge(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60", "Age: 50"))
	if a := g.run("GET /a"); a.cache != "MISS" || a.get("Age") != "50" {
		t.Errorf("first: %s, Age %q", a.cache, a.get("Age"))
	}
	g.sleep(9 * time.Second)
	if a := g.run("GET /a"); a.cache != "HIT" || a.get("Age") != "59" {
		t.Errorf("at 59: %s, Age %q", a.cache, a.get("Age"))
	}
	g.sleep(time.Second)
	g.want(g.run("GET /a"), 200, "EXPIRED", "x")
}

func TestRevalidation(t *testing.T) {
	g := newRig(t, Config{}, nil)
	var asked string
	g.serve = func(r *request.Request) error {
		asked = string(r.In.Fields.Get(msg.IfNoneMatch)) + string(r.In.Fields.Get(msg.IfModifiedSince))
		if r.In.Fields.Has(msg.Range) {
			t.Error("a fill asked for a range")
		}
		if asked != "" {
			return reply(r, 304, "", `ETag: "v1"`, "Cache-Control: max-age=100", "X-New: 2", "Content-Length: 99", "Content-Encoding: gzip", "Content-MD5: new", "Content-Range: new")
		}
		return reply(r, 200, "body", `ETag: "v1"`, "Last-Modified: "+at(0), "Cache-Control: max-age=60", "X-New: 1", "X-Old: 1", "Content-MD5: old")
	}
	g.want(g.run("GET /a", "If-None-Match: \"theirs\""), 200, "MISS", "body")
	if asked != "" {
		t.Errorf("the visitor's condition went to the origin: %q", asked)
	}
	g.sleep(61 * time.Second)
	a := g.run("GET /a")
	g.want(a, 200, "REVALIDATED", "body")
	if asked != `"v1"`+at(0) {
		t.Errorf("conditions sent: %q", asked)
	}
	if a.get("X-New") != "2" || a.get("X-Old") != "1" || a.get("Content-Encoding")+a.get("Content-Range") != "" || a.get("Content-MD5") != "old" || a.get("Cache-Control") != "max-age=100" || a.get("Age") != "0" {
		t.Errorf("fields after 304: %v", a.fields)
	}
	g.sleep(99 * time.Second)
	g.want(g.run("GET /a"), 200, "HIT", "body")
	g.wantFetches(2)
	if st := g.e.Stats(); st.Objects != 1 {
		t.Errorf("%d objects, want the one", st.Objects)
	}
}

func TestRevalidationOfAnotherVersionFetchesAnew(t *testing.T) {
	g := newRig(t, Config{}, nil)
	g.serve = func(r *request.Request) error {
		if r.In.Fields.Has(msg.IfNoneMatch) {
			return reply(r, 304, "", `ETag: "v2"`)
		}
		return reply(r, 200, "body", `ETag: "v1"`, "Cache-Control: max-age=60")
	}
	g.run("GET /a")
	g.sleep(time.Hour)
	g.want(g.run("GET /a"), 200, "EXPIRED", "body")
	g.wantFetches(3)
}

func TestRevalidationThatForbidsStoring(t *testing.T) {
	g := newRig(t, Config{}, always(200, "body", `ETag: "v1"`, "Cache-Control: max-age=60"))
	g.run("GET /a")
	g.sleep(time.Hour)
	g.serve = always(304, "", "Cache-Control: no-store")
	g.want(g.run("GET /a"), 200, "REVALIDATED", "body")
	if st := g.e.Stats(); st.Objects != 0 || st.Bytes != 0 || st.Pinned != 0 {
		t.Errorf("still stored: %+v", st)
	}
}

func TestNoCacheIsRevalidatedEachTime(t *testing.T) {
	g := newRig(t, Config{}, func(r *request.Request) error {
		if r.In.Fields.Has(msg.IfNoneMatch) {
			return reply(r, 304, "")
		}
		return reply(r, 200, "body", `ETag: "v1"`, "Cache-Control: no-cache")
	})
	g.want(g.run("GET /a"), 200, "MISS", "body")
	g.want(g.run("GET /a"), 200, "REVALIDATED", "body")
	g.want(g.run("GET /a"), 200, "REVALIDATED", "body")
}

func TestUncacheableAnswerReplacesStaleObject(t *testing.T) {
	g := newRig(t, Config{}, always(200, "old", "Cache-Control: max-age=60"))
	g.run("GET /a")
	g.sleep(time.Hour)
	g.serve = always(200, "new", "Cache-Control: no-store")
	g.want(g.run("GET /a"), 200, "BYPASS", "new")
	g.serve = func(*request.Request) error { return originFault(fault.Refused) }
	if a := g.run("GET /a"); a.fault == nil {
		t.Errorf("got %q, want the fault: the old object is void", a.body)
	}
}

func TestStaleStandsInForFailingOrigin(t *testing.T) {
	const yes, no = true, false
	fail := map[string]func(*request.Request) error{
		"refused":  func(*request.Request) error { return originFault(fault.Refused) },
		"time-out": func(*request.Request) error { return originFault(fault.Timeout) },
		"503":      always(503, "sorry"),
	}
	for _, test := range []struct {
		control string
		online  bool
		want    bool
	}{
		{"max-age=60", yes, yes},
		{"max-age=60", no, no},
		{"max-age=60, must-revalidate", yes, no},
		{"max-age=60, proxy-revalidate", yes, no},
		{"no-cache", yes, no},
		{"s-maxage=60", yes, no},
		{"s-maxage=60, stale-if-error=9999", yes, yes},
		{"max-age=60, stale-if-error=9999", no, yes},
		{"max-age=60, stale-if-error=10", no, no},
		{"max-age=60, stale-if-error=9999, must-revalidate", no, no},
	} {
		for name, serve := range fail {
			for _, line := range []string{"GET /a", "HEAD /a"} {
				g := newRig(t, Config{}, always(200, "body", `ETag: "v1"`, "Cache-Control: "+test.control))
				g.plan.alwaysOnline = test.online
				g.run("GET /a")
				g.sleep(2 * time.Minute)
				g.serve = serve
				a := g.run(line)
				if got := a.cache == "STALE" && a.status == 200; got != test.want {
					t.Errorf("%q, always online %v, %s, %s: %d %s %v", test.control, test.online, name, line, a.status, a.cache, a.fault)
				}
				if test.want && (a.get("Warning") != `110 - "Response is Stale"` || a.fields.Count(msg.Warning) != 2 || a.get("Age") != "120" || a.note.Tier != request.TierRAM) {
					t.Errorf("%q: fields %v, note %+v", test.control, a.fields, a.note)
				}
			}
		}
	}
}

func TestFailingOriginIsNotAskedForEachVisitor(t *testing.T) {
	g := newRig(t, Config{}, always(200, "body", "Cache-Control: max-age=60"))
	g.run("GET /a")
	g.sleep(2 * time.Minute)
	g.serve = func(*request.Request) error { return originFault(fault.Timeout) }
	for range 5 {
		g.want(g.run("GET /a"), 200, "STALE", "body")
	}
	g.wantFetches(2)
	g.sleep(2 * time.Second)
	g.serve = always(200, "back", "Cache-Control: max-age=60")
	g.want(g.run("GET /a"), 200, "EXPIRED", "back")
}

// While the origin only times out, one visitor waits for it; the others, and
// those after the first failure, do not.
func TestNobodyWaitsForAnOriginThatTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, always(200, "body", "Cache-Control: max-age=60"))
		g.run("GET /a")
		time.Sleep(2 * time.Minute)
		g.serve = func(*request.Request) error {
			time.Sleep(15 * time.Second)
			return originFault(fault.Timeout)
		}
		g.want(g.run("GET /a"), 200, "STALE", "body")
		begin := time.Now()
		for range 10 {
			time.Sleep(5 * time.Second)
			g.want(g.run("GET /a"), 200, "STALE", "body")
		}
		if took := time.Since(begin); took != 50*time.Second {
			t.Errorf("visitors waited %v", took-50*time.Second)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		g.serve = always(200, "back", "Cache-Control: max-age=60")
		g.want(g.run("GET /a"), 200, "STALE", "body") // refreshed behind this one
		synctest.Wait()
		g.want(g.run("GET /a"), 200, "HIT", "back")
	})
}

func TestEdgeFaultIsNotCoveredByStale(t *testing.T) {
	g := newRig(t, Config{}, always(200, "body", "Cache-Control: max-age=60"))
	g.run("GET /a")
	g.sleep(2 * time.Minute)
	g.serve = func(*request.Request) error { return &fault.Error{Op: "test", Side: fault.Edge, Kind: fault.Limit} }
	if a := g.run("GET /a"); a.fault == nil || a.fault.Kind != fault.Limit {
		t.Errorf("got %d %q, fault %v", a.status, a.cache, a.fault)
	}
}

func TestServerErrorReplacesNothingButPasses(t *testing.T) {
	g := newRig(t, Config{}, always(500, "oops"))
	g.want(g.run("GET /a"), 500, "DYNAMIC", "oops")
	g.serve = always(200, "x", "Cache-Control: max-age=60")
	g.want(g.run("GET /a"), 200, "MISS", "x") // no marker was left
}
