// Package stream is a body on its way: one fill appends, any number of readers
// follow, each at its own pace, woken as bytes arrive. It promises that a slow
// or absent reader never holds up the others nor the storing of the body, and
// that a body too large to store takes no more memory than the limit and a
// window.
package stream

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

// Stream is one body. While it may still be stored all of it is kept; once it
// has outgrown the limit only a window is. Its filling methods, Fill, Pass,
// Buffer, Show and End, belong to one goroutine. What is kept lies in memory that
// the maker of the stream owns: it may be taken back when the fill has ended and
// each Reader is closed.
type Stream struct {
	length int64 // as announced, -1 (msg.LengthUnknown) when it was not
	memory Memory

	mu      sync.Mutex
	chunks  []chunk // contiguous, in order; one while all is kept
	size    int64   // bytes that readers may see
	err     error   // io.EOF at a whole end; nil = more may come
	readers []*Reader
	wake    chan struct{} // closed when there is more to read; nil = nobody waits
	room    chan struct{} // closed when a reader went on or left; nil = the fill does not wait

	grace   time.Duration // owned by the fill: how long followers may hold it up
	buf     []byte        // owned by the fill: what is kept; its first size bytes never change
	spilled bool          // owned by the fill: no more is kept
}

// Memory is where a stream keeps a body. It belongs to the goroutine that fills
// the stream.
type Memory interface {
	// Alloc returns no bytes with room for at least n, nil where it refuses.
	Alloc(n int) []byte
	// Extend makes room for n bytes around those that b has, where they are; nil
	// where that cannot be.
	Extend(b []byte, n int) []byte
	// Free takes b back.
	Free(b []byte)
}

// chunk is a piece of the body that starts at byte from.
type chunk struct {
	from int64
	data []byte
}

func (c *chunk) end() int64 { return c.from + int64(len(c.data)) }

const (
	firstBuffer = 16 << 10    // of a body of unknown size
	knownBuffer = 1 << 20     // of a body whose size is announced; beyond it doubles as bytes come
	passBuffer  = 32 << 10    // read at a time when a body is passed on
	followTime  = time.Second // for which a body waits in all for who follows it
	maxIdle     = 100         // reads without a byte in a row
)

// What becomes of a body that is not stored, beside failures of its source.
var (
	ErrFull    = errors.New("body is larger than what is stored")
	ErrCrowded = errors.New("too many bytes are on their way into the store")
	ErrSpilled = errors.New("body was passed on without being stored")
	ErrLag     = errors.New("reader fell behind the window of an object too large to store")

	errIdle = errors.New("the origin's body returned nothing too often")
	errLeft = errors.New("nobody reads an object that is too large to store")

	errClosed = errors.New("read after Close")
)

// New returns an empty stream; length is as announced, -1
// (msg.LengthUnknown) when it was not.
func New(length int64, m Memory) *Stream {
	return &Stream{length: length, memory: m, grace: followTime}
}

// Fill reads src to its end, or to the announced length, keeping all. It
// returns ErrFull when limit bytes are held and more comes, and ErrCrowded when
// there was no memory: Pass takes it from there. The last bytes are held back
// until Show, so that nobody sees the end before the body is stored.
func (st *Stream) Fill(src io.Reader, limit int64) error {
	idle := 0
	for {
		if int64(len(st.buf)) == st.length {
			return nil
		}
		if len(st.buf) == st.most(limit) {
			if refused := st.grow(limit); refused != nil {
				return st.probe(src, refused)
			}
		}
		n, err := src.Read(st.buf[len(st.buf):st.most(limit)])
		st.buf = st.buf[:len(st.buf)+n]
		if idle++; n > 0 {
			idle = 0
		}
		switch {
		case int64(len(st.buf)) == st.length:
			return nil // the last bytes are shown by whole and end
		case err == io.EOF && st.length >= 0:
			st.Show()
			return io.ErrUnexpectedEOF
		case err == io.EOF:
			return nil
		case err != nil:
			st.Show()
			return err
		case idle > maxIdle:
			return errIdle
		}
		st.Show()
	}
}

