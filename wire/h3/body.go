package h3

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/h3/qpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

var errBodyClosed = errors.New("h3: body closed")

// body is a request's body. One is made for each request that has one, so
// that a reader who comes late finds it dead and not the next request's. Read
// and Close may be called from different goroutines.
type body struct {
	x      *exchange
	closed atomic.Bool
	mu     sync.Mutex // held by Read; guards what follows
	frames frames
	expect bool // the visitor waits for 100
	count  int64
	err    error
}

func newBody(x *exchange) *body {
	b := &body{x: x, expect: x.build.Expect}
	pace := clock.Pace{Most: x.c.s.l.BodyTimeout}
	if !x.req.CallsGRPC() { // whose messages come when they come
		pace.Rate = x.c.s.l.MinRate
	}
	b.frames = frames{x: x, pace: pace, halt: &b.closed, trailer: &x.req.Trailer, buf: x.in[x.r:x.w:x.w], eof: x.eof}
	return b
}

// Read returns *fault.Error (Side Visitor) when the visitor fails to send.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return 0, errBodyClosed
	}
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if b.expect {
		b.expect = false
		if err := b.x.sendContinue(); err != nil {
			b.err = visitorFault("h3.continue", err)
			return 0, b.err
		}
	}
	n, err := b.frames.read(p)
	b.count += int64(n)
	if err = b.judge(err); err == nil {
		return n, nil
	}
	if b.closed.Load() && err != io.EOF {
		return 0, errBodyClosed // by Close, and the place is kept
	}
	if b.err = err; err != io.EOF {
		b.fail(err)
		b.err = visitorFault("h3.body", err)
		n = 0
	}
	return n, b.err
}

// judge holds the body to its declared length and its bound.
func (b *body) judge(err error) error {
	declared, most := b.x.req.Length, b.x.c.s.l.Body
	switch {
	case most > 0 && b.count > most:
		return errBodyLarge
	case declared >= 0 && (b.count > declared || err == io.EOF && b.count < declared):
		return errBodyLength
	}
	return err
}

// fail tells the visitor what is wrong with its body.
func (b *body) fail(err error) {
	c := b.x.c
	if f, ok := errors.AsType[*failure](err); ok {
		c.end(f)
		return
	}
	if r, ok := errors.AsType[*reject](err); ok {
		c.s.count.end(r.reason)
		if r.code == codeMessage {
			b.x.reset(r.code)
		} else {
			b.x.st.CancelRead(r.code.stream())
		}
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.s.count.end(SlowBody)
	}
}

// Close ends a Read that waits.
func (b *body) Close() error {
	b.closed.Store(true)
	if b.mu.TryLock() {
		b.mu.Unlock()
		return nil
	}
	b.frames.end()
	return nil
}

// die closes the body and waits for its reader: what it read is the exchange's.
func (b *body) die() {
	_ = b.Close() // never fails
	b.mu.Lock()
	defer b.mu.Unlock()
	b.x.eof = b.frames.eof && len(b.frames.buf) == 0
	b.frames.release()
}

// frames reads the DATA frames of a stream, for a body or a tunnel.
type frames struct {
	x       *exchange
	halt    *atomic.Bool // reads are to end at once
	pace    clock.Pace
	trailer *msg.Fields // nil where none may come
	buf     []byte      // read and not looked at yet
	mem     *block      // where buf is, nil when that is the exchange's own
	left    uint64      // bytes of the frame that has begun
	skip    bool        // it is of an unknown type
	eof     bool        // nothing follows buf
	ended   bool        // the trailer has come
}

func (f *frames) release() {
	if f.mem != nil {
		f.x.c.s.pools.small.Put(f.mem)
		f.mem = nil
	}
}

