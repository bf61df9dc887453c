package h3

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/quic-go/quic-go"
)

// acceptUni takes the visitor's unidirectional streams.
func (c *conn) acceptUni() {
	for {
		st, err := c.qc.AcceptUniStream(c.ctx)
		if err != nil {
			return // the connection has ended
		}
		// As many as quic.Config.MaxIncomingUniStreams at a time.
		c.work.Go(func() {
			if f := c.uni(st); f != nil {
				c.end(f)
			}
		})
	}
}

// uniReader reads a unidirectional stream in pieces that are whole.
type uniReader struct {
	c    *conn
	st   *quic.ReceiveStream
	buf  [1024]byte
	r, w int
}

// uni serves one unidirectional stream to its end.
func (c *conn) uni(st *quic.ReceiveStream) *failure {
	u := &uniReader{c: c, st: st}
	kind, err := u.varint(c.s.l.HeadTimeout)
	if err != nil {
		// A stream that ends before it says what it is may be any (RFC 9114 §6.2).
		st.CancelRead(codeStreamCreation.stream())
		return c.sawUnknown()
	}
	switch kind {
	case streamPush:
		return errStreamPush
	case streamControl, streamEncoder, streamDecoder:
		if !c.first(kind) {
			return errStreamTwice
		}
	default:
		st.CancelRead(codeStreamCreation.stream())
		return c.sawUnknown()
	}
	switch kind {
	case streamControl:
		return u.controlFrames()
	case streamEncoder:
		return u.encoder()
	}
	return u.decoder()
}

// first notes a critical stream; it is false for a second of its kind.
func (c *conn) first(kind uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.kinds[kind]
	c.kinds[kind] = true
	return !seen
}

// sawUnknown counts what may be ignored. Its result is an error only when it is one.
func (c *conn) sawUnknown() *failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unknown.Over(c.s.clock.Now(), c.s.l.Unknown, c.s.l.FloodTime) {
		return errUnknownFlood
	}
	return nil
}

// fill reads more. A wait of 0 is without end.
func (u *uniReader) fill(wait time.Duration) error {
	if u.r == u.w {
		u.r, u.w = 0, 0
	} else if u.w == len(u.buf) {
		u.w = copy(u.buf[:], u.buf[u.r:u.w])
		u.r = 0
	}
	var until time.Time
	if wait > 0 {
		until = u.c.s.clock.At(u.c.s.clock.Now() + wait)
	}
	_ = u.st.SetReadDeadline(until) // never fails
	n, err := u.st.Read(u.buf[u.w:])
	if u.w += n; n > 0 {
		return nil // an error comes again
	}
	return err
}

func (u *uniReader) varint(wait time.Duration) (uint64, error) {
	for {
		if v, n := readVarint(u.buf[u.r:u.w]); n > 0 {
			u.r += n
			return v, nil
		}
		if err := u.fill(wait); err != nil {
			return 0, err
		}
	}
}

// closed translates the end of a critical stream; that of the connection is
// nobody's failure.
func (u *uniReader) closed(err error) *failure {
	if err == io.EOF {
		return errClosed
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errSlowControl
	}
	if _, ok := errors.AsType[*quic.StreamError](err); ok {
		return errClosed
	}
	return nil
}

// encoder reads the instructions of the visitor's QPACK encoder: with a
// capacity of 0 it can only say so (RFC 9204 §4.3.1).
func (u *uniReader) encoder() *failure {
	for {
		for ; u.r < u.w; u.r++ {
			if u.buf[u.r] != 0x20 {
				return errEncoder
			}
			if f := u.c.sawUnknown(); f != nil {
				return f
			}
		}
		if err := u.fill(0); err != nil {
			return u.closed(err)
		}
	}
}

// decoder reads what the visitor's QPACK decoder says: it may give up streams,
// and has nothing to acknowledge (RFC 9204 §4.4).
func (u *uniReader) decoder() *failure {
	inside := false // an integer that goes on
	for {
		for ; u.r < u.w; u.r++ {
			b := u.buf[u.r]
			switch {
			case inside:
				inside = b&0x80 != 0
			case b&0xc0 == 0x40:
				inside = b&0x3f == 0x3f
			default:
				return errDecoder
			}
			if !inside {
				if f := u.c.sawUnknown(); f != nil {
					return f
				}
			}
		}
		if err := u.fill(0); err != nil {
			return u.closed(err)
		}
	}
}

// controlFrames reads the visitor's control stream (RFC 9114 §6.2.1).
func (u *uniReader) controlFrames() *failure {
	for first := true; ; first = false {
		kind, length, f := u.frame()
		if f != nil || u.c.ctx.Err() != nil {
			return f
		}
		if first != (kind == frameSettings) {
			if first {
				return errNoSettings
			}
			return errFrameOrder
		}
		if !known(kind) {
			if f := u.c.sawUnknown(); f != nil {
				return f
			}
			if f := u.discard(length); f != nil {
				return f
			}
			continue
		}
		if length > uint64(len(u.buf)) {
			return errControlLong
		}
		p, f := u.payload(int(length))
		if f == nil && p != nil {
			f = u.c.controlFrame(kind, p)
		}
		if f != nil || p == nil {
			return f
		}
	}
}

// frame reads the head of a frame. Between frames it waits without end.
func (u *uniReader) frame() (kind, length uint64, f *failure) {
	for {
		if kind, length, n := readFrame(u.buf[u.r:u.w]); n > 0 {
			u.r += n
			return kind, length, nil
		}
		wait := time.Duration(0)
		if u.r < u.w {
			wait = u.c.s.l.HeadTimeout
		}
		if err := u.fill(wait); err != nil {
			return 0, 0, u.closed(err)
		}
	}
}

// payload reads a whole frame; nil without a failure when the connection ended.
func (u *uniReader) payload(n int) ([]byte, *failure) {
	if u.r+n > len(u.buf) {
		u.w = copy(u.buf[:], u.buf[u.r:u.w])
		u.r = 0
	}
	for u.w-u.r < n {
		if err := u.fill(u.c.s.l.HeadTimeout); err != nil {
			return nil, u.closed(err)
		}
	}
	p := u.buf[u.r : u.r+n : u.r+n]
	u.r += n
	return p, nil
}

func (u *uniReader) discard(n uint64) *failure {
	for n > 0 {
		if u.r == u.w {
			if err := u.fill(u.c.s.l.HeadTimeout); err != nil {
				return u.closed(err)
			}
		}
		k := min(n, uint64(u.w-u.r))
		u.r, n = u.r+int(k), n-k
	}
	return nil
}

// controlFrame acts on a frame of the control stream.
func (c *conn) controlFrame(kind uint64, p []byte) *failure {
	switch kind {
	case frameSettings:
		_, f := parseSettings(p)
		return f
	case framePriorityRequest:
		return c.priorityUpdate(p)
	case framePriorityPush:
		return errPriorityID // we promise nothing
	case frameGoAway, frameMaxPushID, frameCancelPush:
		id, n := readVarint(p)
		if n == 0 || n != len(p) {
			return errFrameLength
		}
		return c.pushFrame(kind, id)
	}
	return errFrameOrder
}

// pushFrame acts on what concerns pushes, of which we make none.
func (c *conn) pushFrame(kind, id uint64) *failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch kind {
	case frameGoAway:
		if id > c.goAway {
			return errGoAwayID
		}
		c.goAway = id
	case frameMaxPushID:
		if id < c.maxPush {
			return errPushID
		}
		c.maxPush = id
	default:
		return errPushID
	}
	return nil
}
