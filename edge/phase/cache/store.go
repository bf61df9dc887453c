package cache

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"

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
	entries map[uint64]*entry  // by hash; guarded by mu
	fills   map[uint64][]*fill // in flight and open to others; guarded by mu
	passes  map[uint64]int64   // hash → instant when the marker ends; guarded by mu
	queues  queues             // guarded by mu

	served [request.CacheUpdating + 1]atomic.Uint64
	_      [64]byte // shards do not share a cache line
}

// entry is one key with its variants, the newest first.
type entry struct {
	text     []byte
	next     *entry // same hash, other text
	variants []*object
}

func (s *shard) open(share int64) {
	s.entries = make(map[uint64]*entry)
	s.fills = make(map[uint64][]*fill)
	s.passes = make(map[uint64]int64)
	s.queues.open(share)
}

func (e *Engine) shardOf(hash uint64) *shard { return &e.shards[hash&e.mask] }

// find returns the stored variant that answers r, with a reference that the
// caller gives back; nil when there is none. It may be stale.
func (s *shard) find(k key, r *request.Request) *object {
	s.mu.RLock()
	o := s.match(k, r)
	if o != nil {
		o.refs.Add(1)
	}
	s.mu.RUnlock()
	return o
}

// match is find under a lock that is held, without the reference.
func (s *shard) match(k key, r *request.Request) *object {
	en := s.entry(k)
	if en == nil {
		return nil
	}
	for _, o := range en.variants {
		if !o.purged() && (o.vary == nil || matches(o.vary, &r.In.Fields, r.Arena)) {
			return o
		}
	}
	return nil
}

func (s *shard) entry(k key) *entry {
	for en := s.entries[k.hash]; en != nil; en = en.next {
		if bytes.Equal(en.text, k.text) {
			return en
		}
	}
	return nil
}

// join finds, under one lock, a fresh object that was stored meanwhile, or a
// fill that r can share, or opens f, if not nil, as the fill for others.
func (s *shard) join(k key, r *request.Request, f *fill, now int64) (o *object, shared *fill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.match(k, r); o != nil && o.isFresh(now) {
		o.refs.Add(1)
		return o, nil
	}
	if shared := s.sharable(k, r); shared != nil {
		shared.expected.Add(1)
		return nil, shared
	}
	if f != nil {
		s.fills[k.hash] = append(s.fills[k.hash], f)
	}
	return nil, nil
}

// sharable returns a fill whose answer r may have, as far as is known: the
// Vary of the answer where its head is here, else that of the newest variant.
func (s *shard) sharable(k key, r *request.Request) *fill {
	list := s.fills[k.hash]
	if len(list) == 0 {
		return nil
	}
	en := s.entry(k)
	for _, f := range list {
		if !bytes.Equal(f.key.text, k.text) || f.seq < f.zone.purged.Load() {
			continue
		}
		if f.concluded() {
			if f.suits(r) {
				return f
			}
			continue
		}
		if en == nil || len(en.variants) == 0 || sameChoice(en.variants[0].vary, &r.In.Fields, &f.in, r.Arena) {
			return f
		}
	}
	return nil
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
// purge came first.
func (e *Engine) put(f *fill, o *object) {
	s := e.shardOf(o.key.hash)
	e.reserve(s, o.size)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.leave(f) || o.purged() {
		e.used.Add(-o.size)
		return
	}
	delete(s.passes, o.key.hash)
	en := s.entry(o.key)
	if en == nil {
		en = &entry{text: o.key.text, next: s.entries[o.key.hash]}
		s.entries[o.key.hash] = en
	}
	old := slices.IndexFunc(en.variants, func(v *object) bool { return v == f.stale || sameVariant(v.vary, o.vary) })
	var from *fifo
	if old >= 0 {
		from = en.variants[old].queue
		o.freq.Store(en.variants[old].freq.Load())
		e.forget(s, en, old)
	}
	if len(en.variants) == maxVariants {
		e.forget(s, en, maxVariants-1)
	}
	en.variants = slices.Insert(en.variants, 0, o)
	o.refs.Add(1)
	s.queues.insert(o, from)
}

// forget removes a variant, but leaves the entry even when it is empty.
func (e *Engine) forget(s *shard, en *entry, i int) {
	o := en.variants[i]
	en.variants = slices.Delete(en.variants, i, i+1)
	s.queues.unlink(o)
	e.used.Add(-o.size)
	o.release()
}

// drop removes a stored object, and its entry with the last variant.
func (e *Engine) drop(s *shard, o *object) {
	en := s.entry(o.key)
	if en == nil {
		return
	}
	if i := slices.Index(en.variants, o); i >= 0 {
		e.forget(s, en, i)
	}
	if len(en.variants) == 0 {
		s.unlist(o.key.hash, en)
	}
}

func (s *shard) unlist(hash uint64, en *entry) {
	at := s.entries[hash]
	if at == en {
		if en.next == nil {
			delete(s.entries, hash)
		} else {
			s.entries[hash] = en.next
		}
		return
	}
	for ; at != nil; at = at.next {
		if at.next == en {
			at.next = en.next
			return
		}
	}
}

// sameVariant reports whether two answers were chosen by the same fields
// with the same values.
func sameVariant(a, b []varyField) bool {
	return slices.EqualFunc(a, b, func(x, y varyField) bool {
		return x.id == y.id && bytes.Equal(x.name, y.name) && (x.value == nil) == (y.value == nil) && bytes.Equal(x.value, y.value)
	})
}

// reserve takes size bytes of the budget and evicts until they fit: from the
// shard that will hold them while it has its share or more, else from all in
// turn.
func (e *Engine) reserve(s *shard, size int64) {
	e.used.Add(size)
	for idle := 0; e.used.Load() > e.cfg.Bytes && idle <= len(e.shards); {
		if e.evictFrom(s, s.queues.share) {
			continue
		}
		if e.evictFrom(&e.shards[e.hand.Add(1)&e.mask], 0) {
			idle = 0
		} else {
			idle++
		}
	}
}

// evictFrom removes one object of a shard that holds at least floor bytes.
func (e *Engine) evictFrom(s *shard, floor int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queues.small.bytes+s.queues.main.bytes < max(floor, 1) {
		return false
	}
	o := s.queues.victim()
	if o == nil {
		return false
	}
	e.drop(s, o)
	e.evictions.Add(1)
	return true
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
