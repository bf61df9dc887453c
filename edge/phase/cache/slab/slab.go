// Package slab is memory beside the Go heap: the collector neither scans it nor
// lets it double before it gives anything back. It promises that the pages in
// use stay within a budget, that what is allocated does not move or overlap,
// that allocation and release take the same short time however much is held,
// and that an allocation which does not fit says so, for its caller to make
// room.
//
// Each region is addresses for several times its budget. A block is a run of
// 8-byte units, the first of which is its header. Free blocks are of two kinds: dirty
// ones, whose pages are there, and clean ones, whose whole pages have been given
// back or were never touched. An allocation takes a dirty block that fits, else
// a piece of a clean one while the budget lasts, else it gives the pages of
// dirty blocks back and takes clean ones for them. So a large object needs as
// many free pages as it has, but no run of them: addresses are plenty. What is
// lost is what lies between live blocks on pages that they share.
//
// Both kinds are kept in bins by size, two levels of them with a bit set each, as
// in TLSF (Masmano et al., ECRTS 2004).
package slab

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	unit      = 8
	header    = 8
	fewest    = 2 // units of a block: a free one holds its links
	page      = 4096
	maxRegion = 1 << 30 * unit // addresses of a region: unit offsets have 30 bits
	maxBudget = maxRegion / reach
	reach     = 4         // addresses for each byte of a region's budget
	least     = 256 << 20 // addresses of a region, at least
)

// Slab is memory within a budget. Its methods may be called from any goroutine.
type Slab struct {
	mem     memory
	base    unsafe.Pointer
	span    uintptr // addresses of a region
	regions []region
	next    atomic.Uint32
	closed  atomic.Bool
	ended   sync.Once
	poison  bool
}

// Options of New.
type Options struct {
	// Heap takes memory from the Go heap, which is also what happens where the
	// system gives none otherwise. Nothing is given back to the system then.
	Heap bool
	// Poison overwrites what is released, so that a late reader shows.
	Poison bool
}

// New returns a slab that keeps at most budget bytes of pages.
func New(budget int64, o Options) *Slab {
	n := int((budget + maxBudget - 1) / maxBudget)
	each := budget / int64(n)
	s := &Slab{poison: o.Poison, regions: make([]region, n)}
	s.span = uintptr(min(max(each*reach, each+least), maxRegion))
	s.span = s.span / page * page
	err := error(nil)
	if !o.Heap {
		s.mem, err = systemMemory(s.span * uintptr(n))
	}
	if o.Heap || err != nil {
		s.span = uintptr(max(each+each/4, 64*page)) / page * page
		s.mem = heapMemory(s.span * uintptr(n))
	}
	s.base = s.mem.base()
	for i := range s.regions {
		r := &s.regions[i]
		r.mem, r.offset = s.mem, s.span*uintptr(i)
		r.open(unsafe.Add(s.base, r.offset), s.span, each)
	}
	return s
}

// Alloc returns n bytes of any content, or nil when that would take more than
// the budget. They are aligned to 8 bytes.
func (s *Slab) Alloc(n int) []byte { return s.alloc(n, ask{}) }

// Force is Alloc past the budget. It returns nil only when the addresses are used
// up.
func (s *Slab) Force(n int) []byte { return s.alloc(n, ask{force: true}) }

// Paged is Alloc, or Force, for a block that ends where a page does: what File says
// of it reaches to its end.
func (s *Slab) Paged(n int, force bool) []byte { return s.alloc(n, ask{force: force, paged: true}) }

func (s *Slab) alloc(n int, a ask) []byte {
	a.units = unitsFor(n)
	if uintptr(a.room())*unit >= s.span {
		return nil
	}
	from := s.next.Load()
	for i := range s.regions {
		r := &s.regions[(int(from)+i)%len(s.regions)]
		if p := r.alloc(a); p != nil {
			if len(s.regions) > 1 {
				s.next.Store(from + 1)
			}
			return unsafe.Slice((*byte)(p), int(a.units)*unit-header)[:n]
		}
	}
	return nil
}

// Free releases what Alloc, Force, Grow or Trim returned. It may be cut at its
// end, not at its beginning.
func (s *Slab) Free(b []byte) {
	r, at := s.find(b)
	if s.poison {
		poison(b[:cap(b)])
	}
	r.free(at)
	if s.closed.Load() {
		s.end()
	}
}

