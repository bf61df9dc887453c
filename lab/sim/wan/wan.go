// Package wan is a wide-area network in memory, for simulations inside a
// testing/synctest bubble. It promises what TCP does: bytes arrive in order,
// after the time that the distance takes, or the connection ends. What happens
// on the way (a line that is cut, slow, or that spoils bytes) is ordered by the
// test. Time is the bubble's.
package wan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Net is the network. Safe for concurrent use.
type Net struct {
	mu    sync.Mutex
	hosts map[string]*Host // by address; guarded by mu
	lines map[pair]*line   // guarded by mu
}

// pair is a direction between two hosts.
type pair struct{ from, to string }

// line is what is wrong in one direction.
type line struct {
	cut   bool
	extra time.Duration // added to the delay
	twist Twist         // of the next write
}

// Twist is what a line does to one write. TCP repairs lost, doubled and swapped
// packets, so whoever does that to bytes is in between, and means it.
type Twist int

const (
	Straight Twist = iota
	Twice          // the bytes come twice
	Swapped        // they come after the next ones
	Flipped        // one bit is another
	Missing        // they do not come
)

func (t Twist) String() string {
	return [...]string{"straight", "twice", "swapped", "flipped", "missing"}[t]
}

const (
	// window is how many bytes of one direction may be on their way or unread.
	window = 2 << 20
	// bandwidth of one connection in bytes per second.
	bandwidth = 1e9 / 8
)

// New makes a network without hosts.
func New() *Net { return &Net{hosts: map[string]*Host{}, lines: map[pair]*line{}} }

// Host is one machine on the network: a listener, and the place to dial from.
type Host struct {
	net   *Net
	addr  string
	place Place

	mu       sync.Mutex
	accepted chan *conn         // guarded by mu; nil: nobody listens
	conns    map[*conn]struct{} // guarded by mu
	gone     bool               // guarded by mu: the machine is off
}

// Host puts a machine at a place; one of the same address before it is replaced.
func (n *Net) Host(addr string, at Place) *Host {
	h := &Host{net: n, addr: addr, place: at, conns: map[*conn]struct{}{}}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr] = h
	return h
}

func (n *Net) line(from, to string) *line {
	l := n.lines[pair{from, to}]
	if l == nil {
		l = &line{}
		n.lines[pair{from, to}] = l
	}
	return l
}

// Cut stops, or with false mends, one direction. What is on the way waits: TCP
// sends it again.
func (n *Net) Cut(from, to string, cut bool) {
	n.mu.Lock()
	n.line(from, to).cut = cut
	var touched []*half
	for _, h := range n.hosts {
		touched = append(touched, h.halves(from, to)...)
	}
	n.mu.Unlock()
	for _, d := range touched {
		d.hold(cut)
	}
}

// Slow adds to the delay of one direction.
func (n *Net) Slow(from, to string, extra time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.line(from, to).extra = extra
}

// Twist spoils the next write of one direction.
func (n *Net) Twist(from, to string, how Twist) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.line(from, to).twist = how
}

// way says what a write finds.
func (n *Net) way(from, to *Host) (delay time.Duration, cut bool, twist Twist) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.lines[pair{from.addr, to.addr}]
	delay = Delay(from.place, to.place)
	if l == nil {
		return delay, false, Straight
	}
	twist, l.twist = l.twist, Straight
	return delay + l.extra, l.cut, twist
}

// halves are the directions of this host's connections that go that way.
func (h *Host) halves(from, to string) (all []*half) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		if c.out.from.addr == from && c.out.to.addr == to {
			all = append(all, c.out)
		}
	}
	return all
}

// Listen lets others dial this host.
func (h *Host) Listen() net.Listener {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.accepted = make(chan *conn, 128)
	return &listener{host: h, accepted: h.accepted, closed: make(chan struct{})}
}

// Reset ends all connections of the host; both sides hear of it.
func (h *Host) Reset() {
	for _, c := range h.open() {
		c.out.end(errReset)
		c.in.end(errReset)
	}
}

// Kill ends the machine. Its processes can say nothing from now on. Silently:
// others hear nothing either, as when the power fails; else their connections
// are reset.
func (h *Host) Kill(silently bool) {
	h.mu.Lock()
	h.gone, h.accepted = true, nil
	h.mu.Unlock()
	for _, c := range h.open() {
		if silently {
			c.die()
		} else {
			c.in.end(errReset)
			c.out.end(errReset)
		}
	}
	if !silently {
		h.net.mu.Lock()
		defer h.net.mu.Unlock()
		if h.net.hosts[h.addr] == h {
			delete(h.net.hosts, h.addr)
		}
	}
}

func (h *Host) open() (all []*conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		all = append(all, c)
	}
	return all
}

var (
	errReset   = errors.New("connection reset")
	errRefused = errors.New("connection refused")
)

// Dial connects to a host, after one round trip.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	n := h.net
	for again := time.Second; ; again *= 2 { // as SYNs are sent again
		n.mu.Lock()
		to := n.hosts[addr]
		n.mu.Unlock()
		if to == nil {
			return nil, fmt.Errorf("%s: %w", addr, errRefused)
		}
		there, cutThere, _ := n.way(h, to)
		back, cutBack, _ := n.way(to, h)
		to.mu.Lock()
		accepted, gone := to.accepted, to.gone
		to.mu.Unlock()
		lost := cutThere || cutBack || gone
		pause := again
		if !lost {
			pause = there + back
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", addr, context.Cause(ctx))
		case <-time.After(pause):
		}
		if lost {
			continue
		}
		if accepted == nil {
			return nil, fmt.Errorf("%s: %w", addr, errRefused)
		}
		return h.connect(to, accepted)
	}
}

func (h *Host) connect(to *Host, accepted chan *conn) (net.Conn, error) {
	up, down := newHalf(h, to), newHalf(to, h)
	near, far := &conn{in: down, out: up, host: h}, &conn{in: up, out: down, host: to}
	if !h.add(near) || !to.add(far) {
		near.forget()
		return nil, fmt.Errorf("%s: %w", to.addr, errReset)
	}
	select {
	case accepted <- far:
		return near, nil
	default: // its backlog is full
		near.forget()
		far.forget()
		return nil, fmt.Errorf("%s: %w", to.addr, errRefused)
	}
}

func (h *Host) add(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return false
	}
	h.conns[c] = struct{}{}
	return true
}

type listener struct {
	host     *Host
	accepted chan *conn
	closed   chan struct{}
	once     sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.host.mu.Lock()
		defer l.host.mu.Unlock()
		if l.host.accepted == l.accepted {
			l.host.accepted = nil
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.host.addr) }

type addr string

func (a addr) Network() string { return "wan" }
func (a addr) String() string  { return string(a) }
