package cache

// queues is the eviction policy of one shard: S3-FIFO (Yang et al., SOSP
// 2023). New objects enter a small queue; those asked for again move to the
// main queue, the rest leave early and are remembered as ghosts, so that one
// that comes back soon goes to the main queue at once. A hit only counts.
type queues struct {
	small, main fifo
	share       int64 // bytes: the shard's part of the budget
	ghosts      ghosts
}

// smallPart is the small queue's share: one tenth, as the authors measured.
const smallPart = 10

func (q *queues) open(share int64) {
	q.share = share
	q.ghosts.open(int(min(max(share/ghostEach, minGhosts), maxGhosts)))
}

// insert queues an object: where the one that it replaces stood, else by
// whether it was evicted lately.
func (q *queues) insert(o *object, from *fifo) {
	switch {
	case from != nil:
		from.push(o)
	case q.ghosts.take(o.ghost()):
		q.main.push(o)
	default:
		q.small.push(o)
	}
}

// unlink takes an object out of its queue.
func (q *queues) unlink(o *object) {
	if o.queue != nil {
		o.queue.remove(o)
	}
}

// victim picks the object to go and leaves it queued; nil when none is held.
// Each step lowers a count or moves an object once, so it ends.
func (q *queues) victim() *object {
	for {
		if q.small.tail != nil && (q.small.bytes > q.share/smallPart || q.main.tail == nil) {
			o := q.small.tail
			if o.freq.Load() > 1 {
				q.small.remove(o)
				o.freq.Store(0)
				q.main.push(o)
				continue
			}
			q.ghosts.add(o.ghost())
			return o
		}
		o := q.main.tail
		if o == nil {
			return nil
		}
		n := o.freq.Load()
		if n == 0 {
			return o
		}
		q.main.remove(o)
		o.freq.Store(n - 1)
		q.main.push(o)
	}
}

// ghost is what an object is remembered by.
func (o *object) ghost() uint64 {
	h := o.key.hash
	for i := range o.vary {
		for _, c := range o.vary[i].value {
			h = (h ^ uint64(c)) * 0x100000001b3
		}
	}
	return h
}

// fifo is a queue of objects: in at the head, out at the tail.
type fifo struct {
	head, tail *object
	bytes      int64
	count      int
}

func (f *fifo) push(o *object) {
	o.queue, o.prev, o.next = f, nil, f.head
	if f.head != nil {
		f.head.prev = o
	} else {
		f.tail = o
	}
	f.head = o
	f.bytes += o.size
	f.count++
}

func (f *fifo) remove(o *object) {
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
	o.queue, o.prev, o.next = nil, nil, nil
	f.bytes -= o.size
	f.count--
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
