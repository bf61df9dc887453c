package h3

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/h3/qpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

var (
	errOutField = errors.New("h3: field that must not be written")
	errOutCode  = errors.New("h3: status that cannot be written")
	errStuck    = errors.New("h3: stream gives neither bytes nor an error")
	errBegun    = errors.New("h3: the answer has begun")
)

const (
	// inlineBody is the largest body that is written by the goroutine that
	// takes requests; larger ones may have to wait for the visitor.
	inlineBody = 16 << 10
	// onePacket is what a stream takes without looking at windows: the
	// payload of a packet.
	onePacket = 1452
	// headRoom is kept in front of a section for the head of its HEADERS frame.
	headRoom = 5
)

// bodiless reports answers that end with their head (RFC 9110 §6.4.1).
func bodiless(method msg.Method, status int) bool {
	return method == msg.HEAD || status < 200 || status == 204 || status == 304
}

// shape is how an answer is framed.
type shape struct {
	head   bool  // the answer ends with its head
	length int64 // LengthUnknown: until the stream ends
}

func (x *exchange) shape() shape {
	res := &x.res
	s := shape{length: res.Length, head: bodiless(x.req.Method, res.Status)}
	switch {
	case res.Bytes != nil:
		s.length = int64(len(res.Bytes))
	case res.Body == nil && x.req.Method != msg.HEAD:
		s.length = 0
	}
	return s
}

// sized reports whether the head says a length. For HEAD it is said when the
// answer to a GET is at hand, so that it is known to be the right one.
func (x *exchange) sized(s shape) bool {
	if !s.head {
		return s.length >= 0
	}
	known := x.res.Bytes != nil || x.res.Body != nil || s.length > 0
	return x.req.Method == msg.HEAD && x.res.Status != 204 && x.res.Status != 304 &&
		s.length >= 0 && known && !x.res.Fields.Has(msg.ContentLength)
}

// appendHead appends the HEADERS frame of the answer.
func (x *exchange) appendHead(p []byte, s shape) ([]byte, error) {
	res := &x.res
	start := len(p)
	p = append(p, frameHeaders, 0, 0, 0, 0)
	p = qpack.AppendStatus(qpack.AppendPrefix(p), res.Status)
	dated := res.Fields.Has(msg.Date)
	if res.Prepared != nil {
		block := res.Prepared.H3(staticBlock)
		if block == nil {
			return nil, errOutField
		}
		p = append(p, block...)
		dated = dated || res.Prepared.Fields().Has(msg.Date)
	}
	p, err := appendFields(p, &res.Fields, s.head && res.Status != 204)
	if err != nil {
		return nil, err
	}
	if !dated {
		p = append(p, x.c.s.clock.Date()...)
	}
	if x.sized(s) {
		p = qpack.AppendNumber(p, msg.ContentLength, s.length)
	}
	putLength(p[start+1:], len(p)-start-headRoom)
	return p, nil
}

// dateLine is for a clock.Clock.
func dateLine(date []byte) []byte { return qpack.AppendID(nil, msg.Date, date) }

// staticBlock makes the block that is kept with an object; nil when a line
// must not be written.
func staticBlock(f *msg.Fields) []byte {
	for i := range f.Len() {
		if l := f.At(i); l.ID == msg.ContentLength || !writable(l) {
			return nil
		}
	}
	return qpack.AppendStatic(make([]byte, 0, 256), f)
}

// writable refuses what would break out of its line behind a gateway.
func writable(l *msg.Field) bool {
	return (l.ID != msg.Unknown || len(l.Name) > 0 && head.Token.All(l.Name)) && head.AllValue(l.Value)
}

// appendFields appends field lines but those that belong to a connection.
func appendFields(p []byte, f *msg.Fields, keepLength bool) ([]byte, error) {
	for i := range f.Len() {
		l := f.At(i)
		if head.OfConnection(l.ID) || l.ID == msg.ContentLength && !keepLength {
			continue
		}
		if !writable(l) {
			return nil, errOutField
		}
		p = qpack.AppendField(p, l)
	}
	return p, nil
}

// appendData appends the head of a DATA frame.
func appendData(p []byte, n int64) []byte { return appendVarint(append(p, frameData), uint64(n)) }

// respondNow writes the answer if that needs no waiting, and reports whether
// it did. The goroutine that takes requests calls it.
func (x *exchange) respondNow() bool {
	res := &x.res
	if res.Body != nil || res.Tunnel != nil || len(res.Bytes) > inlineBody {
		return false
	}
	if !x.answerable() {
		return true
	}
	p, s, err := x.compose()
	if err != nil {
		x.giveUp(err)
		return true
	}
	if !s.head && len(res.Bytes) > 0 {
		p = append(appendData(p, s.length), res.Bytes...)
		x.out = p
	}
	if len(p) <= onePacket {
		_, err = x.st.Write(p)
	} else if err = x.st.TryWriteAll(p); errors.Is(err, quic.ErrWouldBlock) {
		return false
	}
	if err == nil {
		err = x.st.Close()
	}
	if err != nil {
		x.lost(err)
		return true
	}
	if !s.head {
		x.sent = int64(len(res.Bytes))
	}
	return true
}

