package h2

import (
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/h2/hpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// form is how an answer is framed.
type form struct {
	bodiless bool  // whatever its fields say (RFC 9110 §6.4.1)
	ends     bool  // with its head
	length   int64 // msg.LengthUnknown: known at its end
}

func formOf(st *stream) form {
	res := &st.res
	f := form{length: res.Length}
	f.bodiless = st.req.Method == msg.HEAD || res.Status == 204 || res.Status == 304
	switch {
	case res.Bytes != nil:
		f.length = int64(len(res.Bytes))
	case res.Body == nil && st.req.Method != msg.HEAD:
		f.length = 0
	}
	f.ends = f.bodiless || f.length == 0 && res.Body == nil || res.Bytes != nil && len(res.Bytes) == 0
	return f
}

// sized reports whether the head says a length. For HEAD it is said when the
// answer to a GET is at hand, so that it is known to be the right one.
func (f form) sized(st *stream) bool {
	if !f.bodiless {
		return f.length >= 0
	}
	res := &st.res
	known := res.Bytes != nil || res.Body != nil || f.length > 0
	return st.req.Method == msg.HEAD && res.Status != 204 && res.Status != 304 &&
		f.length >= 0 && known && !res.Fields.Has(msg.ContentLength)
}

// appendHead appends the answer's whole head. It copies what was prepared and
// codes the rest without a dynamic table. mu is held.
func (c *conn) appendHead(st *stream, f form, switched bool, now time.Duration) error {
	res := &st.res
	status := res.Status
	if switched {
		status = 200 // RFC 8441 §5
	}
	if status < 200 || status > 599 {
		return errOutCode
	}
	at := len(c.out)
	p := frame.Append(c.out, frame.Header{})
	p = hpack.AppendStatus(p, status)
	dated := res.Fields.Has(msg.Date)
	if res.Prepared != nil {
		p = append(p, res.Prepared.H2(appendPrepared)...)
		dated = dated || res.Prepared.Dated
	}
	p, ok := appendFields(p, &res.Fields, f.bodiless && status != 204, switched)
	if !ok {
		return errOutField
	}
	if !dated {
		p = append(p, c.s.clock.DateAt(now)...)
	}
	if !switched && f.sized(st) {
		p = hpack.AppendNumber(p, msg.ContentLength, f.length)
	}
	flags := frame.Flags(0)
	if f.ends && !switched {
		flags = frame.EndStream
	}
	c.out = c.closeHead(p, at, st.id, flags)
	return nil
}

// closeHead makes frames of the block behind the room for a head at p[at:].
func (c *conn) closeHead(p []byte, at int, id uint32, flags frame.Flags) []byte {
	if len(p)-at-frame.HeaderLen <= frame.MinFrame {
		return endHead(p, at, id, flags)
	}
	block := append([]byte{}, p[at+frame.HeaderLen:]...)
	return frame.AppendHeaders(p[:at], id, block, c.maxFrame, flags.Has(frame.EndStream))
}

// dateLine is for a clock.Clock.
func dateLine(date []byte) []byte { return hpack.AppendID(nil, msg.Date, date) }

// appendPrepared makes the block of a prepared head. A line that must not be
// written is left out.
func appendPrepared(f *msg.Fields) []byte {
	var sound msg.Fields
	for _, l := range f.All() {
		if writable(&l) && l.ID != msg.ContentLength {
			sound.AddField(l)
		}
	}
	return hpack.AppendStatic(nil, &sound)
}

// writable reports whether a line may be written as it is: nothing that a row
// below lets through can mean something else to whoever writes it as HTTP/1.1.
func writable(l *msg.Field) bool {
	if l.ID == msg.Unknown && (len(l.Name) == 0 || !head.Token.All(l.Name)) {
		return false
	}
	return head.AllValue(l.Value)
}

// appendFields appends field lines but those that belong to a connection.
func appendFields(p []byte, f *msg.Fields, keepLength, switched bool) ([]byte, bool) {
	lines := f.All()
	for i := range lines {
		l := &lines[i]
		if head.OfConnection(l.ID) || l.ID == msg.ContentLength && !keepLength || l.ID == msg.SecWebSocketAccept && switched {
			continue
		}
		if !writable(l) {
			return p, false
		}
		p = hpack.AppendField(p, l)
	}
	return p, true
}

// appendTrailer makes the block of a trailer section, at least one line long:
// an empty one would be allowed, and is not understood by all.
func appendTrailer(p []byte, f *msg.Fields) ([]byte, error) {
	if badTrailer(f) {
		return nil, &fault.Error{Op: "h2.trailer", Side: fault.Edge, Err: errOutField}
	}
	p, ok := appendFields(p, f, false, false)
	if !ok {
		return nil, &fault.Error{Op: "h2.trailer", Side: fault.Edge, Err: errOutField}
	}
	return p, nil
}

// sendInterim is Request.Interim.
func (st *stream) sendInterim(status int, fields *msg.Fields) error {
	if status < 100 || status > 199 || status == 101 {
		return &fault.Error{Op: "h2.interim", Side: fault.Edge, Err: errOutCode}
	}
	p := hpack.AppendStatus(make([]byte, 0, 512), status)
	if fields != nil {
		var ok bool
		if p, ok = appendFields(p, fields, false, false); !ok {
			return &fault.Error{Op: "h2.interim", Side: fault.Edge, Err: errOutField}
		}
	}
	c := st.c
	c.mu.Lock()
	switch {
	case st.reset:
		c.mu.Unlock()
		return st.why
	case c.dead != nil:
		c.mu.Unlock()
		return c.dead
	case st.started:
		c.mu.Unlock()
		return &fault.Error{Op: "h2.interim", Side: fault.Edge, Err: errBegun}
	}
	c.openOut()
	c.out = frame.AppendHeaders(c.out, st.id, p, c.maxFrame, false)
	serving := st.serving
	c.mu.Unlock()
	if serving {
		c.flush(0)
	}
	return nil
}

// sendContinue sends 100 for a body that somebody wants, unless the final
// answer has begun.
func (c *conn) sendContinue(b *body) {
	c.mu.Lock()
	st := b.st
	if st == nil || st.started || st.reset || c.dead != nil {
		c.mu.Unlock()
		return
	}
	c.openOut()
	c.out = frame.AppendHeaders(c.out, st.id, continueBlock, c.maxFrame, false)
	c.mu.Unlock()
	c.flush(0)
}

var continueBlock = hpack.AppendStatus(nil, 100)
