package h2

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/h2/hpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

var (
	errDropped  = errors.New("h2: ended without an answer, as asked")
	errOutField = errors.New("h2: field that must not be written")
	errOutCode  = errors.New("h2: status that cannot be written")
	errShort    = errors.New("h2: body ended before its length")
	errStuck    = errors.New("h2: stream gives neither bytes nor an error")
	errBegun    = errors.New("h2: the answer has begun")
)

// request takes a new request's head. Its error is the connection's end, or
// the stream's.
func (c *conn) request(h frame.Header, block []byte) *frame.Error {
	st, full := c.take()
	st.sec.Reset()
	if err := c.dec.Decode(block, &st.sec); err != nil {
		c.give(st)
		return frame.ConnError(frame.CompressionError, err.Error())
	}
	c.lastID, c.busyAt = h.Stream, c.arrivedAt
	ended := h.Flags.Has(frame.EndStream)
	late := h.Stream > c.lastTaken
	st.id, st.remoteEnd = h.Stream, ended
	st.window, st.recv = c.initial, int64(c.s.l.Window)
	if late || full {
		return c.refuseStream(st, late)
	}
	bad := st.readHead(&c.s.l, c.tls, ended)
	if prio, ok := c.earlyPriority(h.Stream); ok {
		st.prio = prio
	}
	if bad != nil {
		return c.refuse(st, bad)
	}
	st.req.Interim = st.interim
	c.s.count.requests.Add(1)
	if !ended {
		c.openBody(st)
	} else if st.step != nil && st.step.Step(&st.req, &st.res) {
		c.answerInline(st)
		return nil
	}
	c.mu.Lock()
	st.serving = true
	c.list(st)
	c.count()
	c.mu.Unlock()
	c.work.Go(func() {
		st.sess.Serve(&st.req, &st.res)
		c.answer(st)
	})
	return nil
}

// openBody gives a request the body that follows its head. That of a tunnel
// is not the request's.
func (c *conn) openBody(st *stream) {
	st.body = newBody(c, st)
	st.body.expect = st.builder.Expect
	if st.req.Upgrade == nil {
		st.req.Body = st.body
	} else {
		st.body.declared = msg.LengthUnknown
	}
}

// refuseStream turns a request away that may be sent again: it was not looked at.
func (c *conn) refuseStream(st *stream, late bool) *frame.Error {
	id := st.id
	c.give(st)
	if late { // it crossed our GOAWAY
		c.mu.Lock()
		c.past.note(id, byUs)
		c.mu.Unlock()
		return nil
	}
	c.s.count.end(Refused)
	c.mu.Lock()
	c.openOut()
	c.past.note(id, byUs)
	c.out = frame.AppendReset(c.out, id, frame.RefusedStream)
	c.mu.Unlock()
	return c.flooded(ResetFlood, c.s.l.Resets)
}

// refuse answers a request that is not served: a malformed one by a reset
// (RFC 9113 §8.1.1), others by their status.
func (c *conn) refuse(st *stream, bad *head.Refusal) *frame.Error {
	st.sess.Refused(bad.Status, bad)
	id, ended := st.id, st.remoteEnd
	reason := HeadSize
	if bad.Status == 400 {
		reason = Malformed
	}
	c.s.count.end(reason)
	bodiless := st.req.Method == msg.HEAD
	c.give(st)
	c.mu.Lock()
	c.openOut()
	how := byEnd
	if bad.Status == 400 {
		c.out = frame.AppendReset(c.out, id, frame.ProtocolError)
		how = byUs
	} else {
		c.out = c.appendPlain(c.out, id, bad.Status, bodiless)
		if !ended {
			c.out = frame.AppendReset(c.out, id, frame.NoError)
			how = byUs
		}
	}
	c.past.note(id, how)
	c.mu.Unlock()
	return c.flooded(ResetFlood, c.s.l.Resets)
}

