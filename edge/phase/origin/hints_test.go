package origin

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

func TestHintsAreMadeOfThePagesLatestAnswer(t *testing.T) {
	links := []string{`</a.css>; rel=preload; as=style, <https://cdn.test>; rel="preconnect"`, `</next>; rel=next`}
	kind, control := "text/html; charset=utf-8", ""
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, l := range links {
			w.Header().Add("Link", l)
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", control)
		_, _ = io.WriteString(w, "page")
	})
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": serve(t, h)}}, nil)
	p := plan(t, "flexible", addr)
	p.hints = true
	told := func(method, target string, change func(*request.Request)) string {
		r := ask(t, method, target, nil)
		r.In.Proto = msg.HTTP2
		got := ""
		r.In.Interim = func(status int, f *msg.Fields) error {
			got += fmt.Sprintf("%d %s", status, fieldsOf(f))
			return nil
		}
		if change != nil {
			change(r)
		}
		run(t, e, p, r)
		return got
	}
	const want = `103 Link: </a.css>; rel=preload; as=style, <https://cdn.test>; rel="preconnect"`
	steps := []struct {
		name   string
		before func()
		method string
		target string
		change func(*request.Request)
		want   string
	}{
		{"first", nil, "GET", "/", nil, ""},
		{"second", nil, "GET", "/", nil, want},
		{"other page", nil, "GET", "/other", nil, ""},
		{"head", nil, "HEAD", "/", nil, ""},
		{"other zone", nil, "GET", "/", func(r *request.Request) { r.ZoneID = strings.Repeat("f", 32) }, ""},
		{"HTTP/1.1", nil, "GET", "/", func(r *request.Request) { r.In.Proto = msg.HTTP11 }, ""},
		{"no way to say it", nil, "GET", "/", func(r *request.Request) { r.In.Interim = nil }, ""},
		{"logged in, of which nobody is told", func() { links[0] = "</mine>; rel=preload" }, "GET", "/", func(r *request.Request) { r.In.Fields.AddID(msg.Authorization, []byte("x")) }, want},
		{"after it", nil, "GET", "/", nil, ""},
		{"changed", nil, "GET", "/", nil, "103 Link: </mine>; rel=preload"},
		{"not to be stored", func() { control = "no-store" }, "GET", "/", nil, "103 Link: </mine>; rel=preload"},
		{"after it", func() { control = "" }, "GET", "/", nil, ""},
		{"again", func() { links = nil }, "GET", "/", nil, "103 Link: </mine>; rel=preload"},
		{"without links", nil, "GET", "/", nil, ""},
		{"no page", func() { links, kind = []string{"</a>; rel=preload"}, "image/png" }, "GET", "/x.png", nil, ""},
		{"no page again", nil, "GET", "/x.png", nil, ""},
		{"switched off", func() { kind, p.hints = "text/html", false }, "GET", "/off", nil, ""},
		{"switched off again", nil, "GET", "/off", nil, ""},
	}
	for _, s := range steps {
		if s.before != nil {
			s.before()
		}
		if got := told(s.method, s.target, s.change); got != s.want {
			t.Errorf("%s: told %q, want %q", s.name, got, s.want)
		}
	}
}

func TestLinksThatAreWorthAHint(t *testing.T) {
	for in, want := range map[string]string{
		`</a>; rel=preload`:                                 `</a>; rel=preload`,
		`</a,b>; rel="prefetch preload"; title="x, y"`:      `</a,b>; rel="prefetch preload"; title="x, y"`,
		`</a>;REL=Preconnect`:                               `</a>;REL=Preconnect`,
		`</a>; rel=next; rel=preload`:                       ``,
		`</a>; title="; rel=preload"`:                       ``,
		`/a; rel=preload`:                                   ``,
		`</a; rel=preload`:                                  ``,
		`, ,</a>; rel=preload,,`:                            `</a>; rel=preload`,
		`</a>; rel=icon, </b>; as=font; rel="preload" `:     `</b>; as=font; rel="preload"`,
		`</` + strings.Repeat("a", 3000) + `>; rel=preload`: ``,
	} {
		var f msg.Fields
		f.AddID(msg.Link, []byte(in))
		if got := string(pageLinks(&f)); got != want {
			t.Errorf("%.60q: got %q, want %q", in, got, want)
		}
	}
	var f msg.Fields
	for range 100 {
		f.AddID(msg.Link, []byte(`</a>; rel=preload, </b>; rel=preload`))
	}
	if got := strings.Count(string(pageLinks(&f)), "<"); got != hintCount {
		t.Errorf("%d links are kept, want %d", got, hintCount)
	}
}

// Whatever a Link field holds, what is kept of it is bounded and parts of it.
func FuzzPageLinks(f *testing.F) {
	f.Add([]byte(`</a>; rel=preload; as="style", </b>; rel=next`))
	f.Add([]byte(`<"`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var fields msg.Fields
		fields.AddID(msg.Link, in)
		if got := pageLinks(&fields); len(got) > hintBytes || len(got) > 2*len(in) {
			t.Errorf("%q gives %q", in, got)
		}
	})
}
