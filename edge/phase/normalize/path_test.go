package normalize

import (
	"bytes"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

func TestPath(t *testing.T) {
	for _, test := range []struct{ in, rfc, merged string }{
		{"/", "/", "/"},
		{"/a/b.html", "/a/b.html", "/a/b.html"},
		{"/%68ello", "/hello", "/hello"},
		{"/%7euser/%c3%a9%2f%2F", "/~user/%C3%A9%2F%2F", "/~user/%C3%A9%2F%2F"},
		{"/a/./b/../c", "/a/c", "/a/c"},
		{"/a/%2e%2E/b", "/b", "/b"},
		{"/..", "/", "/"}, {"/../../a", "/a", "/a"}, {"/a/..", "/", "/"}, {"/a/.", "/a/", "/a/"}, {"/a/b/..", "/a/", "/a/"},
		{"/.a/..b/c..", "/.a/..b/c..", "/.a/..b/c.."}, {"/...", "/...", "/..."},
		{"//a//b/", "//a//b/", "/a/b/"}, {"//", "//", "/"}, {"/a//../b", "/a/b", "/b"},
		{`/a\b\\c`, "/a%5Cb%5C%5Cc", "/a/b/c"}, {`/a/\..\b`, `/a/%5C..%5Cb`, "/b"}, {`/\a`, "/%5Ca", "/a"},
		{"/%", "/%25", "/%25"}, {"/%zz", "/%25zz", "/%25zz"}, {"/%2%65", "/%252e", "/%252e"}, {"/%4", "/%254", "/%254"},
		{"/é \"<>^`{|}", "/%C3%A9%20%22%3C%3E%5E%60%7B%7C%7D", "/%C3%A9%20%22%3C%3E%5E%60%7B%7C%7D"},
		{"/a;b=c@d:e!$&'()*+,", "/a;b=c@d:e!$&'()*+,", "/a;b=c@d:e!$&'()*+,"},
		{"/%2f%5c%3f%23", "/%2F%5C%3F%23", "/%2F%5C%3F%23"},
	} {
		for merge, want := range map[bool]string{false: test.rfc, true: test.merged} {
			if got := string(appendPath(nil, []byte(test.in), merge)); got != want {
				t.Errorf("%s (merge %v): %s, want %s", test.in, merge, got, want)
			}
			if isNormal([]byte(test.in), merge) && test.in != want {
				t.Errorf("%s (merge %v) is taken for normal", test.in, merge)
			}
		}
	}
}

func run(scope, kind, target string) *request.Request {
	p, q, asked := strings.Cut(target, "?")
	r := &request.Request{Arena: &arena.Arena{}, In: &msg.Request{Target: []byte(target), Path: []byte(p)}}
	if asked {
		r.In.Query = []byte(q)
	}
	plan, _ := Compile(&zone.Spec{Settings: zone.Settings{"url_normalization_scope": []byte(`"` + scope + `"`), "url_normalization_type": []byte(`"` + kind + `"`)}})
	_, _ = New().Run(plan, r)
	return r
}

func TestScope(t *testing.T) {
	for _, test := range []struct{ scope, kind, target, rules, sent string }{
		{"incoming", "cloudflare", "//a/../%62?x=%2f", "/b", "//a/../%62?x=%2f"},
		{"incoming", "rfc3986", "//a/../%62", "//b", "//a/../%62"},
		{"both", "cloudflare", "//a/../%62?x=%2f", "/b", "/b?x=%2f"},
		{"both", "cloudflare", "//a?", "/a", "/a?"},
		{"none", "cloudflare", "//a/../%62", "//a/../%62", "//a/../%62"},
		{"both", "cloudflare", "*", "*", "*"},
	} {
		r := run(test.scope, test.kind, test.target)
		if got := string(r.RulePath()); got != test.rules || string(r.In.Target) != test.sent || !bytes.HasPrefix(r.In.Target, r.In.Path) {
			t.Errorf("%s %s %s: rules see %s, the origin %s", test.scope, test.kind, test.target, got, r.In.Target)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2e/%2f", `/\..\x`, "//a//./%zz", "/é%"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, merge bool) {
		p := append([]byte{'/'}, s...)
		got := appendPath(make([]byte, 0, room(p)), p, merge)
		if len(got) > room(p) || len(got) == 0 || got[0] != '/' {
			t.Fatalf("%q becomes %q", p, got)
		}
		if again := appendPath(nil, got, merge); string(again) != string(got) {
			t.Fatalf("%q becomes %q, and that %q", p, got, again)
		}
		if isNormal(p, merge) && string(got) != string(p) {
			t.Fatalf("%q is taken for normal and becomes %q", p, got)
		}
		u, err := url.PathUnescape(string(got))
		if err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if bare := strings.ReplaceAll(u, "%", ""); merge && !strings.ContainsAny(bare, `\`) && !strings.Contains(string(got), "%2F") && path.Clean(u) != strings.TrimSuffix(u, "/") && u != "/" {
			t.Fatalf("%q becomes %q, which the standard library cleans to %q", p, u, path.Clean(u))
		}
	})
}

func BenchmarkPath(b *testing.B) {
	for name, s := range map[string]string{"normal": "/static/img/logo.png", "not": "/static//img/../%6cogo.png"} {
		b.Run(name, func(b *testing.B) {
			p, a := []byte(s), &arena.Arena{}
			b.ReportAllocs()
			for b.Loop() {
				a.Reset()
				if !isNormal(p, true) {
					appendPath(a.Alloc(room(p))[:0], p, true)
				}
			}
		})
	}
}
