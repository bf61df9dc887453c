package h3

import (
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/wire/h3/qpack"
	"github.com/selvage-edge/selvage/wire/msg"
)

// clock gives monotonic time since its start and the Date line as a QPACK
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

// at returns when the clock will show d.
func (k *clock) at(d time.Duration) time.Time { return k.start.Add(d) }

func (k *clock) dateLine() []byte {
	d := k.date.Load()
	if d != nil && k.now() < d.until {
		return d.line
	}
	now := time.Now().UTC()
	d = &dateLine{
		until: now.Sub(k.start) + time.Second - time.Duration(now.Nanosecond()),
		line:  qpack.AppendID(nil, msg.Date, now.AppendFormat(nil, "Mon, 02 Jan 2006 15:04:05 GMT")),
	}
	k.date.Store(d)
	return d.line
}
