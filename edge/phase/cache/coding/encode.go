package coding

import (
	"compress/gzip"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	kgzip "github.com/klauspost/compress/gzip"

	"github.com/selvage-edge/selvage/internal/must"
)

// How hard encoders try. What is stored is compressed once and sent often;
// what passes is compressed for one visitor who waits.
const (
	storedGzip, passedGzip     = 7, gzip.BestSpeed + 3
	storedBrotli, passedBrotli = 7, 3
	storedZstd, passedZstd     = zstd.SpeedBetterCompression, zstd.SpeedFastest

	windowBits  = 18 // of Brotli and Zstandard: 256 KiB
	storedSlack = 512
)

// encoder is what the three have in common.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// pools hold encoders by coding and effort. They are this package's own memory,
// not its state.
var pools = [2][count]*sync.Pool{pool(storedGzip, storedBrotli, storedZstd), pool(passedGzip, passedBrotli, passedZstd)}

func pool(gzipLevel, brotliLevel int, zstdLevel zstd.EncoderLevel) (p [count]*sync.Pool) {
	p[Gzip] = &sync.Pool{New: func() any {
		w, err := kgzip.NewWriterLevel(nil, gzipLevel)
		must.That(err == nil, "a gzip level of ours is not one")
		return encoder(w)
	}}
	p[Brotli] = &sync.Pool{New: func() any {
		return encoder(brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: brotliLevel, LGWin: windowBits}))
	}}
	p[Zstd] = &sync.Pool{New: func() any {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstdLevel), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<windowBits), zstd.WithLowerEncoderMem(true))
		must.That(err == nil, "a zstd setting of ours is not one")
		return encoder(w)
	}}
	return p
}

// Encode returns body in a coding other than Identity, or nil where that would
// not make it smaller.
func Encode(c Coding, body []byte) ([]byte, error) {
	e := pools[0][c].Get().(encoder)
	defer pools[0][c].Put(e)
	out := limited{most: len(body) - storedSlack}
	e.Reset(&out)
	if _, err := e.Write(body); err != nil && !out.full {
		return nil, err
	}
	if err := e.Close(); err != nil && !out.full {
		return nil, err
	}
	if out.full {
		return nil, nil
	}
	return out.b, nil
}

// limited keeps at most so many bytes.
type limited struct {
	b    []byte
	most int
	full bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.full || len(l.b)+len(p) > l.most {
		l.full = true
		return 0, io.ErrShortBuffer
	}
	l.b = append(l.b, p...)
	return len(p), nil
}

// chunk is how much of a source is read at a time.
const chunk = 32 << 10

// reader encodes what it reads. Owned by who reads it.
type reader struct {
	src  io.ReadCloser
	c    Coding
	e    encoder // nil after the end
	in   []byte
	out  []byte // encoded and not yet read
	from []byte // of out
	err  error  // of src, once out has been read
}

// NewReader returns the stream src in a coding other than Identity. What src
// gives is passed on at once, not held until a block is full. Close closes src.
func NewReader(c Coding, src io.ReadCloser) io.ReadCloser {
	r := &reader{src: src, c: c, e: pools[1][c].Get().(encoder), in: make([]byte, chunk)}
	r.e.Reset(r)
	return r
}

// Write takes what the encoder has made.
func (r *reader) Write(p []byte) (int, error) {
	r.out = append(r.out, p...)
	return len(p), nil
}

// Read returns encoded bytes, or the source's error when all before it are read.
func (r *reader) Read(p []byte) (int, error) {
	for len(r.from) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.out = r.out[:0]
		r.fill()
		r.from = r.out
	}
	n := copy(p, r.from)
	r.from = r.from[n:]
	return n, nil
}

// fill encodes the next piece of the source.
func (r *reader) fill() {
	n, err := r.src.Read(r.in)
	if n > 0 {
		if _, failed := r.e.Write(r.in[:n]); failed != nil {
			r.err = failed
			return
		}
	}
	switch {
	case err == io.EOF: // the end itself; what wraps it is a failure
		if r.err = r.e.Close(); r.err == nil {
			r.err = io.EOF
		}
		r.giveBack()
	case err != nil:
		r.err = err
	case n > 0 && !r.more():
		r.err = r.e.Flush()
	}
}

// more reports whether the source has bytes that need no waiting for.
func (r *reader) more() bool {
	b, ok := r.src.(interface{ Buffered() int })
	return ok && b.Buffered() > 0
}

func (r *reader) giveBack() {
	if r.e != nil {
		r.e.Reset(nil)
		pools[1][r.c].Put(r.e)
		r.e = nil
	}
}

// Close gives the encoder back and closes the source.
func (r *reader) Close() error {
	r.giveBack()
	if r.err == nil {
		r.err = io.ErrClosedPipe
	}
	r.from = nil
	return r.src.Close()
}
