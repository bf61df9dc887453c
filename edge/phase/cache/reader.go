package cache

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/selvage-edge/selvage/wire/msg"
)

// stream is a body on its way: one fill appends, any number of readers
// follow, each at its own pace. While the body may still be stored all of it
// is kept; once it has outgrown the limit only a window is.
type stream struct {
	length int64 // as announced, msg.LengthUnknown when it was not

	mu      sync.Mutex
	chunks  []chunk // contiguous, in order; one while all is kept
	size    int64   // bytes that readers may see
	err     error   // io.EOF at a whole end; nil = more may come
	readers []*reader
	wake    chan struct{} // closed when there is more to read; nil = nobody waits
	room    chan struct{} // closed when a reader went on or left; nil = the fill does not wait

	buf []byte // owned by the fill: what is kept; its first size bytes never change
}

// chunk is a piece of the body that starts at byte from.
type chunk struct {
	from int64
	data []byte
}

func (c *chunk) end() int64 { return c.from + int64(len(c.data)) }

const (
	firstBuffer = 16 << 10 // of a body of unknown or large size
	passBuffer  = 32 << 10 // read at a time when a body is passed on
	maxIdle     = 100      // reads without a byte in a row
)

var (
	errFull    = errors.New("body is larger than what is stored")
	errSpilled = errors.New("body was passed on without being stored")
	errLag     = errors.New("reader fell behind the window of an object too large to store")
)

func newStream(length int64) *stream { return &stream{length: length} }

// fillFrom reads src to its end, or to the announced length, keeping all.
// It returns errFull when limit bytes are held and more comes.
func (st *stream) fillFrom(src io.Reader, limit int64) error {
	idle := 0
	for {
		if int64(len(st.buf)) == st.length {
			return nil
		}
		if len(st.buf) == cap(st.buf) && !st.grow(limit) {
			return st.probe(src)
		}
		n, err := src.Read(st.buf[len(st.buf):cap(st.buf)])
		st.buf = st.buf[:len(st.buf)+n]
		if idle++; n > 0 {
			idle = 0
		}
		switch {
		case st.length >= 0 && int64(len(st.buf)) > st.length:
			return errLong
		case int64(len(st.buf)) == st.length:
			return nil // the last bytes are shown by whole and end
		case err == io.EOF && st.length >= 0:
			st.show()
			return io.ErrUnexpectedEOF
		case err == io.EOF:
			return nil
		case err != nil:
			st.show()
			return err
		case idle > maxIdle:
			return errIdle
		}
		st.show()
	}
}

// grow makes room in buf, at most limit bytes in all.
func (st *stream) grow(limit int64) bool {
	held := int64(len(st.buf))
	if held >= limit {
		return false
	}
	want := max(firstBuffer, 2*held)
	if st.length >= 0 {
		want = min(want, st.length)
	}
	grown := make([]byte, held, min(want, limit))
	copy(grown, st.buf)
	st.buf = grown
	return true
}

// probe finds out whether a body that fills the limit ends there.
func (st *stream) probe(src io.Reader) error {
	var one [1]byte
	for range maxIdle {
		n, err := src.Read(one[:])
		switch {
		case n > 0:
			st.show()
			st.mu.Lock()
			defer st.mu.Unlock()
			st.chunks = append(st.chunks, chunk{st.size, []byte{one[0]}})
			st.size++
			st.signal()
			return errFull
		case err == io.EOF:
			return nil
		case err != nil:
			st.show()
			return err
		}
	}
	return errIdle
}

// show lets readers see all of buf.
func (st *stream) show() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if int64(len(st.buf)) == st.size {
		return
	}
	st.chunks = append(st.chunks[:0], chunk{0, st.buf})
	st.size = int64(len(st.buf))
	st.signal()
}

// signal wakes readers; mu is held.
func (st *stream) signal() {
	if st.wake != nil {
		close(st.wake)
		st.wake = nil
	}
}

// whole returns the body for storing, without slack worth mentioning.
func (st *stream) whole() []byte {
	if slack := cap(st.buf) - len(st.buf); slack > len(st.buf)/8 {
		st.buf = append(make([]byte, 0, len(st.buf)), st.buf...)
	}
	if st.buf == nil {
		st.buf = []byte{}
	}
	return st.buf
}

