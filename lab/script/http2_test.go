package script

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// visitor2 is an HTTP/2 client that reaches one address whatever the URL's host.
func visitor2(t *testing.T, addr, caFile string) *http.Client {
	t.Helper()
	config := trust(t, caFile)
	tr := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func trust(t *testing.T, caFile string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", caFile)
	}
	return &tls.Config{RootCAs: roots}
}

// TestHTTP2BothSides asks an origin of HTTP/2 through an edge, over HTTP/2.
func TestHTTP2BothSides(t *testing.T) {
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Origin-Proto", r.Proto)
		switch r.URL.Path {
		case "/pkg.Echo/Stream":
			upper(w, r)
		case "/early":
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(103)
			fallthrough
		case "/page":
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Link", "</a.css>; rel=preload")
			io.WriteString(w, "<p>page")
		case "/large":
			w.Header().Set("Cache-Control", "max-age=60")
			w.Write(bytes.Repeat([]byte("0123456789abcdef"), 1<<17))
		default:
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %d", r.Method, len(body))
		}
	}))
	origin.EnableHTTP2 = true
	origin.StartTLS()
	t.Cleanup(origin.Close)
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "two.test", origin)
	c := visitor2(t, n.Edges[0].HTTPS, n.CA)

	t.Run("answers", func(t *testing.T) {
		for _, path := range []string{"/plain", "/large", "/large"} {
			a := get(t, c, "https://two.test"+path)
			if a.Status != 200 || a.Header.Get("Origin-Proto") != "HTTP/2.0" || path == "/large" && len(a.Body) != 2<<20 {
				t.Errorf("%s: %d, %q, %d bytes", path, a.Status, a.Header.Get("Origin-Proto"), len(a.Body))
			}
		}
		res, err := c.Post("https://two.test/upload", "text/plain", bytes.NewReader(make([]byte, 3<<20)))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != "POST 3145728" {
			t.Errorf("upload: %q, %v", b, err)
		}
	})
	t.Run("a gRPC call streams both ways and ends in trailers", func(t *testing.T) { callGRPC(t, c) })
	t.Run("early hints of the origin, and made ones", func(t *testing.T) {
		if got := hinted(t, c, "https://two.test/early"); got != "103 </a.css>; rel=preload" {
			t.Errorf("the origin's: %q", got)
		}
		hinted(t, c, "https://two.test/page")
		if got := hinted(t, c, "https://two.test/page"); got != "" {
			t.Errorf("without the setting: %q", got)
		}
		n.setting(t, "two.test", "early_hints", "on")
		hinted(t, c, "https://two.test/page")
		if got := hinted(t, c, "https://two.test/page"); got != "103 </a.css>; rel=preload" {
			t.Errorf("made: %q", got)
		}
	})
	t.Run("the setting forbids it", func(t *testing.T) {
		n.setting(t, "two.test", "origin_max_http_version", "1")
		if a := get(t, c, "https://two.test/plain?one"); a.Status != 200 || a.Header.Get("Origin-Proto") != "HTTP/1.1" {
			t.Errorf("%d, %q", a.Status, a.Header.Get("Origin-Proto"))
		}
	})
}

// upper answers each message of a gRPC call in capitals, as it comes.
func upper(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Te") != "trailers" || r.ProtoMajor != 2 {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	w.WriteHeader(200)
	flush := http.NewResponseController(w).Flush
	flush()
	n := 0
	for head := make([]byte, 5); ; n++ {
		if _, err := io.ReadFull(r.Body, head); err != nil {
			break
		}
		text := make([]byte, head[4])
		io.ReadFull(r.Body, text)
		w.Write(append(bytes.Clone(head), bytes.ToUpper(text)...))
		flush()
	}
	w.Header().Set("Grpc-Status", "0")
	w.Header().Set("Grpc-Message", strconv.Itoa(n))
}

func callGRPC(t *testing.T, c *http.Client) {
	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://two.test/pkg.Echo/Stream", in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/grpc" {
		t.Fatalf("status %d, %v", res.StatusCode, res.Header)
	}
	for _, word := range []string{"first", "second", "third"} { // each answered before the next is sent
		m := append([]byte{0, 0, 0, 0, byte(len(word))}, word...)
		if _, err := out.Write(m); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, m); err != nil || string(m[5:]) != strings.ToUpper(word) {
			t.Fatalf("%s: %q, %v", word, m, err)
		}
	}
	out.Close()
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("rest %q, %v", rest, err)
	}
	if res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("Grpc-Message") != "3" {
		t.Errorf("trailers %v", res.Trailer)
	}
}

// hinted gets a page and tells the 1xx that came ahead of it.
func hinted(t *testing.T, c *http.Client, url string) (got string) {
	t.Helper()
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		got += strconv.Itoa(code) + " " + h.Get("Link")
		return nil
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "<p>page" {
		t.Errorf("%s: %q, %v", url, b, err)
	}
	return got
}
