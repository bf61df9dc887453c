package cache

import (
	"hash/maphash"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
)

// keyUnder is the text of the key of a request, "path?query" and header lines
// separated by "\n", under a cache_key.
func keyUnder(t testing.TB, cacheKey, asked string) string {
	t.Helper()
	rules, err := CompileRules([]byte(`{"rules":[` + ruleText("true", `"cache_key":`+cacheKey) + `]}`))
	if err != nil {
		t.Fatalf("%s: %v", cacheKey, err)
	}
	p := &Plan{rules: rules, sortQuery: true}
	p.compileBases(nil)
	line, headers, _ := strings.Cut(asked, "\n")
	var lines []string
	if headers != "" {
		lines = strings.Split(headers, "\n")
	}
	r := ask(t.Context(), "GET "+line, lines...)
	r.Arena = &arena.Arena{}
	for i := range r.In.Fields.Len() {
		if l := r.In.Fields.At(i); string(l.Name) == "Country" {
			copy(r.Geo.Country[:], l.Value)
		} else if string(l.Name) == "Resolved" {
			r.Route.Host = string(l.Value)
		}
	}
	return string(keyMaker.keyOf(p, r).text)
}

func TestCustomKeys(t *testing.T) {
	custom := func(s string) string { return `{"custom_key":{` + s + `}}` }
	for _, test := range []struct {
		name, key string
		same      []string // all one key
		other     []string // none of them that key, nor each other's
	}{
		{"all parameters, in any order", custom(`"query_string":{"include":"*"}`), []string{"/a?b=1&c=2", "/a?c=2&b=1", "/%61?%62=1&c=2"}, []string{"/a", "/a?", "/a?b=1", "/a?b=2&c=1", "/A?b=1&c=2"}},
		{"in their order", `{"ignore_query_strings_order":false}`, []string{"/a?b=1&c=2"}, []string{"/a?c=2&b=1", "/a?b=%31&c=2"}},
		{"no parameter", custom(`"query_string":{"exclude":["*"]}`), []string{"/a", "/a?", "/a?x=1", "/a?y"}, []string{"/b"}},
		{"some parameters", custom(`"query_string":{"include":["id","a b"]}`), []string{"/a?id=1&utm=2", "/a?utm=3&%69d=1", "/a?id=1"}, []string{"/a", "/a?id=2", "/a?id=1&id=2", "/a?id=1&a%20b=3", "/a?id", "/a?id="}},
		{"all but some", custom(`"query_string":{"exclude":{"list":["utm_source"]}}`), []string{"/a?id=1&utm_source=2", "/a?utm_sourc%65=3&id=1", "/a?id=1"}, []string{"/a", "/a?id=1&utm_source2=1", "/a?id=1&Utm_source=1"}},
		{"nothing left is no query", custom(`"query_string":{"exclude":["x"]}`), []string{"/a", "/a?x=1", "/a?x=1&x=2"}, []string{"/a?y"}},
		{"headers", custom(`"header":{"include":["X-A","x-b"],"exclude_origin":true}`),
			[]string{"/a\nX-A: 1\nX-B: 2", "/a\nx-b: 2\nx-a: 1", "/a\nX-A: 1\nX-B: 2\nOrigin: https://x.test"},
			[]string{"/a", "/a\nX-A: 1", "/a\nX-B: 2", "/a\nX-A: 2\nX-B: 1", "/a\nX-A: 1\nX-A: 1\nX-B: 2", "/a\nX-A: \nX-B: 2", "/a\nX-A: 1, 1\nX-B: 2"}},
		{"the origin is in unless it is taken out", custom(`"header":{}`), []string{"/a\nOrigin: https://x.test"}, []string{"/a", "/a\nOrigin: https://y.test"}},
		{"presence of headers", custom(`"header":{"check_presence":["X-Beta","X-C"]}`), []string{"/a\nX-Beta: 1", "/a\nx-beta: 2", "/a\nX-Beta: "}, []string{"/a", "/a\nX-C: 1", "/a\nX-Beta: 1\nX-C: 1"}},
		{"contained values", custom(`"header":{"contains":{"Accept":["webp","avif"]}}`), []string{"/a\nAccept: image/webp,*/*", "/a\nAccept: */*, IMAGE/WEBP;q=0.5"}, []string{"/a", "/a\nAccept: image/avif", "/a\nAccept: image/avif,image/webp"}},
		{"cookies", custom(`"cookie":{"include":["cur"]}`), []string{"/a\nCookie: cur=EUR; s=1", "/a\nCookie: s=2;cur=EUR", "/a\nCookie: s=1\nCookie: cur=EUR"}, []string{"/a", "/a\nCookie: cur=USD", "/a\nCookie: cur=EUR; cur=USD", "/a\nCookie: cur"}},
		{"presence of cookies", custom(`"cookie":{"check_presence":["session"]}`), []string{"/a\nCookie: session=1", "/a\nCookie: x=y; session=2"}, []string{"/a"}},
		{"language", custom(`"user":{"lang":true}`), []string{"/a\nAccept-Language: de-DE,en;q=0.5", "/a\nAccept-Language: DE-de;q=1"}, []string{"/a\nAccept-Language: de", "/a\nAccept-Language: en"}},
		{"no language", custom(`"user":{"lang":true}`), []string{"/a", "/a\nAccept-Language: ", "/a\nAccept-Language: not/a/tag", "/a\nAccept-Language: " + strings.Repeat("x", 40)}, nil},
		{"country", custom(`"user":{"geo":true}`), []string{"/a\nCountry: DE"}, []string{"/a", "/a\nCountry: FR"}},
		{"device", `{"cache_by_device_type":true}`, []string{"/a\nUser-Agent: iPhone", "/a\nUser-Agent: x Android y Mobile"}, []string{"/a", "/a\nUser-Agent: iPad"}},
		{"resolved host", custom(`"host":{"resolved":true}`), []string{"/a\nResolved: origin.test"}, []string{"/a", "/a\nResolved: other.test"}},
	} {
		first := keyUnder(t, test.key, test.same[0])
		for _, asked := range test.same[1:] {
			if got := keyUnder(t, test.key, asked); got != first {
				t.Errorf("%s: %q has the key %q, want %q", test.name, asked, got, first)
			}
		}
		seen := map[string]string{first: test.same[0]}
		for _, asked := range test.other {
			got := keyUnder(t, test.key, asked)
			if as, ok := seen[got]; ok {
				t.Errorf("%s: %q has the key of %q: %q", test.name, asked, as, got)
			}
			seen[got] = asked
		}
	}
}

