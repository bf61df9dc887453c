package h1

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// listen serves h on a loopback port, over TLS when conf is given, and
// returns the address.
func listen(t testing.TB, s *Server, conf *tls.Config) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() { serveOne(s, nc, conf) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		work.Wait()
	})
	return ln.Addr().String()
}

func serveOne(s *Server, nc net.Conn, conf *tls.Config) {
	mc := &msg.Conn{Remote: netip.MustParseAddrPort(nc.RemoteAddr().String())}
	if conf == nil {
		s.ServeConn(nc, mc)
		return
	}
	tc := tls.Server(nc, conf)
	if tc.Handshake() != nil {
		_ = nc.Close()
		return
	}
	state := tc.ConnectionState()
	mc.TLS = &state
	s.ServeConn(tc, mc)
}

func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}

// sized answers with as many bytes as the query says, in memory or streamed.
func sized(req *msg.Request, res *msg.Response) {
	if req.Body != nil {
		res.Status, res.Length, res.Body = 200, req.Length, req.Body
		return
	}
	n, _ := head.Length(req.Query)
	res.Status, res.Length = 200, n
	body := bytes.Repeat([]byte("z"), int(n))
	switch string(req.Path) {
	case "/memory":
		res.Bytes = body
	case "/stream":
		res.Body = io.NopCloser(bytes.NewReader(body))
	default:
		res.Length, res.Body = msg.LengthUnknown, io.NopCloser(bytes.NewReader(body))
	}
}

// An answer that ends with its connection must not look whole when it is cut.
func TestACutAnswerDoesNotLookWhole(t *testing.T) {
	serverTLS, clientTLS := certificate(t)
	clientTLS.ServerName = "a.test"
	for _, secure := range []bool{false, true} {
		for _, fails := range []bool{false, true} {
			s := &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) {
				res.Status, res.Length, res.Body = 200, msg.LengthUnknown, stream("part")
				if fails {
					res.Body = io.NopCloser(io.MultiReader(strings.NewReader("part"), iotest.ErrReader(io.ErrNoProgress)))
				}
			}}
			conf := serverTLS
			if !secure {
				conf = nil
			}
			nc, err := net.Dial("tcp", listen(t, NewServer(s, Limits{}), conf))
			if err != nil {
				t.Fatal(err)
			}
			if secure {
				nc = tls.Client(nc, clientTLS)
			}
			_, _ = io.WriteString(nc, "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n")
			out, err := io.ReadAll(nc)
			_ = nc.Close()
			if (err != nil) != fails || !fails && !bytes.HasSuffix(out, []byte("part")) {
				t.Errorf("TLS %v, cut %v: read %q, error %v", secure, fails, out, err)
			}
		}
	}
}

// TestStandardClient drives the server with the standard library's client,
// over TCP and over TLS, many at once.
func TestStandardClient(t *testing.T) {
	serverTLS, clientTLS := certificate(t)
	for _, scheme := range []string{"http", "https"} {
		s := &msgtest.Site{Answer: sized}
		srv := NewServer(s, Limits{})
		conf := serverTLS
		if scheme == "http" {
			conf = nil
		}
		base := scheme + "://" + listen(t, srv, conf)
		tr := &http.Transport{TLSClientConfig: clientTLS}
		hc := &http.Client{Transport: tr}
		var work sync.WaitGroup
		for _, path := range []string{"/memory", "/stream", "/chunked"} {
			for _, n := range []int{0, 1, 1 << 10, 15 << 10, 17 << 10, 70 << 10, 1 << 20} {
				work.Go(func() { fetch(t, hc, base+path, n) })
			}
		}
		work.Go(func() { post(t, hc, base, 300<<10) })
		work.Wait()
		tr.CloseIdleConnections()
	}
}

func fetch(t *testing.T, hc *http.Client, url string, n int) {
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url+"?"+string(appendInt(nil, int64(n))), nil)
		if err != nil {
			t.Error(err)
			return
		}
		res, err := hc.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || len(body) != n || bytes.Count(body, []byte("z")) != n {
			t.Errorf("%s: %d bytes, want %d, err %v", url, len(body), n, err)
		}
	}
}

