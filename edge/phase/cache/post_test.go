package cache

import (
	"io"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// post asks with a body and lets meanwhile run between head and body.
func (g *rig) post(target string, meanwhile func(), lines ...string) *answer {
	g.t.Helper()
	r := ask(g.t.Context(), "POST "+target, lines...)
	r.In.Length = 3
	if _, err := g.e.Run(&g.plan, r); err != nil {
		g.t.Fatal(err)
	}
	if meanwhile != nil {
		meanwhile()
	}
	a := readAnswer(r)
	r.Out.Close()
	return a
}

func TestPostIsKeptAsTheOriginSays(t *testing.T) {
	for _, c := range []struct {
		name   string
		target string
		status int
		lines  []string
		ask    []string
		want   string
	}{
		{"absolute", "/a?b=1&c=2", 200, []string{"Cache-Control: max-age=60", "Content-Location: https://www.example.com/a?b=1&c=2"}, nil, "HIT"},
		{"relative", "/a/b", 200, []string{"Cache-Control: max-age=60", "Content-Location: b"}, nil, "HIT"},
		{"by Expires", "/a", 200, []string{"Expires: Fri, 01 Jan 2100 00:00:00 GMT", "Content-Location: /a"}, nil, "HIT"},
		{"no Content-Location", "/a", 200, []string{"Cache-Control: max-age=60"}, nil, "MISS"},
		{"another page's", "/a", 200, []string{"Cache-Control: max-age=60", "Content-Location: /b"}, nil, "MISS"},
		{"another host's", "/a", 200, []string{"Cache-Control: max-age=60", "Content-Location: https://other.example.com/a"}, nil, "MISS"},
		{"another scheme's path", "/a", 200, []string{"Cache-Control: max-age=60", "Content-Location: /a?x"}, nil, "MISS"},
		{"two", "/a", 200, []string{"Cache-Control: max-age=60", "Content-Location: /a", "Content-Location: /a"}, nil, "MISS"},
		{"no explicit freshness", "/a", 200, []string{"Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT", "Content-Location: /a"}, nil, "MISS"},
		{"stale at once", "/a", 200, []string{"Cache-Control: max-age=0", `ETag: "1"`, "Content-Location: /a"}, nil, "MISS"},
		{"private", "/a", 200, []string{"Cache-Control: private, max-age=60", "Content-Location: /a"}, nil, "BYPASS"},
		{"a cookie", "/a", 200, []string{"Cache-Control: max-age=60", "Set-Cookie: a=b", "Content-Location: /a"}, nil, "BYPASS"},
		{"not 200", "/a", 201, []string{"Cache-Control: max-age=60", "Content-Location: /a"}, nil, "MISS"},
		{"with a user", "/a", 200, []string{"Cache-Control: max-age=60", "Content-Location: /a"}, []string{"Authorization: Basic eA=="}, "MISS"},
		{"under another name", "/a", 200, []string{"Cache-Control: max-age=60", "Content-Location: /a"}, []string{"X-HTTP-Method-Override: GET"}, "MISS"},
		{"for another kind", "/a", 200, []string{"Cache-Control: max-age=60", "Content-Location: /a", "Vary: X-Kind"}, []string{"X-Kind: 1"}, "MISS"},
	} {
		g := newRig(t, Config{}, func(r *request.Request) error {
			return reply(r, c.status, "from "+r.In.Method.String(), c.lines...)
		})
		if a := g.post(c.target, nil, c.ask...); a.body != "from POST" || a.cache != "DYNAMIC" {
			t.Errorf("%s: POST: %s %q", c.name, a.cache, a.body)
		}
		if a := g.run("GET " + c.target); a.cache != c.want || a.body != map[bool]string{true: "from POST", false: "from GET"}[c.want == "HIT"] {
			t.Errorf("%s: GET: %s %q, want %s", c.name, a.cache, a.body, c.want)
		}
		g.e.Close()
		checkStore(t, g.e)
	}
}

func TestPostIsNotKeptWhenSomethingChangedMeanwhile(t *testing.T) {
	lines := []string{"Cache-Control: max-age=60", "Content-Location: /a", "Cache-Tag: t"}
	for name, meanwhile := range map[string]func(g *rig){
		"purge of the page": func(g *rig) { g.purge(zone.Purge{Files: []string{"https://www.example.com/a"}}) },
		"purge of a tag":    func(g *rig) { g.purge(zone.Purge{Tags: []string{"t"}}) },
		"another POST":      func(g *rig) { g.post("/b", nil) },
	} {
		g := newRig(t, Config{}, func(r *request.Request) error { return reply(r, 200, "x", lines...) })
		g.post("/a", func() { meanwhile(g) })
		if a := g.run("GET /a"); a.cache != "MISS" {
			t.Errorf("%s: %s", name, a.cache)
		}
	}
	// The visitor leaves before the end.
	g := newRig(t, Config{}, func(r *request.Request) error { return reply(r, 200, "x", lines...) })
	r := ask(t.Context(), "POST /a")
	r.In.Length = 3
	if _, err := g.e.Run(&g.plan, r); err != nil {
		t.Fatal(err)
	}
	r.Out.Close()
	if a := g.run("GET /a"); a.cache != "MISS" {
		t.Errorf("half an answer: %s", a.cache)
	}
	// What was there before goes.
	g.serve = func(r *request.Request) error {
		body := "old"
		if r.In.Method == msg.POST {
			body = "new"
		}
		return reply(r, 200, body, lines...)
	}
	g.run("GET /a")
	g.post("/a", nil)
	g.want(g.run("GET /a"), 200, "HIT", "new")
}

// purge is one by the next entry of the feed.
func (g *rig) purge(p zone.Purge) {
	g.t.Helper()
	if err := g.e.Purge(testZone, g.e.marks.Seq()+1, p); err != nil {
		g.t.Fatal(err)
	}
}

// A server that was told the length does not read on to the end.
func TestPostIsKeptAtItsLength(t *testing.T) {
	g := newRig(t, Config{}, func(r *request.Request) error {
		return reply(r, 200, "body", "Cache-Control: max-age=60", "Content-Location: /a")
	})
	r := ask(t.Context(), "POST /a")
	r.In.Length = 3
	if _, err := g.e.Run(&g.plan, r); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(r.Out.Body, make([]byte, 4)); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	r.Out.Close()
	g.want(g.run("GET /a"), 200, "HIT", "body")
}