// read reads payload into p. Its error may be a *failure, a *reject, io.EOF or
// the stream's.
func (f *frames) read(p []byte) (int, error) {
	for {
		switch {
		case f.left > 0 && len(f.buf) > 0:
			n := int(min(f.left, uint64(len(f.buf))))
			if !f.skip {
				n = copy(p, f.buf[:n])
			}
			f.buf, f.left = f.buf[n:], f.left-uint64(n)
			if !f.skip {
				return n, nil
			}
		case f.left > 0 && !f.skip && !f.eof:
			n, err := f.timed(p[:min(f.left, uint64(len(p)))])
			f.left -= uint64(n)
			if err == io.EOF {
				f.eof, err = true, nil
			}
			if n > 0 || err != nil {
				return n, given(err)
			}
		case f.left == 0 && len(f.buf) == 0 && f.eof:
			return 0, io.EOF
		case f.left == 0:
			if err := f.next(); err != nil {
				return 0, err
			}
		case f.eof:
			return 0, errFrameCut
		default:
			if err := f.fill(); err != nil {
				return 0, err
			}
		}
	}
}

// next begins the next frame, or reads more to see it.
func (f *frames) next() error {
	kind, length, n := readFrame(f.buf)
	if n == 0 {
		if f.eof {
			return errFrameCut
		}
		return f.fill()
	}
	switch {
	case kind == frameHeaders && f.trailer != nil && !f.ended:
		return f.readTrailer(f.buf[n:], length)
	case kind == frameData && !f.ended:
		f.skip = false
	case known(kind):
		return errFrameOrder
	default:
		if err := f.x.c.sawUnknown(); err != nil {
			return err
		}
		f.skip = true
	}
	f.buf, f.left = f.buf[n:], length
	return nil
}

// timed reads from the stream within what time the visitor has left.
func (f *frames) timed(p []byte) (int, error) {
	k := f.x.c.s.clock
	from := k.Now()
	_ = f.x.st.SetReadDeadline(k.At(from + f.pace.Left())) // never fails
	if f.halt.Load() {
		f.end()
	}
	n, err := f.x.st.Read(p)
	f.pace.Moved(k.Now()-from, n)
	return n, err
}

// end ends a read that waits.
func (f *frames) end() {
	_ = f.x.st.SetReadDeadline(f.x.c.s.clock.At(0)) // a time that has passed; never fails
}

// fill reads more behind buf, which is short.
func (f *frames) fill() error {
	if f.mem == nil {
		f.mem = f.x.c.s.pools.small.Get().(*block)
	}
	kept := copy(f.mem.b[:], f.buf)
	n, err := f.timed(f.mem.b[kept:])
	f.buf = f.mem.b[:kept+n]
	if err == io.EOF {
		f.eof = true
		return nil
	}
	return given(err)
}

// readTrailer reads the field section behind the body (RFC 9114 §4.1).
func (f *frames) readTrailer(have []byte, length uint64) error {
	x := f.x
	if length > uint64(x.c.s.l.Head) {
		return errHeadLong
	}
	section := make([]byte, length)
	n := copy(section, have)
	f.buf = have[n:]
	for n < len(section) {
		if f.eof {
			return errFrameCut
		}
		m, err := f.timed(section[n:])
		n += m
		if err == io.EOF {
			f.eof = true
		} else if err != nil {
			return given(err)
		}
	}
	f.ended = true
	return decodeTrailer(section, f.trailer, &x.c.s.l)
}

func decodeTrailer(section []byte, to *msg.Fields, l *Limits) error {
	var qp qpack.Reader // its memory lives as long as the trailer
	if err := qp.Start(section); err != nil {
		return &failure{codeDecompression, Compression, err.Error()}
	}
	size := 0
	for qp.More() {
		name, value, err := qp.Next()
		if err != nil {
			to.Reset() // none of it is to be trusted
			return &failure{codeDecompression, Compression, err.Error()}
		}
		size += len(name) + len(value) + 32
		if size > l.Head || to.Len() == l.Fields {
			to.Reset()
			return errHeadLong
		}
		if err := head.AddTrailer(to, name, value); err != nil {
			to.Reset()
			return &reject{codeMessage, 0, Malformed, err.Error()}
		}
	}
	return nil
}

// given translates the error of a stream that was reset.
func given(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return errGiven
}
