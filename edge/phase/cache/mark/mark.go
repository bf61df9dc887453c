// Package mark is what purges leave behind: for each zone, up to which feed
// entry which of its stored answers are gone or expired. It promises that a
// purge costs what it names and never a search through stored answers, that a
// reader compares two numbers until there is something new to look at, that what
// it holds is bounded (when it is full it remembers less and so purges more,
// never less), and that what was acknowledged holds after a restart.
package mark

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what a Ledger remembers.
const (
	MaxMarks     = 1 << 20 // in all zones together, about 64 bytes of memory each
	MaxZoneMarks = 100_000 // of one zone
	MaxZones     = 250_000 // zones with marks and nothing stored
)

// Mark is the newest purge of one name: what was fetched under an older entry
// than Hard is gone, under an older one than Soft expired.
type Mark struct {
	Hard, Soft uint64
	At         int64 // when Soft took effect, Unix time in nanoseconds
}

func (m Mark) newest() uint64 { return max(m.Hard, m.Soft) }

// join keeps the newer of each half.
func (m Mark) join(n Mark) Mark {
	m.Hard = max(m.Hard, n.Hard)
	if n.Soft > m.Soft {
		m.Soft, m.At = n.Soft, n.At
	}
	return m
}

// kind is what a mark names.
type kind uint8

const (
	everything kind = iota // of the zone; no name
	tag
	host
	prefix
	page    // URL
	reserve // all that a reserve has of the zone; no name
	kinds
)

// Ledger holds the marks of all zones. Its methods may be called by any
// goroutine, those that purge by one at a time.
type Ledger struct {
	journal *journal // nil = only in memory
	lasting bool     // what is stored outlives memory
	id      uint64
	owner   any // set by Serve, before the first zone is held

	mu    sync.Mutex
	zones map[string]*Zone
	seq   uint64 // newest entry that took effect, counted from base on; guarded by mu
	base  uint64 // of the feed's history; guarded by mu
	life  uint64 // of the feed's copy, as Restart was told; guarded by mu
	floor uint64 // what is older is gone in every zone; guarded by mu
	marks int    // in all zones; guarded by mu
	idle  int    // zones that are held by nobody; guarded by mu
	most  struct{ marks, zoneMarks, zones int }
}

// New returns a ledger without marks that remembers nothing across a restart.
func New() *Ledger {
	l := &Ledger{zones: make(map[string]*Zone), id: newID()}
	l.most.marks, l.most.zoneMarks, l.most.zones = MaxMarks, MaxZoneMarks, MaxZones
	return l
}

// NewLasting is New for answers that are stored elsewhere too: marks are kept
// where nothing of a zone is held. After a restart all that was stored is invalid.
func NewLasting() *Ledger {
	l := New()
	l.lasting = true
	return l
}

// Serve tells whose answers the marks are about; see Zone.Owner.
func (l *Ledger) Serve(owner any) { l.owner = owner }

// Owner is what Serve was told.
func (z *Zone) Owner() any { return z.ledger.owner }

// ID names the ledger's life: what was stored under another ID may have missed
// purges. A ledger in memory has one of its own.
func (l *Ledger) ID() uint64 { return l.id }

// Zone is what was purged of one zone.
type Zone struct {
	id     string
	ledger *Ledger
	refs   int           // guarded by Ledger.mu
	purged atomic.Uint64 // what is older is gone
	newest atomic.Uint64 // the newest mark in the tables
	page   atomic.Uint64 // the newest mark of kind page; not counted in newest

	mu    sync.RWMutex
	all   Mark // guarded by mu, as all below
	names [kinds]map[uint64]Mark
	count int
}

// Acquire returns a zone's marks with a reference, and the newest entry that
// took effect: the two under one lock, so that no purge falls between.
func (l *Ledger) Acquire(id string) (*Zone, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	z := l.zone(id)
	if z.refs++; z.refs == 1 {
		l.idle--
	}
	return z, l.seq
}

// zone finds or makes a zone; mu is held. One that is new counts as idle.
func (l *Ledger) zone(id string) *Zone {
	z := l.zones[id]
	if z == nil {
		z = &Zone{id: strings.Clone(id), ledger: l}
		z.purged.Store(l.floor)
		l.zones[z.id] = z
		l.idle++
	}
	return z
}

// Retain takes one more reference.
func (z *Zone) Retain() {
	z.ledger.mu.Lock()
	defer z.ledger.mu.Unlock()
	z.refs++
}

// Release gives a reference back. A zone of which nothing is stored is
// forgotten, unless its marks are to outlive the process.
func (z *Zone) Release() {
	l := z.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if z.refs--; z.refs > 0 {
		return
	}
	l.idle++
	if !l.lasting || z.newest.Load() == 0 && z.page.Load() == 0 && z.purged.Load() <= l.floor {
		l.forget(z)
	}
}

// forget removes an idle zone; mu is held.
func (l *Ledger) forget(z *Zone) {
	delete(l.zones, z.id)
	l.marks -= z.count
	l.idle--
}

