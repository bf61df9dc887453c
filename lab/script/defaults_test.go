package script

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// What docs/reference/defaults.md states, asked of the running edge.
func TestStatedDefaults(t *testing.T) {
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Cf-Connecting-Ip", "X-Forwarded-For", "Cf-Ray", "Cdn-Loop", "X-Real-Ip"} {
			w.Header().Add("Seen-"+name, strings.Join(r.Header.Values(name), "|"))
		}
		switch r.URL.Path {
		case "/private":
			w.Header().Set("Cache-Control", "private, max-age=60")
		case "/cookie":
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Set-Cookie", "a=b")
		case "/plain":
		default:
			w.Header().Set("Cache-Control", "public, max-age=60")
		}
		io.WriteString(w, r.URL.RequestURI())
	})
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "site.test", origin)
	n.cli(t, "zone", "add", "other.test", "--origin", origin.URL)
	var zones []struct{ ID, Name string }
	unmarshal(t, first(n.call(t, "GET", "/zones?name=site.test", nil)), &zones)
	n.call(t, "POST", "/zones/"+zones[0].ID+"/dns_records", map[string]any{"type": "A", "name": "direct", "content": "192.0.2.7", "ttl": 300})
	e := n.Edges[0]
	c := visitor(t, e.HTTP, "")

	for _, q := range []struct {
		url    string
		status int
		cache  string
	}{
		{"http://site.test/asset", 200, "MISS"}, {"http://site.test/asset", 200, "HIT"},
		{"http://SITE.test/asset", 200, "HIT"}, {"http://site.test:8080/asset", 200, "HIT"},
		{"http://site.test/q?b=1&a=2", 200, "MISS"}, {"http://site.test/q?a=2&b=1", 200, "HIT"},
		{"http://site.test/Asset", 200, "MISS"},
		{"http://site.test/private", 200, "BYPASS"}, {"http://site.test/private", 200, "BYPASS"},
		{"http://site.test/cookie", 200, "BYPASS"}, {"http://site.test/plain", 200, "DYNAMIC"},
		{"http://unknown.test/", 421, ""}, {"http://direct.site.test/", 421, ""}, {"http://127.0.0.1/", 403, ""},
	} {
		a := get(t, c, q.url)
		if a.Status != q.status || a.Header.Get("CF-Cache-Status") != q.cache {
			t.Errorf("%s: %d %q, want %d %q", q.url, a.Status, a.Header.Get("CF-Cache-Status"), q.status, q.cache)
		}
		if a.Header.Get("CF-Ray") == "" {
			t.Errorf("%s: no ray", q.url)
		}
	}
	spoofed(t, c)
	wantTLS(t, e.HTTPS, n.CA)
}

func spoofed(t *testing.T, c *http.Client) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://site.test/plain?spoof", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"CF-Connecting-IP", "X-Forwarded-For", "CF-Ray", "X-Real-IP"} {
		req.Header.Set(name, "203.0.113.66")
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for name, want := range map[string]string{"Seen-Cf-Connecting-Ip": "127.0.0.1", "Seen-X-Forwarded-For": "127.0.0.1", "Seen-X-Real-Ip": ""} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s = %q at the origin, want %q", name, got, want)
		}
	}
	if ray := res.Header.Get("Seen-Cf-Ray"); ray == "" || strings.Contains(ray, "203.0.113.66") || ray != res.Header.Get("CF-Ray") {
		t.Errorf("ray at the origin %q, at the visitor %q", ray, res.Header.Get("CF-Ray"))
	}
	if !strings.Contains(res.Header.Get("Seen-Cdn-Loop"), "selvage") {
		t.Errorf("CDN-Loop at the origin: %q", res.Header.Get("Seen-Cdn-Loop"))
	}
}

func wantTLS(t *testing.T, addr, ca string) {
	t.Helper()
	if a := get(t, visitor(t, addr, ca), "https://site.test/asset"); a.Status != 200 {
		t.Errorf("https: %d", a.Status)
	}
	for name, config := range map[string]*tls.Config{
		"TLS 1.1":     {ServerName: "site.test", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true},
		"unknown SNI": {ServerName: "unknown.test", InsecureSkipVerify: true},
		"no SNI":      {InsecureSkipVerify: true},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		err = tls.Client(conn, config).HandshakeContext(t.Context())
		conn.Close()
		if err == nil || !strings.Contains(err.Error(), "remote error: tls:") {
			t.Errorf("%s: %v, want an alert from the edge", name, err)
		}
	}
	// A connection made for one zone is not a way into another.
	c := visitor(t, addr, ca)
	c.Transport.(*http.Transport).TLSClientConfig.ServerName = "site.test"
	if a := get(t, c, "https://other.test/"); a.Status != 421 {
		t.Errorf("other zone's host on this zone's connection: %d, want 421", a.Status)
	}
}

// Origins cannot be a way inside, even where loopback is allowed: not the
// edge's own doors, not the control plane's feed, not the cloud's metadata.
func TestNoWayInside(t *testing.T) {
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	var state struct {
		Control struct{ Feed string }
	}
	waitJSON(t, filepath.Join(n.State, "dev.json"), &state)
	e := n.Edges[0]
	for name, target := range map[string]string{
		"self": e.HTTP, "metrics": e.Metrics, "feed": state.Control.Feed, "private": "10.0.0.1:80", "metadata": "169.254.169.254:80", "mapped": "[::ffff:10.0.0.1]:80",
	} {
		zone := name + ".test"
		n.cli(t, "zone", "add", zone, "--origin", "http://"+target)
		a := get(t, visitor(t, e.HTTP, ""), "http://"+zone+"/")
		if a.Status != 530 {
			t.Errorf("origin %s: %d, want 530", target, a.Status)
		}
	}
}
