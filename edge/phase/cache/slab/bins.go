package slab

import "math/bits"

// bins are lists of free blocks by size: the upper level goes by the power of
// two, the lower one cuts each in fine parts.
type bins struct {
	some  uint32 // bit set of upper levels that have a block
	parts [levels]uint16
	first [levels][fine]uint32
}

const (
	levels   = 31
	fine     = 1 << fineBits
	fineBits = 4
)

// binOf is where a block of a size belongs.
func binOf(size uint32) (upper, lower int) {
	if size < fine {
		return 0, int(size)
	}
	upper = bits.Len32(size) - fineBits
	return upper, int(size>>(upper-1)) - fine
}

func (b *bins) push(r *region, at, size uint32) {
	u, l := binOf(size)
	next := b.first[u][l]
	*r.links(at) = links{next: next}
	if next != 0 {
		r.links(next).prev = at
	}
	b.first[u][l] = at
	b.parts[u] |= 1 << l
	b.some |= 1 << u
}

func (b *bins) remove(r *region, at, size uint32) {
	k := *r.links(at)
	if k.next != 0 {
		r.links(k.next).prev = k.prev
	}
	if k.prev != 0 {
		r.links(k.prev).next = k.next
		return
	}
	u, l := binOf(size)
	b.first[u][l] = k.next
	if k.next == 0 {
		if b.parts[u] &^= 1 << l; b.parts[u] == 0 {
			b.some &^= 1 << u
		}
	}
}

// tries is how many blocks of the very bin of a size are looked at before the
// larger bins, all of whose blocks fit.
const tries = 4

// find returns a block of at least size, near to it, 0 when there is none. It
// stays in its bin.
func (b *bins) find(r *region, size uint32) uint32 {
	u, l := binOf(size)
	at := b.first[u][l]
	for i := 0; at != 0 && i < tries; i++ {
		if r.size(at) >= size {
			return at
		}
		at = r.links(at).next
	}
	if m := b.parts[u] &^ (1<<(l+1) - 1); m != 0 {
		return b.first[u][bits.TrailingZeros16(m)]
	}
	if m := b.some &^ (1<<(u+1) - 1); m != 0 {
		u = bits.TrailingZeros32(m)
		return b.first[u][bits.TrailingZeros16(b.parts[u])]
	}
	return 0
}

// largest returns a block of the highest bin.
func (b *bins) largest(*region) uint32 {
	if b.some == 0 {
		return 0
	}
	u := bits.Len32(b.some) - 1
	return b.first[u][bits.Len16(b.parts[u])-1]
}
