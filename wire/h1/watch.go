package h1

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// While a request is served nobody reads from its connection, so nobody would
// see that the visitor has gone, and an origin that takes its time would work
// for nobody. Once in watchEvery all requests are looked after on which nothing
// has moved since the last time.
const (
	watchEvery = time.Second
	// endedRounds is how often a visitor may be found to have ended its side:
	// most that do have gone, but one may still be listening.
	endedRounds = 10
)

// side is how the visitor's side of a connection stands.
type side uint8

const (
	sideOpen  side = iota
	sideEnded      // it sends no more
	sideReset      // it does not listen either
)

// watched is what the watch knows of a connection; owned by Server.watch.
type watched struct {
	turn  uint32 // of conn.turn, the last time
	ended int    // rounds in a row without a move
	told  bool
}

// moved notes that bytes came or went: whoever has left answers those with a
// reset, so one that has ended its side and still takes them is listening.
func (c *conn) moved() { c.turn.Add(2) }

// watch runs once in watchEvery while there are connections.
func (s *Server) watch() {
	late := s.late[:0]
	s.conns.Each(func(c *conn) {
		if turn := c.turn.Load(); turn&1 == 0 || turn != c.seen.turn {
			c.seen.turn, c.seen.ended = turn, 0
		} else if !c.seen.told {
			late = append(late, c)
		}
	})
	for i, c := range late {
		c.look()
		late[i] = nil
	}
	s.late = late
	s.mu.Lock()
	p := s.park
	s.mu.Unlock()
	if p != nil {
		p.expire(s.clock.Now())
	}
}

// look tells the session of a request that takes long when its visitor left.
func (c *conn) look() {
	switch sideOf(c.nc) {
	case sideOpen:
		c.seen.ended = 0
		return
	case sideEnded:
		if c.seen.ended++; c.seen.ended < endedRounds {
			return
		}
	}
	c.seen.told = true
	if l := c.left.Load(); l != nil {
		l.Left()
	}
}

// sideOf asks the kernel. A connection without a descriptor is always open.
func sideOf(nc net.Conn) side {
	sc, ok := rawConn(nc).(syscall.Conn)
	if !ok {
		return sideOpen
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return sideOpen
	}
	found := sideOpen
	// The error is that of a connection which has been closed meanwhile.
	_ = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // descriptors are small
		switch n, err := unix.Poll(p, 0); {
		case err != nil || n == 0:
		case p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
			found = sideReset
		case p[0].Revents&unix.POLLRDHUP != 0:
			found = sideEnded
		}
	})
	return found
}
