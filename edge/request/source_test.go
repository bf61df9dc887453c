package request

import (
	"net/netip"
	"testing"

	"github.com/selvage-edge/selvage/expr"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
)

func askable() *Request {
	r := &Request{Arena: &arena.Arena{}, In: &msg.Request{
		MethodText: []byte("GET"), Method: msg.GET, Scheme: msg.HTTPS, Proto: msg.HTTP2,
		Target: []byte("//a/../b.TaR.Gz?x=1"), Path: []byte("//a/../b.TaR.Gz"), Query: []byte("x=1"),
	}, Host: []byte("www.example.com"), Client: netip.MustParseAddr("192.0.2.1"), Geo: Geo{Country: [2]byte{'D', 'E'}, ASN: 64500}}
	r.In.Fields.Add([]byte("User-Agent"), []byte("agent"))
	r.In.Fields.Add([]byte("Cookie"), []byte("a=b"))
	r.In.Fields.Add([]byte("Referer"), []byte("https://from.test/"))
	r.In.Fields.Add([]byte("Accept-Language"), []byte("de"))
	return r
}

func TestRequestAnswersExpressions(t *testing.T) {
	r := askable()
	r.Path = []byte("/b.TaR.Gz")
	want := map[expr.Field]string{
		expr.Host: "www.example.com", expr.Path: "/b.TaR.Gz", expr.PathExtension: "gz", expr.Query: "x=1", expr.URI: "/b.TaR.Gz?x=1",
		expr.FullURI: "https://www.example.com/b.TaR.Gz?x=1", expr.RawPath: "//a/../b.TaR.Gz", expr.RawURI: "//a/../b.TaR.Gz?x=1", expr.Method: "GET",
		expr.Version: "HTTP/2", expr.Cookie: "a=b", expr.Referer: "https://from.test/", expr.UserAgent: "agent", expr.AcceptLanguage: "de", expr.Country: "DE",
	}
	for _, f := range expr.Fields() {
		switch f.Type() {
		case expr.Text:
			if got := string(r.Text(f)); got != want[f] || got == "" {
				t.Errorf("%s is %q, want %q", f, got, want[f])
			}
		case expr.Number:
			if r.Number(f) != 64500 {
				t.Errorf("%s is %d", f, r.Number(f))
			}
		case expr.Bool:
			if !r.Flag(f) {
				t.Errorf("%s is off", f)
			}
		case expr.Address:
			if r.Addr(f) != r.Client {
				t.Errorf("%s is %s", f, r.Addr(f))
			}
		}
	}
	plain := askable()
	plain.Geo, plain.In.Scheme = Geo{}, msg.HTTP
	if got := string(plain.Text(expr.Country)); got != "XX" {
		t.Errorf("unknown country: %q", got)
	}
	if got := string(plain.Text(expr.URI)) + " " + string(plain.Text(expr.FullURI)); got != "//a/../b.TaR.Gz?x=1 http://www.example.com//a/../b.TaR.Gz?x=1" {
		t.Errorf("without a path of its own: %s", got)
	}
}

func TestExtension(t *testing.T) {
	for path, want := range map[string]string{"/a.png": "png", "/a.b/c": "", "/a.": "", "/.x": "x", "/a.tar.GZ": "gz", "/": "", "*": "", "/A.pnG": "png"} {
		r := &Request{Arena: &arena.Arena{}, In: &msg.Request{Path: []byte(path)}}
		if got := string(r.Text(expr.PathExtension)); got != want || string(r.In.Path) != path {
			t.Errorf("%s has extension %q", path, got)
		}
	}
}
