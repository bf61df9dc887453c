package peer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h1"
	"github.com/selvage-edge/selvage/wire/msg"
)

// authority is a CA that makes node certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, key, cert}
}

func (a *authority) issue(key crypto.Signer) tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"node"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// node returns the TLS configuration of a node of a, which trusts a.
func (a *authority) node(key crypto.Signer) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{Certificates: []tls.Certificate{a.issue(key)}, RootCAs: pool, ClientCAs: pool, ServerName: "node"}
}

// start runs a server that answers with the envelope it got.
func start(t *testing.T, config *tls.Config) (*Server, string) {
	t.Helper()
	s, err := NewServer(ServerConfig{TLS: config, Serve: func(env Envelope, req *msg.Request, res *msg.Response) {
		body := []byte(nil)
		if req.Body != nil {
			body, _ = io.ReadAll(req.Body)
		}
		if req.Fields.Lookup(fieldName) != nil {
			body = []byte("the envelope was passed on")
		}
		res.Status = 200
		res.Bytes = fmt.Appendf(nil, "%s %s %s %+v|%s", req.MethodText, req.Authority, req.Target, env, body)
		res.Length = int64(len(res.Bytes))
	}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		if err := s.Serve(l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		work.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	return s, l.Addr().String()
}

func newClient(t *testing.T, config *tls.Config) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{TLS: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func request(method, target, body string) (*msg.Request, io.Reader) {
	req := &msg.Request{MethodText: []byte(method), Method: msg.MethodOf([]byte(method)), Authority: []byte("shop.test"),
		Target: []byte(target), Path: []byte(target), Proto: msg.HTTP11, Length: int64(len(body))}
	if body == "" {
		return req, nil
	}
	return req, strings.NewReader(body)
}

var env = Envelope{Zone: "0123456789abcdef0123456789abcdef", Seq: 42, Depth: 3, Ray: 7, Client: netip.MustParseAddr("2001:db8::7"), Country: [2]byte{'D', 'E'}}

func do(t *testing.T, c *Client, addr string, e *Envelope, method, target, body string) (int, string) {
	t.Helper()
	req, reader := request(method, target, body)
	res := new(msg.Response)
	if err := c.Do(t.Context(), addr, e, req, reader, res); err != nil {
		t.Fatalf("do: %v", err)
	}
	defer res.Close()
	text := ""
	if res.Body != nil {
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	return res.Status, text
}

func TestRequestsPassBetweenNodes(t *testing.T) {
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t)
	s, addr := start(t, ca.node(ecKey(t)))
	for _, key := range []crypto.Signer{ecKey(t), edKey} {
		c := newClient(t, ca.node(key))
		for range 3 {
			status, body := do(t, c, addr, &env, "GET", "/a?b", "")
			if want := fmt.Sprintf("GET shop.test /a?b %+v|", env); status != 200 || body != want {
				t.Errorf("got %d %q, want %q", status, body, want)
			}
		}
		if status, body := do(t, c, addr, &env, "POST", "/p", "body"); status != 200 || !strings.HasSuffix(body, "|body") {
			t.Errorf("POST: got %d %q", status, body)
		}
		if err := c.Probe(t.Context(), addr); err != nil {
			t.Errorf("probe: %v", err)
		}
		if got := len(c.peers[addr].idle); got != 1 {
			t.Errorf("%d connections kept, want the one", got)
		}
	}
	if got := counted(t, s, "selvage_peer_requests_total", ""); got != 8 {
		t.Errorf("served %v, want 8", got)
	}
}

func TestOnlyNodesOfOurCAConnect(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	s, addr := start(t, ca.node(ecKey(t)))

	stranger := foreign.node(ecKey(t))
	stranger.RootCAs = ca.node(ecKey(t)).RootCAs // would trust us
	c := newClient(t, stranger)
	req, _ := request("GET", "/", "")
	if err := c.Do(t.Context(), addr, &env, req, nil, new(msg.Response)); err == nil {
		t.Error("a node of another CA was served")
	}
	// We refuse a server of another CA.
	_, elsewhere := start(t, foreign.node(ecKey(t)))
	c = newClient(t, ca.node(ecKey(t)))
	err := c.Do(t.Context(), elsewhere, &env, req, nil, new(msg.Response))
	if f := fault.As(err); f.Kind != fault.Handshake || f.Side != fault.Edge {
		t.Errorf("server of another CA: got %v", err)
	}
	for name, change := range map[string]func(*tls.Config){
		"no certificate": func(c *tls.Config) { c.Certificates = nil },
		"TLS 1.2":        func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		"another ALPN":   func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
		"no ALPN":        func(c *tls.Config) { c.NextProtos = nil },
	} {
		config := ca.node(ecKey(t))
		config.NextProtos = []string{ALPN}
		change(config)
		if answer := raw(t, addr, config, "GET "+ProbePath+" HTTP/1.1\r\nHost: x\r\n\r\n"); answer != "" {
			t.Errorf("%s: got %.40q", name, answer)
		}
	}
	// The server counts after the client has heard: wait for the last one.
	deadline := time.After(5 * time.Second)
	for got := 0.0; got != 5; got = counted(t, s, "selvage_peer_refused_total", "handshake") {
		select {
		case <-deadline:
			t.Fatalf("refused %v handshakes, want 5", got)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// raw sends text over TLS and returns what comes back until the end.
func raw(t *testing.T, addr string, config *tls.Config, text string) string {
	t.Helper()
	tc, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return ""
	}
	defer func() { _ = tc.Close() }()
	_ = tc.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(tc, text)
	b, _ := io.ReadAll(tc)
	return string(b)
}

func TestWhatIsNotSignedForThisRequestIsRefused(t *testing.T) {
	ca := newAuthority(t)
	key := ecKey(t)
	config := ca.node(key)
	config.NextProtos = []string{ALPN}
	s, addr := start(t, ca.node(ecKey(t)))
	req, _ := request("GET", "/page", "")
	value := func(e Envelope, k crypto.PrivateKey, at time.Time) string {
		v, err := seal(&e, req, k, at)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	now := time.Now()
	good := value(env, key, now)
	body, signature, _ := strings.Cut(good, ".")
	other := env
	other.Zone = "ffffffffffffffffffffffffffffffff"
	otherBody, _, _ := strings.Cut(value(other, key, now), ".")
	deep := signedRaw(t, key, req, func(p []byte) []byte { p[1] = MaxDepth + 1; return p })
	long := signedRaw(t, key, req, func(p []byte) []byte { return append(p, 0) })
	for _, c := range []struct {
		name, head string
		status     int
		reason     string
	}{
		{"good", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + good, 200, ""},
		{"lower-case name", "GET /page HTTP/1.1\r\nHost: shop.test\r\nselvage-envelope: " + good, 200, ""},
		{"none", "GET /page HTTP/1.1\r\nHost: shop.test", 403, "no envelope"},
		{"none, POST to the probe", "POST " + ProbePath + " HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0", 403, "no envelope"},
		{"probe", "HEAD " + ProbePath + " HTTP/1.1\r\nHost: shop.test", 204, ""},
		{"two", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + good + "\r\nSelvage-Envelope: " + good, 403, "several envelopes"},
		{"other method", "HEAD /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + good, 403, ""},
		{"other host", "GET /page HTTP/1.1\r\nHost: shop2.test\r\nSelvage-Envelope: " + good, 403, "signature does not fit"},
		{"other target", "GET /page2 HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + good, 403, "signature does not fit"},
		{"other zone", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + otherBody + "." + signature, 403, "signature does not fit"},
		{"other node's key", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + value(env, ecKey(t), now), 403, "signature does not fit"},
		{"no signature", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + body, 403, "malformed envelope"},
		{"empty signature", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + body + ".", 403, "signature does not fit"},
		{"not base64", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: ***.***", 403, "malformed envelope"},
		{"too long", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + strings.Repeat("A", 600), 403, "malformed envelope"},
		{"something behind", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + long, 403, "malformed envelope"},
		{"old", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + value(env, key, now.Add(-31*time.Second)), 403, "envelope too old or of the future"},
		{"of the future", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + value(env, key, now.Add(40*time.Second)), 403, "envelope too old or of the future"},
		{"too deep", "GET /page HTTP/1.1\r\nHost: shop.test\r\nSelvage-Envelope: " + deep, 403, "passed on too often"},
	} {
		answer := raw(t, addr, config, c.head+"\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", c.status)) || !strings.Contains(answer, c.reason) {
			t.Errorf("%s: got %.200q, want %d %q", c.name, answer, c.status, c.reason)
		}
	}
	if got := counted(t, s, "selvage_peer_refused_total", "signature does not fit"); got != 6 {
		t.Errorf("counted %v bad signatures, want 6", got)
	}
}

// signedRaw signs an envelope that the sender's checks would not let out.
func signedRaw(t *testing.T, key crypto.PrivateKey, req *msg.Request, change func([]byte) []byte) string {
	t.Helper()
	body, err := env.append(nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	body = change(body)
	signature, err := sign(key, signed(body, req))
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding
	return enc.EncodeToString(body) + "." + enc.EncodeToString(signature)
}

func TestAnEnvelopeCannotBeReplayedLater(t *testing.T) {
	key := ecKey(t)
	synctest.Test(t, func(t *testing.T) {
		req, _ := request("GET", "/", "")
		value, err := seal(&env, req, key, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		try := func() error {
			req.Fields.Reset()
			req.Fields.Add([]byte(fieldName), []byte(value))
			_, err := open(req, key.Public(), time.Now())
			return err
		}
		if err := try(); err != nil {
			t.Errorf("at once: %v", err)
		}
		<-time.After(30 * time.Second)
		if err := try(); err != nil {
			t.Errorf("after 30 s: %v", err)
		}
		<-time.After(time.Second)
		if err := try(); !errors.Is(err, errAge) {
			t.Errorf("after 31 s: got %v, want %v", err, errAge)
		}
	})
}

func TestConfigurationsThatLetStrangersInAreRefused(t *testing.T) {
	ca := newAuthority(t)
	serve := func(Envelope, *msg.Request, *msg.Response) {}
	open := ca.node(ecKey(t))
	open.ClientCAs = nil
	for name, c := range map[string]ServerConfig{
		"no TLS": {Serve: serve}, "no CA": {TLS: open, Serve: serve}, "no Serve": {TLS: ca.node(ecKey(t))},
	} {
		if _, err := NewServer(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewClient(ClientConfig{TLS: &tls.Config{MinVersion: tls.VersionTLS13}}); err == nil {
		t.Error("a client without a certificate was accepted")
	}
	// Behind a listener that asks for nothing, nobody is a peer.
	s, err := NewServer(ServerConfig{TLS: ca.node(ecKey(t)), Serve: serve})
	if err != nil {
		t.Fatal(err)
	}
	res := new(msg.Response)
	req, _ := request("GET", ProbePath, "")
	s.Open(&msg.Conn{}).Serve(req, res)
	if res.Status != 403 {
		t.Errorf("without a peer certificate: status %d, want 403", res.Status)
	}
}

func TestAConnectionThatEndedIsReplaced(t *testing.T) {
	ca := newAuthority(t)
	s, addr := start(t, ca.node(ecKey(t)))
	c := newClient(t, ca.node(ecKey(t)))
	do(t, c, addr, &env, "GET", "/", "")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.h1.Drain(ctx); err != nil { // cuts the idle one
		t.Fatal(err)
	}
	if status, _ := do(t, c, addr, &env, "GET", "/", ""); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestConnectionsToAPeerAreBounded(t *testing.T) {
	ca := newAuthority(t)
	_, addr := start(t, ca.node(ecKey(t)))
	c, err := NewClient(ClientConfig{TLS: ca.node(ecKey(t)), MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req, _ := request("GET", "/", "")
	held := new(msg.Response)
	if err := c.Do(t.Context(), addr, &env, req, nil, held); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), addr, &env, req, nil, new(msg.Response)); !fault.Is(err, fault.Limit) {
		t.Errorf("second at a time: got %v, want limit", err)
	}
	held.Close()
	if status, _ := do(t, c, addr, &env, "GET", "/", ""); status != 200 {
		t.Errorf("afterwards: status %d", status)
	}
	c.Close()
	if err := c.Do(t.Context(), addr, &env, req, nil, new(msg.Response)); !fault.Is(err, fault.Draining) {
		t.Errorf("after Close: got %v, want draining", err)
	}
}

func TestServerBoundsConnections(t *testing.T) {
	ca := newAuthority(t)
	s, err := NewServer(ServerConfig{TLS: ca.node(ecKey(t)), MaxConns: 1, Limits: h1.Limits{}, Serve: func(Envelope, *msg.Request, *msg.Response) {}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() { _ = s.Serve(l) })
	first, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	second, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = second.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("second connection: got %v, want its end", err)
	}
	_ = l.Close()
	work.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Drain(ctx); err != nil { // ends the handshake that never comes
		t.Error(err)
	}
	_ = first.Close()
	_ = second.Close()
}

func counted(t *testing.T, s *Server, name, reason string) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got := ""
			for _, l := range m.GetLabel() {
				got = l.GetValue()
			}
			if f.GetName() == name && got == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func FuzzDecode(f *testing.F) {
	good, err := env.append(nil, time.UnixMilli(1_700_000_000_000))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, p []byte) {
		e, at, err := decode(p)
		if err != nil {
			return
		}
		again, err := e.append(nil, at)
		if err != nil || string(again) != string(p) {
			t.Errorf("%x decodes to what encodes as %x, %v", p, again, err)
		}
	})
}

func BenchmarkSealAndOpen(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	req, _ := request("GET", "/", "")
	b.ReportAllocs()
	for b.Loop() {
		value, err := seal(&env, req, key, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		req.Fields.Reset()
		req.Fields.Add([]byte(fieldName), []byte(value))
		if _, err := open(req, key.Public(), time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
