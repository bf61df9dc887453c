package request

import (
	"errors"
	"io"
)

// Body is the request's body. Rows that judge it call Peek; the origin row
// reads it, buffered bytes first. The zero value is an empty body.
type Body struct {
	src   io.ReadCloser
	buf   []byte // read so far while peeking
	at    int    // of buf, consumed by Read
	ended error  // what src answered last: io.EOF or a failure
	Size  int64  // as announced, msg.LengthUnknown when chunked
}

// NewBody wraps what the protocol gave; src may be nil.
func NewBody(src io.ReadCloser, size int64) Body { return Body{src: src, Size: size} }

// Present reports whether the request came with a body.
func (b *Body) Present() bool { return b.src != nil }

// Peek waits until limit bytes or the end have arrived and returns what is
// buffered; more says that the body goes on. It consumes nothing. A failure
// of the visitor's to send comes back as the error.
func (b *Body) Peek(limit int) (held []byte, more bool, err error) {
	if b.src == nil {
		return nil, false, nil
	}
	for len(b.buf) < limit && b.ended == nil {
		if cap(b.buf)-len(b.buf) == 0 {
			grown := make([]byte, len(b.buf), min(limit, max(4096, 2*cap(b.buf))))
			copy(grown, b.buf)
			b.buf = grown
		}
		var n int
		n, b.ended = b.src.Read(b.buf[len(b.buf):min(cap(b.buf), limit)])
		b.buf = b.buf[:len(b.buf)+n]
	}
	if b.ended != nil && !errors.Is(b.ended, io.EOF) {
		return b.buf, false, b.ended
	}
	return b.buf, b.ended == nil, nil
}

// Read returns buffered bytes first, then the stream's.
func (b *Body) Read(p []byte) (int, error) {
	if b.at < len(b.buf) {
		n := copy(p, b.buf[b.at:])
		b.at += n
		return n, nil
	}
	if b.ended != nil {
		return 0, b.ended
	}
	if b.src == nil {
		return 0, io.EOF
	}
	return b.src.Read(p)
}

// Rewind makes the buffered bytes readable again and reports whether that is
// the whole body, so that a request may be sent a second time.
func (b *Body) Rewind() bool {
	if b.src != nil && b.ended == nil {
		return false
	}
	b.at = 0
	return b.src == nil || errors.Is(b.ended, io.EOF)
}

// Close closes the stream.
func (b *Body) Close() error {
	if b.src == nil {
		return nil
	}
	return b.src.Close()
}
