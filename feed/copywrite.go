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
func (c *Copy) Apply(e *Entry) error { return c.apply(e, true) }

// apply with sync false leaves it to a later write, or Sync, to outlive a crash
// of the machine: batches are found again in their order, so what is lost is
// the newest.
func (c *Copy) apply(e *Entry, sync bool) error {
	c.write.Lock()
	defer c.write.Unlock()
	if err := c.writable(); err != nil {
		return err
	}
	next := c.meta
	if err := e.Follows(next.cursor); err != nil {
		return err
	}
	next.cursor = Cursor{e.Seq, e.Hash}
	b := c.db.NewBatch()
	defer func() { _ = b.Close() }()
	last := lastOfEachKey(e.Changes)
	for i := range e.Changes {
		change := &e.Changes[i]
		if change.Op == Signal || last[change.Key] != i {
			continue
		}
		if err := c.stage(b, &next, change); err != nil {
			return fmt.Errorf("apply entry %d: %s: %w", e.Seq, change.Key, err)
		}
	}
	if err := c.keep(b, &next, e); err != nil {
		return fmt.Errorf("apply entry %d: %w", e.Seq, err)
	}
	if err := c.finish(b, next, sync && !c.opts.NoSync); err != nil {
		return fmt.Errorf("apply entry %d: %w", e.Seq, err)
	}
	return nil
}

// sync makes what was applied outlive a crash of the machine.
func (c *Copy) sync() error {
	c.write.Lock()
	defer c.write.Unlock()
	if err := c.writable(); err != nil || c.opts.NoSync {
		return err
	}
	if err := guarded(func() error { return c.db.LogData(nil, pebble.Sync) }); err != nil {
		return fmt.Errorf("sync copy: %w", err)
	}
	return nil
}

// lastOfEachKey: within an entry the last change of a key is the one that
// counts, and a number names one version of a key.
func lastOfEachKey(changes []Change) map[string]int {
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
func (c *Copy) stage(b *pebble.Batch, next *meta, change *Change) error {
	kind := byte(kindValue)
	if change.Op == Delete {
		kind = kindDeleted
	}
	seq := next.cursor.Seq
	key := appendDataKey(nil, next.gen, change.Key, seq)
	value := appendValue(nil, key, kind, change.Value)
	if err := b.Set(key, value, nil); err != nil {
		return err
	}
	next.add(value)
	it, err := c.db.NewIter(&pebble.IterOptions{
		LowerBound: appendDataKey(nil, next.gen, change.Key, seq-1),
		UpperBound: append(appendDataKey(nil, next.gen, change.Key, 0), 0),
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
		err = c.drop(b, next, it)
	}
	return closeIterator(it, err)
}

// drop deletes the version that it stands at.
func (c *Copy) drop(b *pebble.Batch, next *meta, it *pebble.Iterator) error {
	v, err := decodeVersion(it, next.gen)
	if err != nil {
		return err
	}
	next.remove(v.stored)
	return b.Delete(it.Key(), nil)
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
		if v.seq <= before && (!newest || v.deleted) {
			err = c.drop(b, &next, it)
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
	case c.health.corrupt.Load():
		return fmt.Errorf("%w: found in the background", ErrCorrupt)
	}
	return nil
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
	err := guarded(func() error { return b.Commit(how) })
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

// guarded runs f in a goroutine of its own and waits for it, because Pebble
// ends the goroutine in which a write fails for good (see health).
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
	next meta
	b    *pebble.Batch
	done bool
}

const snapshotBatchBytes = 1 << 20

// BeginSnapshot starts a snapshot; the caller must end it by Commit or Abort.
func (c *Copy) BeginSnapshot() (*SnapshotWriter, error) {
	c.write.Lock()
	if err := c.writable(); err != nil {
		c.write.Unlock()
		return nil, err
	}
	w := &SnapshotWriter{c: c, next: meta{gen: c.meta.gen + 1}, b: c.db.NewBatch()}
	// What an earlier, interrupted snapshot left behind goes first.
	if err := w.dropGeneration(w.next.gen); err != nil {
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
	k := appendDataKey(nil, w.next.gen, key, seq)
	if err := w.put(k, appendValue(nil, k, kindValue, value)); err != nil {
		return fmt.Errorf("snapshot row %s: %w", key, err)
	}
	return nil
}

// put stores a version that is not there yet.
func (w *SnapshotWriter) put(key, stored []byte) error {
	if err := w.b.Set(key, stored, nil); err != nil {
		return err
	}
	w.next.add(stored)
	if w.b.Len() < snapshotBatchBytes {
		return nil
	}
	return w.flush()
}

func (w *SnapshotWriter) flush() error {
	if w.b.Empty() {
		return nil
	}
	if err := w.c.commit(w.b, false); err != nil {
		return err
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
	if err := w.dropGeneration(c.meta.gen); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	if err := dropKept(w.b, 0, 0); err != nil { // they lead to another state
		return fmt.Errorf("commit snapshot: %w", err)
	}
	w.next.cursor = at
	if err := w.b.Set(metaKey, w.next.encode(), nil); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	// Readers take their view and the generation under mu, so both change
	// under it; the wait is one sync.
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.commit(w.b, !c.opts.NoSync); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	c.meta = w.next
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