// answerable deals with answers that are none; it is false after one.
func (x *exchange) answerable() bool {
	res := &x.res
	x.wmu.Lock()
	x.started = true
	x.wmu.Unlock()
	switch {
	case res.Status == 0 && res.EndConn:
		x.err = errDropped
		x.c.end(errDropped)
		return false
	case res.Status == 101 && res.Tunnel != nil && x.req.Upgrade != nil:
	case res.Status < 200 || res.Status > 599:
		x.giveUp(errOutCode)
		return false
	}
	if res.EndConn {
		x.c.retire()
	}
	return true
}

// compose writes the head into x.out.
func (x *exchange) compose() ([]byte, shape, error) {
	s := x.shape()
	p, err := x.appendHead(x.out[:0], s)
	if err == nil {
		x.out = p
	}
	return p, s, err
}

// giveUp answers 500 for an answer that cannot be written.
func (x *exchange) giveUp(why error) {
	x.plain(500)
	x.err = &fault.Error{Op: "h3.answer", Side: fault.Edge, Err: why}
}

// plain writes a short answer.
func (x *exchange) plain(status int) {
	p := append(x.out[:0], frameHeaders, 0, 0, 0, 0)
	p = qpack.AppendStatus(qpack.AppendPrefix(p), status)
	p = append(p, x.c.s.clock.Date()...)
	text := http.StatusText(status) + "\n"
	p = qpack.AppendNumber(qpack.AppendID(p, msg.ContentType, plainText), msg.ContentLength, int64(len(text)))
	putLength(p[1:], len(p)-headRoom)
	if x.req.Method != msg.HEAD {
		p = append(appendData(p, int64(len(text))), text...)
	}
	x.out = p
	if _, err := x.st.Write(p); err != nil {
		x.reset(codeInternal)
		return
	}
	_ = x.st.Close() // fails when the visitor has given up, who needs no answer
}

var plainText = []byte("text/plain")

// lost notes that the visitor does not take the answer.
func (x *exchange) lost(err error) {
	x.err = visitorFault("h3.write", err)
	x.reset(codeRequestCancelled)
	if _, ok := errors.AsType[*quic.StreamError](err); ok {
		x.c.given()
	}
}

// respond writes the answer, however long that takes.
func (x *exchange) respond() {
	if !x.started && !x.answerable() {
		return
	}
	res := &x.res
	if res.Tunnel != nil {
		if res.Status == 101 {
			x.tunnel()
			return
		}
		x.giveUp(errOutCode)
		return
	}
	p, s, err := x.compose()
	if err != nil {
		x.giveUp(err)
		return
	}
	switch {
	case s.head || s.length == 0:
		err = x.write(p)
	case res.Bytes != nil:
		err = x.writeBytes(p, res.Bytes)
	default:
		err = x.stream(p, s)
	}
	x.unwatch()
	if err == nil && x.err == nil {
		err = x.st.Close()
	}
	if err != nil {
		x.lost(err)
	}
}

// write writes p within WriteTimeout.
func (x *exchange) write(p []byte) error {
	clock := x.c.s.clock
	_ = x.st.SetWriteDeadline(clock.At(clock.Now() + x.c.s.l.WriteTimeout)) // never fails
	_, err := x.st.Write(p)
	if err != nil {
		x.slow(err)
	}
	return err
}

// writeBytes writes a head and a body in memory.
func (x *exchange) writeBytes(p, body []byte) error {
	p = appendData(p, int64(len(body)))
	if len(p)+len(body) <= inlineBody {
		x.out = append(p, body...)
		err := x.write(x.out)
		if err == nil {
			x.sent = int64(len(body))
		}
		return err
	}
	if err := x.write(p); err != nil {
		return err
	}
	return x.writeLong(body)
}

// writeLong writes a body in one go, so that the transport always has enough of
// it to keep to the priorities of streams. The visitor takes it at MinRate, and may fall
// behind by WriteTimeout.
func (x *exchange) writeLong(body []byte) error {
	var taken atomic.Int64
	_ = x.st.SetWriteDeadline(time.Time{})
	l, clk := &x.c.s.l, x.c.s.clock
	pace := clock.Pace{Most: l.WriteTimeout, Rate: l.MinRate}
	every := min(l.WriteTimeout, time.Second)
	seen := int64(0)
	w := startWatch(every, func() time.Duration {
		now := taken.Load()
		if pace.Moved(every, int(now-seen)); pace.Left() <= 0 {
			_ = x.st.SetWriteDeadline(clk.At(0)) // a time that has passed; never fails
			return 0
		}
		seen = now
		return every
	})
	n, err := x.st.WriteWithLimit(body, func(n int) int {
		taken.Add(int64(n))
		return n
	})
	w.stop()
	x.sent += int64(n)
	if err != nil {
		x.slow(err)
	}
	return err
}

