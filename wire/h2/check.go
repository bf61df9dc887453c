package h2

import (
	"os"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/frame"
)

// drainPing is the payload of the PING that goes with the first GOAWAY: who
// answers it has heard that.
var drainPing = [8]byte{'g', 'o', ' ', 'a', 'w', 'a', 'y', '!'}

// stop ends a connection for a reason that its error does not tell.
func (c *conn) stop(reason Reason, code frame.Code, text string) *frame.Error {
	c.reason = reason
	return frame.ConnError(code, text)
}

// flooded counts a frame of a kind of which there must not be too many.
func (c *conn) flooded(reason Reason, limit int) *frame.Error {
	if c.meters[reason].Over(c.s.clock.Now(), limit, c.s.l.FloodTime) {
		return c.stop(reason, frame.EnhanceYourCalm, reason.String())
	}
	return nil
}

// check looks after all that has a time. It runs in the loop, once a tick.
func (c *conn) check(now time.Duration) error {
	c.checkAt = now + tick
	l := &c.s.l
	c.sayGone(now)
	if !c.greeted && now-c.startAt >= l.PrefaceTimeout {
		return c.stop(SlowPreface, frame.SettingsTimeout, "no SETTINGS in time")
	}
	if err := c.checkPartial(now); err != nil {
		return err
	}
	if c.checkStreams(now) > 0 {
		c.busyAt = now
		return nil
	}
	c.mu.Lock()
	left := c.lastTaken != frame.MaxStream
	c.mu.Unlock()
	switch {
	case left:
		return frame.ConnError(frame.NoError, "")
	case c.greeted && c.partialAt == 0 && now-c.busyAt >= l.IdleTimeout:
		return c.stop(Idle, frame.NoError, "idle")
	case c.greeted && c.partialAt == 0 && c.r == c.w && !c.spared && now-max(c.busyAt, c.arrivedAt) >= l.Spare:
		c.spare()
	}
	return nil
}

// checkPartial: a frame or section that does not come whole.
func (c *conn) checkPartial(now time.Duration) error {
	if c.partialAt == 0 || !c.prefaced {
		return nil
	}
	if p := c.held(); c.blockHead.Stream == 0 && len(p) >= frame.HeaderLen && frame.Parse(p).Type == frame.Data {
		fair := c.s.l.BodyTimeout + time.Duration(len(p))*time.Second/time.Duration(c.s.l.MinRate)
		if now-c.arrivedAt >= c.s.l.BodyTimeout || now-c.partialAt >= fair {
			return c.stop(SlowBody, frame.ProtocolError, "DATA did not go on in time")
		}
		return nil
	}
	if now-c.partialAt >= c.s.l.HeadTimeout {
		return c.stop(SlowHead, frame.ProtocolError, "frame not complete in time")
	}
	return nil
}

// checkStreams ends streams on which nothing moves for too long, and returns
// how many there are.
func (c *conn) checkStreams(now time.Duration) int {
	var tell []func()
	var bodies []*body
	l := &c.s.l
	c.mu.Lock()
	n := len(c.streams) + c.orphans
	progress := c.all - c.seen
	c.seen = c.all
	for i := len(c.streams) - 1; i >= 0; i-- {
		st := c.streams[i]
		reason, text := None, os.ErrDeadlineExceeded
		switch {
		case c.slowReader(st, now, progress):
			reason = SlowReader
		case st.tunnel && now-st.moved >= l.IdleTimeout:
			reason = Idle
		}
		if reason != None {
			c.s.count.end(reason)
			c.openOut()
			c.out = frame.AppendReset(c.out, st.id, frame.Cancel)
			tell = append(tell, c.cancel(st, byUs, visitorFault("h2.stream", fault.Timeout, text)))
			continue
		}
		// Once the answer has begun its own source times the exchange: a visitor
		// who listens may have nothing to say, as in a call of gRPC.
		if st.serving && st.body != nil && !st.remoteEnd && !st.tunnel && !st.started {
			bodies = append(bodies, st.body)
		}
	}
	c.mu.Unlock()
	for _, f := range tell {
		f()
	}
	for _, b := range bodies {
		if b.late(now) {
			c.s.count.end(SlowBody)
			c.endBody(b, visitorFault("h2.body", fault.Timeout, os.ErrDeadlineExceeded))
		}
	}
	return n
}

// slowReader reports that the visitor takes too little of an answer: its windows
// were closed for too long for the bytes that they let through. Where the window
// of the connection is closed, what others got through it counts too, since the
// order of streams is ours. It is asked once a tick; mu is held.
func (c *conn) slowReader(st *stream, now time.Duration, progress int64) bool {
	t := &st.taken
	from, bytes, was := max(t.at, st.moved), st.sent-t.sent, t.stuck
	if was {
		from = t.at
	}
	t.at, t.sent, t.stuck = now, st.sent, len(st.data) > 0 && (st.window <= 0 || c.window <= 0)
	if st.window > 0 {
		bytes = progress
	}
	if !t.stuck {
		from = now
	}
	t.pace.Moved(now-from, int(min(bytes, 1<<30)))
	return t.stuck && t.pace.Left() <= 0
}

// sayGone tells the visitor to leave, where that is due: first without a last
// stream, so that requests on their way are served, then with it (RFC 9113 §6.8).
func (c *conn) sayGone(now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.lastTaken != frame.MaxStream:
	case c.endSoon || c.goneSaid > 0 && now-c.goneSaid >= drainGrace:
		c.sayLast()
	case c.goneSaid == 0 && c.s.conns.Draining():
		c.goneSaid = max(now, 1)
		c.openOut()
		c.out = frame.AppendGoAway(c.out, frame.MaxStream, frame.NoError, "")
		c.out = frame.AppendPing(c.out, false, drainPing)
	}
}

// sayLast says which requests are served. It runs in the loop. mu is held.
func (c *conn) sayLast() {
	c.openOut()
	c.lastTaken = c.lastID
	c.out = frame.AppendGoAway(c.out, c.lastID, frame.NoError, "")
}