// appendPlain appends a whole short answer. mu is held. It has to fit the
// smallest window that matters: a visitor with less gets no body.
func (c *conn) appendPlain(p []byte, id uint32, status int, bodiless bool) []byte {
	text := http.StatusText(status) + "\n"
	at := len(p)
	p = frame.Append(p, frame.Header{})
	p = hpack.AppendStatus(p, status)
	p = append(p, c.s.clock.DateAt(c.s.clock.Now())...)
	p = hpack.AppendID(p, msg.ContentType, textPlain)
	if bodiless || int64(len(text)) > min(c.window, c.initial) {
		return endHead(p, at, id, frame.EndStream)
	}
	p = hpack.AppendNumber(p, msg.ContentLength, int64(len(text)))
	p = endHead(p, at, id, 0)
	p = frame.Append(p, frame.Header{Length: uint32(len(text)), Type: frame.Data, Flags: frame.EndStream, Stream: id})
	c.window -= int64(len(text))
	return append(p, text...)
}

var textPlain = []byte("text/plain")

// endHead writes the head of the HEADERS frame at p[at:] whose block, of less
// than MinFrame bytes, ends p.
func endHead(p []byte, at int, id uint32, flags frame.Flags) []byte {
	n := len(p) - at - frame.HeaderLen
	frame.Append(p[:at], frame.Header{Length: uint32(n), Type: frame.Headers, Flags: flags | frame.EndHeaders, Stream: id})
	return p
}

// next is what an answer needs after begin.
type next uint8

const (
	nothing next = iota // it is on its way
	gone                // its stream was reset: whoever served it finishes it
	reading             // its Body is to be read
	joining             // its Tunnel
)

// answer sends what is in st.res, in the stream's own goroutine.
func (c *conn) answer(st *stream) {
	c.mu.Lock()
	what := c.begin(st)
	c.mu.Unlock()
	if what == nothing {
		c.flush(0)
		return
	}
	c.goOn(st, what)
}

// answerInline is answer after a Step. An answer that is in out as a whole is
// done with, so that the next request finds the same memory, which is in the
// processor's cache.
func (c *conn) answerInline(st *stream) {
	c.mu.Lock()
	st.inline = true
	what := c.begin(st)
	whole := what == nothing && st.localEnd
	st.inline, st.serving = false, what != nothing
	c.count()
	c.much = len(c.out) >= sendMark || len(c.done) >= maxDone
	c.mu.Unlock()
	switch {
	case whole && c.hot == nil:
		c.settleUp(st, st.why)
		st.wipe()
		c.hot = st
	case whole:
		c.finish(st, st.why)
	case what != nothing:
		c.work.Go(func() { c.goOn(st, what) })
	}
}

// goOn sends what follows the head and finishes, in the stream's own goroutine.
func (c *conn) goOn(st *stream, what next) {
	var err error
	switch what {
	case reading:
		err = c.pump(st)
	case joining:
		err = c.join(st)
	}
	c.mu.Lock()
	if st.reset {
		c.orphans--
	}
	c.mu.Unlock()
	c.flush(0)
	c.finish(st, err)
}

// begin appends the answer's head, and its body where that is at hand. mu is held.
func (c *conn) begin(st *stream) next {
	res := &st.res
	if res.Status == 0 && res.EndConn && c.dead == nil {
		c.dead = &fault.Error{Op: "h2.answer", Side: fault.Edge, Err: errDropped}
		c.dl.Hold() // the loop ends by it
	}
	if st.reset || c.dead != nil {
		return c.abandon(st)
	}
	c.openOut()
	var now time.Duration
	if st.serving {
		now = c.s.clock.Now()
	} else {
		now = c.arrivedAt // the loop's, which is here
	}
	st.started, st.moved = true, now
	st.taken.pace = clock.Pace{Most: c.s.l.WriteTimeout, Rate: c.s.l.MinRate}
	switched := res.Status == 101 && res.Tunnel != nil && st.req.Upgrade != nil
	f := formOf(st)
	at := len(c.out)
	if err := c.appendHead(st, f, switched, now); err != nil {
		c.out = c.out[:at]
		st.why = &fault.Error{Op: "h2.answer", Side: fault.Edge, Err: err}
		c.out = c.appendPlain(c.out, st.id, 500, st.req.Method == msg.HEAD)
		st.serving = false
		c.endLocal(st)
		return nothing
	}
	if res.EndConn && !c.endSoon {
		c.endSoon = true
		c.dl.Hold()
	}
	what := nothing
	switch {
	case switched:
		st.tunnel, what = true, joining
	case f.ends:
		st.serving = false
		c.endLocal(st)
	case res.Bytes != nil:
		st.serving, st.last, st.data = false, true, res.Bytes
		c.sendBytes(st)
	default:
		what = reading
	}
	if !st.localEnd && !st.listed {
		c.list(st)
	}
	return what
}

