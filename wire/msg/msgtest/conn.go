// Package msgtest helps to test what speaks HTTP: connections in memory, a
// handler that keeps what it was told, and answers of which tests can see what
// the handler saw. It promises the order of events and nothing about time.
package msgtest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipe is one direction of a connection, with a window.
type pipe struct {
	mu     sync.Mutex
	buf    []byte
	window int
	ended  bool // by the writer
	broken bool // by the reader
	change chan struct{}
	rd, wd time.Time
}

func (p *pipe) signal() { close(p.change); p.change = make(chan struct{}) }

// wait is called with mu held and returns with it held.
func (p *pipe) wait(deadline time.Time) error {
	ch := p.change
	p.mu.Unlock()
	defer p.mu.Lock()
	var fire <-chan time.Time
	if !deadline.IsZero() {
		d := time.Until(deadline)
		if d <= 0 {
			return os.ErrDeadlineExceeded
		}
		t := time.NewTimer(d)
		defer t.Stop()
		fire = t.C
	}
	select {
	case <-ch:
	case <-fire:
	}
	return nil
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if !p.rd.IsZero() && time.Until(p.rd) <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		switch {
		case p.broken:
			return 0, net.ErrClosed
		case len(p.buf) > 0:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			p.signal()
			return n, nil
		case p.ended:
			return 0, io.EOF
		}
		if err := p.wait(p.rd); err != nil {
			return 0, err
		}
	}
}

func (p *pipe) write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if !p.wd.IsZero() && time.Until(p.wd) <= 0 {
			return n, os.ErrDeadlineExceeded
		}
		switch {
		case p.broken || p.ended:
			return n, net.ErrClosed
		case len(p.buf) < p.window:
			k := min(len(b)-n, p.window-len(p.buf))
			p.buf = append(p.buf, b[n:n+k]...)
			n += k
			p.signal()
			if n == len(b) {
				return n, nil
			}
			continue
		}
		if err := p.wait(p.wd); err != nil {
			return n, err
		}
	}
}

func (p *pipe) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.signal()
}

// Conn is one end of a connection in memory. It can be half-closed, and has
// deadlines that obey the clock of a synctest bubble.
type Conn struct{ in, out *pipe }

// Conns makes both ends; window is how many bytes may be on the way, for each.
func Conns(window int) (a, b *Conn) {
	x := &pipe{window: window, change: make(chan struct{})}
	y := &pipe{window: window, change: make(chan struct{})}
	return &Conn{x, y}, &Conn{y, x}
}

// SetWindow changes how many bytes written here may be on the way.
func (c *Conn) SetWindow(n int) { c.out.set(func() { c.out.window = n }) }

// Break lets further writes here fail, as if the other end had vanished.
func (c *Conn) Break() { c.out.set(func() { c.out.broken = true }) }

func (c *Conn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *Conn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *Conn) CloseWrite() error           { c.out.set(func() { c.out.ended = true }); return nil }
func (c *Conn) Close() error {
	c.out.set(func() { c.out.ended = true })
	c.in.set(func() { c.in.broken = true })
	return nil
}
func (c *Conn) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (c *Conn) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (c *Conn) SetReadDeadline(t time.Time) error  { c.in.set(func() { c.in.rd = t }); return nil }
func (c *Conn) SetWriteDeadline(t time.Time) error { c.out.set(func() { c.out.wd = t }); return nil }
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
