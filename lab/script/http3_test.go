package script

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// visitor3 is an HTTP/3 client that reaches one address whatever the URL's
// host, and keeps session tickets; each transport has a connection of its own.
type visitor3 struct {
	addr string
	tls  *tls.Config
}

func newVisitor3(t *testing.T, addr, caFile string) *visitor3 {
	t.Helper()
	config := trust(t, caFile)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	return &visitor3{addr: addr, tls: config}
}

func (v *visitor3) connect(t *testing.T) *http.Client {
	tr := &http3.Transport{
		TLSClientConfig: v.tls, DisableCompression: true,
		Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, v.addr, tc, qc)
		},
	}
	t.Cleanup(func() { _ = tr.Close() })
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// echo reads all before it answers: net/http does not do both at a time.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body) // the visitor counts
}

func TestHTTP3(t *testing.T) {
	var hits atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		switch r.URL.Path {
		case "/cached.css":
			w.Header().Set("Cache-Control", "max-age=600")
			fmt.Fprint(w, "body { color: green }")
		case "/echo":
			echo(w, r)
		case "/early":
			fmt.Fprintf(w, "Early-Data: %s", r.Header.Get("Early-Data"))
		case "/large":
			w.Header().Set("Cache-Control", "max-age=600")
			fmt.Fprint(w, strings.Repeat("0123456789abcdef", 1<<16))
		}
	}))
	defer origin.Close()
	state := t.TempDir()
	n := dev(t, state)
	n.onboard(t, "three.test", origin)
	v := newVisitor3(t, n.Edges[0].HTTPS, n.CA)
	c := v.connect(t)

	t.Run("alternative is announced over TCP", func(t *testing.T) {
		port := n.Edges[0].HTTPS[strings.LastIndex(n.Edges[0].HTTPS, ":")+1:]
		want := fmt.Sprintf(`h3=":%s"; ma=86400`, port)
		a := get(t, visitor(t, n.Edges[0].HTTPS, n.CA), "https://three.test/cached.css")
		if got := a.Header.Get("Alt-Svc"); got != want {
			t.Errorf("Alt-Svc %q over https, want %q", got, want)
		}
		if got := get(t, visitor(t, n.Edges[0].HTTP, ""), "http://three.test/cached.css").Header.Get("Alt-Svc"); got != "" {
			t.Errorf("Alt-Svc %q over http", got)
		}
		if got := get(t, c, "https://three.test/cached.css").Header.Get("Alt-Svc"); got != "" {
			t.Errorf("Alt-Svc %q over HTTP/3", got)
		}
	})
	t.Run("a hit is the same answer", func(t *testing.T) {
		a := get(t, c, "https://three.test/cached.css")
		if a.Status != 200 || a.Body != "body { color: green }" || a.Header.Get("CF-Cache-Status") != "HIT" || a.Header.Get("CF-RAY") == "" {
			t.Errorf("%d %q %v", a.Status, a.Body, a.Header)
		}
	})
	t.Run("many large answers at a time", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				a, err := fetch(c, "https://three.test/large")
				if err != nil || a.Body != strings.Repeat("0123456789abcdef", 1<<16) {
					t.Errorf("%d bytes, %v", len(a.Body), err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("a body goes to the origin and back", func(t *testing.T) {
		body := strings.Repeat("x", 300_000)
		res, err := c.Post("https://three.test/echo", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if got, err := io.ReadAll(res.Body); err != nil || string(got) != body {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("the log says so", func(t *testing.T) {
		eventually(t, 10*time.Second, "the access log", func() error {
			logs, err := filepath.Glob(filepath.Join(state, "log", "*"))
			if err != nil {
				return err
			}
			for _, name := range logs {
				if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), `"HTTP/3"`) {
					return nil
				}
			}
			return fmt.Errorf("no line with HTTP/3 in %q", logs)
		})
	})
	t.Run("another name is refused", func(t *testing.T) {
		if a, err := fetch(v.connect(t), "https://nobody.test/"); err == nil {
			t.Errorf("answered %d", a.Status)
		}
	})
	t.Run("switched off", func(t *testing.T) {
		n.setting(t, "three.test", "http3", "off")
		if a, err := fetch(v.connect(t), "https://three.test/cached.css"); err == nil {
			t.Errorf("answered %d", a.Status)
		}
		if got := get(t, visitor(t, n.Edges[0].HTTPS, n.CA), "https://three.test/cached.css").Header.Get("Alt-Svc"); got != "" {
			t.Errorf("Alt-Svc %q", got)
		}
		n.setting(t, "three.test", "http3", "on")
	})
}

// gtlsclient is the client of ngtcp2 and nghttp3, another implementation of
// everything below and in HTTP/3.
func TestNgtcp2TalksToTheEdge(t *testing.T) {
	need(t, "gtlsclient", "make test installs it (ngtcp2-client)")
	n := dev(t, t.TempDir())
	dir := t.TempDir()
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 demo.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(n.Edges[0].HTTPS, ":")
	// It has no other way to be told a name that is not in the DNS.
	run := func(urls ...string) string {
		args := append([]string{
			"-rm", "sh", "-c", `mount --bind "$1" /etc/hosts && shift && exec gtlsclient "$@"`, "sh", hosts,
			"--no-quic-dump", "--exit-on-all-streams-close", "--timeout=20s", "--download=" + dir,
			"--session-file=" + filepath.Join(dir, "session"), "--tp-file=" + filepath.Join(dir, "tp"), "demo.test", port,
		}, urls...)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, "unshare", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("gtlsclient: %v\n%s", err, tail(string(out), 3000))
		}
		return string(out)
	}
	c := visitor(t, n.Edges[0].HTTPS, n.CA)
	for round := range 2 { // the second resumes the session
		out := run("https://demo.test/index.html", "https://demo.test/process.html", "https://demo.test/visit.html", "https://demo.test/nothing")
		if got := strings.Count(out, "[:status: 200]"); got != 3 || strings.Count(out, "[:status: 404]") != 1 {
			t.Errorf("round %d: %d answers are 200\n%s", round, got, tail(out, 3000))
		}
		for _, name := range []string{"index.html", "process.html", "visit.html"} {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if want := get(t, c, "https://demo.test/"+name); err != nil || string(got) != want.Body || want.Status != 200 {
				t.Errorf("round %d: %s: %d bytes, want %d, %v", round, name, len(got), len(want.Body), err)
			}
		}
	}
}

func TestChromiumSpeaksHTTP3(t *testing.T) {
	const page = `<!doctype html><title>three</title><link rel="icon" href="data:,"><img src="/dot.svg"><script>
addEventListener("load", () => {
  const hop = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].map(e => e.nextHopProtocol);
  fetch("/echo", {method: "POST", body: "x".repeat(100000)}).then(r => r.text()).then(text => console.log("hops " + hop.join(" ") + " echo " + text.length));
});</script>`
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			echo(w, r)
		case "/dot.svg":
			w.Header().Set("Content-Type", "image/svg+xml")
			io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle cx="4" cy="4" r="4"/></svg>`)
		default:
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, page)
		}
	}))
	defer origin.Close()
	n := dev(t, t.TempDir())
	n.onboard(t, "three.test", origin)
	b := newChromium(t, n)
	b.rules = "MAP three.test:443 " + n.Edges[0].HTTPS + ",EXCLUDE 127.0.0.1"
	b.quic = "three.test:443"
	said := b.visit(t, "https://three.test/", filepath.Join(t.TempDir(), "page.png"))
	if len(said) != 1 || !strings.Contains(said[0], "hops h3 h3 echo 100000") {
		t.Errorf("the page says %q", said)
	}
}

// TestChromiumFindsHTTP3ByItself loads a page over HTTP/2, whose answer says by
// Alt-Svc where HTTP/3 is, and goes on until the browser has followed.
func TestChromiumFindsHTTP3ByItself(t *testing.T) {
	const page = `<!doctype html><title>three</title><link rel="icon" href="data:,"><script>
addEventListener("load", async () => {
  const hop = () => performance.getEntries().filter(e => e.nextHopProtocol).map(e => e.nextHopProtocol);
  for (let i = 0; i < 200 && !hop().includes("h3"); i++) {
    await (await fetch("/part?" + i, {cache: "no-store"})).text();
    await new Promise(r => setTimeout(r, 20));
  }
  console.log("hops " + hop()[0] + " " + hop().at(-1));
});</script>`
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/" {
			io.WriteString(w, page)
		}
	}))
	defer origin.Close()
	n := dev(t, t.TempDir())
	n.onboard(t, "three.test", origin)
	b := newChromium(t, n)
	b.rules = "MAP three.test 127.0.0.1,EXCLUDE 127.0.0.1"
	// The browser takes QUIC from authorities that its makers know, and from
	// others for names that it is told to; the port is one that nobody visits.
	b.quic = "three.test:1"
	_, port, _ := strings.Cut(n.Edges[0].HTTPS, ":")
	said := b.visit(t, "https://three.test:"+port+"/", filepath.Join(t.TempDir(), "page.png"))
	if len(said) != 1 || !strings.Contains(said[0], "hops h2 h3") {
		t.Errorf("the page says %q", said)
	}
}
