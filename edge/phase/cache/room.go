package cache

import (
	"os"
	"sync/atomic"
	"unsafe"
)

// roomFor takes n bytes of the slab and evicts until they fit, but not more than
// that can help. With force it then goes past the budget. nil = no room.
func (e *Engine) roomFor(n int, force bool) []byte {
	return e.makeRoom(n, force, e.take)
}

// take is memory of the slab, past its budget by force.
func (e *Engine) take(n int, force bool) []byte {
	if force {
		return e.slab.Force(n)
	}
	return e.slab.Alloc(n)
}

func (e *Engine) makeRoom(n int, force bool, take func(int, bool) []byte) []byte {
	for tried := int64(0); ; {
		if b := take(n, false); b != nil {
			return b
		}
		freed := e.evict()
		if tried += freed; freed == 0 || tried > enough*int64(n)+enoughMore {
			break
		}
	}
	if !force {
		return nil
	}
	return take(n, true)
}

// How much is evicted for one allocation: what makes no room by then is held by
// readers, or shares its pages with what stays.
const (
	enough     = 8
	enoughMore = 1 << 20
)

// bodyHead stands before a large body.
const bodyHead = int(unsafe.Sizeof(bodyState{}))

type bodyState struct {
	holders atomic.Int32 // how many objects have it
	filed   atomic.Bool  // the kernel was told to send it from its file
}

func stateOf(body unsafe.Pointer) *bodyState {
	return (*bodyState)(unsafe.Add(body, -bodyHead))
}

// pagedMost bounds the bodies, in bytes, that are given pages of their own, to be
// sent without copying. Beyond it, copying costs less.
const pagedMost = 64 << 10

// bodyBlock is the block of a body, which has a capacity.
func bodyBlock(body []byte) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(body)), -bodyHead)), bodyHead+cap(body))
}

// newBody takes memory for a large body, with one holder.
func (e *Engine) newBody(n int, force bool) []byte {
	var block []byte
	if smallBody < n && n <= pagedMost {
		block = e.makeRoom(bodyHead+n, force, e.slab.Paged)
	} else {
		block = e.roomFor(bodyHead+n, force)
	}
	if block == nil {
		return nil
	}
	body := block[bodyHead:cap(block)]
	st := stateOf(unsafe.Pointer(unsafe.SliceData(body)))
	st.holders.Store(1)
	st.filed.Store(false)
	return body
}

// freeBody gives up one holder's part in a large body of n bytes.
func (e *Engine) freeBody(body unsafe.Pointer, n int) {
	st := stateOf(body)
	if st.holders.Add(-1) > 0 {
		return
	}
	block := unsafe.Slice((*byte)(unsafe.Add(body, -bodyHead)), bodyHead+n)
	if st.filed.Load() {
		e.slab.Discard(block)
		return
	}
	e.slab.Free(block)
}

// File implements msg.Filed.
func (o *object) File(b []byte) (f *os.File, at int64, from int) {
	if o.large == nil || len(b) == 0 {
		return nil, 0, 0
	}
	body := o.body()
	skip := int(uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(o.large))
	if skip < 0 || skip+len(b) > len(body) {
		return nil, 0, 0 // made of the body, not a part of it
	}
	f, at, first, end := o.engine().slab.File(bodyBlock(body))
	skip += bodyHead
	from = max(first-skip, 0)
	if f == nil || from >= len(b) || skip+len(b) > end {
		return nil, 0, 0
	}
	if st := stateOf(o.large); !st.filed.Load() {
		st.filed.Store(true)
	}
	return f, at + int64(skip+from-first), from
}

// bodyRoom is where a fill's stream keeps its bytes.
type bodyRoom struct {
	e       *Engine
	o       *object
	granted int64
	inUse   bool // the object's own room
}

// Alloc implements stream.Memory: the object's own room for a small body, else a
// large one, as far as grant goes.
func (m *bodyRoom) Alloc(n int) []byte {
	if inner := m.o.inner(); len(inner) > 0 {
		if n > len(inner) || m.inUse {
			return nil // an object has one body
		}
		m.inUse = true
		return inner[:0:len(inner)]
	}
	if !m.grant(n) {
		return nil
	}
	body := m.e.newBody(n, m.granted <= unrefused)
	if body == nil {
		m.refund(n)
		return nil
	}
	m.refund(n - cap(body)) // what the block has beyond what was asked for
	return body[:0]
}

// Extend implements stream.Memory.
func (m *bodyRoom) Extend(body []byte, n int) []byte {
	if m.inside(body) || !m.grant(n-cap(body)) {
		return nil
	}
	block := m.e.slab.Grow(bodyBlock(body), bodyHead+n)
	if block == nil {
		m.refund(n - cap(body))
		return nil
	}
	m.refund(n - (cap(block) - bodyHead))
	return block[bodyHead : bodyHead+len(body) : cap(block)]
}

// Free implements stream.Memory.
func (m *bodyRoom) Free(body []byte) {
	if cap(body) > 0 && !m.inside(body) {
		m.refund(cap(body))
		m.e.freeBody(unsafe.Pointer(unsafe.SliceData(body)), cap(body))
	}
}

// trim gives back what a body does not need.
func (m *bodyRoom) trim(body []byte) []byte {
	switch {
	case m.inside(body), cap(body) == 0:
		return body
	case len(body) == 0:
		m.Free(body)
		return nil
	}
	block := m.e.slab.Trim(bodyBlock(body), bodyHead+len(body))
	m.refund(cap(body) - (cap(block) - bodyHead))
	return block[bodyHead:]
}

func (m *bodyRoom) inside(body []byte) bool {
	return cap(body) > 0 && len(m.o.inner()) > 0 && unsafe.SliceData(body) == unsafe.SliceData(m.o.inner())
}

// unrefused is what a fill may buffer however much is held already, so that
// who holds much keeps no page out of the store. MaxFills bounds the sum.
const unrefused = 64 << 10

// grant lets a fill have n bytes more, unless the fills, together with evicted
// objects that slow readers hold, would take more than half of what the store
// may.
func (m *bodyRoom) grant(n int) bool {
	m.granted += int64(n)
	if m.e.filling.Add(int64(n))+m.e.pinned() <= m.e.cfg.Bytes/2 || m.granted <= unrefused {
		return true
	}
	m.refund(n)
	return false
}

func (m *bodyRoom) refund(n int) {
	m.granted -= int64(n)
	m.e.filling.Add(-int64(n))
}
