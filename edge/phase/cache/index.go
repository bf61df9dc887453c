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
	slots []uint64 // 0 = free; the address without its low 4 bits, then hashBits of the hash
	used  int
}

const (
	hashBits  = 20 // so that a shard has room for some 900,000 keys
	hashMask  = 1<<hashBits - 1
	fewSlots  = 16
	mostSlots = 1 << hashBits
)

// tagOf takes the part of a hash that the choice of the shard did not use.
func tagOf(hash uint64) uint64 { return hash >> 40 & hashMask }

func slotOf(o *object, tag uint64) uint64 {
	return uint64(uintptr(unsafe.Pointer(o)))>>4<<hashBits | tag
}

// objectAt turns a slot into its object. The slab's memory does not move and is
// not the collector's.
func objectAt(slot uint64) *object {
	at := uintptr(slot >> hashBits << 4)
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
	mask := len(x.slots) - 1
	for i := int(tag) & mask; ; i = (i + 1) & mask {
		if s := x.slots[i]; s == 0 || s&hashMask == tag {
			return i
		}
	}
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
	mask := len(x.slots) - 1
	x.slots[i] = 0
	for j := (i + 1) & mask; x.slots[j] != 0; j = (j + 1) & mask {
		home := int(x.slots[j]&hashMask) & mask
		if (j-home)&mask >= (j-i)&mask {
			x.slots[i], x.slots[j] = x.slots[j], 0
			i = j
		}
	}
}

func (x *index) grow() bool {
	n := max(fewSlots, 2*len(x.slots))
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
