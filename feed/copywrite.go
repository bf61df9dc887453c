package feed

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Apply stores an entry and moves the cursor to it, in one batch. ErrGap and
// ErrFork say that it does not follow the cursor; nothing is changed then.
// Signals move the cursor and are not kept.
func (c *Copy) Apply(e *Entry) error {
	c.write.Lock()
	defer c.write.Unlock()
	if c.broken.Load() || c.db == nil {
		return ErrBroken
	}
	if err := e.Follows(c.cursor); err != nil {
		return err
	}
	b := c.db.NewBatch()
	defer func() { _ = b.Close() }()
	for i := range e.Changes {
		if err := c.stage(b, &e.Changes[i], e.Seq); err != nil {
			return fmt.Errorf("apply entry %d: %s: %w", e.Seq, e.Changes[i].Key, err)
		}
	}
	to := Cursor{e.Seq, e.Hash}
	if err := b.Set(metaKey, encodeMeta(c.gen, to), nil); err != nil {
		return fmt.Errorf("apply entry %d: %w", e.Seq, err)
	}
	if err := c.commit(b, !c.opts.NoSync); err != nil {
		return fmt.Errorf("apply entry %d: %w", e.Seq, err)
	}
	c.mu.Lock()
	c.cursor = to
	c.mu.Unlock()
	return nil
}

func (c *Copy) stage(b *pebble.Batch, change *Change, seq uint64) error {
	if change.Op == Signal {
		return nil
	}
	kind := byte(kindValue)
	if change.Op == Delete {
		kind = kindDeleted
	}
	key := appendDataKey(nil, c.gen, change.Key, seq)
	if err := b.Set(key, appendValue(nil, key, kind, change.Value), nil); err != nil {
		return err
	}
	return c.trim(b, change.Key, seq)
}

// trim deletes the versions before seq that are over the number kept, seq's own
// counted.
func (c *Copy) trim(b *pebble.Batch, key string, seq uint64) error {
	it, err := c.db.NewIter(&pebble.IterOptions{
		LowerBound: appendDataKey(nil, c.gen, key, seq-1),
		UpperBound: append(appendDataKey(nil, c.gen, key, 0), 0),
	})
	if err != nil {
		return err
	}
	kept := 1
	for it.First(); it.Valid() && err == nil; it.Next() {
		if kept < c.opts.Versions {
			kept++
			continue
		}
		err = b.Delete(it.Key(), nil)
	}
	return closeIterator(it, err)
}

// Trim forgets what only history needs: older versions than the newest, and
// keys that were deleted, as far as they are not newer than before.
func (c *Copy) Trim(before uint64) error {
	c.write.Lock()
	defer c.write.Unlock()
	if c.broken.Load() || c.db == nil {
		return ErrBroken
	}
	lower, upper := prefixBounds(c.gen, "")
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("trim copy: %w", err)
	}
	b := c.db.NewBatch()
	defer func() { _ = b.Close() }()
	last := ""
	for it.First(); it.Valid() && err == nil; it.Next() {
		var v version
		if v, err = decodeVersion(it, c.gen); err != nil {
			break
		}
		newest := v.key != last
		last = v.key
		if v.seq <= before && (!newest || v.deleted) {
			err = b.Delete(it.Key(), nil)
		}
	}
	if err = closeIterator(it, err); err != nil {
		return fmt.Errorf("trim copy: %w", err)
	}
	if err := c.commit(b, false); err != nil {
		return fmt.Errorf("trim copy: %w", err)
	}
	return nil
}

func (c *Copy) commit(b *pebble.Batch, sync bool) error {
	how := pebble.NoSync
	if sync {
		how = pebble.Sync
	}
	err := guarded(func() error { return b.Commit(how) })
	if err == nil && c.broken.Load() {
		return ErrBroken
	}
	if err != nil && pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// guarded runs f in a goroutine of its own and waits for it, because Pebble
// ends the goroutine in which a write fails for good (see pebbleLog).
func guarded(f func() error) error {
	result := make(chan error, 1)
	go func() {
		err := ErrBroken
		defer func() { result <- err }()
		err = f()
	}()
	return <-result
}

// SnapshotWriter streams a snapshot into a copy beside what is there. Until
// Commit the copy reads as before, and so it does after a crash or an Abort.
// No entry can be applied meanwhile.
type SnapshotWriter struct {
	c    *Copy
	gen  uint32
	b    *pebble.Batch
	rows uint64
	done bool
}

const snapshotBatchBytes = 1 << 20

// BeginSnapshot starts a snapshot; the caller must end it by Commit or Abort.
func (c *Copy) BeginSnapshot() (*SnapshotWriter, error) {
	c.write.Lock()
	if c.broken.Load() || c.db == nil {
		c.write.Unlock()
		return nil, ErrBroken
	}
	w := &SnapshotWriter{c: c, gen: c.gen + 1, b: c.db.NewBatch()}
	// What an earlier, interrupted snapshot left behind goes first.
	if err := w.dropGeneration(w.gen); err != nil {
		w.Abort()
		return nil, fmt.Errorf("begin snapshot: %w", err)
	}
	return w, nil
}

func (w *SnapshotWriter) dropGeneration(gen uint32) error {
	lower, upper := prefixBounds(gen, "")
	return w.b.DeleteRange(lower, upper, nil)
}

// Add stores one row; each key comes once.
func (w *SnapshotWriter) Add(key string, value []byte, seq uint64) error {
	k := appendDataKey(nil, w.gen, key, seq)
	if err := w.b.Set(k, appendValue(nil, k, kindValue, value), nil); err != nil {
		return fmt.Errorf("snapshot row %s: %w", key, err)
	}
	w.rows++
	if w.b.Len() < snapshotBatchBytes {
		return nil
	}
	if err := w.c.commit(w.b, false); err != nil {
		return fmt.Errorf("snapshot row %s: %w", key, err)
	}
	_ = w.b.Close()
	w.b = w.c.db.NewBatch()
	return nil
}

// Commit makes the rows the copy's state, at the cursor, at once.
func (w *SnapshotWriter) Commit(at Cursor) error {
	if w.done {
		return errors.New("snapshot has ended already")
	}
	defer w.Abort()
	c := w.c
	if err := w.dropGeneration(c.gen); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	if err := w.b.Set(metaKey, encodeMeta(w.gen, at), nil); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	// Readers take their view and the generation under mu, so both change
	// under it; the wait is one sync.
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.commit(w.b, !c.opts.NoSync); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	c.gen, c.cursor = w.gen, at
	return nil
}

// Abort gives the snapshot up; after Commit it does nothing.
func (w *SnapshotWriter) Abort() {
	if w.done {
		return
	}
	w.done = true
	_ = w.b.Close()
	w.c.write.Unlock()
}
