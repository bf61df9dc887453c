// Package cache is the edge's shared HTTP cache (RFC 9111): a RAM tier with a
// byte budget. It promises that an answer is stored only where the RFC and the
// origin's fields allow it, that one object is fetched once however many ask,
// that a purged object is never a hit again, and that a hit allocates nothing.
//
// What its CF-Cache-Status values mean:
//
//	HIT          fresh, from memory
//	MISS         fetched, and being stored; all who share the fetch say MISS
//	EXPIRED      was held but stale; the origin sent a new answer
//	REVALIDATED  was held but stale; the origin said 304
//	STALE        stale, served because the origin fails, with a Warning field
//	UPDATING     stale, served within stale-while-revalidate; a refresh runs
//	BYPASS       the request, the answer or a limit of ours said not to store:
//	             no-store, private, Set-Cookie, Authorization without
//	             permission, Vary: *, an object over the size limit,
//	             development mode, a cache rule, a full table of fills; or the request has a
//	             field by which origins answer for another URL or method
//	             (X-Original-URL, X-HTTP-Method-Override and the like)
//	DYNAMIC      not eligible: the zone's cache level, method, body, If-Match, HEAD, several ranges or an
//	             If-Range of a version that is not held on a miss, or an answer
//	             with neither freshness nor a validator
//
// Rules where the RFC leaves a choice:
//
//   - An answer with Set-Cookie is never stored, whatever else it says: a
//     cookie served to a second visitor is somebody else's session.
//   - private and no-cache with field names are treated as without.
//   - 413 and 431 are never stored, and no answer about how one visitor asked
//     makes others pass: nobody can keep a page out of the cache (CPDoS).
//   - An answer to POST is kept for GET if it is a 200 with explicit freshness
//     whose Content-Location is the URL itself (RFC 9110 §9.3.3).
//   - Freshness that is invalid or contradicts itself counts as stale.
//   - Freshness is s-maxage, max-age, Expires, then 10 % of the time since
//     Last-Modified, at most a day, for the codes of RFC 9110 §15.1 or
//     with "public". CDN-Cache-Control (RFC 9213), if valid, speaks instead of
//     Cache-Control and Expires.
//   - Requests' no-cache, max-age, min-fresh, max-stale and Pragma are ignored
//     (a visitor must not be able to load the origin); no-store keeps the
//     answer out of the store; only-if-cached without a stored answer is 504.
//   - A stale object stands in for a failing origin (unreachable, time-out,
//     5xx) within stale-if-error, and without limit where Always Online is on.
//     must-revalidate, proxy-revalidate and no-cache forbid both. s-maxage
//     forbids Always Online (RFC 9111 §5.2.2.10) but not the origin's own
//     stale-if-error and stale-while-revalidate.
//   - An answer with Content-Encoding is for requests with the same
//     Accept-Encoding, also where the origin forgot to say so by Vary. Accept
//     is narrowed for images whose types the zone names; see variants.
//   - Query parameters are sorted by name, those of one name in their order.
//   - A purge or an invalidation by URL drops http and https, all variants.
//   - An object over the limit, announced or not, is passed on through a window,
//     and kept on the disk and in the reserve as it comes; without either it is
//     fetched by each who asks. A reader that falls a window behind one that waits
//     for more is cut off. So is passed on what comes, over its first 64 KiB, while fills and
//     evicted objects that slow visitors still read take half as much memory
//     as the store may.
//   - A Range that is not held is fetched as it is asked for and kept. Parts of
//     one version, which takes a strong ETag, are put together (RFC 9111 §3.4);
//     what is missing between them is fetched with If-Range. Of one object at
//     most 16 stretches are kept, and MaxObject bytes: what is far from the
//     newest goes. An answer whose connection breaks is kept as a part.
//   - A tag, prefix or host purge, and a soft one, is looked for when an object is
//     asked for next; see package mark. Cache-Tag is not shown to visitors.
//   - Trailers are not stored, and not passed on by a fetch that is shared.
package cache

