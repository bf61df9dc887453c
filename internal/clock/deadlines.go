package clock

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// Deadlines sets a connection's deadlines no more often than needed: one that
// stands up to a second, or a quarter of the time-out, short of what is asked
// for is left alone. Both exported fields are set before its first use. Safe
// for concurrent use.
type Deadlines struct {
	Conn  net.Conn
	Clock *Clock

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

// ArmRead lets the next read wait for timeout. It fails when reads are held.
func (d *Deadlines) ArmRead(timeout time.Duration) error {
	return d.ArmReadAt(d.Clock.Now(), timeout)
}

// ArmReadAt is ArmRead for who knows what time it is.
func (d *Deadlines) ArmReadAt(now, timeout time.Duration) error {
	return d.ArmReadUntil(now+timeout, slack(timeout))
}

// ArmReadUntil lets the next read wait until want on the clock, never beyond;
// early is how much sooner it may end. It fails when reads are held.
func (d *Deadlines) ArmReadUntil(want, early time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held {
		return os.ErrDeadlineExceeded
	}
	if d.limit > 0 {
		want = min(want, d.limit)
	}
	if d.read <= want && want-d.read <= early {
		return nil
	}
	d.read = want
	return d.Conn.SetReadDeadline(d.Clock.At(want))
}

// ArmWrite lets the next write wait for timeout.
func (d *Deadlines) ArmWrite(timeout time.Duration) error {
	return d.ArmWriteAt(d.Clock.Now(), timeout)
}

// ArmWriteAt is ArmWrite for who knows what time it is.
func (d *Deadlines) ArmWriteAt(now, timeout time.Duration) error {
	want := now + timeout
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone || d.shut {
		return os.ErrDeadlineExceeded
	}
	if d.write <= want && want-d.write < slack(timeout) {
		return nil
	}
	d.write = want
	return d.Conn.SetWriteDeadline(d.Clock.At(want))
}

func slack(timeout time.Duration) time.Duration { return min(time.Second, timeout/4) }

// Hold ends a read that is waiting and refuses further ones until Free.
func (d *Deadlines) Hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held, d.read = true, 0
	_ = d.Conn.SetReadDeadline(past()) // fails on a closed connection only, whose reads have ended
}

// Bound lets the waiting read and those to come wait for timeout in all, if
// holds (nil = yes) says so under the lock.
func (d *Deadlines) Bound(timeout time.Duration, holds func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if holds != nil && !holds() {
		return
	}
	d.limit = d.Clock.Now() + timeout
	d.read = d.limit
	_ = d.Conn.SetReadDeadline(d.Clock.At(d.read)) // as in Hold
}

// Unbound lifts Bound if change, made under the lock, succeeds.
func (d *Deadlines) Unbound(change func() bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !change() {
		return false
	}
	d.limit = 0
	return true
}

// Free takes Hold back, but not Cut.
func (d *Deadlines) Free() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = d.gone
}

// Cut ends waiting reads and writes and refuses all further ones.
func (d *Deadlines) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held, d.gone = true, true
	_ = d.Conn.SetDeadline(past()) // as in Hold
}

// ShutWrite ends a write that waits and refuses further ones.
func (d *Deadlines) ShutWrite() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
	_ = d.Conn.SetWriteDeadline(past()) // as in Hold
}

// OpenWrite takes ShutWrite back.
func (d *Deadlines) OpenWrite() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		d.shut, d.write = false, 0
	}
}

// Held reports that reads are refused.
func (d *Deadlines) Held() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held
}

// Gone reports that Cut has been called.
func (d *Deadlines) Gone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gone
}

// Clear lifts both deadlines: others time the connection from now on.
func (d *Deadlines) Clear() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held {
		return os.ErrDeadlineExceeded
	}
	d.read, d.write = 0, 0
	return d.Conn.SetDeadline(time.Time{})
}

// Silent looks at a connection without a descriptor, the one below Conn if
// there is one: a read that may not wait comes back empty-handed.
func (d *Deadlines) Silent(nc net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held || nc.SetReadDeadline(past()) != nil {
		return false
	}
	var b [1]byte
	n, err := nc.Read(b[:])
	d.read = 0 // the next read sets its own
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}
