package origin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/fault"
)

// certificate makes a self-signed certificate for names, valid until end.
func certificate(t *testing.T, end time.Time, names ...string) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		NotBefore: end.Add(-48 * time.Hour), NotAfter: end, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf
}

// serveTLS is serve over TLS; the last server name asked for lands in sni.
func serveTLS(t *testing.T, cert tls.Certificate, most uint16, sni *string) func() (net.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: most, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if sni != nil {
			*sni = h.ServerName
		}
		return &cert, nil
	}}
	s := &http.Server{Handler: echo, ReadHeaderTimeout: time.Minute, ErrorLog: quiet()}
	var work sync.WaitGroup
	work.Go(func() { _ = s.Serve(tls.NewListener(l, config)) })
	t.Cleanup(func() { _ = s.Close(); work.Wait() })
	return func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestSSLModes(t *testing.T) {
	tomorrow := time.Now().Add(24 * time.Hour)
	good, root := certificate(t, tomorrow, "shop.test", "*.wild.test")
	other, otherRoot := certificate(t, tomorrow, "other.test")
	expired, expiredRoot := certificate(t, time.Now().Add(-time.Hour), "shop.test")
	unknown, _ := certificate(t, tomorrow, "shop.test")
	roots := []*x509.Certificate{root, otherRoot, expiredRoot}
	for _, c := range []struct {
		name string
		cert tls.Certificate
		ssl  string
		sni  string // of a rule
		most uint16
		kind fault.Kind // Other = answered
	}{
		{"full takes any name", other, "full", "", 0, fault.Other},
		{"full takes an unknown issuer", unknown, "full", "", 0, fault.Other},
		{"full takes an expired one", expired, "full", "", 0, fault.Other},
		{"full wants TLS 1.2", good, "full", "", tls.VersionTLS11, fault.Handshake},
		{"full takes TLS 1.2", good, "full", "", tls.VersionTLS12, fault.Other},
		{"strict takes a good one", good, "strict", "", 0, fault.Other},
		{"strict refuses another name", other, "strict", "", 0, fault.Certificate},
		{"strict follows the rule's name", other, "strict", "other.test", 0, fault.Other},
		{"strict refuses by the rule's name", good, "strict", "other.test", 0, fault.Certificate},
		{"strict takes a wildcard", good, "strict", "a.wild.test", 0, fault.Other},
		{"strict refuses an unknown issuer", unknown, "strict", "", 0, fault.Certificate},
		{"strict refuses an expired one", expired, "strict", "", 0, fault.Certificate},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked string
			w := &world{hosts: map[string]func() (net.Conn, error){addr + ":443": serveTLS(t, c.cert, c.most, &asked)}}
			e := New(Config{Dial: w.Dial, RootCAs: roots})
			defer e.Close()
			p := plan(t, c.ssl, addr)
			for range 2 {
				r := ask(t, "GET", "/", nil)
				r.Route.SNI = c.sni
				_, err := e.Run(p, r)
				if c.kind != fault.Other {
					wantKind(t, err, fault.Origin, c.kind)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, r); got != "GET shop.test /|" {
					t.Errorf("got %q", got)
				}
			}
			want := "shop.test"
			if c.sni != "" {
				want = c.sni
			}
			if c.kind == fault.Other && asked != want {
				t.Errorf("server name %q, want %q", asked, want)
			}
			if got := metric(t, e, "selvage_origin_reuses_total", ""); c.kind == fault.Other && got != 1 {
				t.Errorf("reuses %v, want 1", got)
			}
		})
	}
}

func TestHostHeaderNamesTheServer(t *testing.T) {
	cert, root := certificate(t, time.Now().Add(time.Hour), "inner.example")
	var asked string
	w := &world{hosts: map[string]func() (net.Conn, error){addr + ":443": serveTLS(t, cert, 0, &asked)}}
	e := New(Config{Dial: w.Dial, RootCAs: []*x509.Certificate{root}})
	defer e.Close()
	r := ask(t, "GET", "/", nil)
	r.Route.HostHeader = "inner.example:8443"
	if got := run(t, e, plan(t, "strict", addr), r); got != "GET inner.example:8443 /|" || asked != "inner.example" {
		t.Errorf("got %q with server name %q", got, asked)
	}
}

func TestPlainHTTPBehindHTTPSIsAHandshakeFailure(t *testing.T) {
	e := newEngine(t, &world{hosts: map[string]func() (net.Conn, error){addr + ":443": serve(t, echo)}}, nil)
	_, err := e.Run(plan(t, "full", addr), ask(t, "GET", "/", nil))
	wantKind(t, err, fault.Origin, fault.Handshake)
	wantConns(t, e, 0, 0)
}

func TestASilentHandshakeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := scripted(t, func(_ int, nc net.Conn) { _, _ = io.Copy(io.Discard, nc) })
		e := New(Config{Dial: (&world{hosts: map[string]func() (net.Conn, error){addr + ":443": origin}}).Dial})
		defer e.Close()
		start := time.Now()
		_, err := e.Run(plan(t, "full", addr), ask(t, "GET", "/", nil))
		wantKind(t, err, fault.Origin, fault.Handshake)
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("gave up after %s, want 10 s", took)
		}
	})
}
