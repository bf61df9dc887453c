package client

import (
	"errors"
	"io"
	"slices"

	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/h2/hpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// fragments is a field section that comes in several frames.
type fragments struct {
	open   bool
	stream uint32
	end    bool // END_STREAM of its HEADERS
	pieces int
	p      []byte
}

// read takes frames until the connection ends.
func (c *Conn) read() {
	buf := make([]byte, 2*frameSize)
	r, w := 0, 0
	for {
		for w-r >= frame.HeaderLen {
			h := frame.Parse(buf[r:w])
			if h.Length > frameSize {
				c.fail(frame.ConnError(frame.FrameSizeError, "frame larger than allowed"), frame.FrameSizeError)
				return
			}
			n := frame.HeaderLen + int(h.Length)
			if w-r < n {
				break
			}
			if err := c.frame(h, buf[r+frame.HeaderLen:r+n]); err != nil {
				c.fail(err, err.Code)
				return
			}
			r += n
		}
		c.flushLater()
		if r == w {
			r, w = 0, 0
		} else if len(buf)-r < frameSize+frame.HeaderLen {
			w = copy(buf, buf[r:w])
			r = 0
		}
		n, err := c.nc.Read(buf[w:])
		w += n
		if n > 0 {
			c.heard.Store(int64(c.now()))
		}
		if err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			c.fail(err, silent)
			return
		}
	}
}

// frame takes one frame. The error ends the connection.
func (c *Conn) frame(h frame.Header, p []byte) *frame.Error {
	if c.block.open && (h.Type != frame.Continuation || h.Stream != c.block.stream) {
		return frame.ConnError(frame.ProtocolError, "frame inside a field section")
	}
	if err := c.count(h); err != nil {
		return err
	}
	var err *frame.Error
	switch h.Type {
	case frame.Data:
		err = c.data(h, p)
	case frame.Headers:
		err = c.headers(h, p)
	case frame.Continuation:
		err = c.continuation(h, p)
	case frame.RSTStream:
		err = c.reset(h, p)
	case frame.Settings:
		err = c.settings(h, p)
	case frame.Ping:
		err = c.ping(h, p)
	case frame.GoAway:
		err = c.goAway(h, p)
	case frame.WindowUpdate:
		err = c.windowUpdate(h, p)
	case frame.Priority:
		_, err = frame.ReadPriority(h, p)
	case frame.PushPromise:
		err = frame.ConnError(frame.ProtocolError, "push, which was refused")
	}
	if err != nil && err.Stream != 0 {
		c.refuseStream(err)
		return nil
	}
	return err
}

// count bounds frames that bring nothing: what brings something, or answers
// what we send, wipes the count.
func (c *Conn) count(h frame.Header) *frame.Error {
	if c.moved.Swap(false) || h.Type == frame.Data && h.Length > 0 {
		c.junk = 0
		return nil
	}
	if c.junk++; c.junk < maxJunk {
		return nil
	}
	if now := c.now(); now-c.since > junkTime {
		c.junk, c.since = 0, now
		return nil
	}
	return frame.ConnError(frame.EnhanceYourCalm, "too many frames that bring nothing")
}

// refuseStream resets a stream of whose frames one was wrong.
func (c *Conn) refuseStream(err *frame.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.streams[err.Stream]; st != nil {
		st.reset(err, err.Code)
	}
}

// find returns the stream a frame is for. It is nil for one that is over, of
// which frames may be on their way; one that never was is an error. The caller
// holds mu.
func (c *Conn) find(id uint32) (*stream, *frame.Error) {
	if st := c.streams[id]; st != nil {
		return st, nil
	}
	if id%2 == 0 || id >= c.next {
		return nil, frame.ConnError(frame.ProtocolError, "frame of a stream that was not opened")
	}
	return nil, nil
}

