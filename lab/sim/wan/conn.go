package wan

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// conn is one end of a connection.
type conn struct {
	host    *Host
	in, out *half
}

// half is one direction of a connection.
type half struct {
	from, to *Host

	mu      sync.Mutex
	changed chan struct{} // closed at each change; guarded by mu
	chunks  []chunk       // on the way or unread; guarded by mu
	size    int           // of chunks; guarded by mu
	kept    []byte        // that come after the next write; guarded by mu
	free    time.Time     // when the line is free again; guarded by mu
	held    bool          // the line is cut; guarded by mu
	silent  bool          // what is written goes nowhere; guarded by mu
	deaf    bool          // nobody reads any more, and the writer does not hear of it; guarded by mu
	err     error         // ends both sides at once; guarded by mu
	closed  bool          // the writer has, and chunks come still; guarded by mu
	reader  time.Time     // the reader's deadline; guarded by mu
	writer  time.Time     // the writer's; guarded by mu
}

// chunk is what one write sent.
type chunk struct {
	data []byte
	due  time.Time
}

func newHalf(from, to *Host) *half {
	return &half{from: from, to: to, changed: make(chan struct{})}
}

// tell is called with mu held.
func (d *half) tell() {
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *half) end(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
		d.tell()
	}
}

// die is what happens to both directions of a machine without power: nothing
// more comes from it, and what is sent to it goes nowhere.
func (c *conn) die() {
	c.out.mu.Lock()
	c.out.silent = true
	c.out.mu.Unlock()
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.deaf = true
	c.in.tell()
}

// hold keeps what has not arrived, and lets it go on when the line is mended,
// after the time that the other side's next attempt takes.
func (d *half) hold(cut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held == cut {
		return
	}
	d.held = cut
	now := time.Now()
	for i := range d.chunks {
		c := &d.chunks[i]
		if cut && c.due.Before(now) {
			continue // it is there
		}
		c.due = time.Time{}
		if !cut {
			delay, _, _ := d.from.net.way(d.from, d.to)
			c.due = now.Add(delay + 200*time.Millisecond)
		}
	}
	d.tell()
}

// wait releases mu until something changes, a time comes (zero: none does), or
// the deadline does, which it reports.
func (d *half) wait(until, deadline time.Time) (late bool) {
	now := time.Now()
	if !deadline.IsZero() && !deadline.After(now) {
		return true
	}
	if until.IsZero() || !deadline.IsZero() && deadline.Before(until) {
		until = deadline
	}
	var tick <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(until.Sub(now))
		defer t.Stop()
		tick = t.C
	}
	changed := d.changed
	d.mu.Unlock()
	select {
	case <-changed:
	case <-tick:
	}
	d.mu.Lock()
	return false
}

func (d *half) read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if d.err != nil {
			return 0, d.err
		}
		if d.deaf {
			return 0, net.ErrClosed
		}
		var due time.Time
		if len(d.chunks) > 0 {
			c := &d.chunks[0]
			if due = c.due; !due.IsZero() && !due.After(time.Now()) {
				n := copy(p, c.data)
				d.size -= n
				if c.data = c.data[n:]; len(c.data) == 0 {
					d.chunks[0] = chunk{}
					d.chunks = d.chunks[1:]
				}
				d.tell()
				return n, nil
			}
		} else if d.closed {
			return 0, io.EOF
		}
		if d.wait(due, d.reader) {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (d *half) write(p []byte) (int, error) {
	delay, cut, twist := d.from.net.way(d.from, d.to)
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.err == nil && !d.closed && d.size >= window && !d.silent {
		if d.wait(time.Time{}, d.writer) {
			return 0, os.ErrDeadlineExceeded
		}
	}
	switch {
	case d.err != nil:
		return 0, d.err
	case d.closed:
		return 0, net.ErrClosed
	case d.silent:
		return len(p), nil
	case !d.writer.IsZero() && !d.writer.After(time.Now()):
		return 0, os.ErrDeadlineExceeded
	}
	data := d.twisted(append([]byte(nil), p...), twist)
	now := time.Now()
	if d.free.Before(now) {
		d.free = now
	}
	d.free = d.free.Add(time.Duration(float64(len(data)) / bandwidth * float64(time.Second)))
	c := chunk{data: data, due: d.free.Add(delay)}
	if n := len(d.chunks); n > 0 && c.due.Before(d.chunks[n-1].due) {
		c.due = d.chunks[n-1].due // in order, also where the line became faster
	}
	if d.held || cut {
		d.held, c.due = true, time.Time{}
	}
	if len(data) > 0 {
		d.chunks = append(d.chunks, c)
		d.size += len(data)
		d.tell()
	}
	return len(p), nil
}

func (d *half) twisted(p []byte, how Twist) []byte {
	p, d.kept = append(p, d.kept...), nil
	switch how {
	case Twice:
		return append(p, p...)
	case Swapped:
		d.kept = p
		return nil
	case Flipped:
		p[len(p)/2] ^= 1
	case Missing:
		return nil
	case Straight:
	}
	return p
}

func (c *conn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close lets the other side read what was sent before, and then ends.
func (c *conn) Close() error {
	c.in.mu.Lock()
	if !c.in.deaf && c.in.err == nil {
		c.in.err = net.ErrClosed
		c.in.tell()
	}
	c.in.mu.Unlock()
	c.out.mu.Lock()
	if !c.out.closed && !c.out.silent {
		c.out.closed = true
		c.out.tell()
	}
	c.out.mu.Unlock()
	c.forget()
	return nil
}

func (c *conn) forget() {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	delete(c.host.conns, c)
}

func (c *conn) LocalAddr() net.Addr  { return addr(c.out.from.addr) }
func (c *conn) RemoteAddr() net.Addr { return addr(c.out.to.addr) }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.reader = t
	c.in.tell()
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.writer = t
	c.out.tell()
	return nil
}
