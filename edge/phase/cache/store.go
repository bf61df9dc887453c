package cache

import (
	"bytes"
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/selvage-edge/selvage/edge/phase/cache/evict"
	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/phase/cache/slab"
	"github.com/selvage-edge/selvage/edge/request"
)

// Bounds per key and per shard.
const (
	maxVariants = 32   // of one key; the oldest gives way
	maxPasses   = 1024 // hit-for-pass markers of one shard
	passFor     = 120e9
)

// shard is a part of the store with a lock of its own. A hit takes its read
// lock and nothing else.
type shard struct {
	mu      sync.RWMutex
	objects index              // guarded by mu
	fills   map[uint64][]*fill // in flight and open to others; guarded by mu
	passes  map[uint64]int64   // hash → instant when the marker ends; guarded by mu
	queues  evict.Queues       // guarded by mu

	served [request.CacheUpdating + 1]atomic.Uint64
	_      [64]byte // shards do not share a cache line
}

func (s *shard) open(sl *slab.Slab, share int64) {
	s.objects.slab = sl
	s.fills = make(map[uint64][]*fill)
	s.passes = make(map[uint64]int64)
	s.queues.Size = func(it *evict.Item) int64 { return objectOf(it).size() }
	s.queues.Open(int(share / evict.GhostEach))
}

func (e *Engine) shardOf(hash uint64) *shard { return &e.shards[hash&e.mask] }

// find returns the stored variant that answers r, with a reference that the
// caller gives back; nil when there is none. It may be stale.
func (s *shard) find(k key, r *request.Request) *object {
	s.mu.RLock()
	o := s.match(k, r)
	if o != nil {
		o.retain()
	}
	s.mu.RUnlock()
	return o
}

// match is find under a lock that is held, without the reference.
func (s *shard) match(k key, r *request.Request) *object {
	for o := s.objects.first(k.hash); o != nil; o = o.more {
		if o.sameKey(k) && !o.purged() && (o.varyLen == 0 || matches(o.vary(), &r.In.Fields, r.Arena)) {
			return o
		}
	}
	return nil
}

// variants lists the objects of a key, the newest first; each may be dropped
// while it is looked at. The lock is held.
func (s *shard) variants(k key) iter.Seq[*object] {
	return func(yield func(*object) bool) {
		for o := s.objects.first(k.hash); o != nil; {
			more := o.more
			if o.sameKey(k) && !yield(o) {
				return
			}
			o = more
		}
	}
}

// newest is the first of variants, nil when there is none.
func (s *shard) newest(k key) *object {
	for o := range s.variants(k) {
		return o
	}
	return nil
}

// all lists the objects of a shard. The lock is held.
func (s *shard) all() iter.Seq[*object] {
	return func(yield func(*object) bool) {
		for _, slot := range s.objects.slots {
			if slot == 0 {
				continue
			}
			for o := objectAt(slot); o != nil; o = o.more {
				if !yield(o) {
					return
				}
			}
		}
	}
}

// join finds, under one lock, a fresh object that was stored meanwhile, or a
// fill that r can share, or opens f, if not nil, as the fill for others.
func (s *shard) join(k key, r *request.Request, want []byte, f *fill, now int64) (o *object, shared *fill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.match(k, r); o != nil && o.isFresh(now) && o.serves(r.In) {
		o.retain()
		return o, nil
	}
	if shared := s.sharable(k, r, want); shared != nil {
		shared.expect()
		return nil, shared
	}
	if f != nil {
		s.fills[k.hash] = append(s.fills[k.hash], f)
	}
	return nil, nil
}

// sharable returns a fill whose answer r may have, as far as is known: the
// Vary of the answer where its head is here, else that of the newest variant.
func (s *shard) sharable(k key, r *request.Request, want []byte) *fill {
	list := s.fills[k.hash]
	if len(list) == 0 {
		return nil
	}
	choice, known := s.choice(k, list)
	for _, f := range list {
		if !bytes.Equal(f.key.text, k.text) || !bytes.Equal(f.want, want) || !f.zone.Fresh(f.seq, f.loose) {
			continue
		}
		if f.concluded() {
			if f.suits(r) {
				return f
			}
			continue
		}
		if !known || sameChoice(choice, &r.In.Fields, &f.in, r.Arena) {
			return f
		}
	}
	return nil
}

// choice is what a key's answers are chosen by, as far as is known: from a fill
// whose head is here and that is stored in a moment, else from what is stored.
func (s *shard) choice(k key, list []*fill) (vary varyList, known bool) {
	for _, f := range list {
		if bytes.Equal(f.key.text, k.text) && f.concluded() && f.outcome == shared {
			return f.obj.vary(), true
		}
	}
	if newest := s.newest(k); newest != nil {
		return newest.vary(), true
	}
	return nil, false
}

// leave closes a fill to others. It reports whether the fill was still open:
// a purge by URL closes it early, and what it brings is not stored then.
func (s *shard) leave(f *fill) bool {
	list := s.fills[f.key.hash]
	i := slices.Index(list, f)
	if i < 0 {
		return false
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(s.fills, f.key.hash)
	} else {
		s.fills[f.key.hash] = list
	}
	return true
}

