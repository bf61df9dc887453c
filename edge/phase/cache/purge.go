package cache

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"net/url"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// Advance notes the newest feed entry that is applied. Fills that begin from
// now on are newer than all purges up to it. Lower numbers are ignored.
func (e *Engine) Advance(seq uint64) { e.marks.Advance(seq) }

// Sync makes the purges so far hold after a restart too. An edge acknowledges
// none before.
func (e *Engine) Sync() error { return e.marks.Sync() }

// Resume is called at start, before the first request, by an edge whose stored
// answers outlive it; see mark.Ledger.Resume.
func (e *Engine) Resume(life, seq uint64, purges iter.Seq2[string, uint64]) error {
	return e.marks.Resume(life, seq, purges)
}

// PurgeAll drops everything, for an edge that may have missed purges: its state
// was replaced by that at entry seq. That number may be lower than any before;
// later ones are understood to follow it. life is that of Resume.
func (e *Engine) PurgeAll(seq, life uint64) {
	e.marks.Restart(seq, life)
	e.sweep()
}

// Purge drops objects of a zone that were fetched before entry seq, or makes
// them stale. When it returns no later request is answered with one of them;
// their memory comes back a little later. An error names the URL that is not
// absolute http(s), and nothing has been dropped then.
func (e *Engine) Purge(zoneID string, seq uint64, p zone.Purge) error {
	what := mark.Purge{Everything: p.Everything, Soft: p.Soft, Reserve: p.Reserve, Tags: p.Tags}
	urls := make([]location, len(p.Files))
	for i, file := range p.Files {
		var err error
		if urls[i], err = readURL(file); err != nil {
			return fmt.Errorf("files[%d]: %w", i, err)
		}
		what.Pages = urls[i].appendPages(what.Pages)
	}
	for _, h := range p.Hosts {
		what.Hosts = append(what.Hosts, normalHost(h))
	}
	for _, x := range p.Prefixes {
		host, path, _ := strings.Cut(x, "/")
		what.Prefixes = append(what.Prefixes, string(appendNormal([]byte(normalHost(host)+"/"), []byte(path))))
	}
	seq = e.marks.Note(zoneID, seq, &what, e.cfg.Now())
	if p.Soft {
		return nil
	}
	if e.far != nil && (p.Reserve || p.Everything) {
		e.far.epochs.clear()
		e.far.store.Clear(e.farZone(zoneID)) // it is not found any more; this gives its room back
	}
	for _, u := range urls {
		e.invalidate(zoneID, u, func(objectSeq uint64) bool { return objectSeq < seq })
	}
	if p.Everything || len(p.Tags)+len(p.Hosts)+len(p.Prefixes) > 0 {
		e.sweep()
	}
	return nil
}

// normalHost is a host as requests are known by.
func normalHost(h string) string { return strings.TrimSuffix(strings.ToLower(h), ".") }

// appendPages appends the forms in which an object may have a URL: with the
// query sorted, as it was sent, and without, for objects whose key differs from
// the default.
func (l location) appendPages(pages []string) []string {
	sorted := string(appendURL(nil, l.host, l.path, l.query, true))
	pages = append(pages, sorted)
	if l.query == nil {
		return pages
	}
	if sent := string(appendURL(nil, l.host, l.path, l.query, false)); sent != sorted {
		pages = append(pages, sent)
	}
	return append(pages, string(appendURL(nil, l.host, l.path, nil, false)))
}

// purged reports whether the object was purged after its fill began. A soft
// purge ends its freshness instead. Most of the time two numbers tell; once
// after a purge of something in the zone its names are looked up.
func (o *object) purged() bool {
	seq := o.seq.Load()
	if o.zone.Gone(seq) {
		return true
	}
	return o.zone.News(seq, o.loose) && o.judged(seq)
}

// judged compares the object with the zone's marks. An object that none of them
// is about is as good as one that was fetched now, so that is what its number
// says from then on.
func (o *object) judged(seq uint64) (gone bool) {
	v := o.zone.Judge(o.subject(seq))
	if v.Gone {
		return true
	}
	if v.Expired != 0 {
		o.expire(o.engine().instantOf(v.Expired))
	}
	o.seq.Store(v.Seen)
	return false
}

// subject is what purges ask for.
func (o *object) subject(seq uint64) *mark.Subject {
	return &mark.Subject{Seq: seq, Tags: hashTags(o.tags()), URL: o.url(), Loose: o.loose}
}

// valid reports whether an answer that was stored elsewhere (on disk, in a
// reserve) has not been purged since, and the instant from which it counts as
// stale where a soft purge named it (0 = none did). life is the ID of the ledger
// it was stored under. What is valid may be kept under the number seen.
func (e *Engine) valid(life uint64, zoneID string, s *mark.Subject) (ok bool, expired int64, seen uint64) {
	if life != e.marks.ID() {
		return false, 0, 0
	}
	z, _ := e.marks.Acquire(zoneID)
	defer z.Release()
	v := z.Judge(s)
	if v.Expired != 0 {
		expired = e.instantOf(v.Expired)
	}
	return !v.Gone, expired, v.Seen
}

// instantOf turns the Unix time of a purge, in nanoseconds, into an instant. It
// is over whatever the clock says: a clock that was set forward since the
// engine's epoch would have the purge wait.
func (e *Engine) instantOf(at int64) int64 {
	now := e.cfg.Now()
	return e.since(now) - max(0, now.UnixNano()-at)
}

