package h2

import (
	"errors"
	"io"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// frame takes one frame. An error is the connection's end.
func (c *conn) frame(h frame.Header, p []byte) error {
	if !c.greeted && (h.Type != frame.Settings || h.Flags.Has(frame.Ack)) {
		return frame.ConnError(frame.ProtocolError, "SETTINGS must come first")
	}
	if c.blockHead.Stream != 0 && (h.Type != frame.Continuation || h.Stream != c.blockHead.Stream) {
		return frame.ConnError(frame.ProtocolError, "CONTINUATION must come next")
	}
	err := c.dispatch(h, p)
	if err == nil {
		return nil
	}
	if err.Stream == 0 {
		return err
	}
	if err := c.streamError(err); err != nil {
		return err
	}
	return nil
}

func (c *conn) dispatch(h frame.Header, p []byte) *frame.Error {
	switch h.Type {
	case frame.Data:
		return c.onData(h, p)
	case frame.Headers:
		return c.onHeaders(h, p)
	case frame.Continuation:
		return c.onContinuation(h, p)
	case frame.WindowUpdate:
		return c.onWindowUpdate(h, p)
	case frame.RSTStream:
		return c.onReset(h, p)
	case frame.Settings:
		return c.onSettings(h, p)
	case frame.Ping:
		return c.onPing(h, p)
	case frame.Priority:
		if err := c.flooded(PriorityFlood, c.s.l.Updates); err != nil {
			return err
		}
		_, err := frame.ReadPriority(h, p)
		if err != nil && h.Stream > c.lastID {
			err.Stream = 0 // nothing is there to be reset
		}
		return err
	case frame.PriorityUpdate:
		return c.onPriorityUpdate(h, p)
	case frame.GoAway:
		_, _, _, err := frame.ReadGoAway(h, p)
		return err // it goes on with what it asked for, and sends no more
	case frame.PushPromise:
		return frame.ConnError(frame.ProtocolError, "PUSH_PROMISE from a client")
	}
	return c.flooded(EmptyFlood, c.s.l.Empty)
}

// streamError ends one stream because of what the visitor did on it, and the
// connection if that happens too often.
func (c *conn) streamError(e *frame.Error) error {
	if e.Stream > c.lastID {
		return frame.ConnError(frame.ProtocolError, e.Reason)
	}
	reason := Protocol
	if e.Code == frame.FlowControlError {
		reason = Flow
	}
	c.s.count.end(reason)
	kind := fault.Malformed
	c.mu.Lock()
	c.openOut()
	tell := func() {}
	if st := c.find(e.Stream); st != nil {
		tell = c.cancel(st, byUs, visitorFault("h2.stream", kind, e))
	} else if c.past.find(e.Stream) != byUs {
		c.past.note(e.Stream, byUs)
	}
	c.out = frame.AppendReset(c.out, e.Stream, e.Code)
	c.mu.Unlock()
	tell()
	if err := c.flooded(ResetFlood, c.s.l.Resets); err != nil {
		return err
	}
	return nil
}

func (c *conn) onHeaders(h frame.Header, p []byte) *frame.Error {
	fragment, err := frame.ReadHeaders(h, p)
	if err != nil && err.Stream == 0 {
		return err
	}
	if h.Stream%2 == 0 {
		return frame.ConnError(frame.ProtocolError, "stream of the server's")
	}
	if h.Flags.Has(frame.EndHeaders) {
		return c.section(h, fragment, err)
	}
	c.blockHead, c.blockErr, c.blocks = h, err, 0
	c.block = append(c.block[:0], fragment...)
	return nil
}

// maxBlocks is how many CONTINUATION frames a section may have.
const maxBlocks = 32

func (c *conn) onContinuation(h frame.Header, p []byte) *frame.Error {
	if c.blockHead.Stream == 0 {
		return frame.ConnError(frame.ProtocolError, "CONTINUATION of nothing")
	}
	if c.blocks++; c.blocks > maxBlocks || len(c.block)+len(p) > c.s.l.Head+frame.MinFrame {
		return c.stop(HeadFlood, frame.EnhanceYourCalm, "field section too large")
	}
	if len(p) == 0 {
		if err := c.flooded(EmptyFlood, c.s.l.Empty); err != nil {
			return err
		}
	}
	c.block = append(c.block, p...)
	if !h.Flags.Has(frame.EndHeaders) {
		return nil
	}
	first, err := c.blockHead, c.blockErr
	c.blockHead, c.blockErr = frame.Header{}, nil
	if cap(c.block) > 2*frame.MinFrame {
		defer func() { c.block = nil }()
	}
	return c.section(first, c.block, err)
}

// section takes a whole field section: a request, or a request's trailers. bad
// is what is wrong with its stream; it is decoded all the same, since the table
// must stay right.
func (c *conn) section(h frame.Header, block []byte, bad *frame.Error) *frame.Error {
	if h.Stream > c.lastID && bad == nil {
		return c.request(h, block)
	}
	c.trailer.Fields = &msg.Fields{}
	c.trailer.Mem = nil
	c.trailer.Limit = c.s.l.Head
	c.trailer.Reset()
	if err := c.dec.Decode(block, &c.trailer); err != nil {
		return frame.ConnError(frame.CompressionError, err.Error())
	}
	if bad != nil {
		c.lastID = max(c.lastID, h.Stream)
		return bad
	}
	c.mu.Lock()
	st := c.find(h.Stream)
	how := c.past.find(h.Stream)
	var b *body
	ended := false
	if st != nil {
		b, ended = st.body, st.remoteEnd
	}
	c.mu.Unlock()
	switch {
	case st == nil && how == byUs:
		return nil
	case st == nil && how == byThem:
		return frame.StreamError(h.Stream, frame.StreamClosed, "HEADERS after RST_STREAM")
	case st == nil && how == byEnd:
		return frame.ConnError(frame.StreamClosed, "HEADERS on a closed stream")
	case st == nil:
		return frame.ConnError(frame.ProtocolError, "stream numbers go back")
	case ended:
		return frame.StreamError(h.Stream, frame.StreamClosed, "HEADERS after END_STREAM")
	case !h.Flags.Has(frame.EndStream):
		return frame.StreamError(h.Stream, frame.ProtocolError, "second HEADERS without END_STREAM")
	}
	return c.trailers(h.Stream, b)
}

// trailers ends a body by the section in c.trailer.
func (c *conn) trailers(id uint32, b *body) *frame.Error {
	s := &c.trailer
	if s.Err != nil || s.HasPseudo() || badTrailer(s.Fields) || s.Fields.Len() > c.s.l.Fields {
		return frame.StreamError(id, frame.ProtocolError, "malformed trailers")
	}
	if b == nil {
		return frame.StreamError(id, frame.ProtocolError, "trailers in a tunnel")
	}
	b.mu.Lock()
	b.trailer = *s.Fields
	b.mu.Unlock()
	return c.bodyEnd(id, b)
}

// bodyEnd is the visitor's END_STREAM behind a body. The answer may have ended
// the stream since it was found, and its memory may serve another request.
func (c *conn) bodyEnd(id uint32, b *body) *frame.Error {
	if b.declared >= 0 && b.got != b.declared {
		return frame.StreamError(id, frame.ProtocolError, "content-length differs from the body")
	}
	c.mu.Lock()
	if st := b.st; st != nil && st.listed {
		st.remoteEnd = true
		if st.localEnd {
			c.over(st)
		}
	}
	c.mu.Unlock()
	b.end(io.EOF)
	return nil
}

func (c *conn) onData(h frame.Header, p []byte) *frame.Error {
	data, err := frame.ReadData(h, p)
	if err != nil {
		return err
	}
	if h.Stream > c.lastID || h.Stream%2 == 0 {
		return frame.ConnError(frame.ProtocolError, "DATA on an idle stream")
	}
	if len(data) == 0 && !h.Flags.Has(frame.EndStream) {
		if err := c.flooded(EmptyFlood, c.s.l.Empty); err != nil {
			return err
		}
	}
	size := int64(h.Length)
	c.mu.Lock()
	if size > c.recv {
		c.mu.Unlock()
		return frame.ConnError(frame.FlowControlError, "connection window overrun")
	}
	c.recv -= size
	st := c.find(h.Stream)
	if st == nil || st.remoteEnd {
		how := c.past.find(h.Stream)
		c.creditConn(size)
		c.mu.Unlock()
		switch {
		case st != nil || how == byThem:
			return frame.StreamError(h.Stream, frame.StreamClosed, "DATA on a half-closed stream")
		case how == byUs:
			return nil // on its way before the visitor knew
		}
		return frame.ConnError(frame.StreamClosed, "DATA on a closed stream")
	}
	if size > st.recv {
		c.creditConn(size)
		c.mu.Unlock()
		return frame.StreamError(h.Stream, frame.FlowControlError, "stream window overrun")
	}
	st.recv -= size
	st.moved = c.arrivedAt
	b := st.body
	pad := size - int64(len(data))
	if pad > 0 {
		c.creditConn(pad)
		c.creditStream(st, pad)
	}
	c.mu.Unlock()
	return c.bodyData(h.Stream, b, data, h.Flags.Has(frame.EndStream))
}

// bodyData hands over what came of a body.
func (c *conn) bodyData(id uint32, b *body, data []byte, end bool) *frame.Error {
	b.got += int64(len(data))
	if b.declared >= 0 && b.got > b.declared {
		c.discard(len(data))
		return frame.StreamError(id, frame.ProtocolError, "body longer than its content-length")
	}
	if max := c.s.l.Body; max > 0 && b.got > max {
		c.discard(len(data))
		c.endBody(b, visitorFault("h2.body", fault.TooLarge, errBodyLarge))
	} else if len(data) > 0 && !b.write(data, c.arrivedAt) {
		c.discard(len(data))
	}
	if end {
		return c.bodyEnd(id, b)
	}
	return nil
}

var errBodyLarge = errors.New("h2: body too large")

func (c *conn) onWindowUpdate(h frame.Header, p []byte) *frame.Error {
	by, err := frame.ReadWindowUpdate(h, p)
	if err != nil {
		return err
	}
	if h.Stream > c.lastID || h.Stream%2 == 0 && h.Stream != 0 {
		return frame.ConnError(frame.ProtocolError, "WINDOW_UPDATE on an idle stream")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers > 0 {
		c.answers--
	} else if err := c.flooded(WindowFlood, c.s.l.Windowing); err != nil {
		return err
	}
	if h.Stream == 0 {
		if c.window += int64(by); c.window > frame.MaxWindow {
			return frame.ConnError(frame.FlowControlError, "connection window too large")
		}
		return nil
	}
	st := c.find(h.Stream)
	if st == nil {
		return nil
	}
	if st.window += int64(by); st.window > frame.MaxWindow {
		return frame.StreamError(h.Stream, frame.FlowControlError, "stream window too large")
	}
	if len(st.data) > 0 && st.window > 0 {
		c.queue.push(st)
	}
	return nil
}

func (c *conn) onReset(h frame.Header, p []byte) *frame.Error {
	if _, err := frame.ReadReset(h, p); err != nil {
		return err
	}
	if h.Stream > c.lastID || h.Stream%2 == 0 {
		return frame.ConnError(frame.ProtocolError, "RST_STREAM on an idle stream")
	}
	c.mu.Lock()
	st := c.find(h.Stream)
	tell := func() {}
	if st != nil {
		tell = c.cancel(st, byThem, visitorFault("h2.stream", fault.Closed, errReset))
	}
	c.mu.Unlock()
	tell()
	if st == nil {
		return c.flooded(EmptyFlood, c.s.l.Empty+c.s.l.Resets)
	}
	return c.flooded(ResetFlood, c.s.l.Resets)
}

func (c *conn) onSettings(h frame.Header, p []byte) *frame.Error {
	if err := frame.ReadSettings(h, p); err != nil {
		return err
	}
	if h.Flags.Has(frame.Ack) {
		return c.flooded(EmptyFlood, c.s.l.Empty)
	}
	if err := c.flooded(SettingsFlood, c.s.l.Settings); err != nil {
		return err
	}
	c.greeted = true
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range len(p) / 6 {
		switch s := frame.ParamAt(p, i); s.Name {
		case frame.InitialWindowSize:
			if err := c.rewind(int64(s.Value)); err != nil {
				return err
			}
		case frame.MaxFrameSize:
			c.maxFrame = int(s.Value)
		}
	}
	c.openOut()
	c.out = frame.AppendSettingsAck(c.out)
	return nil
}

// rewind changes the window that streams begin with, those that are open
// included (RFC 9113 §6.9.2). mu is held.
func (c *conn) rewind(to int64) *frame.Error {
	by := to - c.initial
	c.initial = to
	for _, st := range c.streams {
		if st.window += by; st.window > frame.MaxWindow {
			return frame.ConnError(frame.FlowControlError, "initial window too large for a stream")
		}
		if len(st.data) > 0 && st.window > 0 {
			c.queue.push(st)
		} else {
			c.queue.remove(st)
		}
	}
	return nil
}

func (c *conn) onPing(h frame.Header, p []byte) *frame.Error {
	data, err := frame.ReadPing(h, p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Flags.Has(frame.Ack) {
		if data == drainPing && c.goneSaid > 0 && c.lastTaken == frame.MaxStream {
			c.sayLast()
			c.checkAt = 0
			return nil
		}
		return c.flooded(EmptyFlood, c.s.l.Empty)
	}
	if c.answers > 0 {
		c.answers--
	} else if err := c.flooded(PingFlood, c.s.l.Pings); err != nil {
		return err
	}
	c.openOut()
	c.out = frame.AppendPing(c.out, true, data)
	return nil
}

func (c *conn) onPriorityUpdate(h frame.Header, p []byte) *frame.Error {
	id, value, err := frame.ReadPriorityUpdate(h, p)
	if err != nil {
		return err
	}
	if err := c.flooded(PriorityFlood, c.s.l.Updates); err != nil {
		return err
	}
	if id%2 == 0 {
		return frame.ConnError(frame.ProtocolError, "PRIORITY_UPDATE of a push")
	}
	prio := head.ParsePriority(value, head.DefaultPriority)
	if id > c.lastID {
		if len(c.early) < earlyMax {
			c.early = append(c.early, earlyPrio{})
		}
		c.early[c.earlyAt] = earlyPrio{id, prio}
		c.earlyAt = (c.earlyAt + 1) % earlyMax
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.find(id); st != nil {
		c.queue.change(st, prio)
	}
	return nil
}

// earlyPriority returns what a PRIORITY_UPDATE said of a stream before it
// began, and whether one did: it outdoes the request's own field.
func (c *conn) earlyPriority(id uint32) (head.Priority, bool) {
	for i := range c.early {
		if c.early[i].id == id {
			return c.early[i].prio, true
		}
	}
	return head.Priority{}, false
}

// badTrailer reports fields that would reframe or reroute a message when
// someone merged them into its head (RFC 9110 §6.5.1).
func badTrailer(f *msg.Fields) bool {
	return !head.TrailerAllowed(f) || f.Has(msg.HTTP2Settings) || hpackConnection(f)
}

func hpackConnection(f *msg.Fields) bool {
	for _, l := range f.All() {
		if head.OfConnection(l.ID) {
			return true
		}
	}
	return false
}
