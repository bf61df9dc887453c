package slab

import (
	"sync"
	"unsafe"
)

// region is one run of addresses with a lock of its own. A block is named by
// its first unit, which is its header.
type region struct {
	mu     sync.Mutex
	mem    memory
	base   unsafe.Pointer
	offset uintptr // of base in mem
	units  uint32  // addresses; block 0 is never freed and guards the beginning
	budget int64
	shutUp bool

	resident, live, idle, blocks int64

	dirty, clean bins
}

// A header is two words: the block's units with two flags, and the units of the
// block before it. A free block's links follow.
const (
	flagFree  = 1 << 31
	flagClean = 1 << 30
	sizeMask  = flagClean - 1
)

type head struct {
	size   uint32 // and flags
	before uint32
}

type links struct{ next, prev uint32 } // 0 = none

func (r *region) head(at uint32) *head {
	return (*head)(unsafe.Add(r.base, uintptr(at)*unit+unit-header))
}

func (r *region) links(at uint32) *links {
	return (*links)(unsafe.Add(r.base, uintptr(at)*unit+unit))
}

func (r *region) size(at uint32) uint32 { return r.head(at).size & sizeMask }
func (r *region) kind(at uint32) uint32 { return r.head(at).size &^ sizeMask }

func (r *region) open(base unsafe.Pointer, span uintptr, budget int64) {
	r.base, r.budget = base, budget
	r.units = uint32(span / unit)
	// The first and the last unit are blocks of their own that are never free,
	// so that each other block has neighbours.
	*r.head(0) = head{size: 1}
	*r.head(r.units - 1) = head{size: 1, before: r.units - 2}
	r.put(1, r.units-2, 1, true)
	r.resident = int64(span) - r.interior(1, r.units-2)
}

// put writes a free block into its bin; before is the size of the one that it
// follows. The block after it is told.
func (r *region) put(at, size, before uint32, clean bool) {
	h := head{size: size | flagFree, before: before}
	b := &r.dirty
	if clean {
		h.size |= flagClean
		b = &r.clean
	} else {
		r.idle += int64(size) * unit
	}
	*r.head(at) = h
	r.head(at + size).before = size
	b.push(r, at, size)
}

// take removes a free block from its bin.
func (r *region) take(at uint32) (size uint32, clean bool) {
	size = r.size(at)
	if clean = r.kind(at)&flagClean != 0; clean {
		r.clean.remove(r, at, size)
	} else {
		r.dirty.remove(r, at, size)
		r.idle -= int64(size) * unit
	}
	return size, clean
}

// interior is how many bytes of whole pages a free block has behind its header
// and links.
func (r *region) interior(at, size uint32) int64 {
	from, to := r.inside(at, size)
	return int64(max(from, to) - from)
}

// inside names those pages by offsets in the region.
func (r *region) inside(at, size uint32) (from, to uintptr) {
	return inside(uintptr(at)*unit+unit, uintptr(at+size)*unit+unit-header)
}

// inside returns the whole pages of a block's bytes, without the first few, where
// the links of a free block are.
func inside(from, to uintptr) (first, end uintptr) {
	return (from + unsafe.Sizeof(links{}) + page - 1) / page * page, to / page * page
}

// ask is what is wanted of a region.
type ask struct {
	units uint32
	force bool // past the budget
	paged bool // the block ends where a page does
}

const pageUnits = page / unit

// room is the size of a free block in which there is room for certain.
func (a ask) room() uint32 {
	if a.paged {
		return a.units + pageUnits + fewest
	}
	return a.units
}

// front is how many units of a free block come before the wanted one: none, or
// enough for a block.
func (a ask) front(at uint32) uint32 {
	if !a.paged {
		return 0
	}
	n := -(at + a.units) % pageUnits
	if 0 < n && n < fewest {
		n += pageUnits
	}
	return n
}

