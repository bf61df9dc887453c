// Package evict decides what leaves a full store, and what a zone that only
// scans may bring into it. It knows items, sizes and hashes and nothing of what
// they stand for. It promises that a hit costs one counter and no lock, that
// picking a victim ends, and that what it remembers of the past is bounded.
//
// The policy is S3-FIFO (Yang et al., SOSP 2023): new items enter a small queue;
// those asked for again move to the main queue, the rest leave early and are
// remembered as ghosts, so that one that comes back soon enters the main queue
// at once. Ours differs where sizes do: an item that is smaller than the mean
// holds up less, so it goes round the small queue a few times more before it
// leaves, moves to the main queue after one hit and comes there with hits on
// account. Where all sizes are equal it is S3-FIFO.
package evict

import (
	"math/bits"
	"sync/atomic"
)

// Item is what the policy keeps of one object; whoever holds the object embeds
// it. All but State is guarded by the lock that guards the Queues.
type Item struct {
	next, prev *Item
	// State counts hits in its low HitBits; the others are the owner's.
	State atomic.Uint32
	queue uint8
	laps  uint8 // round the small queue that are left; in the main queue, hits on account that are
	used  bool  // hit in the main queue
}

// HitBits are the bits of Item.State that count hits, at most MaxHits.
const (
	HitBits = 3
	MaxHits = 1<<HitBits - 1
)

// The values of Item.queue.
const (
	nowhere uint8 = iota
	inSmall
	inMain
)

// Hit counts a hit, without a lock. Losing one to a race is fine.
func (it *Item) Hit() (first bool) {
	s := it.State.Load()
	if s&MaxHits < MaxHits {
		it.State.CompareAndSwap(s, s+1)
	}
	return s&MaxHits == 0
}

// Hits is what was counted and not yet used up.
func (it *Item) Hits() uint32 { return it.State.Load() & MaxHits }

func (it *Item) setHits(n uint32) {
	for {
		s := it.State.Load()
		if it.State.CompareAndSwap(s, s&^MaxHits|min(n, MaxHits)) {
			return
		}
	}
}

// Held reports whether the item is in a queue.
func (it *Item) Held() bool { return it.queue != nowhere }

// Parameters of the policy, found on the traces of docs/benchmarks.md.
const (
	smallPart  = 10 // the small queue's share is one in so many bytes
	maxBonus   = 4  // halvings below half the mean size that count
	lapsEach   = 4  // rounds of the small queue for each of them
	meanShift  = 10 // the mean size follows the last 2^meanShift insertions
	turnedPart = 4  // the share of memory for items that were not let in is one in so many
	ghostSpan  = 2  // an item is remembered for so many insertions per item held
)

// Queues are the policy of one part of a store. Its methods, but for Bytes, are
// called under that part's lock.
type Queues struct {
	small, main fifo
	bytes       atomic.Int64
	count       int
	mean        int64 // size, shifted left by meanShift
	inserted    uint32
	ghosts      ghosts
	turned      ghosts // those that were not let in: a table of their own, for they may be many

	// Size is the size of an item, the same as long as it is held; Ghost the hash
	// by which it is known when it comes again; Left, if set, is told of each
	// item that leaves the small queue, and whether it was hit there; Stayed, if
	// set, of each that leaves the main queue, and whether it was hit there; Rises,
	// if set, whether one that has earned it may move from the one to the other.
	Size   func(*Item) int64
	Ghost  func(*Item) uint64
	Left   func(it *Item, hit bool)
	Stayed func(it *Item, hit bool)
	Rises  func(*Item) bool
}

// GhostEach is for how many bytes of room one item that left is remembered: it
// costs 4.
const GhostEach = 2 << 10

// Open prepares empty queues that remember at most about n items that left.
func (q *Queues) Open(n int) {
	q.ghosts.open(n - n/turnedPart)
	q.turned.open(n / turnedPart)
}

// Bytes is the sum of sizes; it may be asked without the lock.
func (q *Queues) Bytes() int64 { return q.bytes.Load() }

// Len is how many items are held.
func (q *Queues) Len() int { return q.count }

// Known reports whether an item left so lately that it belongs into the main
// queue. The answer is true once.
func (q *Queues) Known(ghost uint64) bool {
	return q.ghosts.take(ghost, q.inserted, q.span()) || q.turned.take(ghost, q.inserted, q.span())
}

func (q *Queues) span() uint32 { return uint32(ghostSpan*q.count) + minGhosts }

// Insert queues a new item; known is what Known said.
func (q *Queues) Insert(it *Item, known bool) {
	size := q.Size(it)
	q.inserted++
	if q.mean == 0 {
		q.mean = size << meanShift
	}
	q.mean += size - q.mean>>meanShift
	if bonus := q.bonus(size); known {
		it.setHits(bonus)
		it.laps = uint8(bonus)
		q.push(it, size, inMain)
	} else {
		it.laps = uint8(lapsEach * bonus)
		q.push(it, size, inSmall)
	}
}

// Replace queues an item in the place of another, which leaves.
func (q *Queues) Replace(old, it *Item) {
	where, hits := old.queue, old.Hits()
	q.Remove(old)
	it.setHits(hits)
	it.laps, it.used = old.laps, old.used
	q.push(it, q.Size(it), where)
}