// data takes part of a body. The connection's window is given back on arrival,
// so that no reader holds up another; what is kept is bounded by the streams' own.
func (c *Conn) data(h frame.Header, p []byte) *frame.Error {
	content, err := frame.ReadData(h, p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.credit += int(h.Length); c.credit >= connWindow/4 {
		c.out = frame.AppendWindowUpdate(c.out, 0, uint32(c.credit))
		c.credit = 0
	}
	st, err := c.find(h.Stream)
	if st == nil {
		return err
	}
	if st.left -= int(h.Length); st.left < 0 {
		return frame.StreamError(h.Stream, frame.FlowControlError, "more than the window allows")
	}
	st.eaten += int(h.Length) - len(content) // padding is read as it comes
	st.got += int64(len(content))
	switch {
	case st.status == 0 || st.ended:
		return frame.StreamError(h.Stream, frame.ProtocolError, "DATA outside a body")
	case len(content) > 0 && st.bodiless():
		return frame.StreamError(h.Stream, frame.ProtocolError, "body of an answer that has none")
	case st.want >= 0 && st.got > st.want:
		return frame.StreamError(h.Stream, frame.ProtocolError, "body longer than its Content-Length")
	}
	st.put(content)
	if h.Flags.Has(frame.EndStream) {
		return st.theirs()
	}
	if len(content) > 0 {
		signal(st.kit.wake)
	}
	return nil
}

// put keeps part of a body until it is read; the caller holds mu.
func (st *stream) put(p []byte) {
	for len(p) > 0 {
		var k *chunk
		if n := len(st.queue); n > 0 && st.queue[n-1].w < frameSize {
			k = st.queue[n-1]
		} else {
			k = st.c.l.Memory.chunk()
			st.queue = append(st.queue, k)
		}
		n := copy(k.b[k.w:], p)
		k.w += n
		p = p[n:]
	}
}

// theirs notes that the origin's side has ended; the caller holds mu.
func (st *stream) theirs() *frame.Error {
	if st.want >= 0 && st.got != st.want && !st.bodiless() {
		return frame.StreamError(st.id, frame.ProtocolError, "body shorter than its Content-Length")
	}
	st.ended = true
	st.c.served = true
	signal(st.kit.wake)
	if st.sendDone {
		st.forget()
	}
	return nil
}

// bodiless reports answers that have no body whatever their fields say (RFC
// 9110 §6.4.1).
func (st *stream) bodiless() bool {
	return st.req.Method == msg.HEAD && len(st.req.Upgrade) == 0 || st.status == 204 || st.status == 304
}

func (c *Conn) headers(h frame.Header, p []byte) *frame.Error {
	fragment, err := frame.ReadHeaders(h, p)
	if err != nil && err.Stream == 0 {
		return err
	}
	// A stream that depends on itself means nothing here: answers have no priority.
	if h.Flags.Has(frame.EndHeaders) {
		return c.section(h.Stream, fragment, h.Flags.Has(frame.EndStream))
	}
	c.block = fragments{open: true, stream: h.Stream, end: h.Flags.Has(frame.EndStream), p: append(c.block.p[:0], fragment...)}
	return nil
}

func (c *Conn) continuation(h frame.Header, p []byte) *frame.Error {
	fragment, err := frame.ReadContinuation(h, p)
	if err != nil {
		return err
	}
	b := &c.block
	if !b.open {
		return frame.ConnError(frame.ProtocolError, "CONTINUATION outside a field section")
	}
	if b.pieces++; b.pieces > maxPieces || len(b.p)+len(fragment) > c.l.Head {
		return frame.ConnError(frame.EnhanceYourCalm, "field section too large or in too many pieces")
	}
	b.p = append(b.p, fragment...)
	if !h.Flags.Has(frame.EndHeaders) {
		return nil
	}
	b.open = false
	return c.section(h.Stream, b.p, b.end)
}

// section takes a whole field section: an interim answer, the final one's head,
// or trailers.
func (c *Conn) section(id uint32, block []byte, end bool) *frame.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, err := c.find(id)
	if err != nil {
		return err
	}
	into := &c.scrap
	switch {
	case st == nil || st.ended:
		into.Reset()
	case st.status == 0:
		into = &st.kit.head
		into.Reset()
	default:
		into = &st.kit.tail
		into.Reset()
	}
	if err := c.dec.Decode(block, into); err != nil {
		return frame.ConnError(frame.CompressionError, err.Error())
	}
	switch {
	case st == nil:
		return nil
	case st.ended:
		return frame.StreamError(id, frame.StreamClosed, "HEADERS behind the end")
	case into.Err != nil:
		return frame.StreamError(id, frame.ProtocolError, into.Err.Error())
	case st.status != 0:
		return st.trailers(into, end)
	}
	return st.headOf(into, end)
}

// headOf takes an answer's head; the caller holds mu.
func (st *stream) headOf(s *hpack.Section, end bool) *frame.Error {
	status, ok := head.Length(s.Get(hpack.Status))
	if !ok || len(s.Get(hpack.Status)) != 3 || status < 100 || status > 599 || status == 101 || s.Has(hpack.Method) ||
		s.Has(hpack.Scheme) || s.Has(hpack.Authority) || s.Has(hpack.Path) || s.Has(hpack.Protocol) {
		return frame.StreamError(st.id, frame.ProtocolError, "head without a valid status")
	}
	if status < 200 {
		if st.early++; end || st.early > st.c.l.Interim {
			return frame.StreamError(st.id, frame.ProtocolError, "interim answers that end the stream, or too many")
		}
		in := interim{status: int(status)}
		s.Fields.CopyTo(&in.fields, slices.Clone[[]byte])
		in.fields.Del(msg.ContentLength)
		st.interims = append(st.interims, in)
		signal(st.kit.wake)
		return nil
	}
	if n := s.Fields.Count(msg.ContentLength); n > 0 {
		if st.want, ok = head.Length(s.Fields.Get(msg.ContentLength)); !ok || n > 1 {
			return frame.StreamError(st.id, frame.ProtocolError, "invalid Content-Length")
		}
		if len(st.req.Upgrade) > 0 && status < 300 {
			st.want = -1 // what follows is no body (RFC 9110 §9.3.6)
		}
	}
	st.status = int(status)
	st.c.junk = 0
	if end {
		return st.theirs()
	}
	signal(st.kit.wake)
	return nil
}

