package h1

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

var (
	errDropped  = errors.New("h1: ended without an answer, as asked")
	errOutField = errors.New("h1: field that must not be written")
	errOutHead  = errors.New("h1: prepared head is not made of whole lines")
	errOutCode  = errors.New("h1: status that cannot be written")
	errStuck    = errors.New("h1: stream gives neither bytes nor an error")
)

// statusLines is written by its initialiser only.
var statusLines = func() (t [600]string) {
	for code := 100; code < len(t); code++ {
		t[code] = "HTTP/1.1 " + strconv.Itoa(code) + " " + http.StatusText(code) + "\r\n"
	}
	return t
}()

// dateLine is for a clock.Clock.
func dateLine(date []byte) []byte { return append(append([]byte("Date: "), date...), "\r\n"...) }

func appendStatus(p []byte, status int) []byte { return append(p, statusLines[status]...) }

func appendInt(p []byte, n int64) []byte { return strconv.AppendInt(p, n, 10) }

// appendPlain appends a short answer that ends the connection.
func (c *conn) appendPlain(p []byte, status int) []byte {
	p = append(appendStatus(p, status), c.s.clock.Date()...)
	text := http.StatusText(status)
	p = append(p, "Content-Type: text/plain\r\nConnection: close\r\nContent-Length: "...)
	p = append(appendInt(p, int64(len(text)+1)), "\r\n\r\n"...)
	if c.req.Method != msg.HEAD {
		p = append(append(p, text...), '\n')
	}
	return p
}

// outFields says which connection fields of a list are written all the same.
type outFields uint8

const (
	dropAll    outFields = 0
	keepLength outFields = 1 << iota
	keepUpgrade
)

// appendFields appends field lines but those that belong to the connection.
// A name or value that would break out of its line is an error: nothing that
// a row below lets through can split an answer in two.
func appendFields(p []byte, f *msg.Fields, keep outFields) ([]byte, error) {
	for i := range f.Len() {
		l := f.At(i)
		switch l.ID {
		case msg.Connection, msg.KeepAlive, msg.ProxyConnection, msg.TransferEncoding:
			continue
		case msg.ContentLength:
			if keep&keepLength == 0 {
				continue
			}
		case msg.Upgrade:
			if keep&keepUpgrade == 0 {
				continue
			}
		case msg.Unknown:
			if len(l.Name) == 0 || !head.Token.All(l.Name) {
				return nil, errOutField
			}
		}
		if !head.AllValue(l.Value) {
			return nil, errOutField
		}
		p = append(append(p, l.Name...), ": "...)
		p = append(append(p, l.Value...), "\r\n"...)
	}
	return p, nil
}

// wholeLines reports whether p is empty or lines that end in CRLF, none of
// them empty.
func wholeLines(p []byte) bool {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 2 || p[i-1] != '\r' {
			return false
		}
		p = p[i+1:]
	}
	return true
}

// shape is how an answer is framed.
type shape struct {
	head    bool  // the answer ends with its head
	length  int64 // LengthUnknown: chunked, or until the connection closes
	chunked bool
	keep    bool
}

func (c *conn) shape(keep bool) shape {
	res := &c.res
	s := shape{length: res.Length, keep: keep && !res.EndConn && !c.s.conns.Draining()}
	s.head = bodiless(c.req.Method, res.Status)
	switch {
	case res.Bytes != nil:
		s.length = int64(len(res.Bytes))
	case res.Body == nil && c.req.Method != msg.HEAD:
		s.length = 0
	}
	if c.body != nil && !c.body.tractable() {
		s.keep = false
	}
	if s.length < 0 && !s.head {
		s.chunked = c.req.Proto == msg.HTTP11
		s.keep = s.keep && s.chunked
	}
	return s
}

// appendHead appends the whole head of the answer.
func (c *conn) appendHead(p []byte, s shape) ([]byte, error) {
	res := &c.res
	p = appendStatus(p, res.Status)
	dated := res.Fields.Has(msg.Date)
	if res.Prepared != nil {
		if !wholeLines(res.Prepared.H1) {
			return nil, errOutHead
		}
		p = append(p, res.Prepared.H1...)
		dated = dated || res.Prepared.Dated
	}
	keep := dropAll
	if s.head && res.Status != 204 {
		keep = keepLength
	}
	p, err := appendFields(p, &res.Fields, keep)
	if err != nil {
		return nil, err
	}
	if !dated {
		p = append(p, c.s.clock.Date()...)
	}
	switch {
	case s.chunked:
		p = append(p, "Transfer-Encoding: chunked\r\n"...)
	case c.sized(s):
		p = append(appendInt(append(p, "Content-Length: "...), s.length), "\r\n"...)
	}
	switch {
	case !s.keep:
		p = append(p, "Connection: close\r\n"...)
	case c.req.Proto == msg.HTTP10:
		p = append(p, "Connection: keep-alive\r\n"...)
	}
	return append(p, "\r\n"...), nil
}

