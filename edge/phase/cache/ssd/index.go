package ssd

import (
	"math/bits"
	"sync"
)

// Key names a record: 128 bits that are spread evenly, such as a hash. The
// index remembers 72 of them, the record all.
type Key struct{ Hi, Lo uint64 }

// place is where a record is: its segment, and offset and length in units.
type place struct {
	seg  uint32
	off  uint32
	n    uint32 // never 0
	bits uint32
}

// What bits holds: how often the record was asked for, up to maxFreq, and
// whether its bytes have been compared with their checksums since the start.
const (
	freqMask = 3
	maxFreq  = 3
	verified = 1 << 2
)

// slot is one record in the index; n 0 is an empty one. 24 bytes without a
// pointer: the collector passes over the table.
type slot struct {
	fp uint64
	place
}

const slotBytes = 24

// index is a hash table in parts, each with a lock of its own: open
// addressing, linear probing, deletion by moving back. A part grows by a half
// at four fifths full, so that a record costs between 30 and 45 bytes, and no
// part holds the others up while it grows.
type index struct {
	parts [indexParts]indexPart
}

type indexPart struct {
	mu    sync.Mutex
	slots []slot // guarded by mu
	used  int    // guarded by mu
}

const (
	indexParts = 256
	firstSlots = 16
)

func (x *index) part(k Key) *indexPart { return &x.parts[k.Hi%indexParts] }

// home is where a fingerprint would like to be.
func (p *indexPart) home(fp uint64) int {
	hi, _ := bits.Mul64(fp, uint64(len(p.slots)))
	return int(hi)
}

// at returns the slot that has fp, or -1.
func (p *indexPart) at(fp uint64) int {
	if len(p.slots) == 0 {
		return -1
	}
	for i := p.home(fp); p.slots[i].n != 0; i = p.next(i) {
		if p.slots[i].fp == fp {
			return i
		}
	}
	return -1
}

func (p *indexPart) next(i int) int {
	if i++; i == len(p.slots) {
		return 0
	}
	return i
}

// get returns where a key's record is and counts the question.
func (x *index) get(k Key) (place, bool) {
	p := x.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.at(k.Lo)
	if i < 0 {
		return place{}, false
	}
	if s := &p.slots[i]; s.bits&freqMask < maxFreq {
		s.bits++
	}
	return p.slots[i].place, true
}

// peek is get without counting.
func (x *index) peek(k Key) (place, bool) {
	p := x.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.at(k.Lo); i >= 0 {
		return p.slots[i].place, true
	}
	return place{}, false
}

// put sets where a key's record is, and returns where it was.
func (x *index) put(k Key, to place) (old place, replaced bool) {
	p := x.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.at(k.Lo); i >= 0 {
		old = p.slots[i].place
		p.slots[i].place = to
		return old, true
	}
	if (p.used+1)*5 > len(p.slots)*4 {
		p.grow()
	}
	p.insert(slot{k.Lo, to})
	p.used++
	return place{}, false
}

// insert puts a slot that is not there into a table that has room.
func (p *indexPart) insert(s slot) {
	i := p.home(s.fp)
	for p.slots[i].n != 0 {
		i = p.next(i)
	}
	p.slots[i] = s
}

func (p *indexPart) grow() {
	old := p.slots
	p.slots = make([]slot, max(firstSlots, len(old)+len(old)/2))
	for i := range old {
		if old[i].n != 0 {
			p.insert(old[i])
		}
	}
}

// del forgets a key, and returns where its record was.
func (x *index) del(k Key) (old place, was bool) {
	p := x.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.at(k.Lo)
	if i < 0 {
		return place{}, false
	}
	old = p.slots[i].place
	p.remove(i)
	return old, true
}

// remove empties slot i and moves back what would have liked to be nearer to
// its home.
func (p *indexPart) remove(i int) {
	n := len(p.slots)
	for j := p.next(i); p.slots[j].n != 0; j = p.next(j) {
		home := p.home(p.slots[j].fp)
		if (j-home+n)%n >= (j-i+n)%n {
			p.slots[i] = p.slots[j]
			i = j
		}
	}
	p.slots[i] = slot{}
	p.used--
}

// same is the slot of a key if it still stands for the record at w.
func (p *indexPart) same(k Key, w place) int {
	if i := p.at(k.Lo); i >= 0 && p.slots[i].seg == w.seg && p.slots[i].off == w.off {
		return i
	}
	return -1
}

// live returns what is noted of a record, if it is still a key's newest.
func (x *index) live(k Key, w place) (place, bool) {
	p := x.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.same(k, w); i >= 0 {
		return p.slots[i].place, true
	}
	return place{}, false
}

// delAt forgets a key if its record is the one at w.
func (x *index) delAt(k Key, w place) bool {
	p := x.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.same(k, w)
	if i >= 0 {
		p.remove(i)
	}
	return i >= 0
}

// move notes that the record at w is now at to.
func (x *index) move(k Key, w, to place) bool {
	p := x.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.same(k, w)
	if i >= 0 {
		p.slots[i].place = to
	}
	return i >= 0
}

// checked notes that the record at w is as it was written.
func (x *index) checked(k Key, w place) {
	p := x.part(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.same(k, w); i >= 0 {
		p.slots[i].bits |= verified
	}
}

// dropSegment forgets all records of a segment: for one whose own list of them
// cannot be read.
func (x *index) dropSegment(no uint32) {
	for i := range x.parts {
		p := &x.parts[i]
		p.mu.Lock()
		for j := 0; j < len(p.slots); {
			if p.slots[j].n != 0 && p.slots[j].seg == no {
				p.remove(j) // another may have moved here: look again
				continue
			}
			j++
		}
		p.mu.Unlock()
	}
}

// size counts records and the bytes of memory that the tables take.
func (x *index) size() (records int, bytes int64) {
	for i := range x.parts {
		p := &x.parts[i]
		p.mu.Lock()
		records += p.used
		bytes += int64(len(p.slots)) * slotBytes
		p.mu.Unlock()
	}
	return records, bytes
}