// most is how long buf may become without growing.
func (st *Stream) most(limit int64) int {
	n := min(int64(cap(st.buf)), limit)
	if st.length >= 0 {
		n = min(n, st.length)
	}
	return int(n)
}

// grow makes room in buf, at most limit bytes in all.
func (st *Stream) grow(limit int64) error {
	held := int64(len(st.buf))
	if held >= limit {
		return ErrFull
	}
	want := max(firstBuffer, 2*held)
	if st.length >= 0 {
		want = max(want, min(st.length, knownBuffer))
		want = min(want, st.length)
	}
	want = min(want, limit)
	if held > 0 {
		if longer := st.memory.Extend(st.buf, int(want)); longer != nil {
			st.buf = longer
			return nil
		}
	}
	grown := st.memory.Alloc(int(want))
	if grown == nil {
		return ErrCrowded
	}
	old := st.buf
	st.mu.Lock()
	st.buf = append(grown, old...)
	if len(st.chunks) > 0 {
		st.chunks[0].data = st.buf[:st.size]
	}
	st.mu.Unlock()
	st.memory.Free(old) // readers copy under the lock: none is left in it
	return nil
}

// probe finds out whether a body that fills what it may ends there; if not,
// it is the end of keeping.
func (st *Stream) probe(src io.Reader, refused error) error {
	var one [1]byte
	for range maxIdle {
		n, err := src.Read(one[:])
		switch {
		case n > 0:
			st.Show()
			st.mu.Lock()
			defer st.mu.Unlock()
			st.chunks = append(st.chunks, chunk{st.size, []byte{one[0]}})
			st.size++
			st.spilled = true
			st.signal()
			return refused
		case err == io.EOF:
			return nil
		case err != nil:
			st.Show()
			return err
		}
	}
	return errIdle
}

// Show lets readers see all of buf.
func (st *Stream) Show() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.spilled || int64(len(st.buf)) == st.size {
		return
	}
	st.chunks = append(st.chunks[:0], chunk{0, st.buf})
	st.size = int64(len(st.buf))
	st.signal()
}

// signal wakes readers; mu is held.
func (st *Stream) signal() {
	if st.wake != nil {
		close(st.wake)
		st.wake = nil
	}
}

// Buffer is what is kept: the whole body after a Fill without error. Its memory
// is the caller's.
func (st *Stream) Buffer() []byte { return st.buf }

// Kept is what is kept of a body that ended too early; nil where it was not to
// be kept. Its memory is the caller's.
func (st *Stream) Kept() []byte {
	if st.spilled {
		return nil
	}
	return st.buf
}

// End tells readers that the body ends, or why it does not.
func (st *Stream) End(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.err = err
	st.signal()
}

// Pass moves the rest of a body through a window of bytes, after what is
// held already. It is as fast as its fastest reader: when that one waits for
// more and the window is full, who is behind is cut off. It ends when nobody
// reads any more and expected says that nobody will.
func (st *Stream) Pass(ctx context.Context, src io.Reader, window int64, expected func() bool) error {
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
			return ErrSpilled
		case err != nil:
			return err
		case idle > maxIdle:
			return errIdle
		}
	}
}

func (st *Stream) push(ctx context.Context, data []byte, window int64, expected func() bool) error {
	for {
		st.mu.Lock()
		room, behind := st.makeRoom(window)
		if room {
			st.chunks = append(st.chunks, chunk{st.size, data})
			st.size += int64(len(data))
			st.signal()
			st.mu.Unlock()
			return nil
		}
		if !slices.ContainsFunc(st.readers, (*Reader).wants) && !expected() {
			st.mu.Unlock()
			return errLeft
		}
		if st.room == nil {
			st.room = make(chan struct{})
		}
		moved := st.room
		st.mu.Unlock()
		if err := st.await(ctx, moved, behind); err != nil {
			return err
		}
	}
}

