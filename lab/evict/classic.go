package main

import "container/heap"

// policy is a cache of a fixed room that decides what leaves it. access reports
// a hit; after a miss the object is held, if the policy wants it.
type policy interface {
	access(id uint64, size int64) bool
}

// node is an object in a list. Lists are rings around a root.
type node struct {
	next, prev *node
	id         uint64
	size       int64
	hits       int
	in         *list
}

type list struct {
	root  node
	bytes int64
}

func newList() *list {
	l := new(list)
	l.root.next, l.root.prev = &l.root, &l.root
	return l
}

func (l *list) push(n *node) {
	n.in, n.prev, n.next = l, &l.root, l.root.next
	n.prev.next, n.next.prev = n, n
	l.bytes += n.size
}

func (l *list) remove(n *node) {
	n.prev.next, n.next.prev = n.next, n.prev
	l.bytes -= n.size
	n.in = nil
}

func (l *list) tail() *node {
	if l.root.prev == &l.root {
		return nil
	}
	return l.root.prev
}

// lru evicts what was asked for longest ago.
type lru struct {
	room int64
	list *list
	at   map[uint64]*node
}

func newLRU(room int64) policy { return &lru{room, newList(), map[uint64]*node{}} }

func (c *lru) access(id uint64, size int64) bool {
	if n := c.at[id]; n != nil {
		c.list.remove(n)
		c.list.push(n)
		return true
	}
	if size > c.room {
		return false
	}
	n := &node{id: id, size: size}
	c.at[id] = n
	c.list.push(n)
	for c.list.bytes > c.room {
		v := c.list.tail()
		c.list.remove(v)
		delete(c.at, v.id)
	}
	return false
}

// sieve is SIEVE (Zhang et al., NSDI 2024): a hand walks from the oldest to the
// newest, spares what was hit since, and evicts in place.
type sieve struct {
	room int64
	list *list
	hand *node
	at   map[uint64]*node
}

func newSIEVE(room int64) policy { return &sieve{room: room, list: newList(), at: map[uint64]*node{}} }

func (c *sieve) access(id uint64, size int64) bool {
	if n := c.at[id]; n != nil {
		n.hits = 1
		return true
	}
	if size > c.room {
		return false
	}
	for c.list.bytes+size > c.room {
		c.evict()
	}
	n := &node{id: id, size: size}
	c.at[id] = n
	c.list.push(n)
	return false
}

func (c *sieve) evict() {
	n := c.hand
	if n == nil {
		n = c.list.tail()
	}
	for n.hits > 0 {
		n.hits = 0
		if n = n.prev; n == &c.list.root {
			n = c.list.tail()
		}
	}
	if c.hand = n.prev; c.hand == &c.list.root {
		c.hand = nil
	}
	c.list.remove(n)
	delete(c.at, n.id)
}

// s3fifo is S3-FIFO (Yang et al., SOSP 2023) as published: a tenth for the small
// queue, ghosts of as many bytes as the main one.
type s3fifo struct {
	room               int64
	small, main, ghost *list
	at                 map[uint64]*node
}

func newS3FIFO(room int64) policy {
	return &s3fifo{room: room, small: newList(), main: newList(), ghost: newList(), at: map[uint64]*node{}}
}

func (c *s3fifo) access(id uint64, size int64) bool {
	n := c.at[id]
	if n != nil && n.in != c.ghost {
		n.hits = min(n.hits+1, 3)
		return true
	}
	if size > c.room {
		return false
	}
	for c.small.bytes+c.main.bytes+size > c.room {
		c.evict()
	}
	if n = c.at[id]; n != nil { // still a ghost
		c.ghost.remove(n)
		n.hits, n.size = 0, size
		c.main.push(n)
		return false
	}
	n = &node{id: id, size: size}
	c.at[id] = n
	c.small.push(n)
	return false
}

func (c *s3fifo) evict() {
	if c.small.bytes*10 >= c.room || c.main.tail() == nil {
		for n := c.small.tail(); n != nil; n = c.small.tail() {
			c.small.remove(n)
			if n.hits > 1 {
				n.hits = 0
				c.main.push(n)
				continue
			}
			c.ghost.push(n)
			for c.ghost.bytes > c.room-c.room/10 {
				g := c.ghost.tail()
				c.ghost.remove(g)
				delete(c.at, g.id)
			}
			return
		}
	}
	for n := c.main.tail(); n != nil; n = c.main.tail() {
		c.main.remove(n)
		if n.hits == 0 {
			delete(c.at, n.id)
			return
		}
		n.hits--
		c.main.push(n)
	}
}

