package feed

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Apply stores an entry and moves the cursor to it, in one batch. ErrGap and
// ErrFork say that it does not follow the cursor; nothing is changed then.
// Signals move the cursor and are not kept.
func (c *Copy) Apply(e *Entry) error {
	_, err := c.apply([]Entry{*e})
	return err
}

// apply stores entries and moves the cursor to the last of them, in one batch:
// a crash leaves all of them or none. It returns how many there are that follow
// the cursor and each other, which are the stored ones, and ErrGap or ErrFork
// where others come after them; with another error nothing was changed.
func (c *Copy) apply(entries []Entry) (n int, err error) {
	c.write.Lock()
	defer c.write.Unlock()
	if err := c.writable(); err != nil {
		return 0, err
	}
	at := c.meta.cursor
	var broken error
	for n < len(entries) {
		if broken = entries[n].Follows(at); broken != nil {
			break
		}
		at = Cursor{entries[n].Seq, entries[n].Hash}
		n++
	}
	if n == 0 {
		return 0, broken
	}
	b, err := c.burst(len(entries))
	if err != nil {
		return 0, fmt.Errorf("apply entry %d: %w", entries[0].Seq, err)
	}
	defer func() { err = b.close(err) }()
	for i := range entries[:n] {
		if err := b.entry(&entries[i]); err != nil {
			return 0, fmt.Errorf("apply entry %d: %w", entries[i].Seq, err)
		}
	}
	if err := b.trim(&entries[n-1]); err != nil {
		return 0, fmt.Errorf("apply entry %d: %w", at.Seq, err)
	}
	if err := c.finish(b.b, b.next, !c.opts.NoSync); err != nil {
		return 0, fmt.Errorf("apply entry %d: %w", at.Seq, err)
	}
	return n, broken
}

// finish writes meta with the batch, and moves to it.
func (c *Copy) finish(b *pebble.Batch, next meta, sync bool) error {
	if err := b.Set(metaKey, next.encode(), nil); err != nil {
		return err
	}
	if err := c.commit(b, sync); err != nil {
		return err
	}
	c.mu.Lock()
	c.meta = next
	c.mu.Unlock()
	return nil
}

// Trim forgets what only history needs: older versions than the newest, and
// keys that were deleted, as far as they are not newer than before.
func (c *Copy) Trim(before uint64) error {
	c.write.Lock()
	defer c.write.Unlock()
	if err := c.writable(); err != nil {
		return err
	}
	next := c.meta
	lower, upper := prefixBounds(next.gen, "")
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("trim copy: %w", err)
	}
	b := c.db.NewBatch()
	defer func() { _ = b.Close() }()
	last := ""
	for it.First(); it.Valid() && err == nil; it.Next() {
		var v version
		if v, err = decodeVersion(it, next.gen); err != nil {
			break
		}
		newest := v.key != last
		last = v.key
		if v.seq <= before && (!newest || v.kind == kindDeleted) {
			c.counts(c.held, v.key, -heldBytes(v.kind, v.value))
			next.remove(v.stored)
			err = b.Delete(it.Key(), nil)
		}
	}
	if err = closeIterator(it, err); err != nil {
		return fmt.Errorf("trim copy: %w", err)
	}
	if err := c.finish(b, next, false); err != nil {
		return fmt.Errorf("trim copy: %w", err)
	}
	return nil
}

// writable says why nothing can be written, with the write lock held.
func (c *Copy) writable() error {
	switch {
	case c.db == nil || c.health.broken.Load():
		return ErrBroken
	}
	return c.Damage()
}

// commit writes a batch; b is the caller's to close.
func (c *Copy) commit(b *pebble.Batch, sync bool) error {
	if err := c.room(b.Len()); err != nil {
		return err
	}
	how := pebble.NoSync
	if sync {
		how = pebble.Sync
	}
	return c.settled(c.health.guarded(func() error { return b.Commit(how) }))
}

// settled is what a write to the store ended with.
func (c *Copy) settled(err error) error {
	if err == nil && c.health.broken.Load() {
		return ErrBroken
	}
	if err != nil && pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// reserveBytes stay free on the disk for what Pebble writes by itself: the next
// log, a flushed table, a compaction. Without room to begin a log it ends the
// process, so a write that would use them up is refused before.
const reserveBytes = 16 << 20

// room returns ErrFull when a write of n bytes would leave too little.
func (c *Copy) room(n int) error {
	usage, err := c.opts.FS.GetDiskUsage(c.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("room for the copy: %w", err)
	}
	if need := uint64(reserveBytes + 2*n); usage.AvailBytes < need {
		return fmt.Errorf("%w: %d bytes are free, %d are needed", ErrFull, usage.AvailBytes, need)
	}
	return nil
}

// guarded runs f in a goroutine of its own and waits for it, because Pebble ends
// the goroutine in which a write fails for good, or panics with the disk's error
// where an earlier write was not waited for (see health).
func (h *health) guarded(f func() error) error {
	result := make(chan error, 1)
	go func() {
		err := ErrBroken
		defer func() {
			if cause := h.died(recover()); cause != nil {
				panic(cause)
			}
			result <- err
		}()
		err = f()
	}()
	return <-result
}
