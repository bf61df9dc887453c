package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// burst is the batch of entries that came together. A batch cannot be asked
// what is in it, so the burst knows which versions there are of each key that it
// has touched, and where the entries stand that it keeps.
type burst struct {
	c     *Copy
	b     *pebble.Batch
	it    *pebble.Iterator // of what is stored
	next  meta
	keys  map[string][]standing
	keeps []place // of the entries of this burst
	look  bool    // it is time to look at the bounds of what is kept
	key   []byte  // memory that is used again
	value []byte  // the same
}

// standing is a version of a key as it is stored, or will be: the newest comes
// first.
type standing struct {
	seq  uint64
	sum  uint32 // of its value
	held int    // what it counts among the held values of a partial replica
}

// place is where a kept entry stands among the bytes, and its time.
type place struct {
	before uint64
	at     time.Time
}

// burst begins one, with the write lock held; close ends it.
func (c *Copy) burst(entries int) (*burst, error) {
	lower, upper := prefixBounds(c.meta.gen, "")
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	return &burst{c: c, b: c.db.NewBatch(), it: it, next: c.meta, keys: make(map[string][]standing, entries)}, nil
}

// close releases what the burst holds; err is what it ended with.
func (b *burst) close(err error) error {
	err = closeIterator(b.it, err)
	_ = b.b.Close()
	return err
}

// entry puts an entry that follows the others into the batch.
func (b *burst) entry(e *Entry) error {
	b.next.cursor = Cursor{e.Seq, e.Hash}
	last := lastOfEachKey(e.Changes)
	for i := range e.Changes {
		change := &e.Changes[i]
		if change.Op == Signal || last != nil && last[change.Key] != i {
			continue
		}
		if err := b.stage(change); err != nil {
			return fmt.Errorf("%s: %w", change.Key, err)
		}
	}
	return b.keep(e)
}

// lastOfEachKey: within an entry the last change of a key is the one that
// counts, and a number names one version of a key. It is nil where there is
// nothing to tell apart.
func lastOfEachKey(changes []Change) map[string]int {
	if len(changes) < 2 {
		return nil
	}
	last := make(map[string]int, len(changes))
	for i := range changes {
		if changes[i].Op != Signal {
			last[changes[i].Key] = i
		}
	}
	return last
}

// stage writes a change's version and deletes those that are over the number
// kept.
func (b *burst) stage(change *Change) error {
	kind, value := b.c.form(change)
	stood, known := b.keys[change.Key]
	if !known {
		var err error
		if stood, err = b.stored(change.Key); err != nil {
			return err
		}
	}
	seq := b.next.cursor.Seq
	b.key = appendDataKey(b.key[:0], b.next.gen, change.Key, seq)
	b.value = appendValue(b.value[:0], b.key, kind, value)
	if err := b.b.Set(b.key, b.value, nil); err != nil {
		return err
	}
	b.next.add(b.value)
	stood = append(stood, standing{})
	copy(stood[1:], stood)
	stood[0] = standing{seq, binary.BigEndian.Uint32(b.value[1:]), heldBytes(kind, value)}
	b.c.counts(b.c.held, change.Key, stood[0].held)
	for len(stood) > b.c.opts.Versions {
		oldest := stood[len(stood)-1]
		b.key = appendDataKey(b.key[:0], b.next.gen, change.Key, oldest.seq)
		if err := b.b.Delete(b.key, nil); err != nil {
			return err
		}
		b.next.drop(oldest.sum)
		b.c.counts(b.c.held, change.Key, -oldest.held)
		stood = stood[:len(stood)-1]
	}
	b.keys[change.Key] = stood
	return nil
}

// stored finds which versions of a key are stored: no more than are kept, since
// to look whether there are others would be to pass over all that were deleted
// and not compacted away yet.
func (b *burst) stored(key string) ([]standing, error) {
	b.key = appendDataKey(b.key[:0], b.next.gen, key, b.c.meta.cursor.Seq)
	prefix := b.key[:len(b.key)-8]
	stood := make([]standing, 0, b.c.opts.Versions+1)
	for ok := b.it.SeekGE(b.key); ok && bytes.HasPrefix(b.it.Key(), prefix); ok = b.it.Next() {
		v, err := decodeVersion(b.it, b.next.gen)
		if err != nil {
			return nil, err
		}
		stood = append(stood, standing{v.seq, binary.BigEndian.Uint32(v.stored[1:]), heldBytes(v.kind, v.value)})
		if len(stood) == b.c.opts.Versions {
			break
		}
	}
	return stood, b.it.Error()
}

// keep puts an entry beside the data that it leads to, so that what is kept and
// what is stored never differ.
func (b *burst) keep(e *Entry) error {
	k := &b.next.kept
	if k.stale {
		if err := dropKept(b.b, 0, 0); err != nil {
			return err
		}
		*k = kept{}
	}
	if !b.c.opts.Retain.on() {
		return nil
	}
	b.value = AppendEntry(binary.BigEndian.AppendUint64(b.value[:0], k.bytes), e)
	if err := b.b.Set(keptKey(e.Seq), b.value, nil); err != nil {
		return err
	}
	b.keeps = append(b.keeps, place{k.bytes, e.Time})
	k.bytes += uint64(len(b.value) - keptHead)
	if k.first == 0 {
		k.first = e.Seq
	}
	b.look = b.look || e.Seq%trimEvery == 0
	return nil
}

// trim drops the kept entries that are over the bounds; e is the burst's last.
func (b *burst) trim(e *Entry) error {
	if !b.look {
		return nil
	}
	k := &b.next.kept
	first, err := b.over(k, e.Seq)
	if err != nil || first == k.first {
		return err
	}
	err = dropKept(b.b, k.first, first)
	k.first = first
	return err
}

// over finds the first entry that the bounds let stay, at most the newest.
func (b *burst) over(k *kept, newest uint64) (uint64, error) {
	r, lo, hi := b.c.opts.Retain, k.first, newest
	if n := uint64(r.Entries); n > 0 && hi-lo >= n {
		lo = hi - n + 1
	}
	for lo < hi {
		mid := lo + (hi-lo)/2
		p, err := b.place(mid, newest)
		if err != nil {
			return 0, err
		}
		if r.Bytes > 0 && k.bytes-p.before > uint64(r.Bytes) || r.Age > 0 && b.c.opts.Now().Sub(p.at) > r.Age {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, nil
}

// place finds where a kept entry stands, of this burst or stored.
func (b *burst) place(seq, newest uint64) (p place, err error) {
	if back := newest - seq; back < uint64(len(b.keeps)) {
		return b.keeps[len(b.keeps)-1-int(back)], nil
	}
	value, closer, err := b.c.db.Get(keptKey(seq))
	if err != nil {
		return p, fmt.Errorf("kept entry %d: %w", seq, err)
	}
	if len(value) < keptHead+minEntry {
		return p, errors.Join(fmt.Errorf("%w: kept entry %d", ErrCorrupt, seq), closer.Close())
	}
	p.before = binary.BigEndian.Uint64(value)
	p.at = time.Unix(0, int64(binary.BigEndian.Uint64(value[keptHead+13:])))
	return p, closer.Close()
}
