package tlsterm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a self-signed certificate as the API would store it.
func issue(t testing.TB, id string, key crypto.Signer, expires time.Time, hosts ...string) zone.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: id},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: expires, DNSNames: hosts,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return zone.Certificate{
		ID: id, Hosts: hosts, Expires: expires, PrivateKey: private,
		Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	}
}

func soon() time.Time { return time.Now().Add(30 * 24 * time.Hour) }

func later() time.Time { return time.Now().Add(90 * 24 * time.Hour) }

func spec(name, minVersion string, certificates ...zone.Certificate) *zone.Spec {
	return &zone.Spec{
		Meta:         zone.Meta{ID: "id-of-" + name, Name: name},
		Settings:     zone.Settings{"min_tls_version": json.RawMessage(`"` + minVersion + `"`)},
		Certificates: certificates,
	}
}

func compile(t testing.TB, s *zone.Spec) *Plan {
	t.Helper()
	p, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// engine serves plans by the suffix of the name asked for.
func engine(plans map[string]*Plan) *Engine {
	return New(func(_ context.Context, serverName string) (*Plan, error) {
		for suffix, p := range plans {
			if serverName == suffix || strings.HasSuffix(serverName, "."+suffix) {
				return p, nil
			}
		}
		return nil, nil
	}, nil, nil)
}

type outcome struct {
	client, server       tls.ConnectionState
	clientErr, serverErr error
}

// shake does a handshake over a loopback connection, exchanges a byte each way
// (which carries TLS 1.3 tickets) and closes.
func shake(t testing.TB, e *Engine, c *tls.Config) outcome {
	t.Helper()
	near, far := connPair(t)
	var out outcome
	var server sync.WaitGroup
	server.Go(func() {
		defer far.Close()
		conn, err := e.Handshake(t.Context(), far)
		if err != nil {
			out.serverErr = err
			return
		}
		out.server = conn.ConnectionState()
		buf := make([]byte, 1)
		if _, err := io.ReadFull(conn, buf); err == nil {
			_, out.serverErr = conn.Write(buf)
		}
	})
	c.InsecureSkipVerify = true // names and keys are compared by the tests themselves
	conn := tls.Client(near, c)
	if err := conn.Handshake(); err != nil {
		out.clientErr = err
	} else {
		out.client = conn.ConnectionState()
		buf := []byte{1}
		if _, err := conn.Write(buf); err != nil {
			out.clientErr = err
		} else if _, err := io.ReadFull(conn, buf); err != nil {
			out.clientErr = err
		}
	}
	near.Close()
	server.Wait()
	return out
}

func connPair(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func servedBy(o outcome) string {
	if len(o.client.PeerCertificates) == 0 {
		return ""
	}
	return o.client.PeerCertificates[0].Subject.CommonName
}

// managed marks a certificate as one of our own making.
func managed(c zone.Certificate) zone.Certificate {
	c.Managed = true
	return c
}

func TestCertificateChosenByName(t *testing.T) {
	ec := ecKey(t)
	p := compile(t, spec("example.com", "1.2",
		issue(t, "apex-soon", ec, soon(), "example.com"),
		issue(t, "apex-later", ec, later(), "Example.com"),
		issue(t, "wild", ec, later(), "*.example.com"),
		issue(t, "wild-rsa", rsaKey(), later(), "*.example.com"),
		issue(t, "shop-rsa", rsaKey(), soon(), "shop.example.com"),
		issue(t, "expired", ec, time.Now().Add(-time.Hour), "old.example.com"),
		issue(t, "mixed-expired", ec, time.Now().Add(-time.Hour), "mixed.example.com"),
		issue(t, "mixed-rsa", rsaKey(), soon(), "mixed.example.com"),
		managed(issue(t, "ours", ec, later(), "both.example.com")),
		issue(t, "theirs", rsaKey(), soon(), "both.example.com"),
		managed(issue(t, "ours-good", ec, soon(), "gone.example.com")),
		issue(t, "theirs-expired", ec, time.Now().Add(-time.Hour), "gone.example.com"),
	))
	e := engine(map[string]*Plan{"example.com": p})
	rsaOnly := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	cases := []struct {
		host, want string
		suites     []uint16
	}{
		{host: "example.com", want: "apex-later"},
		{host: "EXAMPLE.com", want: "apex-later"},
		{host: "www.example.com", want: "wild"},
		{host: "www.example.com", want: "wild-rsa", suites: rsaOnly},
		{host: "shop.example.com", want: "shop-rsa"},
		{host: "old.example.com", want: "wild"},
		{host: "mixed.example.com", want: "mixed-rsa"},
		{host: "both.example.com", want: "theirs"},
		{host: "gone.example.com", want: "ours-good"},
	}
	for _, c := range cases {
		config := &tls.Config{ServerName: c.host, CipherSuites: c.suites}
		if c.suites != nil {
			config.MaxVersion = tls.VersionTLS12
		}
		o := shake(t, e, config)
		if o.clientErr != nil || o.serverErr != nil || servedBy(o) != c.want {
			t.Errorf("%s: served by %q (client %v, server %v), want %q", c.host, servedBy(o), o.clientErr, o.serverErr, c.want)
		}
	}
}

func TestUnknownNamesGetTheRightAlert(t *testing.T) {
	p := compile(t, spec("example.com", "1.2", issue(t, "c", ecKey(t), soon(), "*.example.com")))
	e := engine(map[string]*Plan{"example.com": p})
	for _, host := range []string{"other.test", "a.b.example.com", "example.com", ""} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			o := shake(t, e, &tls.Config{ServerName: host, MaxVersion: version})
			if o.clientErr == nil || !strings.Contains(o.clientErr.Error(), "unrecognized name") {
				t.Errorf("%q with %x: client saw %v, want unrecognized_name", host, version, o.clientErr)
			}
			if !fault.Is(o.serverErr, fault.NotFound) {
				t.Errorf("%q with %x: server says %v, want a fault of kind not found", host, version, o.serverErr)
			}
		}
	}
	if got := counted(t, e, "selvage_tls_handshake_failures_total", "unknown_server_name"); got != 6 {
		t.Errorf("%v unknown names counted, want 6", got)
	}
	if got := counted(t, e, "selvage_tls_handshake_failures_total", "no_server_name"); got != 2 {
		t.Errorf("%v missing names counted, want 2", got)
	}
}

