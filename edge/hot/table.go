package hot

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/selvage-edge/selvage/edge/phase/cache/evict"
)

// Table holds values by name, the lately used ones, up to a number of bytes.
// Look-ups follow pointers that are replaced, never changed back; who puts
// something in takes a lock.
type Table[V any] struct {
	heads atomic.Pointer[[]atomic.Pointer[link[V]]] // as many as a power of two

	mu      sync.Mutex
	queues  evict.Queues // guarded by mu
	bound   int64
	count   int   // guarded by mu
	pinned  int64 // bytes; guarded by mu
	evicted atomic.Uint64
}

// link is a place in a chain of names with the same low bits of their hashes.
type link[V any] struct {
	next atomic.Pointer[link[V]]
	*node[V]
}

// node is one value under its name: replaced, never changed.
type node[V any] struct {
	evict.Item // first, so that it has the node's address
	hash       uint64
	name       string
	value      *V
	size       int64
	pinned     bool
}

const minHeads = 256

// nodeBytes is what a name costs beside its value: node, link and head.
const nodeBytes = 160

// NewTable returns a table for about bound bytes of values.
func NewTable[V any](bound int64) *Table[V] {
	t := &Table[V]{bound: bound}
	heads := make([]atomic.Pointer[link[V]], minHeads)
	t.heads.Store(&heads)
	nodeOf := func(it *evict.Item) *node[V] { return (*node[V])(unsafe.Pointer(it)) }
	t.queues.Size = func(it *evict.Item) int64 { return nodeOf(it).size }
	t.queues.Ghost = func(it *evict.Item) uint64 { return nodeOf(it).hash }
	t.queues.Open(int(min(bound/evict.GhostEach, 1<<20)))
	return t
}

// Find returns the value under a name with this hash, nil when there is none.
func (t *Table[V]) Find(hash uint64, name []byte) *V {
	heads := *t.heads.Load()
	for l := heads[hash&uint64(len(heads)-1)].Load(); l != nil; l = l.next.Load() {
		if l.hash == hash && l.name == string(name) {
			l.Hit()
			return l.value
		}
	}
	return nil
}

// Put makes v what is found under the name; others leave where there is no room.
// A pinned value stays until it is replaced or removed, and counts beside the
// bound.
func (t *Table[V]) Put(hash uint64, name string, v *V, size int64, pinned bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(hash, name, v, size, pinned, t.node(hash, name))
}

// Replace is Put for a name that has a value. It reports whether it had.
func (t *Table[V]) Replace(hash uint64, name string, v *V, size int64, pinned bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.node(hash, name)
	if old != nil {
		t.put(hash, name, v, size, pinned, old)
	}
	return old != nil
}

// Pin pins the value under a name, or makes it one like others again.
func (t *Table[V]) Pin(hash uint64, name string, pinned bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.node(hash, name); old != nil && old.pinned != pinned {
		t.put(hash, name, old.value, old.size-nodeBytes-int64(len(name)), pinned, old)
	}
}

// Remove takes a name out.
func (t *Table[V]) Remove(hash uint64, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.node(hash, name); old != nil {
		t.leave(old)
		t.unlink(old)
	}
}

// Each passes all names and values of one moment, in no order.
func (t *Table[V]) Each(f func(name string, v *V)) {
	t.mu.Lock()
	var all []*node[V]
	heads := *t.heads.Load()
	for i := range heads {
		for l := heads[i].Load(); l != nil; l = l.next.Load() {
			all = append(all, l.node)
		}
	}
	t.mu.Unlock()
	for _, n := range all {
		f(n.name, n.value)
	}
}

// Usage is how many values there are, their bytes, and how many have left for
// want of room.
func (t *Table[V]) Usage() (count int, bytes int64, evicted uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count, t.queues.Bytes() + t.pinned, t.evicted.Load()
}

// put runs under mu. The new value is found before the old one is not.
func (t *Table[V]) put(hash uint64, name string, v *V, size int64, pinned bool, old *node[V]) {
	n := &node[V]{hash: hash, name: name, value: v, size: size + nodeBytes + int64(len(name)), pinned: pinned}
	t.link(n)
	switch {
	case old != nil && !old.pinned && !pinned:
		t.queues.Replace(&old.Item, &n.Item)
	default:
		if old != nil {
			t.leave(old)
		}
		if pinned {
			t.pinned += n.size
		} else {
			t.queues.Insert(&n.Item, t.queues.Known(hash))
		}
	}
	if old != nil {
		t.unlink(old)
	}
	for t.queues.Bytes() > t.bound {
		it := t.queues.Victim()
		if it == nil {
			return
		}
		t.unlink((*node[V])(unsafe.Pointer(it)))
		t.evicted.Add(1)
	}
}

// leave takes a node off the books; runs under mu.
func (t *Table[V]) leave(n *node[V]) {
	if n.pinned {
		t.pinned -= n.size
	} else {
		t.queues.Remove(&n.Item)
	}
}

// node is Find for writers, without counting a hit; runs under mu.
func (t *Table[V]) node(hash uint64, name string) *node[V] {
	heads := *t.heads.Load()
	for l := heads[hash&uint64(len(heads)-1)].Load(); l != nil; l = l.next.Load() {
		if l.hash == hash && l.name == name {
			return l.node
		}
	}
	return nil
}

// link puts a node at the head of its chain; runs under mu.
func (t *Table[V]) link(n *node[V]) {
	if heads := *t.heads.Load(); t.count >= 2*len(heads) {
		t.grow(heads)
	}
	chain(*t.heads.Load(), n)
	t.count++
}

func chain[V any](heads []atomic.Pointer[link[V]], n *node[V]) {
	head := &heads[n.hash&uint64(len(heads)-1)]
	l := &link[V]{node: n}
	l.next.Store(head.Load())
	head.Store(l)
}

// grow doubles the chains. Who is in an old one goes on to its end.
func (t *Table[V]) grow(heads []atomic.Pointer[link[V]]) {
	next := make([]atomic.Pointer[link[V]], 2*len(heads))
	for i := range heads {
		for l := heads[i].Load(); l != nil; l = l.next.Load() {
			chain(next, l.node)
		}
	}
	t.heads.Store(&next)
}

// unlink takes a node out of its chain; who stands at it goes on from there.
func (t *Table[V]) unlink(n *node[V]) {
	heads := *t.heads.Load()
	at := &heads[n.hash&uint64(len(heads)-1)]
	for l := at.Load(); l != nil; l = at.Load() {
		if l.node == n {
			at.Store(l.next.Load())
			t.count--
			return
		}
		at = &l.next
	}
}
