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
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/client"
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
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, DNSNames: []string{"node"},
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

func identify(cs tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", errors.New("no certificate")
	}
	return cs.PeerCertificates[0].Subject.CommonName, nil
}

func known(id string) bool { return id == "node" }

func hear(node string, report []byte) ([]byte, error) {
	if string(report) == "bad" {
		return nil, errors.New("bad report")
	}
	return fmt.Appendf(nil, "%s said %s", node, report), nil
}

// at is the test node at an address.
func at(addr string) Target { return Target{ID: "node", Addrs: []string{addr}} }

// start runs a server that answers with the envelope it got.
func start(t *testing.T, config *tls.Config) (*Server, string) {
	t.Helper()
	s, err := NewServer(ServerConfig{Ctx: t.Context(), TLS: config, Identify: identify, Known: known, Hear: hear, Serve: func(_ context.Context, env Envelope, req *msg.Request, res *msg.Response) {
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
	c, err := NewClient(ClientConfig{Ctx: t.Context(), TLS: config, Identify: identify})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func request(method, target, body string) (*msg.Request, io.Reader) {
	req := &msg.Request{MethodText: []byte(method), Method: msg.MethodOf([]byte(method)), Authority: []byte("shop.test"),
		Target: []byte(target), Path: []byte(target), Scheme: msg.HTTPS, Proto: msg.HTTP2, Length: int64(len(body))}
	if body == "" {
		return req, nil
	}
	return req, strings.NewReader(body)
}

var env = Envelope{Zone: "0123456789abcdef0123456789abcdef", Seq: 42, Depth: 3, Ray: 7, Client: netip.MustParseAddr("2001:db8::7"), Country: [2]byte{'D', 'E'}, Role: 2, Scheme: msg.HTTPS}

func do(t *testing.T, c *Client, addr string, e *Envelope, method, target, body string) (int, string) {
	t.Helper()
	req, reader := request(method, target, body)
	res := new(msg.Response)
	if err := c.Do(t.Context(), at(addr), e, req, reader, res); err != nil {
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
		if err := c.Probe(t.Context(), at(addr)); err != nil {
			t.Errorf("probe: %v", err)
		}
		if got := len(c.peers["node"].open); got != 1 {
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
	if err := c.Do(t.Context(), at(addr), &env, req, nil, new(msg.Response)); err == nil {
		t.Error("a node of another CA was served")
	}
	// We refuse a server of another CA.
	_, elsewhere := start(t, foreign.node(ecKey(t)))
	c = newClient(t, ca.node(ecKey(t)))
	err := c.Do(t.Context(), at(elsewhere), &env, req, nil, new(msg.Response))
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
		req, _ := request("GET", ProbePath, "")
		if status, _ := raw(t, addr, config, req); status != 0 {
			t.Errorf("%s: got %d", name, status)
		}
	}
	// The server counts after the client has heard: wait for the last one.
	deadline := time.After(5 * time.Second)
	for got := 0.0; got < 5; got = counted(t, s, "selvage_peer_refused_total", "handshake") {
		select {
		case <-deadline:
			t.Fatalf("refused %v handshakes, want at least 5", got)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// raw sends a request as it is over TLS; status 0 = there was no answer.
func raw(t *testing.T, addr string, config *tls.Config, req *msg.Request) (status int, body string) {
	t.Helper()
	tc, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return 0, ""
	}
	c := client.New(tc, client.Limits{})
	defer func() { _ = c.Close() }()
	res := new(msg.Response)
	var sent io.Reader
	if req.Length != 0 {
		sent = strings.NewReader(strings.Repeat("x", int(max(req.Length, 1))))
	}
	if err := c.Do(t.Context(), req, sent, res); err != nil {
		return 0, ""
	}
	defer res.Close()
	if res.Body != nil {
		b, _ := io.ReadAll(res.Body)
		body = string(b)
	}
	return res.Status, body
}

func TestWhatHasNoGoodEnvelopeIsRefused(t *testing.T) {
	ca := newAuthority(t)
	config := ca.node(ecKey(t))
	config.NextProtos = []string{ALPN}
	s, addr := start(t, ca.node(ecKey(t)))
	good, err := seal(&env)
	if err != nil {
		t.Fatal(err)
	}
	spoilt := func(change func([]byte) []byte) string {
		body, err := env.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(change(body))
	}
	for _, c := range []struct {
		name, method, path string
		length             int64
		envelopes          []string
		status             int
		reason             string
	}{
		{"good", "GET", "/page", 0, []string{good}, 200, ""},
		{"none", "GET", "/page", 0, nil, 403, "no envelope"},
		{"none, POST to the probe", "POST", ProbePath, 0, nil, 403, "no envelope"},
		{"probe", "HEAD", ProbePath, 0, nil, 204, ""},
		{"empty report", "POST", reportPath, 0, nil, 403, "report that cannot be used"},
		{"large report", "POST", reportPath, MaxReport + 1, nil, 403, "report that cannot be used"},
		{"report without length", "POST", reportPath, msg.LengthUnknown, nil, 403, "report that cannot be used"},
		{"two", "GET", "/page", 0, []string{good, good}, 403, "several envelopes"},
		{"not base64", "GET", "/page", 0, []string{"***"}, 403, "malformed envelope"},
		{"too long", "GET", "/page", 0, []string{strings.Repeat("A", 600)}, 403, "malformed envelope"},
		{"something behind", "GET", "/page", 0, []string{spoilt(func(p []byte) []byte { return append(p, 0) })}, 403, "malformed envelope"},
		{"another version", "GET", "/page", 0, []string{spoilt(func(p []byte) []byte { p[0] = 1; return p })}, 403, "malformed envelope"},
		{"unknown role", "GET", "/page", 0, []string{spoilt(func(p []byte) []byte { p[2] = MaxRole + 1; return p })}, 403, "malformed envelope"},
		{"unknown scheme", "GET", "/page", 0, []string{spoilt(func(p []byte) []byte { p[3] = 2; return p })}, 403, "malformed envelope"},
		{"too deep", "GET", "/page", 0, []string{spoilt(func(p []byte) []byte { p[1] = MaxDepth + 1; return p })}, 403, "passed on too often"},
	} {
		req, _ := request(c.method, c.path, "")
		req.Length = c.length
		for _, e := range c.envelopes {
			req.Fields.Add([]byte(fieldName), []byte(e))
		}
		status, body := raw(t, addr, config, req)
		if status != c.status || !strings.Contains(body, c.reason) {
			t.Errorf("%s: got %d %.100q, want %d %q", c.name, status, body, c.status, c.reason)
		}
	}
	if got := counted(t, s, "selvage_peer_refused_total", "malformed envelope"); got != 6 {
		t.Errorf("counted %v malformed envelopes, want 6", got)
	}
}

// A certificate of our CA is not enough once its node is revoked, also on a
// connection that stands.
func TestRevokedNodeIsRefusedFromItsNextRequestOn(t *testing.T) {
	ca := newAuthority(t)
	var revoked atomic.Bool
	s, err := NewServer(ServerConfig{
		Ctx: t.Context(), TLS: ca.node(ecKey(t)), Identify: identify, Known: func(string) bool { return !revoked.Load() },
		Serve: func(_ context.Context, _ Envelope, _ *msg.Request, res *msg.Response) { res.Status = 204 },
	})
	if err != nil {
		t.Fatal(err)
	}
	session := s.Open(&msg.Conn{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "node"}}}}})
	defer session.Close()
	value, err := seal(&env)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{204, 403} {
		req, _ := request("GET", "/", "")
		req.Fields.Add([]byte(fieldName), []byte(value))
		res := new(msg.Response)
		if session.Serve(req, res); res.Status != want {
			t.Errorf("status %d, want %d", res.Status, want)
		}
		revoked.Store(true)
	}
}

// Another node may have got the address: what it holds is not what was asked for.
func TestAnotherNodeAtTheAddressIsNotSpokenTo(t *testing.T) {
	ca := newAuthority(t)
	s, addr := start(t, ca.node(ecKey(t)))
	c := newClient(t, ca.node(ecKey(t)))
	req, _ := request("GET", "/", "")
	err := c.Do(t.Context(), Target{ID: "other", Addrs: []string{addr}}, &env, req, nil, new(msg.Response))
	if !errors.Is(err, errOther) || !fault.Is(err, fault.Handshake) {
		t.Errorf("got %v, want %v", err, errOther)
	}
	// The first address that is the node's is used.
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	if err := c.Probe(t.Context(), Target{ID: "node", Addrs: []string{dead.Addr().String(), addr}}); err != nil {
		t.Errorf("second address: %v", err)
	}
	if err := c.Probe(t.Context(), Target{ID: "nowhere"}); !errors.Is(err, errNoAddr) {
		t.Errorf("no address: %v", err)
	}
	if got := counted(t, s, "selvage_peer_requests_total", ""); got != 0 {
		t.Errorf("%v requests served", got)
	}
}

func TestReportsAreAnswered(t *testing.T) {
	ca := newAuthority(t)
	_, addr := start(t, ca.node(ecKey(t)))
	c := newClient(t, ca.node(ecKey(t)))
	if answer, err := c.Report(t.Context(), at(addr), []byte("far")); err != nil || string(answer) != "node said far" {
		t.Errorf("got %q, %v", answer, err)
	}
	if _, err := c.Report(t.Context(), at(addr), []byte("bad")); !errors.Is(err, errAnswer) {
		t.Errorf("bad report: %v", err)
	}
}

func TestConfigurationsThatLetStrangersInAreRefused(t *testing.T) {
	ca := newAuthority(t)
	serve := func(context.Context, Envelope, *msg.Request, *msg.Response) {}
	open := ca.node(ecKey(t))
	open.ClientCAs = nil
	for name, c := range map[string]ServerConfig{
		"no TLS":      {Ctx: t.Context(), Serve: serve, Identify: identify, Known: known},
		"no CA":       {Ctx: t.Context(), TLS: open, Serve: serve, Identify: identify, Known: known},
		"no Serve":    {Ctx: t.Context(), TLS: ca.node(ecKey(t)), Identify: identify, Known: known},
		"no Identify": {Ctx: t.Context(), TLS: ca.node(ecKey(t)), Serve: serve, Known: known},
		"no Known":    {Ctx: t.Context(), TLS: ca.node(ecKey(t)), Serve: serve, Identify: identify},
	} {
		if _, err := NewServer(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewClient(ClientConfig{TLS: &tls.Config{MinVersion: tls.VersionTLS13}}); err == nil {
		t.Error("a client without a certificate was accepted")
	}
	// Behind a listener that asks for nothing, nobody is a peer.
	s, err := NewServer(ServerConfig{Ctx: t.Context(), TLS: ca.node(ecKey(t)), Serve: serve, Identify: identify, Known: known})
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
	if err := s.h2.Drain(ctx); err != nil { // cuts the idle one
		t.Fatal(err)
	}
	if status, _ := do(t, c, addr, &env, "GET", "/", ""); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestConnectionsToAPeerAreBounded(t *testing.T) {
	ca := newAuthority(t)
	_, addr := start(t, ca.node(ecKey(t)))
	c, err := NewClient(ClientConfig{Ctx: t.Context(), TLS: ca.node(ecKey(t)), Identify: identify, MaxConns: 1, Streams: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req, _ := request("GET", "/", "")
	held := new(msg.Response)
	if err := c.Do(t.Context(), at(addr), &env, req, nil, held); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(t.Context(), at(addr), &env, req, nil, new(msg.Response)); !fault.Is(err, fault.Limit) {
		t.Errorf("second at a time: got %v, want limit", err)
	}
	held.Close()
	if status, _ := do(t, c, addr, &env, "GET", "/", ""); status != 200 {
		t.Errorf("afterwards: status %d", status)
	}
	c.Close()
	if err := c.Do(t.Context(), at(addr), &env, req, nil, new(msg.Response)); !fault.Is(err, fault.Draining) {
		t.Errorf("after Close: got %v, want draining", err)
	}
}

func TestServerBoundsConnections(t *testing.T) {
	ca := newAuthority(t)
	s, err := NewServer(ServerConfig{Ctx: t.Context(), Identify: identify, Known: known, TLS: ca.node(ecKey(t)), MaxConns: 1, Serve: func(context.Context, Envelope, *msg.Request, *msg.Response) {}})
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
	good, err := env.append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{version})
	f.Fuzz(func(t *testing.T, p []byte) {
		e, err := decode(p)
		if err != nil {
			return
		}
		again, err := e.append(nil)
		if err != nil || string(again) != string(p) {
			t.Errorf("%x decodes to what encodes as %x, %v", p, again, err)
		}
	})
}

func BenchmarkSealAndOpen(b *testing.B) {
	req, _ := request("GET", "/", "")
	b.ReportAllocs()
	for b.Loop() {
		value, err := seal(&env)
		if err != nil {
			b.Fatal(err)
		}
		req.Fields.Reset()
		req.Fields.Add([]byte(fieldName), []byte(value))
		if _, err := open(req); err != nil {
			b.Fatal(err)
		}
	}
}
