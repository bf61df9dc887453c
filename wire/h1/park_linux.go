package h1

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// park holds connections that have been quiet for settleTime. A goroutine and
// its stack cost several times what the rest of such a connection does; here all
// share one, and each gets a goroutine again when there is something to read.
type park struct {
	s    *Server
	file *os.File // of the epoll descriptor, itself waited for by the runtime's poller
	raw  syscall.RawConn
	done chan struct{}

	mu     sync.Mutex // guards what follows
	conns  map[int32]*conn
	first  *conn // longest here; the time that each may stay is the same
	last   *conn
	closed bool
}

// parked is a connection's place in the park; guarded by park.mu.
type parked struct {
	fd         int32
	until      time.Duration // on the server's clock
	prev, next *conn
}

func newPark(s *Server) (*park, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd) // of no use to anybody
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p := &park{s: s, file: os.NewFile(uintptr(fd), "park"), done: make(chan struct{}), conns: make(map[int32]*conn)}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close() // likewise
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go p.run() // until close, which waits for it
	return p, nil
}

// run hands on connections on which something came.
func (p *park) run() {
	defer close(p.done)
	var events [64]unix.EpollEvent
	var ready []*conn
	for {
		var failed error
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			n, failed = unix.EpollWait(int(fd), events[:], 0) //nolint:gosec // G115: descriptors are small
			return failed != nil && failed != unix.EINTR || n > 0
		})
		if err != nil || failed != nil {
			return // closed
		}
		p.mu.Lock()
		for _, ev := range events[:n] {
			if c := p.conns[ev.Fd]; c != nil {
				p.remove(c)
				ready = append(ready, c)
			}
		}
		p.mu.Unlock()
		for i, c := range ready {
			go p.s.run(c) // Drain waits for it: the server lists the connection
			ready[i] = nil
		}
		ready = ready[:0]
	}
}

// add takes a connection in; false when it cannot be.
func (p *park) add(c *conn, stay time.Duration) bool {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	added := false
	err = raw.Control(func(fd uintptr) {
		c.parked = parked{fd: int32(fd), until: p.s.clock.Now() + stay, prev: p.last} //nolint:gosec // G115: descriptors are small
		added = p.control(unix.EPOLL_CTL_ADD, c.parked.fd) == nil
	})
	if err != nil || !added {
		return false
	}
	if p.last == nil {
		p.first = c
	} else {
		p.last.parked.next = c
	}
	p.last = c
	p.conns[c.parked.fd] = c
	return true
}

func (p *park) control(op int, fd int32) (err error) {
	failed := p.raw.Control(func(epoll uintptr) {
		err = unix.EpollCtl(int(epoll), op, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: fd}) //nolint:gosec // G115: as above
	})
	if failed != nil {
		return failed
	}
	return err
}

// remove takes a connection out. The lock is held.
func (p *park) remove(c *conn) {
	_ = p.control(unix.EPOLL_CTL_DEL, c.parked.fd) // fails on a closed park only
	delete(p.conns, c.parked.fd)
	if c.parked.prev == nil {
		p.first = c.parked.next
	} else {
		c.parked.prev.parked.next = c.parked.next
	}
	if c.parked.next == nil {
		p.last = c.parked.prev
	} else {
		c.parked.next.parked.prev = c.parked.prev
	}
	c.parked = parked{}
}

// expire ends the connections that have been quiet for too long; all with 0.
func (p *park) expire(now time.Duration) {
	var late []*conn
	p.mu.Lock()
	for c := p.first; c != nil && (now == 0 || c.parked.until <= now); c = p.first {
		p.remove(c)
		late = append(late, c)
	}
	p.mu.Unlock()
	for _, c := range late {
		p.s.end(c)
	}
}

// close ends all connections and what waits for them.
func (p *park) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.expire(0)
	_ = p.file.Close() // ends run, and a second time says only that
	<-p.done
}