// Seq is the newest entry that took effect, for tests.
func (l *Ledger) Seq() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq
}

// Subject is a stored answer as far as purges ask for it.
type Subject struct {
	Seq  uint64   // newest entry that had taken effect when its fetch began
	Tags []uint64 // TagHash of each
	// URL is host, path and, after '?', query, each in the form of cache keys.
	URL []byte
	// Loose: more than one URL leads to it, so a purge of any URL with its path
	// is about it.
	Loose bool
	// Reserve: it lies in a reserve, which may have been cleared.
	Reserve bool
}

// Gone reports whether the zone was purged whole after entry seq.
func (z *Zone) Gone(seq uint64) bool { return seq < z.purged.Load() }

// News reports whether there is a mark that an answer, last looked at when
// entry checked was the newest, has not been compared with.
func (z *Zone) News(checked uint64, loose bool) bool {
	return checked < z.newest.Load() || loose && checked < z.page.Load()
}

// Fresh reports whether no mark is newer than entry seq, for a fetch of which
// only the zone is known. Purges of single URLs count if it is loose.
func (z *Zone) Fresh(seq uint64, loose bool) bool {
	return !z.Gone(seq) && !z.News(seq, loose)
}

// Verdict is what became of a subject.
type Verdict struct {
	Gone    bool
	Expired int64  // Unix time in nanoseconds since when it counts as stale; 0 = it does not
	Seen    uint64 // what to pass to News from now on
}

// Judge compares a subject with all marks of the zone.
func (z *Zone) Judge(s *Subject) Verdict {
	z.mu.RLock()
	defer z.mu.RUnlock()
	v := Verdict{Seen: max(s.Seq, z.newest.Load(), z.page.Load()), Gone: s.Seq < z.purged.Load()}
	v.add(z.all, s.Seq)
	if names := z.names[tag]; len(names) > 0 {
		for _, t := range s.Tags {
			v.add(names[t], s.Seq)
		}
	}
	if s.Reserve {
		v.add(z.names[reserve][0], s.Seq)
	}
	if len(z.names[host])+len(z.names[prefix])+len(z.names[page]) > 0 {
		z.judgeURL(s, &v)
	}
	return v
}

func (v *Verdict) add(m Mark, seq uint64) {
	v.Gone = v.Gone || seq < m.Hard
	if seq < m.Soft && (v.Expired == 0 || m.At < v.Expired) {
		v.Expired = m.At
	}
}

// judgeURL hashes the URL once and looks at each of its beginnings that a mark
// may name: the host, each path segment with and without its slash, the whole.
func (z *Zone) judgeURL(s *Subject, v *Verdict) {
	h, inHost, segments := start, true, 0
	inPath := true
	for _, c := range s.URL {
		switch {
		case inHost && c == '/':
			v.add(z.names[host][uint64(h)], s.Seq)
			inHost = false
		case inPath && (c == '/' || c == '?'):
			v.add(z.names[prefix][uint64(h)], s.Seq)
		}
		if c == '?' && inPath {
			inPath = false
			if s.Loose {
				v.add(z.names[page][uint64(h)], s.Seq)
			}
		}
		h = h.add(c)
		if c == '/' && inPath && !inHost {
			if segments++; segments <= maxSegments {
				v.add(z.names[prefix][uint64(h)], s.Seq)
			}
		}
	}
	if inPath {
		v.add(z.names[prefix][uint64(h)], s.Seq)
	}
	v.add(z.names[page][uint64(h)], s.Seq)
}

// maxSegments is how many path separators a prefix may have; more are not
// looked for.
const maxSegments = 32

// Purge is what one entry purges of one zone.
type Purge struct {
	Everything bool
	Soft       bool
	Reserve    bool     // what a reserve has of the zone
	Tags       []string // compared without regard to case
	Hosts      []string // lower case
	Prefixes   []string // host, path: lower case host, path in the form of cache keys
	// Pages are URLs as Subject.URL has them, and, for loose subjects, each
	// without its query as well.
	Pages []string
}

// Note takes in a purge by entry seq of the feed, and returns the entry in the
// ledger's count. From its return on the purge holds for every answer in
// memory; Sync makes it hold after a restart.
func (l *Ledger) Note(zoneID string, seq uint64, p *Purge, now time.Time) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq += l.base
	m := Mark{Hard: seq}
	if p.Soft {
		m = Mark{Soft: seq, At: now.UnixNano()}
	}
	z := l.zones[zoneID]
	if z == nil && !l.lasting {
		l.seq = max(l.seq, seq)
		return seq // nothing of it is stored anywhere
	}
	if z == nil {
		l.boundZones()
		z = l.zone(zoneID)
	}
	l.apply(z, p, m)
	l.journal.purge(z, p, m)
	l.seq = max(l.seq, seq)
	return seq
}

