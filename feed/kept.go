package feed

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Retention says how much of the log a copy keeps for those who follow it:
// entries are dropped that are over any of the three bounds. A bound of 0 does
// not bind, all of them 0 keep nothing.
type Retention struct {
	Entries int
	Age     time.Duration // since the entry was made
	Bytes   int64         // of encoded entries
}

func (r Retention) on() bool { return r != Retention{} }

// keptSpace begins the keys of kept entries: 0x02, seq. The value is the number
// of bytes of all entries that were kept before it, by which the bytes of any
// run are a subtraction, and the entry.
const (
	keptSpace    = 0x02
	keptHead     = 8
	keptKeyBytes = 1 + 8
	// trimEvery is how many entries come between two looks at the bounds.
	trimEvery = 64
)

// kept is which entries stand in the copy: first to the cursor's.
type kept struct {
	first uint64 // 0 = none
	bytes uint64 // of all that were ever kept before the next
	stale bool   // what stands there does not lead to the cursor, and goes with the next write
}

func keptKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{keptSpace}, seq)
}

// readKept finds what an earlier run kept. Entries that do not reach up to the
// cursor, as after a run that kept none, are of no use.
func readKept(db *pebble.DB, at Cursor, on bool) (k kept, err error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{keptSpace}, UpperBound: []byte{keptSpace + 1}})
	if err != nil {
		return k, err
	}
	defer func() { err = closeIterator(it, err) }()
	if !it.First() {
		return k, it.Error()
	}
	first := it.Key()
	if len(first) != keptKeyBytes {
		return kept{stale: true}, nil
	}
	k.first = binary.BigEndian.Uint64(first[1:])
	if !it.Last() {
		return kept{stale: true}, it.Error()
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return k, err
	}
	if !on || len(value) < keptHead || len(it.Key()) != keptKeyBytes || binary.BigEndian.Uint64(it.Key()[1:]) != at.Seq {
		return kept{stale: true}, nil
	}
	k.bytes = binary.BigEndian.Uint64(value) + uint64(len(value)-keptHead)
	return k, nil
}

// dropKept deletes kept entries from one number up to another, which stays; 0
// and 0 for all.
func dropKept(b *pebble.Batch, from, to uint64) error {
	upper := []byte{keptSpace + 1}
	if to > 0 {
		upper = keptKey(to)
	}
	return b.DeleteRange(keptKey(from), upper, nil)
}

// Kept returns entries after a number, of about maxBytes but at least one; none
// when that is the cursor's. ErrCompacted says that they are not kept, or that
// the copy does not stand there.
func (c *Copy) Kept(after uint64, maxBytes int) (all []Entry, err error) {
	c.mu.RLock()
	if c.db == nil {
		c.mu.RUnlock()
		return nil, ErrBroken
	}
	m := c.meta
	if after == m.cursor.Seq {
		c.mu.RUnlock()
		return nil, nil
	}
	if m.kept.first == 0 || m.kept.stale || after+1 < m.kept.first || after > m.cursor.Seq {
		c.mu.RUnlock()
		return nil, ErrCompacted
	}
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: keptKey(after + 1), UpperBound: keptKey(m.cursor.Seq + 1)})
	if err == nil {
		c.readers.Add(1)
	}
	c.mu.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("read kept entries: %w", err)
	}
	defer func() { err = c.release(it, err) }()
	size, want := 0, after
	for it.First(); it.Valid() && (len(all) == 0 || size < maxBytes); it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, fmt.Errorf("read kept entries: %w", err)
		}
		want++
		if len(value) < keptHead || binary.BigEndian.Uint64(it.Key()[1:]) != want {
			return nil, ErrCompacted // dropped meanwhile
		}
		e, _, err := DecodeEntry(append([]byte(nil), value[keptHead:]...))
		if err != nil {
			c.log.Error("kept entry is damaged; those who need it get a snapshot", "seq", want, "error", err)
			return nil, ErrCompacted
		}
		all = append(all, e)
		size += len(value) - keptHead
	}
	if len(all) == 0 && it.Error() == nil {
		return nil, ErrCompacted
	}
	return all, it.Error()
}

// rows is RelayLog.Snapshot: the newest values of one moment.
func (c *Copy) rows(after string, begin func(Cursor) error, yield func(key string, value []byte, seq uint64) error) (err error) {
	c.mu.RLock()
	if c.db == nil {
		c.mu.RUnlock()
		return ErrBroken
	}
	m := c.meta
	lower, upper := prefixBounds(m.gen, "")
	if after != "" {
		lower = append(appendDataKey(nil, m.gen, after, 0), 0) // behind its oldest version
	}
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	leaving := &c.health.leaving
	if err == nil {
		c.readers.Add(1)
	}
	c.mu.RUnlock()
	if err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	defer func() { err = c.release(it, err) }()
	if err := begin(m.cursor); err != nil {
		return err
	}
	last := ""
	for it.First(); it.Valid(); it.Next() {
		if leaving.Load() {
			return ErrBroken
		}
		v, err := decodeVersion(it, m.gen)
		if err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		if v.seq > m.cursor.Seq || v.key == last { // stored since, or older
			continue
		}
		last = v.key
		if v.kind == kindStub {
			return fmt.Errorf("read rows: %s: %w", v.key, ErrElsewhere)
		}
		if v.kind == kindDeleted {
			continue
		}
		if err := yield(v.key, v.value, v.seq); err != nil {
			return err
		}
	}
	return it.Error()
}