// put stores what a fill brought and closes the fill, in one step, unless a
// purge or an invalidation came first, which it reports.
func (e *Engine) put(f *fill, o *object) (valid bool) {
	s := e.shardOf(f.key.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.leave(f) || o.purged() {
		return false
	}
	e.insert(s, f.key, o, f.stale)
	return true
}

// insert stores an object in the place of stale, if that is there, or else of the
// same variant. The lock is held.
func (e *Engine) insert(s *shard, k key, o, stale *object) {
	hash := k.hash
	delete(s.passes, hash)
	var replaced, oldest *object
	held := 0
	for v := range s.variants(k) {
		if replaced == nil && (v == stale || sameVariant(v.vary(), o.vary())) {
			replaced = v
			continue
		}
		held++
		oldest = v
	}
	id := ghost(o, hash)
	known := replaced == nil && s.queues.Known(id)
	if replaced == nil && !known && !e.guard.Admits(zoneNumber(o.zone)) {
		s.queues.TurnAway(id)
		e.turnedAway.Add(1)
		return
	}
	if held >= maxVariants {
		e.drop(s, hash, oldest)
	}
	if !s.objects.add(hash, o) {
		return
	}
	o.retain()
	e.used.Add(o.size())
	if replaced == nil {
		s.queues.Insert(&o.Item, known)
		return
	}
	s.queues.Replace(&replaced.Item, &o.Item)
	e.forget(s, hash, replaced)
}

// drop removes an object from the store, if it is there. The lock is held; the
// object may be gone after it.
func (e *Engine) drop(s *shard, hash uint64, o *object) {
	if o.Held() {
		s.queues.Remove(&o.Item)
		e.forget(s, hash, o)
	}
}

// forget is drop for an object that has left its queue.
func (e *Engine) forget(s *shard, hash uint64, o *object) {
	s.objects.remove(hash, o)
	e.used.Add(-o.size())
	o.Release()
}

// objectOf is the object whose item it is.
func objectOf(it *evict.Item) *object { return (*object)(unsafe.Pointer(it)) }

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

// zoneNumber tells zones apart, as far as they are held.
func zoneNumber(z *mark.Zone) uint64 {
	return uint64(uintptr(unsafe.Pointer(z))) * 0x9e3779b97f4a7c15 >> 40
}

// hashOf is the hash of an object's key.
func (e *Engine) hashOf(o *object) uint64 { return maphash.Bytes(e.seed, o.text()) }

// evict removes an object from the fuller of two shards, of which each has its
// turn, and returns how many bytes it had; 0 when nothing is stored.
func (e *Engine) evict() int64 {
	i := e.hand.Add(1)
	a, b := &e.shards[i&e.mask], &e.shards[(i+1)&e.mask]
	if b.queues.Bytes() > a.queues.Bytes() {
		a = b
	}
	n := e.evictFrom(a)
	for j := range e.shards {
		if n > 0 {
			break
		}
		n = e.evictFrom(&e.shards[(i+uint64(j))&e.mask])
	}
	return n
}

func (e *Engine) evictFrom(s *shard) int64 {
	if s.queues.Bytes() == 0 {
		return 0
	}
	s.mu.Lock()
	it := s.queues.Victim()
	if it == nil {
		s.mu.Unlock()
		return 0
	}
	o := objectOf(it)
	o.retain()
	e.forget(s, e.hashOf(o), o)
	s.mu.Unlock()
	e.evictions.Add(1)
	if e.lower != nil && !o.partial() && !o.purged() {
		e.lower.Demote(o)
	}
	n := o.size()
	o.Release()
	return n
}

// Drop forgets what is stored and gives the memory back; what answers still show
// goes with the last of them. It comes after Close, where the process goes on.
func (e *Engine) Drop() {
	for i := range e.shards {
		s := &e.shards[i]
		s.mu.Lock()
		for it := s.queues.Victim(); it != nil; it = s.queues.Victim() {
			e.forget(s, e.hashOf(objectOf(it)), objectOf(it))
		}
		s.objects.shut()
		s.mu.Unlock()
	}
	e.slab.Close()
}

// lower is a slower tier below memory. Its methods are called without a lock,
// by the goroutine of a request or a fill, and must not wait for a disk.
type lower interface {
	// Demote is told of an object that leaves memory for want of room. It is
	// held until Demote returns; who needs it longer takes a reference first.
	Demote(o *object)
	// Hit is told of an object's first hit, and maybe again much later. The same
	// holds.
	Hit(o *object)
}

// mark makes the next requests for a key go past coalescing, because its
// answer proved not to be for sharing. A full table forgets any one marker.
func (s *shard) mark(hash uint64, until int64) {
	if len(s.passes) >= maxPasses {
		for h := range s.passes {
			delete(s.passes, h)
			break
		}
	}
	s.passes[hash] = until
}

// marked reports whether a key has a marker that has not run out.
func (s *shard) marked(hash uint64, now int64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	until, ok := s.passes[hash]
	return ok && now < until
}

func (s *shard) unmark(hash uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.passes, hash)
}
