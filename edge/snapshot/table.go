package snapshot

import (
	"bytes"
	"hash/maphash"
	"maps"
	"sync"
	"sync/atomic"
)

// shardCount bounds what one publication copies: 1/256 of the zones.
const shardCount = 256

// Table finds the zone of a host. Look-ups take no lock; publishing a zone
// copies one shard's map and swaps a pointer.
type Table struct {
	shards [shardCount]atomic.Pointer[map[string]*Zone]
	count  atomic.Int64

	mu   sync.Mutex       // serialises publications
	byID map[string]*Zone // guarded by mu
}

// NewTable returns an empty table.
func NewTable() *Table {
	t := &Table{byID: map[string]*Zone{}}
	empty := map[string]*Zone{}
	for i := range t.shards {
		t.shards[i].Store(&empty)
	}
	return t
}

func shardOf(name string) uint64 {
	return maphash.String(seed, name) % shardCount
}

// Find returns the zone that a host belongs to: the one with the longest name
// that is the host or ends it at a label. host is lower-case, without port and
// final dot. nil = unknown.
func (t *Table) Find(host []byte) *Zone {
	for name := host; len(name) > 0; {
		if z := (*t.shards[maphash.Bytes(seed, name)%shardCount].Load())[string(name)]; z != nil {
			return z
		}
		dot := bytes.IndexByte(name, '.')
		if dot < 0 {
			return nil
		}
		name = name[dot+1:]
	}
	return nil
}

// ByID returns the compiled zone with this id, nil when there is none.
func (t *Table) ByID(id string) *Zone {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// Len returns how many zones are in the table.
func (t *Table) Len() int { return int(t.count.Load()) }

// IDs returns the ids of all zones, in no order.
func (t *Table) IDs() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make([]string, 0, len(t.byID))
	for id := range t.byID {
		ids = append(ids, id)
	}
	return ids
}

// Publish makes z the zone served under its name from the next look-up on. A
// zone that had another name before leaves it.
func (t *Table) Publish(z *Zone) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.byID[z.ID]; old != nil && old.Name != z.Name {
		t.swap(old.Name, nil)
	}
	t.byID[z.ID] = z
	t.swap(z.Name, z)
	t.count.Store(int64(len(t.byID)))
}

// Withdraw takes the zone with this id out and returns it, nil when there was
// none.
func (t *Table) Withdraw(id string) *Zone {
	t.mu.Lock()
	defer t.mu.Unlock()
	z := t.byID[id]
	if z == nil {
		return nil
	}
	delete(t.byID, id)
	if (*t.shards[shardOf(z.Name)].Load())[z.Name] == z { // else another zone has the name now
		t.swap(z.Name, nil)
	}
	t.count.Store(int64(len(t.byID)))
	return z
}

// swap runs under mu.
func (t *Table) swap(name string, z *Zone) {
	shard := &t.shards[shardOf(name)]
	old := *shard.Load()
	next := make(map[string]*Zone, len(old)+1)
	maps.Copy(next, old)
	if z == nil {
		delete(next, name)
	} else {
		next[name] = z
	}
	shard.Store(&next)
}
