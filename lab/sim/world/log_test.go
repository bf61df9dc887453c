package world

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
)

// witness knows the whole log: it reads the database after each transaction, so
// that nothing is trimmed before it was seen.
type witness struct {
	w     *world
	store *store.Store

	mu      sync.Mutex
	entries []feed.Entry // entries[n] has the number n+1; guarded by mu
}

// look takes in what is new.
func (v *witness) look(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.store.Read(ctx, func(tx *store.Tx) error {
		return tx.Log(ctx, uint64(len(v.entries)), func(r store.LogRow) (bool, error) {
			e, _, err := feed.DecodeEntry(r.Payload)
			if err != nil {
				return false, err
			}
			if err := e.Follows(v.at(len(v.entries))); err != nil {
				v.w.broken("log", "entry %d in the database: %v", r.Seq, err)
			}
			v.entries = append(v.entries, e)
			return true, nil
		})
	})
}

// at is the position after n entries; called with mu held.
func (v *witness) at(n int) feed.Cursor {
	if n == 0 {
		return feed.Cursor{}
	}
	e := &v.entries[n-1]
	return feed.Cursor{Seq: e.Seq, Hash: e.Hash}
}

func (v *witness) head() feed.Cursor {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.at(len(v.entries))
}

func (v *witness) all() []feed.Entry {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.entries[:len(v.entries):len(v.entries)]
}

// row is one key of a state.
type row struct {
	value string
	seq   uint64
}

// state is what all entries together make.
func state(entries []feed.Entry) map[string]row {
	rows := map[string]row{}
	for i := range entries {
		for _, c := range entries[i].Changes {
			switch c.Op {
			case feed.Set:
				rows[c.Key] = row{string(c.Value), entries[i].Seq}
			case feed.Delete:
				delete(rows, c.Key)
			case feed.Signal:
			}
		}
	}
	return rows
}

// digest is equal for equal states alone.
func digest(rows map[string]row) [32]byte {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		r := rows[key]
		var n [24]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(key)))
		binary.BigEndian.PutUint64(n[8:], uint64(len(r.value)))
		binary.BigEndian.PutUint64(n[16:], r.seq)
		h.Write(n[:])
		h.Write([]byte(key))
		h.Write([]byte(r.value))
	}
	return [32]byte(h.Sum(nil))
}

// digestOf is that of a copy.
func digestOf(c *feed.Copy) ([32]byte, error) {
	rows := map[string]row{}
	err := c.Scan("", func(key string, value []byte, seq uint64) error {
		rows[key] = row{string(value), seq}
		return nil
	})
	return digest(rows), err
}
