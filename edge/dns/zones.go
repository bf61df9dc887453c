package dns

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
)

const shardCount = 256 // a power of two

// zones finds the plan that answers for a name. Queries read maps that are
// replaced, never changed; a change copies one of the shards.
type zones struct {
	shards [shardCount]shard
	labels atomic.Int32 // the most labels any apex ever had: longer suffixes are not probed
}

type shard struct {
	mu    sync.Mutex // held by writers only
	plans atomic.Pointer[map[string]*Plan]
}

// set puts a plan in, or takes it out when it is nil.
func (z *zones) set(apex *name, p *Plan) {
	s := &z.shards[apex.hashes[0]%shardCount]
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]*Plan)
	if old := s.plans.Load(); old != nil {
		next = maps.Clone(*old)
	}
	key := string(apex.suffix(0))
	if p == nil {
		delete(next, key)
	} else {
		next[key] = p
		for most := z.labels.Load(); int(most) < apex.labels; most = z.labels.Load() {
			if z.labels.CompareAndSwap(most, int32(apex.labels)) {
				break
			}
		}
	}
	s.plans.Store(&next)
}

// find returns the plan of the longest suffix of the question's name, by
// labels; nil when no zone holds it. What a zone's parent knows better (DS,
// RFC 4035 §3.1.4.1) is asked of the parent when that is here too.
func (z *zones) find(q *query) *Plan {
	var own *Plan
	for i := max(0, q.labels-int(z.labels.Load())); i <= q.labels; i++ {
		plans := z.shards[q.hashes[i]%shardCount].plans.Load()
		if plans == nil {
			continue
		}
		p := (*plans)[string(q.suffix(i))]
		if p == nil {
			continue
		}
		if i == 0 && q.typ == dns.TypeDS {
			own = p
			continue
		}
		return p
	}
	return own
}
