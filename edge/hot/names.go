package hot

import (
	"sync"
	"sync/atomic"
)

// Names tells which names need not be looked for: a Bloom filter of all that
// there are, once it was built, and a small memory of names that were looked for
// and not found. The zero value knows nothing yet: every name may be there.
//
// Whoever makes a name exist calls Added after it can be found, and Names is
// right from then on.
type Names struct {
	filter  atomic.Pointer[filter]
	changes atomic.Uint64
	absent  [absentSets * absentWays]atomic.Uint64 // hashes; 0 = free

	mu       sync.Mutex
	building *filter // guarded by mu; nil while none is built
}

const (
	absentSets = 1 << 14
	absentWays = 4
)

// May reports whether the name with this hash may be there.
func (n *Names) May(hash uint64) bool {
	if f := n.filter.Load(); f != nil && !f.has(hash) {
		return false
	}
	for i := range n.set(hash) {
		if n.set(hash)[i].Load() == hash {
			return false
		}
	}
	return true
}

func (n *Names) set(hash uint64) []atomic.Uint64 {
	at := hash % absentSets * absentWays
	return n.absent[at : at+absentWays]
}

// Changes is to be read before a name is looked for, for Missed.
func (n *Names) Changes() uint64 { return n.changes.Load() }

// Missed notes that a name was looked for and not found, by who has read Changes
// before. The one that was noted longest ago of its few neighbours is forgotten.
func (n *Names) Missed(hash, changes uint64) {
	if n.changes.Load() != changes {
		return
	}
	set := n.set(hash)
	for i := len(set) - 1; i > 0; i-- {
		set[i].Store(set[i-1].Load())
	}
	set[0].Store(hash)
	if n.changes.Load() != changes { // perhaps by this very name, and cleared too early
		n.forget(hash)
	}
}

func (n *Names) forget(hash uint64) {
	for i := range n.set(hash) {
		n.set(hash)[i].CompareAndSwap(hash, 0)
	}
}

// Added notes that a name is there.
func (n *Names) Added(hash uint64) {
	n.changes.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.building != nil {
		n.building.add(hash)
	}
	if f := n.filter.Load(); f != nil {
		f.add(hash)
	}
	n.forget(hash)
}

// Reset makes Names know nothing, because all names may be others now.
func (n *Names) Reset() {
	n.changes.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter.Store(nil)
	n.building = nil
	for i := range n.absent {
		n.absent[i].Store(0)
	}
}

// Build makes a filter for about count names. What all adds are the names that
// there are at a moment after Build has begun; names that are Added meanwhile
// are in it too. Where Reset or another Build comes between, nothing is changed.
func (n *Names) Build(count int, all func(add func(hash uint64)) error) error {
	f := newFilter(count)
	n.mu.Lock()
	n.building = f
	n.mu.Unlock()
	err := all(f.add)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.building != f {
		return err
	}
	n.building = nil
	if err == nil {
		n.filter.Store(f)
	}
	return err
}

// Ready reports whether a filter stands.
func (n *Names) Ready() bool { return n.filter.Load() != nil }

// filter is a Bloom filter whose bits of one name lie in one line of a
// processor's cache.
type filter struct {
	words []atomic.Uint64
	mask  uint64 // of blocks
}

const (
	bitsPerName  = 16
	bitsSet      = 6
	wordsInBlock = 8
)

func newFilter(count int) *filter {
	blocks := 1
	for blocks*wordsInBlock*64 < bitsPerName*max(count, 1024) {
		blocks *= 2
	}
	return &filter{words: make([]atomic.Uint64, blocks*wordsInBlock), mask: uint64(blocks - 1)}
}

// block returns a name's block, and a number of which each nine bits name one of
// its bits.
func (f *filter) block(hash uint64) (block []atomic.Uint64, bits uint64) {
	at := hash >> 20 & f.mask * wordsInBlock
	return f.words[at : at+wordsInBlock], hash * 0x9e3779b97f4a7c15 >> (64 - 9*bitsSet)
}

func (f *filter) add(hash uint64) {
	block, bits := f.block(hash)
	for range bitsSet {
		block[bits>>6&7].Or(1 << (bits & 63))
		bits >>= 9
	}
}

func (f *filter) has(hash uint64) bool {
	block, bits := f.block(hash)
	for range bitsSet {
		if block[bits>>6&7].Load()>>(bits&63)&1 == 0 {
			return false
		}
		bits >>= 9
	}
	return true
}