func (r *region) alloc(a ask) unsafe.Pointer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shutUp {
		return nil
	}
	at := r.dirty.find(r, a.room())
	if at == 0 {
		if at = r.clean.find(r, a.room()); at == 0 {
			if at = r.gather(a.room()); at == 0 {
				return nil
			}
		}
		if !a.force && !r.afford(at, a) {
			return nil
		}
		// What afford gave back may have joined this block.
		at = r.clean.find(r, a.room())
	}
	before := r.head(at).before
	size, clean := r.take(at)
	if clean {
		r.resident += r.interior(at, size)
	}
	if n := a.front(at); n > 0 {
		at, size, before = r.cut(at, n, size, before, clean)
	}
	r.use(at, a.units, size, before, clean)
	r.blocks++
	return unsafe.Pointer(r.links(at))
}

// cut puts the first n units of a free run that has left its bin back, and
// returns the rest.
func (r *region) cut(at, n, size, before uint32, clean bool) (next, left, front uint32) {
	next, left = at+n, size-n
	in := r.interior(at, n)
	if clean = clean && in > 0; clean {
		r.resident -= in
	} else if prev := at - before; r.kind(prev) == flagFree {
		m, _ := r.take(prev)
		at, n, before = prev, n+m, r.head(prev).before
	}
	r.put(at, n, before, clean)
	return next, left, n
}

// gather makes clean blocks of dirty ones until one is large enough: for when
// the addresses are used up.
func (r *region) gather(units uint32) uint32 {
	for r.scavenge(scavengeStep) {
		if at := r.clean.find(r, units); at != 0 {
			return at
		}
	}
	r.fold()
	return r.clean.find(r, units)
}

// use makes a block of the first units of a free run that has left its bin, and
// puts the rest back. The pages of a clean one are counted already.
func (r *region) use(at, units, size, before uint32, clean bool) {
	if size-units < fewest {
		units = size
	}
	if rest := size - units; rest > 0 {
		in := r.interior(at+units, rest)
		if clean = clean && in > 0; clean {
			r.resident -= in
		} else if next := at + size; r.kind(next) == flagFree {
			n, _ := r.take(next)
			rest += n
		}
		r.put(at+units, rest, units, clean)
	} else {
		r.head(at + units).before = units
	}
	*r.head(at) = head{size: units, before: before}
	r.live += int64(units) * unit
}

// cost is by how much resident grows when the clean block at is used.
func (r *region) cost(at uint32, a ask) int64 {
	size := r.size(at)
	c := r.interior(at, size)
	if n := a.front(at); n > 0 {
		c -= r.interior(at, n)
		at, size = at+n, size-n
	}
	if rest := size - a.units; rest >= fewest {
		c -= r.interior(at+a.units, rest)
	}
	return c
}

// afford gives pages of dirty blocks back until the budget has room for what is
// wanted of a clean block.
func (r *region) afford(at uint32, a ask) bool {
	folded := false
	for {
		over := r.resident + r.cost(at, a) - r.budget
		if over <= 0 {
			return true
		}
		if !r.scavenge(max(uintptr(over), scavengeStep)) {
			if folded || r.idle < r.budget/foldPart {
				return false
			}
			r.fold()
			folded = true
		}
		if at = r.clean.find(r, a.room()); at == 0 {
			return false
		}
	}
}

// scavengeStep is how many bytes are given back at a time: enough to be worth the
// call, little enough not to hold others up.
const scavengeStep = 256 << 10

func (r *region) foldSome() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fold()
}

func (r *region) scavengeSome() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.shutUp && r.scavenge(4*scavengeStep)
}

// foldPart: free bytes without a whole page are joined to clean neighbours where
// one in so many of the budget is such.
const foldPart = 16

// slivers is how many blocks of a bin fold looks at.
const slivers = 1 << 10

// fold joins dirty blocks without a whole page to clean neighbours.
func (r *region) fold() {
	for u := range r.dirty.first {
		for l := range fine {
			at := r.dirty.first[u][l]
			for i := 0; at != 0 && i < slivers && !r.shutUp; i++ {
				next := r.links(at).next
				after, before := r.kind(at+r.size(at)), r.kind(at-r.head(at).before)
				if after == flagFree|flagClean || before == flagFree|flagClean {
					b := r.head(at).before
					size, _ := r.take(at)
					r.cleanse(at, size, b)
				}
				at = next
			}
		}
	}
}

