package script

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// What docs/reference/defaults.md states of cache, heads and names, asked of
// the running edge.
func TestStatedCacheHeadsAndNames(t *testing.T) {
	answers := map[string][]string{
		"/no-store": {"Cache-Control", "no-store"}, "/vary": {"Cache-Control", "max-age=60", "Vary", "*"},
		"/cdn": {"Cache-Control", "no-store", "CDN-Cache-Control", "max-age=60"}, "/long": {"Cache-Control", "max-age=60"},
		"/old":   {"Last-Modified", time.Now().Add(-24 * time.Hour).UTC().Format(http.TimeFormat)},
		"/heads": {"Cache-Control", "max-age=60", "Server", "own", "Alt-Svc", `h3=":443"`, "CF-Own", "x"},
		"/plain": nil,
	}
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		fields := answers[r.URL.Path]
		for i := 0; i < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.Header().Set("Seen-Loop", r.Header.Get("CDN-Loop"))
		io.WriteString(w, r.URL.RequestURI())
	})
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "site.test", origin)
	_, seq := n.call(t, "POST", "/zones/"+n.zoneID(t, "site.test")+"/dns_records", map[string]any{"type": "A", "name": "direct", "content": "192.0.2.7", "ttl": 60})
	n.live(t, seq)
	c := visitor(t, n.Edges[0].HTTP, "")
	ask := func(method, path string, status int, cache string, fields ...string) http.Header {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://site.test"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(fields); i += 2 {
			req.Header.Set(fields[i], fields[i+1])
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatalf("%s %s %v: %v", method, path, fields, err)
		}
		defer res.Body.Close()
		if got := res.Header.Get("CF-Cache-Status"); res.StatusCode != status || got != cache {
			t.Errorf("%s %s %v: %d %q, want %d %q", method, path, fields, res.StatusCode, got, status, cache)
		}
		return res.Header
	}
	ask("GET", "/no-store", 200, "BYPASS")
	ask("GET", "/vary", 200, "BYPASS")
	ask("GET", "/cdn", 200, "MISS")
	ask("GET", "/cdn", 200, "HIT")
	ask("GET", "/old", 200, "MISS")
	ask("GET", "/old", 200, "HIT")
	ask("GET", "/long?r", 206, "MISS", "Range", "bytes=0-1")
	ask("GET", "/long?a", 200, "BYPASS", "Authorization", "Bearer x")
	ask("GET", "/long?o", 200, "BYPASS", "X-Original-URL", "/plain")
	ask("GET", "/long", 504, "", "Cache-Control", "only-if-cached")
	if got := ask("GET", "/long", 200, "MISS").Get("Cache-Control"); got != "max-age=60" {
		t.Errorf("browser_cache_ttl 0: Cache-Control %q, want the origin's", got)
	}
	ask("GET", "/long", 200, "HIT", "Cache-Control", "no-cache", "Pragma", "no-cache")
	ask("GET", "/long", 206, "HIT", "Range", "bytes=0-1")
	ask("POST", "/long", 200, "DYNAMIC")
	ask("GET", "/long", 200, "MISS") // the POST made the stored answer unusable
	h := ask("GET", "/heads", 200, "MISS")
	if h.Get("Server") == "own" || h.Get("Alt-Svc") != "" || h.Get("CF-Own") != "" {
		t.Errorf("the origin's own words reach the visitor: %v", h)
	}
	ask("GET", "/plain", 508, "", "CDN-Loop", h.Get("Seen-Loop"))
	n.setting(t, "site.test", "sort_query_string_for_cache", "off")
	ask("GET", "/cdn?b=1&a=2", 200, "MISS")
	ask("GET", "/cdn?a=2&b=1", 200, "MISS")
	n.setting(t, "site.test", "development_mode", "on")
	ask("GET", "/cdn", 200, "BYPASS")
	statedHosts(t, n.Edges[0].HTTP)
	statedNames(t, n.Edges[0].DNS)
}

// statedHosts sends heads that net/http would not.
func statedHosts(t *testing.T, addr string) {
	t.Helper()
	for head, want := range map[string]string{
		"GET /plain HTTP/1.1\r\nHost: site.test.\r\n\r\n":               "HTTP/1.1 200 ",
		"GET /plain HTTP/1.1\r\nHost: SITE.test:99\r\n\r\n":             "HTTP/1.1 200 ",
		"GET / HTTP/1.1\r\n\r\n":                                        "HTTP/1.1 400 ",
		"GET / HTTP/1.1\r\nHost: site.test\r\nHost: site.test\r\n\r\n":  "HTTP/1.1 400 ",
		"GET / HTTP/1.1\r\nHost: a b\r\n\r\n":                           "HTTP/1.1 400 ",
		"GET / HTTP/1.1\r\nHost: site.test\r\nA : b\r\n\r\n":            "HTTP/1.1 400 ",
		"GET /" + strings.Repeat("a", 17<<10) + " HTTP/1.1\r\n":         "HTTP/1.1 414 ",
		"GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", 129) + "\r\n": "HTTP/1.1 431 ",
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		line, err := r.ReadString('\n')
		if !strings.HasPrefix(line, want) {
			t.Errorf("%.60q: %q (%v), want %q", head, line, err, want)
		}
		if !strings.Contains(want, "200") {
			if _, err := io.Copy(io.Discard, r); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%.60q: the connection stays open: %v", head, err)
			}
		}
		conn.Close()
	}
}

func statedNames(t *testing.T, addr string) {
	t.Helper()
	for _, q := range []struct {
		name   string
		kind   uint16
		code   int
		answer string
		soa    bool
	}{
		{"site.test.", dns.TypeA, dns.RcodeSuccess, "300 127.0.0.1", false},
		{"direct.site.test.", dns.TypeA, dns.RcodeSuccess, "60 192.0.2.7", false},
		{"direct.site.test.", dns.TypeAAAA, dns.RcodeSuccess, "", true},
		{"nothing.site.test.", dns.TypeA, dns.RcodeNameError, "", true},
		{"unknown.test.", dns.TypeA, dns.RcodeRefused, "", false},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := new(dns.Msg).SetQuestion(q.name, q.kind)
			in, _, err := (&dns.Client{Net: network}).ExchangeContext(t.Context(), m, addr)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(in.Answer) == 1 {
				h := in.Answer[0].Header()
				got = strings.TrimPrefix(strings.Join(strings.Fields(in.Answer[0].String()), " "), h.Name+" ")
				got = strings.Replace(got, "IN A ", "", 1)
			}
			soa := len(in.Ns) == 1 && in.Ns[0].Header().Rrtype == dns.TypeSOA
			if in.Rcode != q.code || got != q.answer || soa != q.soa {
				t.Errorf("%s %s %d: code %d, %q, SOA %t; want %d, %q, %t", network, q.name, q.kind, in.Rcode, got, soa, q.code, q.answer, q.soa)
			}
		}
	}
}
