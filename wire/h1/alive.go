package h1

import (
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// peek looks at an idle connection without taking anything from it. It keeps
// what it needs, so that looking allocates nothing.
type peek struct {
	under net.Conn        // below TLS
	raw   syscall.RawConn // nil where there is no descriptor
	look  func(fd uintptr)
	quiet bool // what look found
}

func (p *peek) open(nc net.Conn) {
	p.under = nc
	if t, ok := nc.(*tls.Conn); ok {
		p.under = t.NetConn()
	}
	p.look = func(fd uintptr) {
		fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds[:], 0)
		p.quiet = err == nil && n == 0
	}
	if sc, ok := p.under.(syscall.Conn); ok {
		p.raw, _ = sc.SyscallConn() // nil when it is closed: a read says so then
	}
}

// Alive reports whether an idle connection can be used: it is open, and nothing
// has come that nobody asked for, which would be taken for the next answer. A Do
// that follows at once does not look again.
func (c *Client) Alive() bool {
	c.looked = c.Reusable() && !c.stale()
	return c.looked
}

// stale reports whether an idle connection has ended or says something. What
// comes under TLS between two requests is most likely its end; the tickets of
// its beginning have been read with the first answer.
func (c *Client) stale() bool {
	if len(c.rd.buffered()) > 0 {
		return true
	}
	if c.peek.look == nil {
		c.peek.open(c.nc)
	}
	if c.peek.raw != nil {
		return c.peek.raw.Control(c.peek.look) != nil || !c.peek.quiet
	}
	return !c.dl.Silent(c.peek.under)
}
