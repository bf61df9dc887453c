package cache

import "sync/atomic"

// queues is the eviction policy of one shard: S3-FIFO (Yang et al., SOSP
// 2023). New objects enter a small queue; those asked for again move to the
// main queue, the rest leave early and are remembered as ghosts, so that one
// that comes back soon goes to the main queue at once. A hit only counts.
type queues struct {
	small, main fifo
	bytes       atomic.Int64 // of both; changed under the shard's lock
	count       int
	ghosts      ghosts
}

// queueID says in which queue an object is.
type queueID uint8

const (
	noQueue queueID = iota
	inSmall
	inMain
)

// smallPart is the small queue's share: one tenth, as the authors measured.
const smallPart = 10

func (q *queues) open(share int64) {
	q.ghosts.open(int(min(max(share/ghostEach, minGhosts), maxGhosts)))
}

// insert queues an object: where the one that it replaces stood, else by
// whether it was evicted lately.
func (q *queues) insert(o *object, hash uint64, where queueID) {
	if where == noQueue {
		if where = inSmall; q.ghosts.take(ghost(o, hash)) {
			where = inMain
		}
	}
	q.push(o, where)
}

func (q *queues) push(o *object, where queueID) {
	o.queue = where
	size := o.size()
	q.of(where).push(o, size)
	q.bytes.Add(size)
	q.count++
}

func (q *queues) of(where queueID) *fifo {
	if where == inMain {
		return &q.main
	}
	return &q.small
}

// unlink takes an object out of its queue.
func (q *queues) unlink(o *object) {
	if o.queue == noQueue {
		return
	}
	size := o.size()
	q.of(o.queue).remove(o, size)
	o.queue = noQueue
	q.bytes.Add(-size)
	q.count--
}

// move puts an object at the head of a queue.
func (q *queues) move(o *object, where queueID, hits uint32) {
	q.unlink(o)
	o.setHits(hits)
	q.push(o, where)
}

// victim picks the object to go and leaves it queued; nil when none is held.
// Each step lowers a count or moves an object once, so it ends.
func (q *queues) victim(hashOf func(*object) uint64) *object {
	for {
		if o := q.small.tail; o != nil && (q.small.bytes*smallPart > q.bytes.Load() || q.main.tail == nil) {
			if o.hits() > 1 {
				q.move(o, inMain, 0)
				continue
			}
			q.ghosts.add(ghost(o, hashOf(o)))
			return o
		}
		o := q.main.tail
		if o == nil {
			return nil
		}
		n := o.hits()
		if n == 0 {
			return o
		}
		q.move(o, inMain, n-1)
	}
}

// ghost is what an object is remembered by, under the hash of its key.
func ghost(o *object, hash uint64) uint64 {
	for list := o.vary(); len(list) > 0; {
		var v varyField
		v, list = list.next()
		for _, c := range v.value {
			hash = (hash ^ uint64(c)) * 0x100000001b3
		}
	}
	return hash
}

// fifo is a queue of objects: in at the head, out at the tail.
type fifo struct {
	head, tail *object
	bytes      int64
}

func (f *fifo) push(o *object, size int64) {
	o.prev, o.next = nil, f.head
	if f.head != nil {
		f.head.prev = o
	} else {
		f.tail = o
	}
	f.head = o
	f.bytes += size
}

func (f *fifo) remove(o *object, size int64) {
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		f.head = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	} else {
		f.tail = o.prev
	}
	o.prev, o.next = nil, nil
	f.bytes -= size
}

// How many ghosts a shard keeps: about as many as it would hold objects of
// ghostEach bytes. A ghost costs some 40 bytes, one per cent of that.
const (
	ghostEach = 4 << 10
	minGhosts = 64
	maxGhosts = 16 << 10
)

// ghosts remembers the hashes of the last objects that left the small queue.
type ghosts struct {
	ring []uint64
	at   int
	slot map[uint64]int // hash → place in ring
	room int
}

func (g *ghosts) open(n int) { g.room, g.slot = n, make(map[uint64]int) }

func (g *ghosts) add(h uint64) {
	if _, ok := g.slot[h]; ok {
		return
	}
	if len(g.ring) < g.room {
		g.slot[h] = len(g.ring)
		g.ring = append(g.ring, h)
		return
	}
	if old := g.ring[g.at]; g.slot[old] == g.at {
		delete(g.slot, old)
	}
	g.ring[g.at], g.slot[h] = h, g.at
	g.at = (g.at + 1) % g.room
}

// take reports whether h is remembered, and forgets it.
func (g *ghosts) take(h uint64) bool {
	if _, ok := g.slot[h]; !ok {
		return false
	}
	delete(g.slot, h)
	return true
}