// sized reports whether the head says a length. For HEAD it is said when the
// answer to a GET is at hand, so that it is known to be the right one.
func (c *conn) sized(s shape) bool {
	if !s.head {
		return s.length >= 0
	}
	known := c.res.Bytes != nil || c.res.Body != nil || s.length > 0
	return c.req.Method == msg.HEAD && c.res.Status != 204 && c.res.Status != 304 &&
		s.length >= 0 && known && !c.res.Fields.Has(msg.ContentLength)
}

// respond writes the answer. sent counts body bytes.
func (c *conn) respond(keep bool) (sent int64, kept bool, err error) {
	res := &c.res
	c.wmu.Lock()
	c.started = true
	c.wmu.Unlock()
	switch {
	case res.Status == 0 && res.EndConn:
		c.broken = true
		return 0, false, errDropped
	case res.Status == 101 && res.Tunnel != nil && c.req.Upgrade != nil:
		sent, err = c.upgrade()
		return sent, false, err
	case res.Status < 200 || res.Status > 599:
		return 0, false, c.giveUp(errOutCode)
	}
	s := c.shape(keep)
	out := c.s.pools.out.Get().(*block)
	defer c.s.pools.out.Put(out)
	head, err := c.appendHead(out.b[:0], s)
	if err != nil {
		return 0, false, c.giveUp(err)
	}
	switch {
	case s.head || s.length == 0:
		_, err = c.write(head)
	case res.Bytes != nil:
		sent, err = c.writeBytes(head, res.Bytes)
	default:
		sent, err = c.stream(head, s)
	}
	if err != nil {
		c.broken = true
		if f, ok := errors.AsType[*fault.Error](err); !ok || f.Side == fault.Visitor {
			c.slow(SlowReader, err)
		}
		return sent, false, err
	}
	return sent, s.keep, nil
}

// giveUp answers 500 for an answer that cannot be written.
func (c *conn) giveUp(why error) error {
	if _, err := c.write(c.appendPlain(make([]byte, 0, 256), 500)); err != nil {
		c.broken = true
	}
	return &fault.Error{Op: "h1.answer", Side: fault.Edge, Err: why}
}

// writeBytes writes a head and a body in memory.
func (c *conn) writeBytes(head, body []byte) (sent int64, err error) {
	var n int
	if f, at, from := c.filed(body); f != nil {
		n, err = c.sendFile(append(head, body[:from]...), f, at, int64(len(body)-from), true)
	} else if c.out != nil {
		n, err = c.writeBoth(head, body)
	} else {
		n, err = c.writeBoth(head, body[:min(len(body), sliceMax)])
	}
	sent = max(0, int64(n-len(head)))
	for err == nil && sent < int64(len(body)) {
		n, err = c.write(body[sent:min(int64(len(body)), sent+sliceMax)])
		sent += int64(n)
	}
	if err != nil {
		return sent, visitorFault("h1.write", err)
	}
	return sent, nil
}

// What is sent from a file in memory, in bytes: below, copying costs less than two
// calls; above, less than the many pages.
const (
	filedLeast = 16 << 10
	filedMost  = 64 << 10
)

// filed says where the kernel can send a body from, but for the bytes before
// from, which travel with the head.
func (c *conn) filed(body []byte) (f *os.File, at int64, from int) {
	if c.out == nil || len(body) < filedLeast || len(body) > filedMost {
		return nil, 0, 0
	}
	if l, ok := c.res.Lender.(msg.Filed); ok {
		return l.File(body)
	}
	return nil, 0, 0
}

// armWrite lets the next write wait for WriteTimeout, and keeps its time.
func (c *conn) armWrite() error {
	c.moved()
	c.wrote = c.s.clock.Now()
	return c.dl.ArmWriteAt(c.wrote, c.s.l.WriteTimeout)
}

// write writes p, of at most sliceMax bytes or a head, within WriteTimeout.
func (c *conn) write(p []byte) (int, error) {
	if err := c.armWrite(); err != nil {
		return 0, err
	}
	if c.out != nil {
		return c.out.write(p, nil)
	}
	return c.nc.Write(p)
}

// writeBoth writes a and b with one system call where that is possible
// without copying more than copyMax bytes. a may be written to behind its end.
func (c *conn) writeBoth(a, b []byte) (int, error) {
	switch {
	case len(a) == 0:
		return c.write(b)
	case len(b) <= copyMax && len(b) <= cap(a)-len(a):
		return c.write(append(a, b...))
	case c.tcp == nil:
		// One record less under TLS: the head travels with what fits behind it.
		k := min(len(b), max(0, min(copyMax, cap(a))-len(a)))
		n, err := c.write(append(a, b[:k]...))
		if err != nil {
			return n, err
		}
		m, err := c.write(b[k:])
		return n + m, err
	}
	if err := c.armWrite(); err != nil {
		return 0, err
	}
	if c.out != nil {
		return c.out.write(a, b)
	}
	c.vec[0], c.vec[1] = a, b
	c.bufs = c.vec[:]
	n, err := c.bufs.WriteTo(c.tcp)
	clear(c.vec[:])
	return int(n), err
}