// abandon: there is nobody to answer. mu is held.
func (c *conn) abandon(st *stream) next {
	switch {
	case st.reset:
		return gone
	case st.listed:
		st.reset = true
		c.unlist(st, byUs)
		c.orphans++
		st.why = c.dead
		return gone
	}
	st.why = c.dead
	c.done = append(c.done, st)
	return nothing
}

// sendBytes sends a body in memory: at once where it is small and nobody is
// in line, else by fill. mu is held.
func (c *conn) sendBytes(st *stream) {
	n := len(st.data)
	if n <= maxData && c.queue.n == 0 && int64(n) <= min(st.window, c.window) {
		c.out = frame.Append(c.out, frame.Header{Length: uint32(n), Type: frame.Data, Flags: frame.EndStream, Stream: st.id})
		c.out = append(c.out, st.data...)
		st.data = nil
		c.sent(st, n)
		c.endLocal(st)
		return
	}
	if st.window > 0 {
		c.queue.push(st)
	}
}

// pump sends an answer's Body as it comes and as windows allow.
func (c *conn) pump(st *stream) error {
	body, length := st.res.Body, st.res.Length
	blk := c.s.pools.block.Get().(*block)
	defer c.s.pools.block.Put(blk)
	if b, ok := body.(interface{ Buffered() int }); length < 0 && (!ok || b.Buffered() == 0) {
		c.flush(0) // the head is not held back
	}
	for sent, empty := int64(0), 0; ; {
		room := int64(maxData)
		if length >= 0 {
			room = min(room, length-sent)
		}
		n, rerr := body.Read(blk.b[:room])
		sent += int64(n)
		// io.EOF itself and nothing that wraps it: a failure at the origin may.
		last := length >= 0 && sent == length || rerr == io.EOF && length < 0 && st.res.Trailer == nil
		switch {
		case n > 0 || last:
			if err := c.send(st, blk.b[:n], last); err != nil || last {
				return err
			}
			empty = 0
		case rerr == nil:
			if empty++; empty > 100 {
				rerr = errStuck
			}
		}
		switch {
		case rerr == io.EOF && length < 0:
			return c.sendTrailer(st)
		case rerr == io.EOF:
			return c.breakOff(st, errShort)
		case rerr != nil:
			return c.breakOff(st, rerr)
		}
	}
}

// send sends p and waits until it was taken, last with END_STREAM. It runs in
// the stream's goroutine.
func (c *conn) send(st *stream, p []byte, last bool) error {
	c.mu.Lock()
	if st.reset {
		c.mu.Unlock()
		return st.why
	}
	if st.moved = c.s.clock.Now(); len(p) == 0 {
		c.openOut()
		c.out = frame.Append(c.out, frame.Header{Type: frame.Data, Flags: frame.EndStream, Stream: st.id})
		c.endLocal(st)
	} else if st.data, st.last = p, last; st.window > 0 {
		c.queue.push(st)
	}
	c.mu.Unlock()
	c.flush(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(st.data) > 0 && !st.reset {
		st.cond.Wait()
	}
	if st.reset {
		return st.why
	}
	return nil
}

// sendTrailer ends an answer by its trailers.
func (c *conn) sendTrailer(st *stream) error {
	block, err := appendTrailer(nil, st.res.Trailer)
	if err != nil {
		return c.breakOff(st, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.reset {
		return st.why
	}
	c.openOut()
	c.out = frame.AppendHeaders(c.out, st.id, block, c.maxFrame, true)
	c.endLocal(st)
	return nil
}

// breakOff ends an answer that cannot be completed so that nobody takes it for
// a whole one. That an origin called it off is passed on: to gRPC it means that
// a deadline is over.
func (c *conn) breakOff(st *stream, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.reset {
		return st.why
	}
	code := frame.InternalError
	if fault.Is(err, fault.Cancelled) {
		code = frame.Cancel
	}
	c.openOut()
	c.out = frame.AppendReset(c.out, st.id, code)
	st.reset, st.why, st.data = true, err, nil
	c.queue.remove(st)
	c.unlist(st, byUs)
	st.cond.Broadcast()
	c.orphans++
	return err
}