// await waits for a reader to move; for one that is behind and only follows, as long
// as followers may hold a body up.
func (st *Stream) await(ctx context.Context, moved <-chan struct{}, behind bool) error {
	var late <-chan time.Time
	if behind {
		t := time.NewTimer(st.grace)
		defer t.Stop()
		late = t.C
		began := time.Now()
		defer func() { st.grace -= time.Since(began) }()
	}
	select {
	case <-moved:
	case <-late:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// makeRoom drops chunks that all have read, and those that only laggards
// need when somebody waits for more. It reports whether there is room; behind says
// that one who only follows is waited for.
func (st *Stream) makeRoom(window int64) (room, behind bool) {
	slowest, wanted, fastest := st.size, st.size, int64(-1)
	for _, r := range st.readers {
		slowest = min(slowest, r.at)
		if r.wants() {
			wanted, fastest = min(wanted, r.at), max(fastest, r.at)
		}
	}
	if fastest < 0 {
		return false, false
	}
	for len(st.chunks) > 0 {
		first := &st.chunks[0]
		full := st.size-first.end() >= window
		if first.end() > slowest {
			behind = full && fastest == st.size && first.end() <= wanted && st.grace > 0
			if behind || !(full && fastest == st.size) {
				return !full, behind
			}
		}
		st.chunks = slices.Delete(st.chunks, 0, 1)
	}
	return true, false
}

// Reader is one visitor's way through a stream. Read and Close belong to the
// goroutine that answers the visitor.
type Reader struct {
	st    *Stream
	ctx   context.Context
	aside bool  // see Follow
	at    int64 // guarded by st.mu

	closed bool // guarded by st.mu
}

func (r *Reader) wants() bool { return !r.aside }

// Follow is Attach for who copies the body elsewhere. Nothing is passed on for its
// sake, and it is cut off as any reader is that falls behind, but for a second in all
// that a body waits for it: a disk may take a moment.
func (st *Stream) Follow(ctx context.Context) *Reader { return st.attach(ctx, true) }

// Attach begins at the first byte; nil when that is no longer held.
func (st *Stream) Attach(ctx context.Context) *Reader { return st.attach(ctx, false) }

func (st *Stream) attach(ctx context.Context, aside bool) *Reader {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.size > 0 && (len(st.chunks) == 0 || st.chunks[0].from > 0) {
		return nil
	}
	r := &Reader{st: st, ctx: ctx, aside: aside}
	st.readers = append(st.readers, r)
	st.moved()
	return r
}

// Poke makes a waiting Pass look again whether readers are expected.
func (st *Stream) Poke() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.moved()
}

// moved tells a waiting fill that a reader came, went on or left; mu is held.
func (st *Stream) moved() {
	if st.room != nil {
		close(st.room)
		st.room = nil
	}
}

// Read waits for bytes that the reader has not seen, the end, a failure of
// the fill, or the end of the visitor's connection.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, wake, err := r.next(p)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-wake:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

// next copies bytes into p and goes past them, or returns what to wait for. The
// copy is made under the lock: memory that a chunk has lost is given back.
func (r *Reader) next(p []byte) (n int, wake <-chan struct{}, err error) {
	st := r.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if r.closed {
		return 0, nil, errClosed
	}
	if r.at < st.size {
		i, _ := slices.BinarySearchFunc(st.chunks, r.at, func(c chunk, at int64) int {
			if c.end() <= at {
				return -1
			}
			return 1
		})
		if i == len(st.chunks) || st.chunks[i].from > r.at {
			return 0, nil, ErrLag
		}
		n = copy(p, st.chunks[i].data[r.at-st.chunks[i].from:])
		r.at += int64(n)
		if r.at == st.chunks[i].end() {
			st.moved()
		}
		return n, nil, nil
	}
	if st.err != nil {
		return 0, nil, st.err
	}
	if st.wake == nil {
		st.wake = make(chan struct{})
	}
	return 0, st.wake, nil
}

// Close leaves the stream; no byte is read after it.
func (r *Reader) Close() error {
	st := r.st
	st.mu.Lock()
	defer st.mu.Unlock()
	r.closed = true
	if i := slices.Index(st.readers, r); i >= 0 {
		st.readers = slices.Delete(st.readers, i, i+1)
		st.moved()
	}
	return nil
}

// Length is what readers are told: as announced, or msg.LengthUnknown.
func (st *Stream) Length() int64 { return st.length }