// sendFile writes a head and a body that lies in a file, and returns how many
// bytes of both have left.
func (c *conn) sendFile(head []byte, f *os.File, from, n int64, fast bool) (sent int, err error) {
	if err := c.armWrite(); err != nil {
		return 0, err
	}
	return c.out.sendFile(head, f, from, n, fast)
}

// chunkFrame is what a chunk needs around its data: four digits and CRLF in
// front, CRLF and possibly the last chunk behind.
const (
	chunkFront = 6
	chunkFrame = chunkFront + 2 + len(lastChunk)
	lastChunk  = "0\r\n\r\n"
)

// stream writes a head and a body that is pulled. Each piece leaves as it
// comes. A head without a length is not held back for the first of them,
// unless the body says that bytes are waiting.
func (c *conn) stream(head []byte, s shape) (sent int64, err error) {
	body := c.res.Body
	if f, ok := body.(msg.FileBody); ok && c.out != nil && s.length > 0 {
		if file, from, n, done := f.File(); file != nil {
			defer done()
			if n == s.length {
				wrote, err := c.sendFile(head, file, from, n, false)
				if sent = max(0, int64(wrote-len(head))); err != nil {
					return sent, visitorFault("h1.write", err)
				}
				return sent, nil
			}
		}
	}
	blk := c.s.pools.stream.Get().(*block)
	defer c.s.pools.stream.Put(blk)
	if b, ok := body.(interface{ Buffered() int }); s.length < 0 && (!ok || b.Buffered() == 0) {
		if _, err := c.write(head); err != nil {
			return 0, visitorFault("h1.write", err)
		}
		head = nil
	}
	for empty := 0; ; {
		room := int64(streamMax)
		if s.length >= 0 {
			room = min(room, s.length-sent)
		}
		n, rerr := body.Read(blk.b[chunkFront : chunkFront+room])
		// io.EOF itself and nothing that wraps it: a failure at the origin may.
		last := rerr == io.EOF && s.chunked && c.res.Trailer == nil
		if n > 0 || last {
			if _, err := c.writeBoth(head, frame(blk.b, n, s.chunked, last)); err != nil {
				return sent, visitorFault("h1.write", err)
			}
			head, empty = nil, 0
			sent += int64(n)
		}
		switch {
		case last || s.length >= 0 && sent == s.length:
			return sent, nil
		case rerr == io.EOF && s.length < 0:
			return sent, c.endStream(head, s)
		case rerr != nil:
			c.abort(s)
			return sent, early(rerr)
		}
		if empty++; n == 0 && empty > 100 {
			c.abort(s)
			return sent, errStuck
		}
	}
}

// frame returns n bytes at b[chunkFront:] as they go on the wire.
func frame(b []byte, n int, chunked, last bool) []byte {
	if !chunked {
		return b[chunkFront : chunkFront+n]
	}
	from, to := chunkFront, chunkFront+n
	if n > 0 {
		from -= 2
		copy(b[from:], "\r\n")
		for v := n; v > 0; v >>= 4 {
			from--
			b[from] = "0123456789abcdef"[v&15]
		}
		to += copy(b[to:], "\r\n")
	}
	if last {
		to += copy(b[to:], lastChunk)
	}
	return b[from:to]
}

// endStream writes what follows the last byte of a body without a length.
func (c *conn) endStream(front []byte, s shape) error {
	if !s.chunked {
		if len(front) == 0 {
			return nil
		}
		_, err := c.write(front)
		return err
	}
	p := append(append(make([]byte, 0, 512), front...), "0\r\n"...)
	p, err := appendFields(p, c.res.Trailer, dropAll)
	if err == nil {
		err = errOutField
		if head.TrailerAllowed(c.res.Trailer) {
			_, err = c.write(append(p, "\r\n"...))
			return err
		}
	}
	return &fault.Error{Op: "h1.trailer", Side: fault.Edge, Err: err}
}

// abort makes sure that a broken answer whose end is the connection's end is
// not taken for a whole one: the connection is reset, and under TLS closed
// without the farewell that would say that all has been sent (RFC 9112 §9.8).
func (c *conn) abort(s shape) {
	if s.length >= 0 || s.chunked {
		return
	}
	c.abrupt = true
	if tcp, ok := rawConn(c.nc).(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // closing follows at once
	}
}