// stream writes a head and a body that is pulled. Each piece leaves as it
// comes. A head without a length is not held back for the first of them,
// unless the body says that bytes are waiting.
func (x *exchange) stream(p []byte, s shape) error {
	src := x.res.Body
	buf := x.c.s.pools.stream.Get().(*chunk)
	defer x.c.s.pools.stream.Put(buf)
	if b, ok := src.(interface{ Buffered() int }); s.length < 0 && (!ok || b.Buffered() == 0) {
		if err := x.write(p); err != nil {
			return err
		}
		p = p[:0]
	}
	for empty := 0; ; {
		room := int64(streamMax)
		if s.length >= 0 {
			room = min(room, s.length-x.sent)
		}
		n, rerr := src.Read(buf.b[frameRoom : frameRoom+room])
		if n > 0 {
			if err := x.piece(p, buf, n); err != nil {
				return err
			}
			p, empty = p[:0], 0
			x.sent += int64(n)
		}
		switch {
		case s.length >= 0 && x.sent == s.length:
			return nil
		// io.EOF itself and nothing that wraps it: a failure at the origin may.
		case rerr == io.EOF && s.length < 0:
			return x.endStream(p)
		case rerr != nil:
			x.abort(early(rerr))
			return nil
		}
		if empty++; n == 0 && empty > 100 {
			x.abort(errStuck)
			return nil
		}
	}
}

// early makes an end that comes before the announced length an error.
func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// piece writes n bytes of buf as a DATA frame, behind what is in p.
func (x *exchange) piece(p []byte, buf *chunk, n int) error {
	buf.b[0] = frameData
	putLength(buf.b[1:], n)
	q := buf.b[:frameRoom+n]
	if len(p) > 0 && len(q) <= inlineBody {
		p = append(p, q...)
		x.out = p
		return x.write(p)
	}
	if len(p) > 0 {
		if err := x.write(p); err != nil {
			return err
		}
	}
	return x.write(q)
}

// endStream writes what follows the last byte of a body without a length.
func (x *exchange) endStream(p []byte) error {
	if x.res.Trailer == nil || x.res.Trailer.Len() == 0 {
		if len(p) == 0 {
			return nil
		}
		return x.write(p)
	}
	start := len(p)
	p = qpack.AppendPrefix(append(p, frameHeaders, 0, 0, 0, 0))
	p, err := appendFields(p, x.res.Trailer, false)
	if err == nil && !head.TrailerAllowed(x.res.Trailer) {
		err = errOutField
	}
	if err != nil {
		x.abort(&fault.Error{Op: "h3.trailer", Side: fault.Edge, Err: err})
		return nil
	}
	putLength(p[start+1:], len(p)-start-headRoom)
	x.out = p
	return x.write(p)
}

// abort makes sure that a broken answer is not taken for a whole one. That an
// origin called it off is passed on: to gRPC it means that a deadline is over.
func (x *exchange) abort(why error) {
	x.err = why
	code := codeInternal
	if fault.Is(why, fault.Cancelled) {
		code = codeRequestCancelled
	}
	x.st.CancelWrite(code.stream())
}

// slow counts a visitor that does not take what we send.
func (x *exchange) slow(err error) {
	if isTimeout(err) {
		x.c.s.count.end(SlowReader)
	}
}

// sendContinue sends 100 unless the final answer has begun.
func (x *exchange) sendContinue() error {
	if err := x.sendInterim(100, nil); err != nil && !errors.Is(err, errBegun) {
		return err
	}
	return nil
}

// sendInterim is Request.Interim.
func (x *exchange) sendInterim(status int, fields *msg.Fields) error {
	if status < 100 || status > 199 || status == 101 {
		return &fault.Error{Op: "h3.interim", Side: fault.Edge, Err: errOutCode}
	}
	p := append(make([]byte, 0, 512), frameHeaders, 0, 0, 0, 0)
	p = qpack.AppendStatus(qpack.AppendPrefix(p), status)
	if fields != nil {
		var err error
		if p, err = appendFields(p, fields, false); err != nil {
			return err
		}
	}
	putLength(p[1:], len(p)-headRoom)
	x.wmu.Lock()
	defer x.wmu.Unlock()
	if x.started {
		return &fault.Error{Op: "h3.interim", Side: fault.Edge, Err: errBegun}
	}
	if err := x.write(p); err != nil {
		return visitorFault("h3.interim", err)
	}
	return nil
}
