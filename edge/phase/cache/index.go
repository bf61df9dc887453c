package cache

import (
	"unsafe"

	"github.com/selvage-edge/selvage/edge/phase/cache/slab"
)

// index finds the objects of a shard by the hashes of their keys: a table with
// open addressing in the slab. A slot has an object's address and as much of
// the hash as fits beside it, so that growing and removing touch no object.
// Objects with the same such part are one chain, the newest first.
type index struct {
	slab  *slab.Slab
	block []byte
	slots []uint64 // 0 = free; the address without its low 3 bits, then hashBits of the hash
	used  int
}

const (
	hashBits  = 19 // so that a shard has room for some 500,000 keys
	hashMask  = 1<<hashBits - 1
	fewSlots  = 16
	mostSlots = 1 << hashBits
)

// tagOf takes the part of a hash that the choice of the shard did not use.
func tagOf(hash uint64) uint64 { return hash >> 40 & hashMask }

func slotOf(o *object, tag uint64) uint64 {
	return uint64(uintptr(unsafe.Pointer(o)))>>3<<hashBits | tag
}

// objectAt turns a slot into its object. The slab's memory does not move and is
// not the collector's.
func objectAt(slot uint64) *object {
	at := uintptr(slot >> hashBits << 3)
	return *(**object)(unsafe.Pointer(&at))
}

// first returns the newest object of a hash, nil when there is none.
func (x *index) first(hash uint64) *object {
	if x.used == 0 {
		return nil
	}
	i := x.find(tagOf(hash))
	if x.slots[i] == 0 {
		return nil
	}
	return objectAt(x.slots[i])
}

// find returns the slot of a tag, or the free one where it would be.
func (x *index) find(tag uint64) int {
	for i := x.home(tag); ; i = x.after(i) {
		if s := x.slots[i]; s == 0 || s&hashMask == tag {
			return i
		}
	}
}

// home is where a tag belongs, and after the slot behind another.
func (x *index) home(tag uint64) int { return int(tag * uint64(len(x.slots)) >> hashBits) }

func (x *index) after(i int) int {
	if i++; i == len(x.slots) {
		return 0
	}
	return i
}

// away is how far j is behind i.
func (x *index) away(i, j int) int {
	if j < i {
		j += len(x.slots)
	}
	return j - i
}

// add puts an object before those of the same hash. It is false when there is no
// memory for a larger table.
func (x *index) add(hash uint64, o *object) bool {
	if x.used >= len(x.slots)-len(x.slots)/8 && !x.grow() && x.used >= len(x.slots)-1 {
		return false
	}
	tag := tagOf(hash)
	i := x.find(tag)
	if x.slots[i] == 0 {
		o.more = nil
		x.used++
	} else {
		o.more = objectAt(x.slots[i])
	}
	x.slots[i] = slotOf(o, tag)
	return true
}

// remove takes an object out of its chain.
func (x *index) remove(hash uint64, o *object) {
	tag := tagOf(hash)
	i := x.find(tag)
	first := objectAt(x.slots[i])
	switch {
	case first != o:
		for first.more != o {
			first = first.more
		}
		first.more = o.more
	case o.more != nil:
		x.slots[i] = slotOf(o.more, tag)
	default:
		x.close(i)
		x.used--
	}
	o.more = nil
}

// close empties a slot and moves up those behind it that are away from their
// place.
func (x *index) close(i int) {
	x.slots[i] = 0
	for j := x.after(i); x.slots[j] != 0; j = x.after(j) {
		if x.away(x.home(x.slots[j]&hashMask), j) >= x.away(i, j) {
			x.slots[i], x.slots[j] = x.slots[j], 0
			i = j
		}
	}
}

func (x *index) grow() bool {
	n := max(fewSlots, len(x.slots)+len(x.slots)/4)
	if n > mostSlots {
		return false
	}
	block := x.slab.Force(8 * n)
	if block == nil {
		return false
	}
	clear(block)
	old, oldBlock := x.slots, x.block
	x.block, x.slots = block, unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(block))), n)
	for _, s := range old {
		if s != 0 {
			x.slots[x.find(s&hashMask)] = s
		}
	}
	if oldBlock != nil {
		x.slab.Free(oldBlock)
	}
	return true
}

// shut gives the table back.
func (x *index) shut() {
	if x.block != nil {
		x.slab.Free(x.block)
	}
	x.block, x.slots, x.used = nil, nil, 0
}