// invalidate drops the objects of one URL that older accepts by their seq,
// and keeps fills of it that are under way from becoming hits: both schemes,
// all variants, sorted query and query as sent.
func (e *Engine) invalidate(zoneID string, u location, older func(seq uint64) bool) {
	e.changes.Add(1)
	room := len(zoneID) + len(" https://") + len(u.host) + len(u.path) + len("?") + len(u.query)
	text := make([]byte, 0, room)
	for _, scheme := range [...]msg.Scheme{msg.HTTP, msg.HTTPS} {
		for _, sorted := range [...]bool{true, false} {
			text = appendKey(text[:0], zoneID, scheme, u.host, u.path, u.query, sorted)
			e.invalidateKey(zoneID, key{hash: maphash.Bytes(e.seed, text), text: text}, older)
		}
	}
}

func (e *Engine) invalidateKey(zoneID string, k key, older func(seq uint64) bool) {
	e.invalidateBelow(zoneID, k.text)
	if e.dropKey(k, older) && e.disk != nil {
		e.disk.invalidate(k.text) // one was on its way there
	}
}

// invalidateBelow forgets what the tiers below memory have of a key.
func (e *Engine) invalidateBelow(zoneID string, text []byte) {
	if e.disk != nil {
		e.disk.invalidate(text)
	}
	if e.far != nil {
		e.forgetFar(zoneID, text)
	}
}

// dropKey is invalidateKey for memory. It reports whether something that is gone
// from there was written to the disk, or is just being written.
func (e *Engine) dropKey(k key, older func(seq uint64) bool) (saved bool) {
	s := e.shardOf(k.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range s.variants(k) {
		if older(o.seq.Load()) {
			saved = !o.save() || saved // who has found it does not write it any more
			e.drop(s, k.hash, o)
		}
	}
	list := s.fills[k.hash]
	for i := len(list) - 1; i >= 0; i-- {
		if f := list[i]; bytes.Equal(f.key.text, k.text) && older(f.seq) {
			s.leave(f)
		}
	}
	return saved
}

// How the sweeper goes: little under one lock, and resting, so that it takes a
// fifth of a processor and no visitor waits for it.
const (
	sweepBatch = 64   // objects dropped under one lock
	sweepSlots = 1024 // places of a shard looked at under one lock
	sweepRest  = 4    // times as long as it worked
	shortest   = 200 * time.Microsecond

	// After a sweep memory goes back to the system where more than one in so many
	// bytes of the budget lie free.
	idlePart = 4
)

// sweep frees purged objects in the background. One sweeper runs at a time;
// one that is asked for meanwhile makes it go round again.
func (e *Engine) sweep() {
	e.sweeps.Add(1)
	if e.sweeping.Swap(true) {
		return
	}
	started := e.start(func() {
		for {
			round := e.sweeps.Load()
			for i := range e.shards {
				e.sweepShard(&e.shards[i])
			}
			if e.sweeps.Load() != round {
				continue
			}
			if st := e.slab.Stats(); st.Idle > st.Budget/idlePart {
				e.slab.Scavenge()
			}
			e.sweeping.Store(false)
			// A purge between the two lines above found a sweeper: take over.
			if e.sweeps.Load() == round || e.sweeping.Swap(true) {
				return
			}
		}
	})
	if !started {
		e.sweeping.Store(false)
	}
}

func (e *Engine) sweepShard(s *shard) {
	for at := 0; ; at += sweepSlots {
		began := e.cfg.Now()
		gone, end := s.purgedFrom(at)
		for len(gone) > 0 {
			n := min(sweepBatch, len(gone))
			s.mu.Lock()
			for _, o := range gone[:n] {
				e.drop(s, e.hashOf(o), o)
			}
			s.mu.Unlock()
			for _, o := range gone[:n] {
				o.Release()
			}
			gone = gone[n:]
		}
		if end || !e.rest(sweepRest*e.cfg.Now().Sub(began)) {
			return
		}
	}
}

// purgedFrom returns the purged objects of sweepSlots slots of a shard's index,
// each with a reference. What moves there meanwhile may be missed: it is looked
// at when somebody asks for it, or when it is evicted.
func (s *shard) purgedFrom(at int) (gone []*object, end bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	slots := s.objects.slots
	if at >= len(slots) {
		return nil, true
	}
	for _, slot := range slots[at:min(at+sweepSlots, len(slots))] {
		if slot == 0 {
			continue
		}
		for o := objectAt(slot); o != nil; o = o.more {
			if o.purged() {
				o.retain()
				gone = append(gone, o)
			}
		}
	}
	return gone, at+sweepSlots >= len(slots)
}

// rest waits for a while that is worth waiting for; false when the engine ends.
func (e *Engine) rest(d time.Duration) bool {
	if d < shortest {
		return e.cfg.Ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-e.cfg.Ctx.Done():
		return false
	}
}

// location is a URL as far as a key needs it.
type location struct{ host, path, query []byte }

var errURL = errors.New("not an absolute http or https URL")

// readURL cuts an absolute URL. Path and query stay as written, so that the
// key's own normalisation judges them as it does a request's.
func readURL(text string) (location, error) {
	u, err := url.Parse(text)
	if err != nil {
		return location{}, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return location{}, fmt.Errorf("%q: %w", text, errURL)
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	l := location{host: []byte(host), path: []byte{'/'}}
	_, rest, _ := strings.Cut(text, "://")
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, asked := strings.Cut(rest, "?")
	if asked {
		l.query = []byte(query)
		if l.query == nil {
			l.query = []byte{}
		}
	}
	if at := strings.IndexByte(rest, '/'); at >= 0 {
		l.path = []byte(rest[at:])
	}
	return l, nil
}
