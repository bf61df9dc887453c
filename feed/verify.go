package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Verify reads every value of the copy once, at most bytesPerSecond of them (0 =
// as fast as it can), and compares with what must be there: versions that are
// gone without a trace are found by nothing else. Entries may be applied
// meanwhile. Damage is ErrCorrupt and makes the copy one to be replaced, as if a
// reader had met it. nil says that all is there, or that the copy was closed or
// replaced meanwhile.
func (c *Copy) Verify(ctx context.Context, bytesPerSecond int) (err error) {
	c.mu.RLock()
	if c.db == nil {
		c.mu.RUnlock()
		return ErrBroken
	}
	c.readers.Add(1)
	db, h := c.db, c.health
	c.mu.RUnlock()
	defer c.readers.Done()
	snap := db.NewSnapshot() // cursor, sums and values are written together, and so read
	defer func() { err = errors.Join(err, snap.Close()) }()
	m, err := readMeta(snap)
	if err == nil {
		err = verify(snap, m, func(read int) (on bool, err error) {
			return !h.leaving.Load(), rest(ctx, read, bytesPerSecond)
		})
	}
	if errors.Is(err, ErrCorrupt) {
		h.condemn(err)
	}
	return err
}

// rest waits as long as reading so much may take.
func rest(ctx context.Context, read, bytesPerSecond int) error {
	if bytesPerSecond == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(time.Duration(read) * time.Second / time.Duration(bytesPerSecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// verifyStep is how many bytes are read between two pauses.
const verifyStep = 1 << 20

func verify(r pebble.Reader, m meta, pause func(read int) (on bool, err error)) error {
	lower, upper := prefixBounds(m.gen, "")
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	var got tally
	read, on := 0, true
	for it.First(); it.Valid() && err == nil && on; it.Next() {
		var v version
		if v, err = decodeVersion(it, m.gen); err != nil {
			break
		}
		got.add(v.stored)
		if read += len(it.Key()) + len(v.stored); read >= verifyStep {
			on, err = pause(read)
			read = 0
		}
	}
	if err = closeIterator(it, errors.Join(err, it.Error())); err == nil && on && got != m.tally {
		err = fmt.Errorf("%w: %d versions at %d, want %d", ErrCorrupt, got.count, m.cursor.Seq, m.count)
	}
	return err
}
