// Package clock is the time of connections: what time it is, cheaply, the line
// that says so in answers, deadlines, and how much came in a while. It promises
// that nothing here allocates, but the line once a second.
package clock

import (
	"sync/atomic"
	"time"
)

// Clock gives monotonic time since its start, cheaper than time.Now, and the
// Date line and the time of day, made once a second by whoever asks first. Safe for concurrent
// use.
type Clock struct {
	start  time.Time
	render func(date []byte) []byte
	date   atomic.Pointer[line]
}

type line struct {
	at    time.Duration // on the clock
	wall  time.Time     // then
	until time.Duration // on the clock
	text  []byte
}

// New starts a clock. render makes a line of a date (RFC 9110 §5.6.7); nil when
// nobody asks for one.
func New(render func(date []byte) []byte) *Clock { return &Clock{start: time.Now(), render: render} }

// Now is the time since the clock's start.
func (k *Clock) Now() time.Duration { return time.Since(k.start) }

// At returns when the clock will show d; At(0) has passed.
func (k *Clock) At(d time.Duration) time.Time { return k.start.Add(d) }

// Date returns the line of now.
func (k *Clock) Date() []byte { return k.DateAt(k.Now()) }

// DateAt returns the line of a time on the clock, which is about now.
func (k *Clock) DateAt(at time.Duration) []byte { return k.lineAt(at).text }

// TimeAt returns the time of day at a time on the clock, which is about now:
// once a second it is read, in between it is counted. One reading of the clock
// tells the time where time.Now takes two.
func (k *Clock) TimeAt(at time.Duration) time.Time {
	d := k.lineAt(at)
	return d.wall.Add(at - d.at)
}

func (k *Clock) lineAt(at time.Duration) *line {
	if d := k.date.Load(); d != nil && at < d.until {
		return d
	}
	now := time.Now()
	d := &line{at: now.Sub(k.start), wall: now}
	d.until = d.at + time.Second - time.Duration(now.Nanosecond())
	if k.render != nil {
		d.text = k.render(now.UTC().AppendFormat(nil, "Mon, 02 Jan 2006 15:04:05 GMT"))
	}
	k.date.Store(d)
	return d
}

// Meter counts one kind of event over a span of time. Not safe for concurrent
// use.
type Meter struct {
	n    int
	from time.Duration // on the clock
}

// Over counts one more and reports whether that is more than limit in span.
func (m *Meter) Over(now time.Duration, limit int, span time.Duration) bool {
	if now-m.from >= span {
		m.n, m.from = 0, now
	}
	m.n++
	return m.n > limit
}