// end tells readers that the body ends, or why it does not.
func (st *stream) end(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.err = err
	st.signal()
}

// passFrom moves the rest of a body through a window of bytes, after what is
// held already. It is as fast as its fastest reader: when that one waits for
// more and the window is full, who is behind is cut off. It ends when nobody
// reads any more and expected says that nobody will.
func (st *stream) passFrom(ctx context.Context, src io.Reader, window int64, expected func() bool) error {
	idle := 0
	for {
		data := make([]byte, passBuffer)
		n, err := src.Read(data)
		if idle++; n > 0 {
			idle = 0
			if err := st.push(ctx, data[:n], window, expected); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return errSpilled
		case err != nil:
			return err
		case idle > maxIdle:
			return errIdle
		}
	}
}

func (st *stream) push(ctx context.Context, data []byte, window int64, expected func() bool) error {
	for {
		st.mu.Lock()
		if st.makeRoom(window) {
			st.chunks = append(st.chunks, chunk{st.size, data})
			st.size += int64(len(data))
			st.signal()
			st.mu.Unlock()
			return nil
		}
		if len(st.readers) == 0 && !expected() {
			st.mu.Unlock()
			return errLeft
		}
		if st.room == nil {
			st.room = make(chan struct{})
		}
		room := st.room
		st.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// makeRoom drops chunks that all have read, and those that only laggards
// need when somebody waits for more. It reports whether there is room.
func (st *stream) makeRoom(window int64) bool {
	slowest, fastest := st.size, int64(-1)
	for _, r := range st.readers {
		slowest, fastest = min(slowest, r.at), max(fastest, r.at)
	}
	if len(st.readers) == 0 {
		return false
	}
	for len(st.chunks) > 0 {
		first := &st.chunks[0]
		full := st.size-first.end() >= window
		if first.end() > slowest && !(full && fastest == st.size) {
			return !full
		}
		st.chunks = slices.Delete(st.chunks, 0, 1)
	}
	return true
}

// reader is one visitor's way through a stream. Read and Close belong to the
// goroutine that answers the visitor.
type reader struct {
	st  *stream
	ctx context.Context
	at  int64 // guarded by st.mu
}

// attach begins at the first byte; nil when that is no longer held.
func (st *stream) attach(ctx context.Context) *reader {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.size > 0 && (len(st.chunks) == 0 || st.chunks[0].from > 0) {
		return nil
	}
	r := &reader{st: st, ctx: ctx}
	st.readers = append(st.readers, r)
	st.moved()
	return r
}

// moved tells a waiting fill that a reader came, went on or left; mu is held.
func (st *stream) moved() {
	if st.room != nil {
		close(st.room)
		st.room = nil
	}
}

// Read waits for bytes that the reader has not seen, the end, a failure of
// the fill, or the end of the visitor's connection.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		data, wake, err := r.next(len(p))
		if len(data) > 0 {
			return copy(p, data), nil
		}
		if err != nil {
			return 0, err
		}
		select {
		case <-wake:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

// next returns up to n bytes and goes past them, or what to wait for.
func (r *reader) next(n int) (data []byte, wake <-chan struct{}, err error) {
	st := r.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if r.at < st.size {
		i, _ := slices.BinarySearchFunc(st.chunks, r.at, func(c chunk, at int64) int {
			if c.end() <= at {
				return -1
			}
			return 1
		})
		if i == len(st.chunks) || st.chunks[i].from > r.at {
			return nil, nil, errLag
		}
		data = st.chunks[i].data[r.at-st.chunks[i].from:]
		data = data[:min(n, len(data))]
		r.at += int64(len(data))
		if r.at == st.chunks[i].end() {
			st.moved()
		}
		return data, nil, nil
	}
	if st.err != nil {
		return nil, nil, st.err
	}
	if st.wake == nil {
		st.wake = make(chan struct{})
	}
	return nil, st.wake, nil
}

// Close leaves the stream.
func (r *reader) Close() error {
	st := r.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if i := slices.Index(st.readers, r); i >= 0 {
		st.readers = slices.Delete(st.readers, i, i+1)
		st.moved()
	}
	return nil
}

// known is the length that readers are told.
func (st *stream) known() int64 {
	if st.length < 0 {
		return msg.LengthUnknown
	}
	return st.length
}