// tinyLFU is W-TinyLFU (Einziger et al., 2017): a window of one per cent, behind it
// a segmented LRU that a newcomer enters only by being asked for more often than
// who would have to leave.
type tinyLFU struct {
	room                     int64
	window, trial, protected *list
	at                       map[uint64]*node
	often                    map[uint64]int // halved now and then, like the sketch
	seen, period             int
}

func newTinyLFU(room int64) policy {
	return &tinyLFU{room: room, window: newList(), trial: newList(), protected: newList(), at: map[uint64]*node{}, often: map[uint64]int{}}
}

func (c *tinyLFU) access(id uint64, size int64) bool {
	c.note(id)
	n := c.at[id]
	if n == nil {
		if size <= c.room {
			n = &node{id: id, size: size}
			c.at[id] = n
			c.window.push(n)
			c.settle()
		}
		return false
	}
	from := n.in
	from.remove(n)
	if from == c.trial {
		from = c.protected
	}
	from.push(n)
	for most := (c.room - c.room/100) * 8 / 10; c.protected.bytes > most; {
		v := c.protected.tail()
		c.protected.remove(v)
		c.trial.push(v)
	}
	return true
}

func (c *tinyLFU) note(id uint64) {
	c.often[id] = min(c.often[id]+1, 15)
	c.period = max(c.period, 10*len(c.at))
	if c.seen++; c.seen < max(c.period, 1000) {
		return
	}
	c.seen /= 2
	for id, n := range c.often {
		if n /= 2; n == 0 {
			delete(c.often, id)
		} else {
			c.often[id] = n
		}
	}
}

func (c *tinyLFU) settle() {
	for c.window.bytes > max(c.room/100, 1) {
		n := c.window.tail()
		c.window.remove(n)
		if !c.admit(n) {
			delete(c.at, n.id)
			continue
		}
		c.trial.push(n)
	}
}

// admit makes room for n where all who have to leave are asked for less often.
func (c *tinyLFU) admit(n *node) bool {
	room := c.room - max(c.room/100, 1)
	need := c.trial.bytes + c.protected.bytes + n.size - room
	var gone []*node
	for _, l := range []*list{c.trial, c.protected} {
		for v := l.root.prev; v != &l.root && need > 0; v = v.prev {
			if c.often[v.id] >= c.often[n.id] {
				return false
			}
			gone = append(gone, v)
			need -= v.size
		}
	}
	for _, v := range gone {
		v.in.remove(v)
		delete(c.at, v.id)
	}
	return need <= 0
}

// gdsf is Greedy-Dual-Size-Frequency (Cherkasova, 1998): what leaves is worth
// least by hits per byte, on a scale that rises with what has left.
type gdsf struct {
	room, used int64
	floor      float64
	heap       worths
	at         map[uint64]*worth
}

type worth struct {
	id    uint64
	size  int64
	hits  float64
	value float64
	place int
}

type worths []*worth

func (h worths) Len() int           { return len(h) }
func (h worths) Less(i, j int) bool { return h[i].value < h[j].value }
func (h worths) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}
func (h *worths) Push(x any) {
	w := x.(*worth)
	w.place = len(*h)
	*h = append(*h, w)
}
func (h *worths) Pop() any {
	w := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return w
}

func newGDSF(room int64) policy { return &gdsf{room: room, at: map[uint64]*worth{}} }

func (c *gdsf) access(id uint64, size int64) bool {
	if w := c.at[id]; w != nil {
		w.hits++
		w.value = c.floor + w.hits/float64(w.size)
		heap.Fix(&c.heap, w.place)
		return true
	}
	if size > c.room {
		return false
	}
	for c.used+size > c.room {
		v := heap.Pop(&c.heap).(*worth)
		c.floor = v.value
		c.used -= v.size
		delete(c.at, v.id)
	}
	w := &worth{id: id, size: size, hits: 1, value: c.floor + 1/float64(size)}
	c.at[id] = w
	c.used += size
	heap.Push(&c.heap, w)
	return false
}