// Nobody writes one part of a key into another, and a key of one recipe is none
// of another's: it may hold an answer that the other sets apart.
func TestCustomKeysDoNotRunTogether(t *testing.T) {
	seen := map[string]string{}
	for _, key := range []string{
		`{"custom_key":{"header":{"include":["a","b"],"exclude_origin":true},"cookie":{"include":["a","b"],"check_presence":["c"]}}}`,
		`{"custom_key":{"header":{"include":["a","b"],"exclude_origin":true},"cookie":{"include":["a","b","c"]}}}`,
		`{"custom_key":{"header":{"include":["a","b"]},"cookie":{"include":["a","b"],"check_presence":["c"]}}}`,
	} {
		for _, asked := range []string{"/x", "/x\na: 1", "/x\nb: 1", "/x\na: b1", "/x\na: 1\nb: 1", "/x\nCookie: a=1", "/x\nCookie: a=1; b=1", "/x\nCookie: a=1=b", "/x\nCookie: c", "/x\na: 1\nCookie: a=1"} {
			k := keyUnder(t, key, asked)
			if as, ok := seen[k]; ok {
				t.Errorf("%s|%s has the key of %s: %q", key, asked, as, k)
			}
			seen[k] = key + "|" + asked
		}
	}
	one := keyUnder(t, `{"custom_key":{"header":{"include":["a","B"],"exclude_origin":true}}}`, "/x\na: 1")
	if same := keyUnder(t, `{"custom_key":{"header":{"exclude_origin":true,"include":["b","A"]}}}`, "/x\na: 1"); one != same {
		t.Errorf("the same recipe in another order: %q and %q", one, same)
	}
}

