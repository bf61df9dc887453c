package h1

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/internal/clock"
)

const (
	smallBlock = 4 << 10  // a connection's first read buffer
	writeBlock = 20 << 10 // a head and a body of up to copyMax
	copyMax    = 16 << 10 // bodies up to this are copied behind their head
	sliceMax   = 64 << 10 // the most that is written under one deadline
	streamMax  = 32 << 10 // read from a stream at once
	lineRoom   = 512      // free bytes that are wanted before a read
)

// block is pooled memory.
type block struct{ b []byte }

// pools keeps blocks between uses. Safe for all.
type pools struct {
	bigSize int
	small   sync.Pool
	big     sync.Pool
	out     sync.Pool
	stream  sync.Pool
}

func newPools(head int) *pools {
	fresh := func(n int) func() any { return func() any { return &block{make([]byte, n)} } }
	p := &pools{bigSize: max(head+lineRoom, 2*smallBlock)}
	p.small.New = fresh(smallBlock)
	p.big.New = fresh(p.bigSize)
	p.out.New = fresh(writeBlock)
	p.stream.New = fresh(streamMax + chunkFrame)
	return p
}

func (p *pools) get(n int) *block {
	if n <= smallBlock {
		return p.small.Get().(*block)
	}
	return p.big.Get().(*block)
}

func (p *pools) put(b *block) {
	if len(b.b) == smallBlock {
		p.small.Put(b)
		return
	}
	p.big.Put(b)
}

// reader is the read side of a connection: a pooled buffer of which the bytes
// of a message's head and trailers may be lent out and then do not move.
// Owned by one goroutine at a time.
type reader struct {
	nc    net.Conn
	dl    *clock.Deadlines
	pools *pools
	wait  time.Duration // for the next read
	until time.Duration // on the clock: no read waits beyond it; 0 = no such time

	own  *block // nil while nothing is buffered or lent
	buf  []byte // of own
	r, w int    // buf[r:w] has arrived and is not consumed
	base int    // buf[:base] is lent out
	lent []*block
}

func (rd *reader) buffered() []byte { return rd.buf[rd.r:rd.w] }

// lend marks all that is consumed as lent out.
func (rd *reader) lend() { rd.base = rd.r }

// release takes back what was lent out; an empty buffer returns to its pool.
func (rd *reader) release() {
	for i, b := range rd.lent {
		rd.pools.put(b)
		rd.lent[i] = nil
	}
	rd.lent, rd.base = rd.lent[:0], 0
}

// shrink gives a buffer that is empty and larger than the smallest back.
func (rd *reader) shrink() {
	if rd.r == rd.w && rd.base == 0 && len(rd.buf) > smallBlock {
		rd.drop()
	}
}

func (rd *reader) drop() {
	if rd.own != nil {
		rd.pools.put(rd.own)
	}
	rd.own, rd.buf, rd.r, rd.w = nil, nil, 0, 0
}

// close gives all memory back; nothing may be in use any more.
func (rd *reader) close() {
	rd.release()
	rd.drop()
}

// room makes space for n bytes behind w without moving lent bytes. It fails
// when what is not consumed is larger than any message section may be.
func (rd *reader) room(n int) error {
	if rd.r == rd.w {
		rd.r, rd.w = rd.base, rd.base
	}
	if len(rd.buf)-rd.w >= n {
		return nil
	}
	have := rd.w - rd.r
	if len(rd.buf)-rd.base-have >= n {
		copy(rd.buf[rd.base:], rd.buf[rd.r:rd.w])
		rd.r, rd.w = rd.base, rd.base+have
		return nil
	}
	if have+n > rd.pools.bigSize {
		return errHeadLong
	}
	b := rd.pools.get(have + n)
	copy(b.b, rd.buf[rd.r:rd.w])
	switch {
	case rd.base > 0:
		rd.lent = append(rd.lent, rd.own)
	case rd.own != nil:
		rd.pools.put(rd.own)
	}
	rd.own, rd.buf, rd.r, rd.w, rd.base = b, b.b, 0, have, 0
	return nil
}

// fill waits for more bytes. Behind lent bytes it does not make do with what
// little room they may have left.
func (rd *reader) fill() error {
	want := 1
	if rd.base > 0 {
		want = lineRoom
	}
	if err := rd.room(want); err != nil {
		return err
	}
	n, err := rd.read(rd.buf[rd.w:])
	rd.w += n
	return err
}

// read reads past the buffer, which is empty or kept in mind by the caller.
// It returns bytes or an error, never both.
func (rd *reader) read(p []byte) (int, error) {
	if err := rd.arm(); err != nil {
		return 0, err
	}
	for range 16 {
		n, err := rd.nc.Read(p)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

func (rd *reader) arm() error {
	if rd.until > 0 {
		return rd.dl.ArmReadUntil(rd.until, min(time.Second, rd.wait/4))
	}
	return rd.dl.ArmRead(rd.wait)
}

// head waits for a whole head or trailer section and returns it, consumed.
func (rd *reader) head(s *scan, l *bounds) ([]byte, error) {
	for {
		n, err := s.end(rd.buffered(), l)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			p := rd.buf[rd.r : rd.r+n : rd.r+n]
			rd.r += n
			return p, nil
		}
		if err := rd.fill(); err != nil {
			return nil, err
		}
	}
}