// File says where a block lies in a file, so that the kernel can send it without
// copying: b[from:to] begins at byte at of f. That is what b has of whole pages
// that no other block shares. f is nil where there is no such part. Who uses it
// ends the block by Discard.
func (s *Slab) File(b []byte) (f *os.File, at int64, from, to int) {
	if f = s.mem.file(); f == nil {
		return nil, 0, 0, 0
	}
	off := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(s.base)
	first, end := inside(off, (off+uintptr(len(b))+unit-1)/unit*unit)
	if first >= end {
		return nil, 0, 0, 0
	}
	return f, int64(first), int(first - off), min(int(end-off), len(b))
}

// Discard is Free for a block that the kernel may still be sending: its whole
// pages are given back to the system and not used for what comes next.
func (s *Slab) Discard(b []byte) {
	r, at := s.find(b)
	if s.poison {
		if f, _, from, to := s.File(b[:cap(b)]); f == nil {
			poison(b[:cap(b)])
		} else {
			poison(b[:from])
			poison(b[to:cap(b)])
		}
	}
	r.discard(at)
	if s.closed.Load() {
		s.end()
	}
}

// Grow makes b longer, to n bytes, where it stands. It is nil when what follows is
// in use or the budget is; b is as before then.
func (s *Slab) Grow(b []byte, n int) []byte {
	if n <= cap(b) {
		return b[:n]
	}
	r, at := s.find(b)
	units := unitsFor(n)
	if uintptr(units)*unit >= s.span || !r.grow(at, units) {
		return nil
	}
	return unsafe.Slice(unsafe.SliceData(b), int(units)*unit-header)[:n]
}

// Trim releases what b has beyond its first n bytes.
func (s *Slab) Trim(b []byte, n int) []byte {
	units := unitsFor(n)
	if int(units)*unit-header < cap(b) {
		r, at := s.find(b)
		r.trim(at, units)
	}
	return unsafe.Slice(unsafe.SliceData(b), int(units)*unit-header)[:n]
}

// Size is what a block of n bytes takes, header and rounding included.
func Size(n int) int { return int(unitsFor(n)) * unit }

func unitsFor(n int) uint32 {
	if n < 0 || n >= maxRegion {
		panic(fmt.Sprintf("slab: no block of %d bytes", n))
	}
	return max(fewest, uint32((n+header+unit-1)/unit))
}

// find returns the region of a block and its place in it.
func (s *Slab) find(b []byte) (*region, uint32) {
	off := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(s.base)
	if i := off / s.span; i < uintptr(len(s.regions)) && off%unit == 0 {
		return &s.regions[i], uint32(off%s.span/unit) - 1
	}
	panic("slab: not a block of this slab")
}

// Scavenge gives the pages of free blocks back to the system.
func (s *Slab) Scavenge() {
	for i := range s.regions {
		for s.regions[i].scavengeSome() {
		}
		s.regions[i].foldSome()
	}
}

// Close refuses further allocations and gives all memory back once the last
// block has been released.
func (s *Slab) Close() {
	for i := range s.regions {
		s.regions[i].shut()
	}
	s.closed.Store(true)
	s.end()
}

func (s *Slab) end() {
	for i := range s.regions {
		if s.regions[i].used() {
			return
		}
	}
	s.ended.Do(s.mem.drop) // no block is left, and none will come
}

// Stats is what a slab holds at one moment.
type Stats struct {
	Budget   int64
	Resident int64 // bytes of pages in use, or free but not given back
	Live     int64 // bytes of blocks, headers and rounding included
	Idle     int64 // bytes of free blocks whose pages are there
	Blocks   int64
}

// Stats adds up all regions.
func (s *Slab) Stats() (st Stats) {
	for i := range s.regions {
		r := &s.regions[i]
		r.mu.Lock()
		st.Budget += r.budget
		st.Resident += r.resident
		st.Live += r.live
		st.Idle += r.idle
		st.Blocks += r.blocks
		r.mu.Unlock()
	}
	return st
}

// poisonByte is what released memory reads as.
const poisonByte = 0xdb

func poison(b []byte) {
	for i := range b {
		b[i] = poisonByte
	}
}
