package h2

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/wire/h2/hpack"
	"github.com/selvage-edge/selvage/wire/msg"
)

// clock gives monotonic time since its start and the Date line as an HPACK
// line, rendered once a second by whoever asks first. Safe for all.
type clock struct {
	start time.Time
	date  atomic.Pointer[dateLine]
}

type dateLine struct {
	until time.Duration // on the clock
	line  []byte
}

func newClock() *clock { return &clock{start: time.Now()} }

func (k *clock) now() time.Duration { return time.Since(k.start) }

// dateLine returns the line for a time on the clock, which is about now.
func (k *clock) dateLine(at time.Duration) []byte {
	d := k.date.Load()
	if d != nil && at < d.until {
		return d.line
	}
	now := time.Now().UTC()
	d = &dateLine{
		until: now.Sub(k.start) + time.Second - time.Duration(now.Nanosecond()),
		line:  hpack.AppendID(nil, msg.Date, now.AppendFormat(nil, "Mon, 02 Jan 2006 15:04:05 GMT")),
	}
	k.date.Store(d)
	return d.line
}

// deadlines sets a connection's deadlines no more often than needed.
type deadlines struct {
	nc    net.Conn
	clock *clock

	mu     sync.Mutex // guards what follows and the setting itself
	read   time.Duration
	write  time.Duration
	kicked bool // the next read is to end at once, for once
	gone   bool // reads and writes end at once, for good
}

// past is a time that has passed for every clock, that of tests included.
func past() time.Time { return time.Unix(1, 0) }

// armRead lets the next read wait until about want, never beyond; slack is how
// much earlier it may end. It fails after kick and cut.
func (d *deadlines) armRead(want, slack time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kicked || d.gone {
		d.kicked, d.read = false, 0
		return os.ErrDeadlineExceeded
	}
	if d.read <= want && want-d.read <= slack {
		return nil
	}
	d.read = want
	return d.nc.SetReadDeadline(d.clock.start.Add(want))
}

// armWrite lets the next write wait for timeout, or up to a quarter less.
func (d *deadlines) armWrite(timeout time.Duration) error {
	want := d.clock.now() + timeout
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return os.ErrDeadlineExceeded
	}
	if d.write <= want && want-d.write < timeout/4 {
		return nil
	}
	d.write = want
	return d.nc.SetWriteDeadline(d.clock.start.Add(want))
}

// kick ends the read that waits, or the next one.
func (d *deadlines) kick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kicked, d.read = true, 0
	_ = d.nc.SetReadDeadline(past()) // fails on a closed connection only, whose reads have ended
}

// cut ends waiting reads and writes and refuses all further ones.
func (d *deadlines) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = true
	_ = d.nc.SetDeadline(past()) // as in kick
}