// TurnAway remembers an item that came and was not let in.
func (q *Queues) TurnAway(ghost uint64) { q.turned.add(ghost, q.inserted, q.span()) }

// bonus is how many times a size could be doubled and be below the mean.
func (q *Queues) bonus(size int64) uint32 {
	ratio := uint64(q.mean >> meanShift / max(size, 1))
	return uint32(min(bits.Len64(ratio>>1), maxBonus))
}

func (q *Queues) push(it *Item, size int64, where uint8) {
	it.queue = where
	q.of(where).push(it, size)
	q.bytes.Add(size)
	q.count++
}

func (q *Queues) of(where uint8) *fifo {
	if where == inMain {
		return &q.main
	}
	return &q.small
}

// Remove takes an item out, if it is held.
func (q *Queues) Remove(it *Item) {
	if it.queue == nowhere {
		return
	}
	size := q.Size(it)
	q.of(it.queue).remove(it, size)
	it.queue = nowhere
	q.bytes.Add(-size)
	q.count--
}

// Victim picks the item to leave and takes it out; nil when none is held. Each
// step lowers a count or moves an item once, so it ends.
func (q *Queues) Victim() *Item {
	if q.small.bytes*smallPart >= q.bytes.Load() || q.main.tail == nil {
		for it := q.small.tail; it != nil; it = q.small.tail {
			if size := q.Size(it); !q.staysSmall(it, size) {
				q.Remove(it)
				q.ghosts.add(q.Ghost(it), q.inserted, q.span())
				return it
			}
		}
	}
	for it := q.main.tail; it != nil; it = q.main.tail {
		hits := it.Hits()
		it.used = it.used || hits > uint32(it.laps)
		if hits == 0 {
			q.Remove(it)
			if q.Stayed != nil {
				q.Stayed(it, it.used)
			}
			return it
		}
		it.setHits(hits - 1)
		it.laps = max(it.laps, 1) - 1
		size := q.Size(it)
		q.main.remove(it, size)
		q.main.push(it, size)
	}
	return nil
}

// staysSmall moves the item at the small queue's tail to a head, where it has
// earned that.
func (q *Queues) staysSmall(it *Item, size int64) bool {
	hits, bonus := it.Hits(), q.bonus(size)
	rises := hits > 1 || hits == 1 && bonus > 0
	if !rises && it.laps > 0 {
		it.laps--
		q.small.remove(it, size)
		q.small.push(it, size)
		return true
	}
	if q.Left != nil {
		q.Left(it, hits > 0)
	}
	if !rises || q.Rises != nil && !q.Rises(it) {
		return false
	}
	it.setHits(bonus)
	it.laps = uint8(bonus)
	q.small.remove(it, size)
	q.main.push(it, size)
	it.queue = inMain
	return true
}

// fifo is a queue of items: in at the head, out at the tail.
type fifo struct {
	head, tail *Item
	bytes      int64
}

func (f *fifo) push(it *Item, size int64) {
	it.prev, it.next = nil, f.head
	if f.head != nil {
		f.head.prev = it
	} else {
		f.tail = it
	}
	f.head = it
	f.bytes += size
}

func (f *fifo) remove(it *Item, size int64) {
	if it.prev != nil {
		it.prev.next = it.next
	} else {
		f.head = it.next
	}
	if it.next != nil {
		it.next.prev = it.prev
	} else {
		f.tail = it.prev
	}
	it.prev, it.next = nil, nil
	f.bytes -= size
}

// ghosts remembers what left by a part of its hash and when that was, counted
// in insertions. It is a table of small sets; the oldest of a set gives way.
type ghosts struct {
	slots []uint32 // 16 bits of the hash, 16 of the time; 0 = free
	mask  uint64   // of sets
}

const (
	ways      = 8
	minGhosts = 64
)

func (g *ghosts) open(n int) {
	sets := 1
	for sets*ways < max(n, minGhosts) {
		sets *= 2
	}
	g.slots, g.mask = make([]uint32, sets*ways), uint64(sets-1)
}

// grain makes times of span insertions fit into 15 bits.
func grain(span uint32) uint32 { return uint32(max(0, bits.Len32(span)-15)) }

func (g *ghosts) set(hash uint64) (set []uint32, tag uint32) {
	at := hash >> 8 & g.mask * ways
	return g.slots[at : at+ways], uint32(hash>>48) << 16
}

func (g *ghosts) add(hash uint64, now, span uint32) {
	set, tag := g.set(hash)
	t := now >> grain(span) & 0xffff
	oldest, age := 0, uint32(0)
	for i, s := range set {
		if s == 0 || s&^0xffff == tag {
			oldest = i
			break
		}
		if a := (t - s) & 0xffff; a >= age {
			oldest, age = i, a
		}
	}
	if set[oldest] = tag | t; set[oldest] == 0 {
		set[oldest] = 1
	}
}

// take reports whether hash was added within the last span insertions, and
// forgets it.
func (g *ghosts) take(hash uint64, now, span uint32) bool {
	set, tag := g.set(hash)
	for i, s := range set {
		if s != 0 && s&^0xffff == tag {
			set[i] = 0
			return (now>>grain(span)-s)&0xffff <= span>>grain(span)
		}
	}
	return false
}
