package cache

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// zones holds the purge state of the zones that have objects or fills.
type zones struct {
	mu sync.Mutex
	// seq is the newest feed entry that is applied, counted from base on, so
	// that it never goes back where the feed's own numbers do; guarded by mu.
	seq  uint64
	base uint64 // of the feed's history; guarded by mu
	byID map[string]*zoneState
}

// zoneState is what a hit compares with: one number per zone.
type zoneState struct {
	id     string
	refs   int           // of fills and objects; guarded by zones.mu
	purged atomic.Uint64 // objects whose fill began before this entry are gone
	engine *Engine       // whose zone it is; set before the first object
}

// acquire returns a zone's state with a reference, and the newest entry: the
// two under one lock, so that no purge falls between.
func (z *zones) acquire(id string) (*zoneState, uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	s := z.byID[id]
	if s == nil {
		s = &zoneState{id: strings.Clone(id)}
		z.byID[s.id] = s
	}
	s.refs++
	return s, z.seq
}

func (z *zones) retain(s *zoneState) {
	z.mu.Lock()
	defer z.mu.Unlock()
	s.refs++
}

func (z *zones) release(s *zoneState) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if s.refs--; s.refs == 0 {
		delete(z.byID, s.id)
	}
}

// Advance notes the newest feed entry that is applied. Fills that begin from
// now on are newer than all purges up to it. Lower numbers are ignored.
func (e *Engine) Advance(seq uint64) {
	e.zones.mu.Lock()
	defer e.zones.mu.Unlock()
	e.zones.seq = max(e.zones.seq, e.zones.base+seq)
}

// PurgeAll drops everything, for an edge that may have missed purges: its state
// was replaced by that at entry seq. That number may be lower than any before;
// later ones are understood to follow it.
func (e *Engine) PurgeAll(seq uint64) {
	e.zones.mu.Lock()
	e.zones.seq++
	e.zones.base = e.zones.seq - seq // below zero wraps, and base+seq wraps back
	for _, s := range e.zones.byID {
		s.purged.Store(e.zones.seq)
	}
	e.zones.mu.Unlock()
	e.sweep()
}

// Purge drops objects of a zone that were fetched before entry seq. When it
// returns no later request is answered with one of them; their memory comes
// back a little later. An error names the URL that is not absolute http(s),
// and nothing has been dropped then.
func (e *Engine) Purge(zoneID string, seq uint64, p zone.Purge) error {
	urls := make([]location, len(p.Files))
	for i, file := range p.Files {
		var err error
		if urls[i], err = readURL(file); err != nil {
			return fmt.Errorf("files[%d]: %w", i, err)
		}
	}
	e.zones.mu.Lock()
	seq += e.zones.base
	if s := e.zones.byID[zoneID]; s != nil && p.Everything {
		s.purged.Store(max(s.purged.Load(), seq))
	}
	e.zones.seq = max(e.zones.seq, seq)
	e.zones.mu.Unlock()
	for _, u := range urls {
		e.invalidate(zoneID, u, func(objectSeq uint64) bool { return objectSeq < seq })
	}
	if p.Everything {
		e.sweep()
	}
	return nil
}

// invalidate drops the objects of one URL that older accepts by their seq,
// and keeps fills of it that are under way from becoming hits: both schemes,
// all variants, sorted query and query as sent.
func (e *Engine) invalidate(zoneID string, u location, older func(seq uint64) bool) {
	room := len(zoneID) + len(" https://") + len(u.host) + len(u.path) + len("?") + len(u.query)
	text := make([]byte, 0, room)
	for _, scheme := range [...]msg.Scheme{msg.HTTP, msg.HTTPS} {
		for _, sorted := range [...]bool{true, false} {
			text = appendKey(text[:0], zoneID, scheme, u.host, u.path, u.query, sorted)
			e.invalidateKey(key{hash: maphash.Bytes(e.seed, text), text: text}, older)
		}
	}
}

func (e *Engine) invalidateKey(k key, older func(seq uint64) bool) {
	s := e.shardOf(k.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range s.variants(k) {
		if older(o.seq) {
			e.drop(s, o)
		}
	}
	list := s.fills[k.hash]
	for i := len(list) - 1; i >= 0; i-- {
		if f := list[i]; bytes.Equal(f.key.text, k.text) && older(f.seq) {
			s.leave(f)
		}
	}
}

// sweepBatch is how many objects are dropped under one lock.
const sweepBatch = 64

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
	var gone []*object
	s.mu.RLock()
	for o := range s.all() {
		if o.purged() {
			o.retain()
			gone = append(gone, o)
		}
	}
	s.mu.RUnlock()
	for len(gone) > 0 {
		n := min(sweepBatch, len(gone))
		s.mu.Lock()
		for _, o := range gone[:n] {
			e.drop(s, o)
		}
		s.mu.Unlock()
		for _, o := range gone[:n] {
			o.Release()
		}
		gone = gone[n:]
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
