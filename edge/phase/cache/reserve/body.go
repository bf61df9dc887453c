package reserve

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// body gives what was compared with its checksum, and an error for the rest.
type body struct {
	o      *Object
	src    *ending // of the store
	blocks checked
	block  []byte       // loaded, and not given yet
	left   int64        // bytes to be given
	err    error        // comes after block
	gone   func() error // whether who reads has left
}

// newBody reads the first block of a body from byte from on, and leaves the rest to
// be read, up to byte to. It closes src where it fails.
func newBody(o *Object, src *ending, gone func() error, from, to int64) (*body, error) {
	first := from / blockBytes
	end := min(blocks(to)*blockBytes, o.Size)
	b := &body{o: o, src: src, left: to - from, gone: gone}
	b.blocks = checked{src: src, stamp: o.head.stamp, next: first, left: end - first*blockBytes}
	if b.load(); b.err != nil && b.err != io.EOF {
		return nil, errors.Join(b.err, src.Close())
	}
	if skip := from - first*blockBytes; skip > 0 {
		b.block = b.block[skip:]
	}
	return b, nil
}

// load reads the next block. A store that stalls breaks off.
func (b *body) load() {
	late := time.AfterFunc(stallTime, b.src.cancel)
	b.block, b.err = b.blocks.load()
	late.Stop()
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.left == 0 && b.err != errClosed {
		return 0, io.EOF
	}
	if len(b.block) == 0 && b.err == nil {
		if b.load(); b.err != nil && b.err != io.EOF {
			b.o.r.lost(b.gone, b.o.name, b.err)
			b.err = fmt.Errorf("read %s of the cache reserve: %w", b.o.name, b.err)
		}
	}
	if len(b.block) == 0 {
		return 0, b.err
	}
	n := copy(p, b.block[:min(int64(len(b.block)), b.left)])
	b.block = b.block[n:]
	b.left -= int64(n)
	return n, nil
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.block, b.left, b.err = nil, 0, errClosed
	return b.src.Close()
}

var errClosed = errors.New("read after Close")