// scavenge gives the pages of the largest dirty block back, about want bytes of
// them. It reports false when no dirty block has a whole page.
func (r *region) scavenge(want uintptr) bool {
	at := r.dirty.largest(r)
	if at == 0 || r.interior(at, r.size(at)) == 0 {
		return false
	}
	before := r.head(at).before
	size, _ := r.take(at)
	if uintptr(size)*unit > want+2*page {
		// The beginning stays dirty.
		cut := uint32((uintptr(at+size)*unit-want)/page*page/unit) - at
		r.put(at, cut, before, false)
		at, size, before = at+cut, size-cut, cut
	}
	r.cleanse(at, size, before)
	return true
}

// cleanse gives back the whole pages of a dirty block that has left its bin, and
// joins it with its clean neighbours.
func (r *region) cleanse(at, size, before uint32) {
	lo, hi := r.inside(at, size)
	if next := at + size; r.kind(next) == flagFree|flagClean {
		// The page with its header, and what the two have in common.
		n, _ := r.take(next)
		hi, _ = r.inside(next, n)
		r.resident += r.interior(next, n)
		size += n
	}
	if prev := at - before; r.kind(prev) == flagFree|flagClean {
		n, _ := r.take(prev)
		_, lo = r.inside(prev, n)
		r.resident += r.interior(prev, n)
		at, size, before = prev, size+n, r.head(prev).before
	}
	from, to := r.inside(at, size)
	if lo, hi = max(lo, from), min(hi, to); lo < hi {
		r.mem.discard(r.offset+lo, hi-lo)
	}
	r.resident -= r.interior(at, size)
	r.put(at, size, before, true)
}

func (r *region) free(at uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.check(at)
	r.blocks--
	r.release(at, r.size(at))
}

// discard is free for a block whose whole pages are not to be used again as they
// are: they are given back at once.
func (r *region) discard(at uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.check(at)
	r.blocks--
	h := *r.head(at)
	if r.shutUp || r.interior(at, h.size) == 0 {
		r.release(at, h.size)
		return
	}
	r.live -= int64(h.size) * unit
	r.head(at).size = 0 // as in release
	r.cleanse(at, h.size, h.before)
}

func (r *region) check(at uint32) {
	if at == 0 || at >= r.units-1 || r.kind(at) != 0 || r.size(at) == 0 || r.head(at+r.size(at)).before != r.size(at) {
		panic("slab: released twice, or overwritten")
	}
}

// release makes a dirty block of a used one and joins it with its dirty
// neighbours.
func (r *region) release(at, size uint32) {
	r.live -= int64(size) * unit
	before := r.head(at).before
	r.head(at).size = 0 // a second release finds this, wherever the block went
	if next := at + size; r.kind(next) == flagFree {
		n, _ := r.take(next)
		size += n
	}
	if prev := at - before; r.kind(prev) == flagFree {
		n, _ := r.take(prev)
		at, size, before = prev, size+n, r.head(prev).before
	}
	r.put(at, size, before, false)
}

// grow takes what is missing from the free block that follows.
func (r *region) grow(at, units uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.check(at)
	size := r.size(at)
	if units <= size {
		return true
	}
	next := at + size
	if r.kind(next)&flagFree == 0 || r.size(next) < units-size {
		return false
	}
	if r.kind(next)&flagClean != 0 && r.resident+r.cost(next, ask{units: units - size}) > r.budget {
		return false
	}
	n, clean := r.take(next)
	if clean {
		r.resident += r.interior(next, n)
	}
	r.use(next, units-size, n, size, clean)
	r.join(at, next)
	return true
}

// join makes one used block of two.
func (r *region) join(at, next uint32) {
	size := r.size(at) + r.size(next)
	r.head(at).size = size
	r.head(at + size).before = size
}

func (r *region) trim(at, units uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.check(at)
	size := r.size(at)
	if size < units+fewest {
		return
	}
	r.head(at).size = units
	*r.head(at + units) = head{size: size - units, before: units}
	r.release(at+units, size-units)
}

// shut makes a region refuse allocations and leave its free pages alone.
func (r *region) shut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shutUp = true
}

func (r *region) used() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blocks > 0
}