func post(t *testing.T, hc *http.Client, url string, n int) {
	for _, body := range []io.Reader{strings.NewReader(strings.Repeat("q", n)), io.MultiReader(strings.NewReader(strings.Repeat("q", n)))} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", url, body)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Expect", "100-continue")
		res, err := hc.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		got, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || len(got) != n {
			t.Errorf("post: %d bytes, want %d, err %v", len(got), n, err)
		}
	}
}

// TestStandardServer drives the standard library's server with the client.
func TestStandardServer(t *testing.T) {
	hs := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // else it stops reading when it writes
		w.Header().Set("X-Method", r.Method)
		if r.URL.Path == "/flush" {
			w.(http.Flusher).Flush()
		}
		_, _ = io.Copy(w, r.Body)
	}))
	defer hs.Close()
	roots := x509.NewCertPool()
	roots.AddCert(hs.Certificate())
	nc, err := tls.Dial("tcp", hs.Listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(nc, ClientLimits{Memory: NewMemory(0)})
	defer c.Close()
	want := strings.Repeat("0123456789", 30<<10)
	for i, length := range []int64{msg.LengthUnknown, int64(len(want)), 0, msg.LengthUnknown} {
		req := ask("POST", []string{"/", "/flush"}[i%2])
		var body io.Reader
		sent := ""
		if req.Length = length; length != 0 {
			body, sent = strings.NewReader(want), want
		}
		var res msg.Response
		if err := c.Do(t.Context(), req, body, &res); err != nil {
			t.Fatal(i, err)
		}
		if got := readAll(t, &res); got != sent || string(res.Fields.Lookup("X-Method")) != "POST" {
			t.Errorf("%d: %d bytes came back, want %d", i, len(got), len(sent))
		}
		if !c.Reusable() {
			t.Fatalf("%d: not reusable", i)
		}
	}
}

// TestHalfClosedVisitor ends its side with its request and still is answered.
func TestHalfClosedVisitor(t *testing.T) {
	s := &msgtest.Site{Answer: sized}
	nc, err := net.Dial("tcp", listen(t, NewServer(s, Limits{}), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	send(t, nc, "GET /memory?100000 HTTP/1.1\r\n"+h+"\r\n")
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(nc)
	if err != nil || len(out) < 100000 {
		t.Errorf("%d bytes, err %v", len(out), err)
	}
}

// TestRefusalArrives: the answer to a request that was not read to its end is
// not overtaken by a reset.
func TestRefusalArrives(t *testing.T) {
	addr := listen(t, NewServer(&msgtest.Site{Answer: sized}, Limits{Body: 1000}), nil)
	for range 20 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		send(t, nc, "POST / HTTP/1.1\r\n"+h+"Content-Length: 200000\r\n\r\n"+strings.Repeat("x", 200000))
		_ = nc.(*net.TCPConn).CloseWrite()
		out, err := io.ReadAll(nc)
		if err != nil || statusOf(string(out)) != 413 {
			t.Errorf("err %v: %q", err, out)
		}
		_ = nc.Close()
	}
}

// TestTruncatedAnswerIsReset: where the connection's end is the answer's end,
// a broken stream must not look like a whole one.
func TestTruncatedAnswerIsReset(t *testing.T) {
	s := &msgtest.Site{Answer: func(_ *msg.Request, r *msg.Response) {
		r.Status, r.Length, r.Body = 200, msg.LengthUnknown, &failing{strings.NewReader("abc"), errors.New("boom")}
	}}
	nc, err := net.Dial("tcp", listen(t, NewServer(s, Limits{}), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	send(t, nc, "GET / HTTP/1.0\r\n\r\n")
	if out, err := io.ReadAll(nc); err == nil {
		t.Errorf("read %q to a clean end", out)
	}
}