// apply sets the marks of one purge; mu is held.
func (l *Ledger) apply(z *Zone, p *Purge, m Mark) {
	z.mu.Lock()
	before := z.count
	if p.Everything {
		z.all = z.all.join(m)
		raise(&z.purged, m.Hard)
	}
	if p.Reserve {
		z.set(reserve, 0, m)
	}
	for _, t := range p.Tags {
		z.set(tag, TagHash(t), m)
	}
	for _, h := range p.Hosts {
		z.set(host, Hash(h), m)
	}
	for _, x := range p.Prefixes {
		z.set(prefix, Hash(x), m)
	}
	for _, u := range p.Pages {
		z.set(page, Hash(u), m)
	}
	if z.count > l.most.zoneMarks {
		z.fold(median(func(yield func(*Zone) bool) { yield(z) }))
	}
	l.marks += z.count - before
	z.mu.Unlock()
	if len(p.Tags)+len(p.Hosts)+len(p.Prefixes) > 0 || p.Soft || p.Reserve {
		raise(&z.newest, m.newest())
	}
	if len(p.Pages) > 0 {
		raise(&z.page, m.newest())
	}
	if l.marks > l.most.marks {
		l.foldAll()
	}
}

func raise(to *atomic.Uint64, seq uint64) { to.Store(max(to.Load(), seq)) }

// set joins one mark to a table; mu is held.
func (z *Zone) set(k kind, name uint64, m Mark) {
	if z.names[k] == nil {
		z.names[k] = make(map[uint64]Mark)
	}
	old, ok := z.names[k][name]
	if !ok {
		z.count++
	}
	z.names[k][name] = old.join(m)
}

// fold drops a zone's marks up to entry upTo and purges all that they might have
// been about; mu is held.
func (z *Zone) fold(upTo uint64) {
	before := z.count
	z.count = 0
	for k, names := range z.names {
		maps.DeleteFunc(names, func(_ uint64, m Mark) bool { return m.newest() <= upTo })
		z.names[k] = maps.Clone(names) // a map does not shrink by itself
		z.count += len(names)
	}
	if z.count < before {
		z.all.Hard = max(z.all.Hard, upTo)
		raise(&z.purged, upTo)
	}
}

// median is the entry that half of the zones' marks do not go beyond.
func median(zones iter.Seq[*Zone]) uint64 {
	var seqs []uint64
	for z := range zones {
		for _, names := range z.names {
			for m := range maps.Values(names) {
				seqs = append(seqs, m.newest())
			}
		}
	}
	if len(seqs) == 0 {
		return 0
	}
	slices.Sort(seqs)
	return seqs[len(seqs)/2]
}

// foldAll makes room where the marks of all zones are too many; mu is held.
func (l *Ledger) foldAll() {
	upTo := median(maps.Values(l.zones))
	l.marks = 0
	for _, z := range l.zones {
		z.mu.Lock()
		z.fold(upTo)
		l.marks += z.count
		z.mu.Unlock()
	}
}

// boundZones forgets all idle zones when there are too many for one more, and
// purges what is older than now in every zone; mu is held.
func (l *Ledger) boundZones() {
	if l.idle < l.most.zones {
		return
	}
	l.raiseFloor(l.seq)
	for _, z := range l.zones {
		if z.refs == 0 {
			l.forget(z)
		}
	}
}

// raiseFloor purges what is older than seq in every zone; mu is held.
func (l *Ledger) raiseFloor(seq uint64) {
	l.floor = max(l.floor, seq)
	for _, z := range l.zones {
		raise(&z.purged, l.floor)
	}
}

// Advance notes the newest entry that took effect. Lower numbers are ignored.
func (l *Ledger) Advance(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq = max(l.seq, l.base+seq)
}

// Restart purges everything, for an edge whose state was replaced by that at
// entry seq of the feed. That number may be lower than any before; later ones
// are understood to follow it. life tells one such replacement from the next.
func (l *Ledger) Restart(seq, life uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restart(seq, life)
}

func (l *Ledger) restart(seq, life uint64) {
	l.seq++
	l.base = l.seq - seq // below zero wraps, and base+seq wraps back
	l.life = life
	l.raiseFloor(l.seq)
	l.journal.restart(l)
}

// Resume is called at start, before anything that was stored is served: life is
// the number of the replacement that the feed's copy stands on, seq its newest
// entry, and purges gives for each zone the newest entry with a purge. What the
// journal does not know of, because the process ended in between, is purged now.
func (l *Ledger) Resume(life, seq uint64, purges iter.Seq2[string, uint64]) error {
	l.mu.Lock()
	if l.life != life {
		l.restart(seq, life)
	} else {
		known := l.seq
		for id, at := range purges {
			if at += l.base; at > known {
				z := l.zone(id)
				l.apply(z, &Purge{Everything: true}, Mark{Hard: at})
				l.journal.purge(z, &Purge{Everything: true}, Mark{Hard: at})
			}
		}
		l.seq = max(l.seq, l.base+seq)
	}
	l.mu.Unlock()
	return l.Sync()
}

// Zones tells how many zones are known, for tests.
func (l *Ledger) Zones() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.zones)
}
