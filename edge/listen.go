package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/internal/accept"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/socket"
)

// sockets are the edge's open listeners.
type sockets struct {
	http, https, dnsTCP, metrics, peer, relay net.Listener

	dnsUDP *net.UDPConn
	quic   *net.UDPConn // the port of https
}

// openSockets takes over what a supervisor handed down and listens on the rest.
// DNS has UDP and TCP on one port, and so has https.
func openSockets(ctx context.Context, cfg *Config) (s *sockets, err error) {
	s = &sockets{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, l := range []struct {
		name, addr string
		to         *net.Listener
	}{
		{"http", cfg.HTTP, &s.http}, {"metrics", cfg.Metrics, &s.metrics}, {"peer", cfg.Peer, &s.peer}, {"relay", cfg.Relay, &s.relay},
	} {
		if l.addr == "" {
			continue
		}
		if *l.to, err = cfg.Sockets.Listen(ctx, l.name, "tcp", l.addr); err != nil {
			return s, fmt.Errorf("%s: %w", l.name, err)
		}
	}
	if s.quic, s.https, err = openPair(ctx, cfg, "https", "https-udp", "https", cfg.HTTPS); err != nil {
		return s, err
	}
	s.dnsUDP, s.dnsTCP, err = openPair(ctx, cfg, "dns", "dns-udp", "dns-tcp", cfg.DNS)
	return s, err
}

// portTries bounds the search for a port that is free for UDP and TCP.
const portTries = 32

// openPair opens UDP and TCP on one port. What was handed down says which.
func openPair(ctx context.Context, cfg *Config, what, udpName, tcpName, addr string) (*net.UDPConn, net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", what, err)
	}
	for try := 1; ; try++ {
		tcp, err := cfg.Sockets.Listen(ctx, tcpName, "tcp", addr)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", what, err)
		}
		bound := addr
		if t, ok := tcp.Addr().(*net.TCPAddr); ok {
			bound = net.JoinHostPort(host, strconv.Itoa(t.Port))
		}
		packet, err := cfg.Sockets.ListenPacket(ctx, udpName, "udp", bound)
		if err == nil {
			udp, ok := packet.(*net.UDPConn)
			if !ok {
				return nil, nil, errors.Join(fmt.Errorf("%s: inherited socket %s is no UDP socket", what, udpName), packet.Close(), tcp.Close())
			}
			return udp, tcp, nil
		}
		if closeErr := tcp.Close(); port != "0" || try == portTries {
			return nil, nil, fmt.Errorf("%s: %w", what, errors.Join(err, closeErr))
		}
	}
}

func (s *sockets) close() {
	for _, l := range []net.Listener{s.http, s.https, s.dnsTCP, s.metrics, s.peer, s.relay} {
		if l != nil {
			_ = l.Close() // closing twice is harmless, nothing is buffered
		}
	}
	for _, c := range []*net.UDPConn{s.dnsUDP, s.quic} {
		if c != nil {
			_ = c.Close() // likewise
		}
	}
}

func addrOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// accept takes visitors' connections until the listener is closed. Each has a
// goroutine; their number is bounded, and over the bound a connection is closed
// at once rather than left waiting.
func (e *Edge) accept(ctx context.Context, l net.Listener, serve func(nc net.Conn, ended func())) error {
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			e.log.Warn("accept failed", "listener", l.Addr().String(), "err", err)
			select {
			case <-time.After(accept.Pause):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if !e.room() {
			_ = nc.Close() // refused; nothing was sent
			continue
		}
		e.visitors.Add(1)
		e.crew.Do(func() { serve(nc, e.left) })
	}
}

// room counts a visitor's connection, unless there are as many as allowed.
func (e *Edge) room() bool {
	if e.connections.Add(1) > int64(e.cfg.MaxConnections) {
		e.turnAway()
		return false
	}
	return true
}

// turnAway refuses a connection that room has counted.
func (e *Edge) turnAway() {
	e.connections.Add(-1)
	e.overflow.Add(1)
}

// left is called when a visitor's connection has ended.
func (e *Edge) left() {
	e.connections.Add(-1)
	e.visitors.Done()
}

func (e *Edge) serveHTTP(nc net.Conn, ended func()) {
	e.h1.Adopt(nc, &msg.Conn{Remote: addrPort(nc.RemoteAddr()), Local: addrPort(nc.LocalAddr())}, ended)
}

// serveHTTPS ends TLS. HTTP/2 is served in another goroutine: the stack that a
// handshake needs is not kept for as long as such a connection lasts.
func (e *Edge) serveHTTPS(nc net.Conn, ended func()) {
	c := &msg.Conn{Remote: addrPort(nc.RemoteAddr()), Local: addrPort(nc.LocalAddr())}
	tc, err := e.tls.Handshake(e.requests, socket.Wrap(nc))
	if err != nil {
		_ = nc.Close() // the handshake's failure is counted by tlsterm
		ended()
		return
	}
	state := tc.ConnectionState()
	c.TLS = &state
	if state.NegotiatedProtocol != "h2" {
		defer ended()
		e.h1.ServeConn(tc, c)
		return
	}
	go func() { // drain waits for visitors
		defer ended()
		e.h2.ServeConn(tc, c)
	}()
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(interface{ AddrPort() netip.AddrPort }); ok { // TCP and UDP
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

func portOf(l net.Listener) uint16 { return addrPort(l.Addr()).Port() }

// State of the server: loading → ready → draining.
type state int32

const (
	loading  state = iota // no configuration yet
	ready                 // serving
	draining              // finishing what is in flight, accepting nothing
)

func (s state) String() string { return [...]string{"loading", "ready", "draining"}[s] }

type stateBox struct{ v atomic.Int32 }

func (b *stateBox) set(s state) { b.v.Store(int32(s)) }
func (b *stateBox) get() state  { return state(b.v.Load()) }