// counted returns the value of a counter that has a label with this value.
func counted(t *testing.T, e *Engine, name, label string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := registry.Register(e); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == label {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

func TestMinimumVersion(t *testing.T) {
	ec := ecKey(t)
	e := engine(map[string]*Plan{
		"new.test": compile(t, spec("new.test", "1.3", issue(t, "n", ec, soon(), "new.test"))),
		"old.test": compile(t, spec("old.test", "1.2", issue(t, "o", ec, soon(), "old.test"))),
	})
	cases := []struct {
		host    string
		version uint16
		ok      bool
	}{
		{"new.test", tls.VersionTLS13, true},
		{"new.test", tls.VersionTLS12, false},
		{"old.test", tls.VersionTLS13, true},
		{"old.test", tls.VersionTLS12, true},
		{"old.test", tls.VersionTLS11, false},
		{"old.test", tls.VersionTLS10, false},
	}
	for _, c := range cases {
		o := shake(t, e, &tls.Config{ServerName: c.host, MinVersion: tls.VersionTLS10, MaxVersion: c.version})
		if ok := o.clientErr == nil; ok != c.ok || (ok && o.client.Version != c.version) {
			t.Errorf("%s with at most %x: %v, version %x", c.host, c.version, o.clientErr, o.client.Version)
		}
		if !c.ok && (o.clientErr == nil || !strings.Contains(o.clientErr.Error(), "protocol version")) {
			t.Errorf("%s with at most %x: client saw %v, want the alert protocol_version", c.host, c.version, o.clientErr)
		}
	}
	if got := counted(t, e, "selvage_tls_handshake_failures_total", "version"); got != 3 {
		t.Errorf("%v version failures counted, want 3", got)
	}
}

func TestProtocolNegotiated(t *testing.T) {
	off := spec("b.test", "1.2", issue(t, "b", ecKey(t), soon(), "b.test"))
	off.Settings["http2"] = json.RawMessage(`"off"`)
	e := engine(map[string]*Plan{
		"a.test": compile(t, spec("a.test", "1.2", issue(t, "a", ecKey(t), soon(), "a.test"))),
		"b.test": compile(t, off),
	})
	for _, c := range []struct{ host, offers, want string }{
		{"a.test", "http/1.1,h2", "h2"}, {"a.test", "http/1.1", "http/1.1"}, {"b.test", "h2,http/1.1", "http/1.1"}, {"a.test", "h2", "h2"},
	} {
		o := shake(t, e, &tls.Config{ServerName: c.host, NextProtos: strings.Split(c.offers, ",")})
		if o.clientErr != nil || o.client.NegotiatedProtocol != c.want {
			t.Errorf("%s offering %s: negotiated %q, %v", c.host, c.offers, o.client.NegotiatedProtocol, o.clientErr)
		}
	}
	o := shake(t, e, &tls.Config{ServerName: "b.test", NextProtos: []string{"h2"}})
	if o.clientErr == nil || !strings.Contains(o.clientErr.Error(), "no application protocol") {
		t.Errorf("client with only h2 saw %v, want no_application_protocol", o.clientErr)
	}
}

// oneSession offers whatever session it has to every server, as an attacker
// would.
type oneSession struct{ session *tls.ClientSessionState }

func (s *oneSession) Get(string) (*tls.ClientSessionState, bool) {
	return s.session, s.session != nil
}
func (s *oneSession) Put(_ string, session *tls.ClientSessionState) {
	if session != nil {
		s.session = session
	}
}

func TestResumptionStaysWithZoneAndName(t *testing.T) {
	ec := ecKey(t) // one key and certificate: only the binding can tell the names apart
	both := func(name string) zone.Certificate {
		return issue(t, name, ec, soon(), "a.test", "www.a.test", "b.test")
	}
	plans := map[string]*Plan{
		"a.test": compile(t, spec("a.test", "1.2", both("a"))),
		"b.test": compile(t, spec("b.test", "1.2", both("b"))),
	}
	e := engine(plans)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		stolen := &oneSession{}
		config := func(host string) *tls.Config {
			return &tls.Config{ServerName: host, MaxVersion: version, ClientSessionCache: stolen}
		}
		if o := shake(t, e, config("a.test")); o.clientErr != nil || o.server.DidResume {
			t.Fatalf("%x: first handshake: %v, resumed %v", version, o.clientErr, o.server.DidResume)
		}
		session := stolen.session
		if session == nil {
			t.Fatalf("%x: no ticket came", version)
		}
		if o := shake(t, e, config("a.test")); o.clientErr != nil || !o.server.DidResume {
			t.Errorf("%x: same name: %v, resumed %v", version, o.clientErr, o.server.DidResume)
		}
		for _, host := range []string{"b.test", "www.a.test"} {
			stolen.session = session
			if o := shake(t, e, config(host)); o.clientErr != nil || o.server.DidResume || o.client.DidResume {
				t.Errorf("%x: %s resumed a.test's session (%v)", version, host, o.clientErr)
			}
		}
		if o := shake(t, e, &tls.Config{ServerName: "other.test", MaxVersion: version, ClientSessionCache: &oneSession{session}}); o.clientErr == nil {
			t.Errorf("%x: a session opened an unknown name", version)
		}
	}

	// A ticket outlives a new plan of its zone, and does not get below a raised
	// minimum.
	old := &oneSession{}
	shake(t, e, &tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS12, ClientSessionCache: old})
	plans["a.test"] = compile(t, spec("a.test", "1.2", both("a2")))
	if o := shake(t, e, &tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS12, ClientSessionCache: old}); !o.server.DidResume {
		t.Errorf("a new plan of the same zone ended its sessions (%v)", o.clientErr)
	}
	plans["a.test"] = compile(t, spec("a.test", "1.3", both("a3")))
	if o := shake(t, e, &tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS12, ClientSessionCache: old}); o.clientErr == nil {
		t.Error("a TLS 1.2 session got under a minimum of 1.3")
	}
}

func TestHandshakeTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := engine(nil)
		near, far := net.Pipe()
		defer near.Close()
		begun := time.Now()
		_, err := e.Handshake(context.Background(), far)
		if !fault.Is(err, fault.Timeout) || time.Since(begun) != HandshakeTimeout {
			t.Errorf("a silent client: %v after %s", err, time.Since(begun))
		}
		if _, err := near.Write([]byte{1}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection is still open: %v", err)
		}
	})
}

func TestFailuresAreTold(t *testing.T) {
	p := compile(t, spec("a.test", "1.2", issue(t, "a", ecKey(t), soon(), "a.test")))
	cases := []struct {
		name   string
		client func(net.Conn)
		reason string
		kind   fault.Kind
	}{
		{"plain http", func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") }, "not_tls", fault.Malformed},
		{"goes away", func(c net.Conn) { c.Close() }, "closed", fault.Closed},
		{"distrusts us", func(c net.Conn) { tls.Client(c, &tls.Config{ServerName: "a.test"}).Handshake() }, "client_alert", fault.Handshake},
	}
	for _, c := range cases {
		e := engine(map[string]*Plan{"a.test": p})
		near, far := connPair(t)
		var client sync.WaitGroup
		client.Go(func() { c.client(near) })
		_, err := e.Handshake(t.Context(), far)
		client.Wait()
		near.Close()
		if !fault.Is(err, c.kind) || counted(t, e, "selvage_tls_handshake_failures_total", c.reason) != 1 {
			t.Errorf("%s: %v, counted %v", c.name, err, counted(t, e, "selvage_tls_handshake_failures_total", c.reason))
		}
	}
}

func TestExpiredCertificateIsServedAndReportedOnce(t *testing.T) {
	var log strings.Builder
	p := compile(t, spec("a.test", "1.2", issue(t, "gone", ecKey(t), time.Now().Add(-time.Hour), "a.test")))
	e := New(func(context.Context, string) (*Plan, error) { return p, nil }, nil, slog.New(slog.NewTextHandler(&log, nil)))
	for range 3 {
		if o := shake(t, e, &tls.Config{ServerName: "a.test"}); o.clientErr != nil || servedBy(o) != "gone" {
			t.Fatalf("served by %q, %v", servedBy(o), o.clientErr)
		}
	}
	if n := strings.Count(log.String(), "serving an expired certificate"); n != 1 {
		t.Errorf("reported %d times, want once:\n%s", n, log.String())
	}
}

func TestCompile(t *testing.T) {
	ec, other := ecKey(t), ecKey(t)
	good := issue(t, "good", ec, soon(), "a.test")
	with := func(change func(*zone.Certificate)) zone.Certificate {
		c := good
		c.ID = "bad"
		change(&c)
		return c
	}
	otherKey := issue(t, "other", other, soon(), "a.test")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		c    zone.Certificate
		want string
	}{
		{"wrong key", with(func(c *zone.Certificate) { c.PrivateKey = otherKey.PrivateKey }), "certificate bad: private_key: does not belong"},
		{"key is garbage", with(func(c *zone.Certificate) { c.PrivateKey = []byte("x") }), "certificate bad: private_key: is not a PKCS#8 key"},
		{"key is long", with(func(c *zone.Certificate) { c.PrivateKey = make([]byte, maxKeyBytes+1) }), "certificate bad: private_key: longer than"},
		{"no PEM", with(func(c *zone.Certificate) { c.Chain = "" }), "certificate bad: certificate: holds no PEM"},
		{"text between", with(func(c *zone.Certificate) { c.Chain += "rest" }), "not PEM"},
		{"long", with(func(c *zone.Certificate) { c.Chain = strings.Repeat("\n", maxChainBytes+1) }), "longer than"},
		{"a key in the chain", with(func(c *zone.Certificate) {
			c.Chain += string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: good.PrivateKey}))
		}), `PEM block "PRIVATE KEY"`},
		{"broken chain", with(func(c *zone.Certificate) {
			c.Chain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}))
		}), "entry 2 of the chain"},
		{"long chain", with(func(c *zone.Certificate) { c.Chain = strings.Repeat(c.Chain, maxChainCerts+1) }), "more than 10"},
		{"no host", issue(t, "bad", ec, soon()), "names no host"},
		{"elsewhere", issue(t, "bad", ec, soon(), "b.test"), "no name in zone a.test"},
		{"weak", issue(t, "bad", weak, soon(), "a.test"), "1024 bits"},
	}
	for _, c := range cases {
		_, err := Compile(spec("a.test", "1.2", good, c.c))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if p, err := Compile(spec("a.test", "1.2")); p != nil || err != nil {
		t.Errorf("no certificates: %v, %v, want nil", p, err)
	}
	if _, err := Compile(spec("a.test", "1.1", good)); err == nil || !strings.Contains(err.Error(), "min_tls_version") {
		t.Errorf("min_tls_version 1.1: %v", err)
	}
	if _, err := Compile(spec("a.test", "1.2", make([]zone.Certificate, zone.MaxCertificates+1)...)); err == nil {
		t.Error("too many certificates compiled")
	}
	var none *Plan
	if none.Covers("a.test") {
		t.Error("a nil plan covers a host")
	}
}

func TestKeylessCertificateIsMissing(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyless := issue(t, "keyless", ecKey(t), soon(), "a.test")
	keyless.PrivateKey = nil
	p := compile(t, spec("a.test", "1.2", keyless, issue(t, "ed", ed, soon(), "www.a.test")))
	if len(p.Missing) != 1 || p.Missing[0].ID != "keyless" {
		t.Errorf("missing %v, want the certificate without a key", p.Missing)
	}
	if p.Covers("a.test") || !p.Covers("www.a.test") {
		t.Error("covers what it has no key for, or not what it has")
	}
}
