package origin

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

// serveC starts an origin of plain http that speaks the versions it is told.
func serveC(t *testing.T, one, two bool, conns *atomic.Int32) func() (net.Conn, error) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Grpc-Status")
		fmt.Fprintf(w, "%s %s %q %s", r.Proto, r.Host, r.Header.Get("Te"), body)
		w.Header().Set("Grpc-Status", "0")
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(one)
	s.Config.Protocols.SetUnencryptedHTTP2(two)
	s.Config.ErrorLog = quiet()
	s.Start()
	t.Cleanup(s.Close)
	return func() (net.Conn, error) {
		conns.Add(1)
		return net.Dial("tcp", s.Listener.Addr().String())
	}
}

func planOf(t *testing.T, settings map[string]string) *Plan {
	t.Helper()
	spec := &zone.Spec{Meta: zone.Meta{ID: zoneID, Name: "shop.test"}, Settings: zone.Settings{},
		Records: []zone.Record{{Name: "shop.test", Type: "A", Content: addr, Proxied: true}}}
	for name, value := range settings {
		spec.Settings[name] = []byte(`"` + value + `"`)
	}
	if err := spec.Settings.Check(); err != nil {
		t.Fatal(err)
	}
	p, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHTTP2OverPlainHTTP(t *testing.T) {
	const grpc, page = `HTTP/2.0 shop.test "trailers" hi`, `HTTP/1.1 shop.test "" hi`
	for _, c := range []struct {
		name, h2c, newest string
		grpc, page        string // what comes back; "" = fault.Version
	}{
		{"for gRPC where nothing is said", "grpc", "2", grpc, page},
		{"for all", "on", "2", grpc, `HTTP/2.0 shop.test "" hi`},
		{"for nobody", "off", "2", "", page},
		{"forbidden", "on", "1", "", page},
	} {
		t.Run(c.name, func(t *testing.T) {
			var conns atomic.Int32
			dial := serveC(t, true, true, &conns)
			e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": dial}}, nil)
			p := planOf(t, map[string]string{"ssl": "flexible", "origin_h2c": c.h2c, "origin_max_http_version": c.newest})
			for range 3 { // on one connection of each kind
				r := ask(t, "POST", "/pkg.Service/Method", strings.NewReader("hi"), "TE: trailers", "Content-Type: application/grpc+proto")
				if c.grpc == "" {
					if _, err := e.Run(p, r); !fault.Is(err, fault.Version) || fault.As(err).Side != fault.Origin {
						t.Errorf("gRPC: %v", err)
					}
				} else if got := run(t, e, p, r); got != c.grpc {
					t.Errorf("gRPC: %q", got)
				}
				for _, kind := range []string{"text/plain", "application/grpc-web"} {
					if got := run(t, e, p, ask(t, "POST", "/", strings.NewReader("hi"), "Content-Type: "+kind)); got != c.page {
						t.Errorf("%s: %q", kind, got)
					}
				}
			}
			want := int32(2)
			if c.grpc == "" || c.grpc[:8] == c.page[:8] {
				want = 1
			}
			if conns.Load() != want {
				t.Errorf("%d connections, want %d", conns.Load(), want)
			}
		})
	}
}

// What an origin that knows no HTTP/2 says to its preface is not taken for an
// answer, and the failure names the reason.
func TestAnOriginWithoutHTTP2FailsGRPCClearly(t *testing.T) {
	grpc := []string{"TE: trailers", "Content-Type: application/grpc"}
	for name, answer := range map[string]string{
		"400":  "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"text": "?",
		"end":  "",
	} {
		t.Run(name, func(t *testing.T) {
			dial := scripted(t, func(_ int, nc net.Conn) {
				b := make([]byte, 24)
				if _, err := io.ReadFull(nc, b); err == nil {
					_, _ = io.WriteString(nc, answer)
				}
			})
			e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": dial}}, nil)
			_, err := e.Run(planOf(t, map[string]string{"ssl": "flexible"}), ask(t, "POST", "/s/m", strings.NewReader("hi"), grpc...))
			if f := fault.As(err); f.Kind != fault.Version || f.Side != fault.Origin || f.Retry || !strings.Contains(err.Error(), errPrior.Error()) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("a server of HTTP/1.1", func(t *testing.T) {
		var conns atomic.Int32
		dial := serveC(t, true, false, &conns)
		e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":80": dial}}, nil)
		p := planOf(t, map[string]string{"ssl": "flexible"})
		if _, err := e.Run(p, ask(t, "POST", "/s/m", strings.NewReader("hi"), grpc...)); !fault.Is(err, fault.Version) {
			t.Errorf("%v", err)
		}
		if got := run(t, e, p, ask(t, "GET", "/", nil)); !strings.HasPrefix(got, "HTTP/1.1 ") {
			t.Errorf("others: %q", got)
		}
	})
	t.Run("a server of HTTP/1.1 over TLS", func(t *testing.T) {
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
		t.Cleanup(s.Close)
		e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":443": func() (net.Conn, error) {
			return net.Dial("tcp", s.Listener.Addr().String())
		}}}, nil)
		p := planOf(t, nil)
		if _, err := e.Run(p, ask(t, "POST", "/s/m", strings.NewReader("hi"), grpc...)); !fault.Is(err, fault.Version) {
			t.Errorf("%v", err)
		}
		if got := run(t, e, p, ask(t, "GET", "/", nil)); got != "HTTP/1.1" {
			t.Errorf("others: %q", got)
		}
		if open, idle := metric(t, e, "selvage_origin_connections", "busy"), metric(t, e, "selvage_origin_connections", "idle"); open != 0 || idle != 1 {
			t.Errorf("%v busy, %v idle; want 0, 1: the call's connection is used on", open, idle)
		}
	})
}
