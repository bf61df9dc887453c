package cache

import (
	"fmt"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// An origin that puts all that an attacker can send into its answer, and says
// that it may be stored for a year. What a victim is given afterwards, who asks
// for the plain page, must not have any of it. The classes are those of
// "Practical Web Cache Poisoning", "Web Cache Entanglement", "Your Cache Has
// Fallen" (CPDoS) and "Cached and Confused".
func TestWhatAnAttackerSendsReachesNobodyElse(t *testing.T) {
	reflect := func(r *request.Request) error {
		var seen strings.Builder
		fmt.Fprintf(&seen, "%s %s?%s", r.In.MethodText, r.In.Path, r.In.Query)
		for _, l := range r.In.Fields.All() {
			if l.ID != msg.AcceptEncoding && l.ID != msg.UserAgent {
				fmt.Fprintf(&seen, " %s=%s", l.Name, l.Value)
			}
		}
		fmt.Fprintf(&seen, " body=%d", r.In.Length)
		return reply(r, 200, seen.String(), "Cache-Control: public, max-age=31536000")
	}
	for _, c := range []struct {
		name   string
		attack string
		lines  []string
		length int64
	}{
		{"fat GET", "GET /page", []string{"Content-Type: application/x-www-form-urlencoded"}, 9},
		{"fat HEAD", "HEAD /page", nil, 9},
		{"HEAD", "HEAD /page", nil, 0},
		{"other URL", "GET /page", []string{"X-Original-URL: /evil"}, 0},
		{"other URL, rewritten", "GET /page", []string{"X-Rewrite-URL: /evil"}, 0},
		{"other spelling", "GET /page", []string{"x_original_url: /evil"}, 0},
		{"other host", "GET /page", []string{"X-Host: evil"}, 0},
		{"other method", "GET /page", []string{"X-HTTP-Method-Override: POST"}, 0},
		{"other method, short", "GET /page", []string{"X-Method-Override: POST"}, 0},
		{"POST", "POST /page", nil, 9},
		{"POST of the page itself", "POST /page", []string{"Content-Location: /page"}, 9},
		{"OPTIONS", "OPTIONS /page", nil, 0},
		{"some method", "EVIL /page", nil, 0},
		{"a query", "GET /page?evil", nil, 0},
		{"an empty query", "GET /page?", nil, 0},
		{"escaped separator", "GET /page%2F..%2Fevil", nil, 0},
		{"escaped query", "GET /page%3Fevil", nil, 0},
		{"escaped fragment", "GET /page%23evil", nil, 0},
		{"path parameter", "GET /page;evil", nil, 0},
		{"path parameter, escaped", "GET /page%3Bevil", nil, 0},
		{"NUL", "GET /page%00evil", nil, 0},
		{"line end", "GET /page%0aevil", nil, 0},
		{"backslash", "GET /evil\\..\\page", nil, 0},
		{"dot segments", "GET /evil/../page", nil, 0},
		{"dot segments, escaped", "GET /evil/%2e%2e/page", nil, 0},
		{"two slashes", "GET //page", nil, 0},
		{"last slash", "GET /page/", nil, 0},
		{"other case", "GET /PAGE", nil, 0},
		{"malformed escape", "GET /page%", nil, 0},
		{"as a style", "GET /page/evil.css", nil, 0},
	} {
		g := newRig(t, Config{}, reflect)
		r := ask(t.Context(), c.attack, c.lines...)
		r.In.Length = c.length
		if _, err := g.e.Run(&g.plan, r); err != nil {
			t.Fatal(err)
		}
		readAnswer(r)
		r.Out.Close()
		for range 2 {
			if a := g.run("GET /page"); a.body != "GET /page? body=0" {
				t.Errorf("%s: the victim gets %q (%s)", c.name, a.body, a.cache)
			}
		}
	}
}

// Paths that an origin may tell apart have keys of their own; those that RFC
// 3986 §6.2.2 calls equal have one.
func TestKeysTellApartWhatOriginsDo(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"/a/b", "/a%2Fb", false},
		{"/a/b", "/a%2fb", false},
		{"/a%2Fb", "/a%2fb", true},
		{"/a", "/%61", true},
		{"/a-b", "/a%2Db", true},
		{"/a;b", "/a%3Bb", false},
		{"/a?b", "/a%3Fb", false},
		{"/a", "/a%00", false},
		{"/a\\b", "/a%5Cb", false},
		{"/a/b", "/a//b", false},
		{"/a", "/a/.", false},
		{"/a+b", "/a%20b", false},
		{"/a?x=1&y=2", "/a?x=1%26y=2", false},
		{"/a?x=1&y=2", "/a?x=1;y=2", false},
		{"/a?x=1&x=2", "/a?x=2&x=1", false},
		{"/a?y=2&x=1", "/a?x=1&y=2", true},
		{"/a?", "/a", false},
		{"/a?x", "/a?x=", false},
		{"/a?%78=1", "/a?x=1", true},
		{"/a%zz", "/a%25zz", false},
	} {
		g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
		g.run("GET " + c.a)
		if a := g.run("GET " + c.b); (a.cache == "HIT") != c.same {
			t.Errorf("%s and %s: %s", c.a, c.b, a.cache)
		}
	}
}

// What an origin says of one request's form is not said of the page: 413 and
// 431 would keep everybody from it (CPDoS).
func TestErrorsAboutARequestAreNotStored(t *testing.T) {
	for _, status := range []int{413, 431} {
		g := newRig(t, Config{}, nil)
		g.serve = func(r *request.Request) error {
			if len(r.In.Fields.Lookup("x-long")) > 0 {
				return reply(r, status, "too much", "Cache-Control: public, max-age=3600")
			}
			return reply(r, 200, "page", "Cache-Control: max-age=60")
		}
		g.want(g.run("GET /a", "X-Long: "+strings.Repeat("x", 9000)), status, "DYNAMIC", "too much")
		g.want(g.run("GET /a"), 200, "MISS", "page")
		g.want(g.run("GET /a"), 200, "HIT", "page")
	}
}
