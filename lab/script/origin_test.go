package script

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// zoneID finds a zone by its name.
func (n *network) zoneID(t *testing.T, name string) string {
	t.Helper()
	var zones []struct{ ID string }
	unmarshal(t, first(n.call(t, "GET", "/zones?name="+name, nil)), &zones)
	if len(zones) != 1 {
		t.Fatalf("%d zones are called %s", len(zones), name)
	}
	return zones[0].ID
}

// setting changes one and waits until every edge has it.
func (n *network) setting(t *testing.T, zone, name string, value any) {
	t.Helper()
	_, seq := n.call(t, "PATCH", "/zones/"+n.zoneID(t, zone)+"/settings/"+name, map[string]any{"value": value})
	n.live(t, seq)
}

// live waits until every edge has acknowledged a number.
func (n *network) live(t *testing.T, seq string) {
	t.Helper()
	base := *n
	base.API = strings.TrimSuffix(n.API, "/client/v4")
	eventually(t, 5*time.Second, "change "+seq+" to be live", func() error {
		var c struct{ Pending []struct{ Colo string } }
		unmarshal(t, first(base.call(t, "GET", "/selvage/v1/changes/"+seq, nil)), &c)
		if len(c.Pending) > 0 {
			return io.ErrNoProgress
		}
		return nil
	})
}

func TestOriginOverHTTPSIsVerifiedAsTheZoneAsks(t *testing.T) {
	origin := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "over tls, asked for "+r.Host)
	}))
	t.Cleanup(origin.Close)
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "secure.test", origin)
	c := visitor(t, n.Edges[0].HTTP, "")
	if a := get(t, c, "http://secure.test/full"); a.Status != 200 || a.Body != "over tls, asked for secure.test" {
		t.Errorf("full: %d %q", a.Status, a.Body)
	}
	n.setting(t, "secure.test", "ssl", "strict")
	if a := get(t, c, "http://secure.test/strict"); a.Status != 526 {
		t.Errorf("strict with a certificate of nobody's: %d, want 526", a.Status)
	}
	n.setting(t, "secure.test", "ssl", "flexible")
	if a := get(t, c, "http://secure.test/flexible"); a.Status == 200 {
		t.Errorf("http to a TLS port: %d", a.Status)
	}
}

func TestAlwaysUseHTTPSAndMinTLSVersionArriveWithoutARestart(t *testing.T) {
	origin, _ := page(t, cacheable("x"))
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "site.test", origin)
	e := n.Edges[0]
	n.setting(t, "site.test", "always_use_https", "on")
	_, port, err := net.SplitHostPort(e.HTTPS)
	if err != nil {
		t.Fatal(err)
	}
	a := get(t, visitor(t, e.HTTP, ""), "http://site.test/a?b=c")
	if want := "https://site.test:" + port + "/a?b=c"; a.Status != 301 || a.Header.Get("Location") != want {
		t.Errorf("%d to %q, want 301 to %q", a.Status, a.Header.Get("Location"), want)
	}
	dial := func(version uint16) error {
		conn, err := tls.Dial("tcp", e.HTTPS, &tls.Config{ServerName: "site.test", MaxVersion: version, InsecureSkipVerify: true})
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial(tls.VersionTLS12); err != nil {
		t.Errorf("TLS 1.2 by default: %v", err)
	}
	n.setting(t, "site.test", "min_tls_version", "1.3")
	if err := dial(tls.VersionTLS12); err == nil {
		t.Error("TLS 1.2 is accepted although the zone asks for 1.3")
	}
	if err := dial(tls.VersionTLS13); err != nil {
		t.Errorf("TLS 1.3: %v", err)
	}
}

// A WebSocket is passed through, over http and https, in both directions.
func TestUpgradeIsPassedThrough(t *testing.T) {
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
			http.Error(w, "no upgrade", 400)
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello ")
		line, err := rw.ReadString('\n')
		if err == nil {
			io.WriteString(conn, "you said "+line)
		}
	})
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "site.test", origin)
	for name, dial := range map[string]func() (net.Conn, error){
		"http": func() (net.Conn, error) { return net.Dial("tcp", n.Edges[0].HTTP) },
		"https": func() (net.Conn, error) {
			return tls.Dial("tcp", n.Edges[0].HTTPS, &tls.Config{ServerName: "site.test", InsecureSkipVerify: true})
		},
	} {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "GET /chat HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		r := bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" {
			t.Fatalf("%s: %v, %v", name, res, err)
		}
		io.WriteString(conn, "shuttle\n")
		if said, err := io.ReadAll(r); err != nil || string(said) != "hello you said shuttle\n" {
			t.Errorf("%s: %q, %v", name, said, err)
		}
	}
}

// "Change the rule, then purge" cannot arrive reversed, and a purge by URL
// leaves the rest alone.
func TestPurgeIsOrderedWithConfigAndExact(t *testing.T) {
	origin, hits := page(t, cacheable("old"))
	n := dev(t, t.TempDir(), "--no-demo")
	n.onboard(t, "site.test", origin)
	second, _ := page(t, cacheable("new"))
	for _, e := range n.Edges {
		for _, path := range []string{"/a?x=1&y=2", "/b"} {
			get(t, visitor(t, e.HTTP, ""), "http://site.test"+path)
		}
	}
	fetched := hits.Load()
	id := n.zoneID(t, "site.test")
	host, port, err := net.SplitHostPort(strings.TrimPrefix(second.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	rules := `{"rules":[{"expression":"true","action":"route","action_parameters":{"origin":{"host":"` + host + `","port":` + port + `}}}]}`
	var body map[string]any
	unmarshal(t, []byte(rules), &body)
	n.call(t, "PUT", "/zones/"+id+"/rulesets/phases/http_request_origin/entrypoint", body)
	_, seq := n.call(t, "POST", "/zones/"+id+"/purge_cache", map[string]any{"files": []string{"http://site.test/a?y=2&x=1"}})
	n.live(t, seq)
	for _, e := range n.Edges {
		c := visitor(t, e.HTTP, "")
		if a := get(t, c, "http://site.test/a?x=1&y=2"); a.Body != "new" {
			t.Errorf("%s: purged page is %q", e.Colo, a.Body)
		}
		if a := get(t, c, "http://site.test/b"); a.Body != "old" || a.Header.Get("CF-Cache-Status") != "HIT" {
			t.Errorf("%s: the page beside it is %q %s", e.Colo, a.Body, a.Header.Get("CF-Cache-Status"))
		}
	}
	if hits.Load() != fetched {
		t.Errorf("the old origin was asked %d times more", hits.Load()-fetched)
	}
}