func TestDevices(t *testing.T) {
	for agent, want := range map[string]string{
		"": "desktop", "curl/8": "desktop", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140": "desktop",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148":     "mobile",
		"Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) Mobile/15E148":              "tablet",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/120 Mobile Safari/537.36": "mobile",
		"Mozilla/5.0 (Linux; Android 14; SM-X200) Chrome/120 Safari/537.36":        "tablet",
		"Mozilla/5.0 (Linux; U; en-us; KFTT) Silk/3.0 Mobile":                      "mobile",
		"Opera/9.80 (J2ME/MIDP; Opera Mini/9)":                                     "mobile",
		"Mozilla/5.0 (compatible; Googlebot/2.1; Mobile)":                          "mobile",
		strings.Repeat("x", 5000) + "iPhone":                                       "desktop",
	} {
		r := &request.Request{In: &msg.Request{}}
		r.In.Fields.Add([]byte("User-Agent"), []byte(agent))
		if got := string(deviceOf(r)); got != want {
			t.Errorf("%.60s is a %s, want %s", agent, got, want)
		}
	}
}

func TestDisguised(t *testing.T) {
	for _, test := range []struct {
		path, contentType string
		want              bool
	}{
		{"/a.css", "text/css; charset=utf-8", false}, {"/a.css", "text/html", true}, {"/a.jpg", "image/webp", false}, {"/a.gif", "video/webm", false},
		{"/a.jpg", "text/html;charset=x", true}, {"/a.js", "text/javascript", false}, {"/a.js", "application/json", true}, {"/a.js", "text/html", true},
		{"/a.zip", "application/zip", false}, {"/a.zip", "application/json", true}, {"/a.pdf", "application/pdf", false}, {"/a.pdf", "application/zip", true},
		{"/a.svg", "image/svg+xml", false}, {"/a.png", "application/octet-stream", false}, {"/a.png", "", false}, {"/a.png", "garbage", true},
		{"/a.html", "image/png", false}, {"/a", "text/html", false}, {"/a.css/b", "text/html", false}, {"/a;b.css", "text/html", true}, {"/a%2Fb.PNG", "text/html", true},
	} {
		var f msg.Fields
		if test.contentType != "" {
			f.AddID(msg.ContentType, []byte(test.contentType))
		}
		if got := disguised([]byte(test.path), &f); got != test.want {
			t.Errorf("%s as %q: %v", test.path, test.contentType, got)
		}
	}
}

// A key takes as much room as was counted: it does not move while it grows.
func FuzzCustomKey(f *testing.F) {
	f.Add("/a?b=1&utm_source=%zz", "currency=EUR; session", "webp", "de-DE")
	f.Fuzz(func(t *testing.T, target, cookie, accept, language string) {
		if !strings.HasPrefix(target, "/") || strings.ContainsAny(target+cookie+accept+language, "\x00\x01\r\n") {
			return
		}
		rules, err := CompileRules([]byte(`{"rules":[` + ruleText("true", benchKey) + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		p := &Plan{rules: rules, sortQuery: true}
		p.compileBases(nil)
		r := ask(t.Context(), "GET "+target, "Cookie: "+cookie, "Accept: "+accept, "Accept-Language: "+language, "Origin: "+language, "X-Variant: "+cookie)
		c := p.decide(r).recipe
		k := keyMaker.keyBy(c, r)
		if room := c.room(r); len(k.text) > room {
			t.Fatalf("%d bytes in room for %d: %q", len(k.text), room, k.text)
		}
		if again := keyMaker.keyBy(c, r); string(again.text) != string(k.text) {
			t.Fatalf("%q and %q", k.text, again.text)
		}
	})
}

// keyMaker is an engine that makes keys and nothing else.
var keyMaker = &Engine{seed: maphash.MakeSeed()}