import (
	"cmp"
	"context"
	"hash/maphash"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/evict"
	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/phase/cache/slab"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// Defaults for zero fields of Config.
const (
	DefaultBytes     = 256 << 20
	DefaultMaxObject = 32 << 20
	DefaultWindow    = 1 << 20
	DefaultShards    = 64
	DefaultMaxFills  = 4096
)

// Config is what an Engine is made of. Zero fields have the defaults above.
type Config struct {
	Bytes     int64 // budget for stored objects: keys, heads, bodies, bookkeeping
	MaxObject int64 // largest body stored, in bytes; never more than Bytes/4
	Window    int64 // bytes held of an object that outgrew MaxObject
	Shards    int   // rounded up to a power of two
	MaxFills  int   // fetches on behalf of the cache at a time; more pass unshared

	// Fetch runs what is below the cache on a request: it fills r.Out from the
	// origin or returns a *fault.Error. r.CacheKey is set where the answer is
	// for the store. Where another edge gave the answer it notes r.Cache.Tier.
	// It is called from several goroutines.
	Fetch func(r *request.Request) error
	// Marks are the purges to compare with; nil = a ledger in memory. Closing it,
	// after the engine, is for who made it.
	Marks *mark.Ledger
	// Ctx is the parent of fills: its end cuts them off.
	Ctx context.Context
	Now func() time.Time // nil = time.Now
	// Off says what is switched off, where no request does; nil = nothing.
	Off func() zone.Kills

	poison bool // overwrite memory that is given back, for tests
}

// Engine holds the store and the fills of one edge. Its methods may be called
// from any goroutine.
type Engine struct {
	cfg    Config
	clock  func() time.Time // nil = time.Now, and a request's Start will do
	epoch  time.Time        // instants are nanoseconds since
	seed   maphash.Seed
	shards []shard
	mask   uint64
	slab   *slab.Slab
	guard  evict.Guard

	lower lower // nil = no slower tier here; set before the first request
	disk  *disk // the same; lower is the disk where there is one
	far   *far  // nil = no reserve; set before the first request

	used  atomic.Int64 // bytes of stored objects
	alive atomic.Int64 // the same, and evicted objects that are being read
	hand  atomic.Uint64

	fills    atomic.Int64 // in flight
	filling  atomic.Int64 // bytes that fills buffer
	marks    *mark.Ledger
	changes  atomic.Uint64 // invalidations by URL so far
	sweeping atomic.Bool
	coders   chan struct{} // a place for each body that is being compressed

	life   sync.RWMutex // guards closed against work.Add
	closed bool
	work   sync.WaitGroup

	turnedAway, evictions, coalesced, refused, sweeps atomic.Uint64
	coded, uncoded                                    atomic.Uint64 // bodies compressed, and encoders that failed
}

// New returns an engine with an empty store. Fetch and Ctx are required.
func New(c Config) *Engine {
	if c.Fetch == nil || c.Ctx == nil {
		panic("cache: Config needs Fetch and Ctx")
	}
	c.Bytes = cmp.Or(max(c.Bytes, 0), DefaultBytes)
	c.MaxObject = min(cmp.Or(max(c.MaxObject, 0), DefaultMaxObject), c.Bytes/4, math.MaxInt32)
	c.Window = cmp.Or(max(c.Window, 0), DefaultWindow)
	c.MaxFills = cmp.Or(max(c.MaxFills, 0), DefaultMaxFills)
	n := 1
	for n < cmp.Or(max(c.Shards, 0), DefaultShards) {
		n *= 2
	}
	e := &Engine{cfg: c, clock: c.Now, seed: maphash.MakeSeed(), shards: make([]shard, n), mask: uint64(n - 1), marks: c.Marks}
	if e.marks == nil {
		e.marks = mark.New()
	}
	if e.cfg.Now == nil {
		e.cfg.Now = time.Now
	}
	e.epoch = e.cfg.Now()
	e.coders = make(chan struct{}, runtime.GOMAXPROCS(0))
	e.marks.Serve(e)
	e.slab = slab.New(c.Bytes, slab.Options{Heap: heapSlab, Poison: c.poison})
	for i := range e.shards {
		s := &e.shards[i]
		s.open(e.slab, c.Bytes/int64(n))
		s.queues.Ghost = func(it *evict.Item) uint64 { return ghost(objectOf(it), e.hashOf(objectOf(it))) }
		s.queues.Left = func(it *evict.Item, hit bool) { e.guard.Left(zoneNumber(objectOf(it).zone), hit) }
		s.queues.Stayed = func(it *evict.Item, hit bool) { e.guard.Stayed(zoneNumber(objectOf(it).zone), hit) }
		s.queues.Rises = func(it *evict.Item) bool { return e.guard.Rises(zoneNumber(objectOf(it).zone)) }
	}
	return e
}

// off reports whether something is switched off, for work that no request asks for.
func (e *Engine) off(s zone.Kill) bool { return e.cfg.Off != nil && e.cfg.Off().Has(s) }

// Close refuses new fills and waits for those in flight and for the sweeper.
// Who is in a hurry ends Config.Ctx first. What is stored is served on.
func (e *Engine) Close() {
	e.life.Lock()
	e.closed = true
	e.life.Unlock()
	e.work.Wait()
	if e.disk != nil && !e.off(zone.KillDisk) {
		e.disk.warm(time.Now().Add(warmTime))
	}
}

// start runs fn in a goroutine that Close waits for; false after Close.
func (e *Engine) start(fn func()) bool {
	e.life.RLock()
	defer e.life.RUnlock()
	if e.closed {
		return false
	}
	e.work.Go(fn)
	return true
}

// now is the instant of a call in nanoseconds since the epoch.
func (e *Engine) now() int64 { return int64(e.cfg.Now().Sub(e.epoch)) }

// nowOf is now, spared a clock reading where the request has a fresh one.
func (e *Engine) nowOf(r *request.Request) int64 {
	if e.clock == nil && !r.Start.IsZero() {
		return int64(r.Start.Sub(e.epoch))
	}
	return e.now()
}

// Run answers a request from the store or through Fetch. A nil plan, an
// Upgrade and CONNECT go on to the row below. With NoWait it answers hits and
// leaves the rest, and all counting of it, for later. A fault of Fetch's, or one while
// waiting, is left in r.Fault with the verdict Respond, for whoever makes the
// answer from it; the error, which would say that the cache itself is broken
// and send the request to the origin a second time, is nil.
func (e *Engine) Run(p *Plan, r *request.Request) (request.Verdict, error) {
	if p == nil {
		return request.Next, nil
	}
	if r.In.Upgrade != nil || r.In.Method == msg.CONNECT {
		r.Cache = request.CacheNote{Status: request.CacheDynamic, Tier: request.TierOrigin}
		return request.Next, nil
	}
	if r.CachePolicy == nil {
		p.prepare(r)
	}
	t := task{e: e, p: p, r: r}
	switch {
	case r.NoWait:
		return t.hit()
	case !r.In.Method.Safe():
		return t.unsafe()
	case r.In.Method != msg.GET && r.In.Method != msg.HEAD, r.In.Length != 0:
		return t.pass(request.CacheDynamic)
	case p.decide(r).eligibility == dynamic:
		return t.pass(request.CacheDynamic)
	case p.decide(r).eligibility == bypassed, overridden(&r.In.Fields):
		return t.pass(request.CacheBypass)
	}
	return t.get()
}
