package cache

import (
	"sync/atomic"
	"unsafe"
)

// roomFor takes n bytes of the slab and evicts until they fit, but not more than
// that can help. With force it then goes past the budget. nil = no room.
func (e *Engine) roomFor(n int, force bool) []byte {
	for tried := int64(0); ; {
		if b := e.slab.Alloc(n); b != nil {
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
	return e.slab.Force(n)
}

// How much is evicted for one allocation: what makes no room by then is held by
// readers, or shares its pages with what stays.
const (
	enough     = 8
	enoughMore = 1 << 20
)

// bodyHead stands before a large body: how many objects have it.
const bodyHead = 8

func holders(body unsafe.Pointer) *atomic.Int32 {
	return (*atomic.Int32)(unsafe.Add(body, -bodyHead))
}

// bodyBlock is the block of a body, which has a capacity.
func bodyBlock(body []byte) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(body)), -bodyHead)), bodyHead+cap(body))
}

// newBody takes memory for a large body, with one holder.
func (e *Engine) newBody(n int, force bool) []byte {
	block := e.roomFor(bodyHead+n, force)
	if block == nil {
		return nil
	}
	body := block[bodyHead:cap(block)]
	holders(unsafe.Pointer(unsafe.SliceData(body))).Store(1)
	return body
}

// freeBody gives up one holder's part in a large body of n bytes.
func (e *Engine) freeBody(body unsafe.Pointer, n int) {
	if holders(body).Add(-1) == 0 {
		e.slab.Free(unsafe.Slice((*byte)(unsafe.Add(body, -bodyHead)), bodyHead+n))
	}
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