// trailers takes the section behind a body; the caller holds mu.
func (st *stream) trailers(s *hpack.Section, end bool) *frame.Error {
	switch {
	case !end:
		return frame.StreamError(st.id, frame.ProtocolError, "trailers that do not end the stream")
	case s.HasPseudo() || !head.TrailerAllowed(s.Fields):
		return frame.StreamError(st.id, frame.ProtocolError, "field not allowed in trailers")
	}
	return st.theirs()
}

func (c *Conn) reset(h frame.Header, p []byte) *frame.Error {
	code, err := frame.ReadReset(h, p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	st, err := c.find(h.Stream)
	if st != nil {
		st.end(resetError(code))
		st.forget()
	}
	return err
}

func (c *Conn) settings(h frame.Header, p []byte) *frame.Error {
	if err := frame.ReadSettings(h, p); err != nil {
		return err
	}
	if h.Flags.Has(frame.Ack) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range len(p) / 6 {
		if err := c.obey(frame.ParamAt(p, i)); err != nil {
			return err
		}
	}
	c.peer.greeted = true
	c.settle()
	return c.control(frame.AppendSettingsAck)
}

// obey puts one parameter into force; the caller holds mu.
func (c *Conn) obey(s frame.Param) *frame.Error {
	switch s.Name {
	case frame.HeaderTableSize:
		c.enc.Limit(s.Value)
	case frame.EnablePush:
		if s.Value != 0 {
			return frame.ConnError(frame.ProtocolError, "a server that enables pushes") // RFC 9113 §6.5.2
		}
	case frame.MaxConcurrentStreams:
		c.peer.streams = int(min(s.Value, 1<<30))
	case frame.InitialWindowSize:
		by := int64(s.Value) - c.peer.window
		c.peer.window = int64(s.Value)
		for _, st := range c.streams {
			if st.window += by; st.window > frame.MaxWindow {
				return frame.ConnError(frame.FlowControlError, "window too large")
			}
			st.unblock()
		}
	case frame.MaxFrameSize:
		c.peer.frame = int(min(s.Value, 4*frameSize))
	case frame.MaxHeaderListSize:
		c.peer.list = int(max(1, min(s.Value, 1<<30)))
	case frame.EnableConnect:
		c.peer.connect = s.Value == 1
	}
	return nil
}

// control appends a frame that the origin makes us send; the caller holds mu.
func (c *Conn) control(add func([]byte) []byte) *frame.Error {
	if len(c.out) > maxControl {
		return frame.ConnError(frame.EnhanceYourCalm, "frames that ask for answers, which are not read")
	}
	c.out = add(c.out)
	return nil
}

func (c *Conn) ping(h frame.Header, p []byte) *frame.Error {
	data, err := frame.ReadPing(h, p)
	if err != nil || h.Flags.Has(frame.Ack) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.control(func(out []byte) []byte { return frame.AppendPing(out, true, data) })
}

func (c *Conn) goAway(h frame.Header, p []byte) *frame.Error {
	last, code, _, err := frame.ReadGoAway(h, p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse == nil {
		c.refuse = errGoAway
	}
	why := errors.Join(ErrUnprocessed, errGoAway, resetError(code))
	for id, st := range c.streams {
		if id > last {
			st.end(why)
			st.forget()
		}
	}
	return nil
}

func (c *Conn) windowUpdate(h frame.Header, p []byte) *frame.Error {
	by, err := frame.ReadWindowUpdate(h, p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Stream == 0 {
		if c.window += int64(by); c.window > frame.MaxWindow {
			return frame.ConnError(frame.FlowControlError, "window too large")
		}
		c.wakeBlocked()
		return nil
	}
	st, err := c.find(h.Stream)
	if st == nil {
		return err
	}
	if st.window += int64(by); st.window > frame.MaxWindow {
		return frame.StreamError(h.Stream, frame.FlowControlError, "window too large")
	}
	st.unblock()
	return nil
}
