package h1

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// clock gives monotonic time since its start, cheaper than time.Now, and the
// Date line, rendered once a second by whoever asks first. Safe for all.
type clock struct {
	start time.Time
	date  atomic.Pointer[dateLine]
}

type dateLine struct {
	until time.Duration // on the clock
	text  []byte        // "Date: ...\r\n"
}

func newClock() *clock { return &clock{start: time.Now()} }

func (k *clock) now() time.Duration { return time.Since(k.start) }

func (k *clock) dateLine() []byte {
	d := k.date.Load()
	if d != nil && k.now() < d.until {
		return d.text
	}
	now := time.Now().UTC()
	left := time.Second - time.Duration(now.Nanosecond())
	d = &dateLine{
		until: now.Sub(k.start) + left,
		text:  now.AppendFormat([]byte("Date: "), "Mon, 02 Jan 2006 15:04:05 GMT\r\n"),
	}
	k.date.Store(d)
	return d.text
}

// deadlines sets a connection's deadlines no more often than needed: one that
// stands up to a second, or a quarter of the time-out, short of what is asked
// for is left alone.
type deadlines struct {
	nc    net.Conn
	clock *clock

	mu    sync.Mutex // guards what follows and the setting itself
	read  time.Duration
	write time.Duration
	limit time.Duration // no read waits beyond it; 0 = no limit
	held  bool          // reads end at once, until freed
	shut  bool          // writes end at once, for good
	gone  bool          // reads and writes do, for good
}

// past is a time that has passed for every clock, that of tests included.
func past() time.Time { return time.Unix(1, 0) }

// armRead lets the next read wait for timeout. It fails when reads are held.
func (d *deadlines) armRead(timeout time.Duration) error {
	want := d.clock.now() + timeout
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held {
		return os.ErrDeadlineExceeded
	}
	if d.limit > 0 {
		want = min(want, d.limit)
	}
	if d.read <= want && want-d.read < slack(timeout) {
		return nil
	}
	d.read = want
	return d.nc.SetReadDeadline(d.clock.start.Add(want))
}

// armWrite lets the next write wait for timeout.
func (d *deadlines) armWrite(timeout time.Duration) error {
	want := d.clock.now() + timeout
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone || d.shut {
		return os.ErrDeadlineExceeded
	}
	if d.write <= want && want-d.write < slack(timeout) {
		return nil
	}
	d.write = want
	return d.nc.SetWriteDeadline(d.clock.start.Add(want))
}

func slack(timeout time.Duration) time.Duration { return min(time.Second, timeout/4) }

// hold ends a read that is waiting and refuses further ones until free.
func (d *deadlines) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held, d.read = true, 0
	_ = d.nc.SetReadDeadline(past()) // fails on a closed connection only, whose reads have ended
}

// bound lets the waiting read and those to come wait for timeout in all, if
// holds (nil = yes) says so under the lock.
func (d *deadlines) bound(timeout time.Duration, holds func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if holds != nil && !holds() {
		return
	}
	d.limit = d.clock.now() + timeout
	d.read = d.limit
	_ = d.nc.SetReadDeadline(d.clock.start.Add(d.read)) // as in hold
}

// unbound lifts bound if change, made under the lock, succeeds.
func (d *deadlines) unbound(change func() bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !change() {
		return false
	}
	d.limit = 0
	return true
}

func (d *deadlines) free() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = d.gone
}

// cut ends waiting reads and writes and refuses all further ones.
func (d *deadlines) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held, d.gone = true, true
	_ = d.nc.SetDeadline(past()) // as in hold
}

// shutWrite ends a write that waits and refuses further ones.
func (d *deadlines) shutWrite() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
	_ = d.nc.SetWriteDeadline(past()) // as in hold
}

// openWrite takes shutWrite back.
func (d *deadlines) openWrite() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		d.shut, d.write = false, 0
	}
}

func (d *deadlines) isHeld() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held
}

// clear lifts both deadlines: others time the connection from now on.
func (d *deadlines) clear() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held {
		return os.ErrDeadlineExceeded
	}
	d.read, d.write = 0, 0
	return d.nc.SetDeadline(time.Time{})
}
