package script

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
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
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", caFile)
	}
	return &visitor3{addr: addr, tls: &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(10)}}
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

func TestHTTP3(t *testing.T) {
	var hits atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		switch r.URL.Path {
		case "/cached.css":
			w.Header().Set("Cache-Control", "max-age=600")
			fmt.Fprint(w, "body { color: green }")
		case "/echo":
			_, _ = io.Copy(w, r.Body)
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
