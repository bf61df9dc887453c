package cache

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg"
)

func keyText(target string, sorted bool) string {
	path, query, asked := strings.Cut(target, "?")
	var q []byte
	if asked {
		q = append([]byte{}, query...)
	}
	return strings.TrimPrefix(string(appendKey(nil, "z", msg.HTTPS, []byte("h"), []byte(path), q, sorted)), "z https://h")
}

func TestKey(t *testing.T) {
	long := "a=" + strings.Repeat("%41", 700)
	many := strings.Repeat("b&", maxSorted) + "a"
	for _, test := range []struct{ target, want string }{
		{"/", "/"},
		{"/A/b", "/A/b"},
		{"/%61%2f%2F%7e", "/a%2F%2F~"},
		{"/%c3%a9", "/%C3%A9"},
		{"/%", "/%"},
		{"/%4", "/%4"},
		{"/%4%31", "/%4%31"},
		{"/%41%zz", "/%41%zz"},
		{"/a%25zz", "/a%25zz"},
		{"/a/../b", "/a/../b"},
		{"/?", "/?"},
		{"/?b=1&a=2", "/?a=2&b=1"},
		{"/?a=2&b=1", "/?a=2&b=1"},
		{"/?a=2&a=1&A=3", "/?A=3&a=2&a=1"},
		{"/?b&a&b=1&", "/?&a&b&b=1"},
		{"/?%62=1&a=%7e", "/?a=~&b=1"},
		{"/?b=%zz&a", "/?a&b=%zz"},
		{"/?ab=1&a=1", "/?a=1&ab=1"},
		{"/?z=1&" + long, "/?a=" + strings.Repeat("A", 700) + "&z=1"},
		{"/?" + many, "/?" + many},
	} {
		if got := keyText(test.target, true); got != test.want {
			t.Errorf("%.60q: %.60q, want %.60q", test.target, got, test.want)
		}
	}
	if got := keyText("/?b=%61&a=2", false); got != "/?b=%61&a=2" {
		t.Errorf("sorting off: %q", got)
	}
}

func TestKeySetsObjectsApart(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
	g.want(g.run("GET /a?b=1&a=2"), 200, "MISS", "x")
	g.want(g.run("GET /a?a=2&b=1"), 200, "HIT", "x")
	g.want(g.run("GET /%61?a=2&b=1"), 200, "HIT", "x")
	g.want(g.run("GET /A?a=2&b=1"), 200, "MISS", "x")
	r := ask(t.Context(), "GET /a?a=2&b=1")
	r.ZoneID = strings.Repeat("f", 32)
	g.want(g.do(r), 200, "MISS", "x")
	r = ask(t.Context(), "GET /a?a=2&b=1")
	r.Host = []byte("other.example.com")
	g.want(g.do(r), 200, "MISS", "x")
	r = ask(t.Context(), "GET /a?a=2&b=1")
	r.In.Scheme = msg.HTTP
	g.want(g.do(r), 200, "MISS", "x")
	g.plan.sortQuery = false
	g.want(g.run("GET /a?b=1&a=2"), 200, "MISS", "x")
}

// Objects whose hashes collide are told apart by their texts.
func TestHashCollision(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
	s := &g.e.shards[0]
	plan := &g.plan
	keys := make([]key, 3)
	for i := range keys {
		r := ask(t.Context(), fmt.Sprintf("GET /%d", i))
		keys[i] = key{hash: 64 * uint64(len(g.e.shards)), text: g.e.keyOf(plan, r).text}
		f := g.e.newFill(plan, r, keys[i], nil, nil, true)
		s.join(f.key, r, nil, f, 0)
		out := &msg.Response{Status: 200, Length: 1}
		o := g.e.newObject(f, out, &judgement{lifetime: 1e9}, 0)
		o.seal(g.e, append(o.inner()[:0], byte(i)))
		g.e.put(f, o)
		o.Release()
		f.discard()
	}
	for i, k := range keys {
		o := s.find(k, ask(t.Context(), "GET /"))
		if o == nil || o.body()[0] != byte(i) {
			t.Fatalf("key %d finds %v", i, o)
		}
		o.Release()
	}
	for _, i := range []int{1, 2, 0} {
		s.mu.Lock()
		g.e.drop(s, keys[i].hash, s.newest(keys[i]))
		s.mu.Unlock()
		if o := s.find(keys[i], ask(t.Context(), "GET /")); o != nil {
			t.Errorf("key %d found after drop", i)
		}
	}
	if st := g.e.Stats(); st.Objects != 0 || st.Bytes != 0 || st.Pinned != 0 || s.objects.used != 0 {
		t.Errorf("left over: %+v, %d entries", st, s.objects.used)
	}
}

func FuzzKey(f *testing.F) {
	f.Add([]byte("/%41%zz"), []byte("b=1&a=%7e&&a"))
	f.Add([]byte("/"), []byte(strings.Repeat("z&a&", 100)))
	f.Fuzz(func(t *testing.T, path, query []byte) {
		once := appendNormal(nil, path)
		if twice := appendNormal(nil, once); !bytes.Equal(once, twice) {
			t.Errorf("path %q: %q, then %q", path, once, twice)
		}
		if len(once) > len(path) {
			t.Errorf("path %q grew to %q", path, once)
		}
		sorted := appendSorted(nil, query)
		if again := appendSorted(nil, sorted); !bytes.Equal(sorted, again) {
			t.Errorf("query %q: %q, then %q", query, sorted, again)
		}
		if len(sorted) > len(query) || bytes.Count(sorted, []byte{'&'}) != bytes.Count(query, []byte{'&'}) {
			t.Errorf("query %q became %q", query, sorted)
		}
	})
}

func FuzzDirectives(f *testing.F) {
	f.Add([]byte(`max-age="5", private="a, b", s-maxage=-1`))
	f.Add([]byte("no-store,,max-age=99999999999999999999999"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var fields msg.Fields
		fields.AddID(msg.CacheControl, line)
		d := readDirectives(&fields, msg.CacheControl)
		for _, s := range []seconds{d.maxAge, d.sMaxAge, d.staleRevalidate, d.staleFail} {
			if s.n < 0 || s.n > maxSeconds || s.duration() < 0 {
				t.Errorf("%q: %+v", line, s)
			}
		}
		// A directive that stands alone after the line is seen, unless a
		// quotation mark was left open.
		if bytes.Count(line, []byte{'"'}) == 0 {
			fields.Reset()
			fields.AddID(msg.CacheControl, append(bytes.Clone(line), ", no-store"...))
			if !readDirectives(&fields, msg.CacheControl).noStore {
				t.Errorf("%q hides the directive after it", line)
			}
		}
		fields.Reset()
		fields.AddID(msg.CDNCacheControl, line)
		_, _ = readTargeted(&fields)
		_, _ = readDate(line, noon)
	})
}

func FuzzPurgeURL(f *testing.F) {
	f.Add("https://www.Example.com:443/a/%7e?b#c")
	f.Add("http://[::1]?x")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := readURL(text)
		if err == nil && (len(l.host) == 0 || len(l.path) == 0 || l.path[0] != '/') {
			t.Errorf("%q: %q %q", text, l.host, l.path)
		}
	})
}
