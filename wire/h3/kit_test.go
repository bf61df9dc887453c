package h3

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/selvage-edge/selvage/wire/msg"
)

// handler makes sessions of two functions.
type handler struct {
	serve func(*msg.Request, *msg.Response)
	step  func(*msg.Request, *msg.Response) bool // nil = never done

	mu      sync.Mutex
	opened  int
	closed  int
	done    []result
	refused []int
	left    chan struct{}
}

type result struct {
	sent int64
	err  error
}

type session struct{ h *handler }

func (h *handler) Open(*msg.Conn) msg.Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened++
	return &session{h}
}

func (s *session) Serve(req *msg.Request, res *msg.Response) {
	if s.h.serve == nil { // a request that came in pieces
		s.h.step(req, res)
		return
	}
	s.h.serve(req, res)
}

func (s *session) Step(req *msg.Request, res *msg.Response) bool {
	return s.h.step != nil && s.h.step(req, res)
}

func (s *session) Done(_ *msg.Request, _ *msg.Response, sent int64, err error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.done = append(s.h.done, result{sent, err})
}

func (s *session) Refused(status int, _ error) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.refused = append(s.h.refused, status)
}

func (s *session) Close() {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.h.closed++
}

func (s *session) Left() {
	if s.h.left != nil {
		s.h.left <- struct{}{}
	}
}

func (h *handler) statuses() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]int(nil), h.refused...)
}

func (h *handler) results() []result {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]result(nil), h.done...)
}

// certificate is made once for all tests.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"h3.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "h3.test", NextProtos: []string{NextProto}}
}

// running is a server on a UDP socket of its own.
type running struct {
	*Server
	addr net.Addr
}

// start serves h until the test ends.
func start(tb testing.TB, h msg.Handler, l Limits) *running {
	tb.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	s := NewServer(h, l)
	tr := &quic.Transport{Conn: udp}
	qcfg := s.Config()
	qcfg.Allow0RTT = true
	ln, err := tr.ListenEarly(&tls.Config{Certificates: []tls.Certificate{certificate()}, NextProtos: []string{NextProto}}, qcfg)
	if err != nil {
		tb.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			qc, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			work.Go(func() {
				state := qc.ConnectionState().TLS
				s.ServeConn(qc, &msg.Conn{Remote: addrPort(qc.RemoteAddr()), Local: addrPort(qc.LocalAddr()), TLS: &state})
			})
		}
	})
	tb.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Drain(ctx)
		_ = ln.Close()
		_ = tr.Close()
		_ = udp.Close()
		work.Wait()
	})
	return &running{s, udp.LocalAddr()}
}

func addrPort(a net.Addr) netip.AddrPort {
	u := a.(*net.UDPAddr)
	return u.AddrPort()
}

// client returns an HTTP/3 client of quic-go's that talks to r.
func (r *running) client(tb testing.TB) *http.Client {
	tr := &http3.Transport{
		TLSClientConfig: clientTLS(),
		Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, r.addr.String(), tc, qc)
		},
	}
	tb.Cleanup(func() { _ = tr.Close() })
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}
