package feed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// SnapshotWriter streams a snapshot into a copy beside what is there. Until
// Commit the copy reads as before, and so it does after a crash or an Abort.
// No entry can be applied meanwhile.
//
// Rows come in the order of their keys, so they are written as the store's own
// tables and handed to it whole: neither its log nor a compaction writes them a
// second time.
type SnapshotWriter struct {
	c     *Copy
	next  meta
	table *table        // of rows, not handed over yet; nil for none
	b     *pebble.Batch // of replayed entries, and of the end
	until uint64        // the newest of those entries
	held  *holdings     // what is held of a partial replica
	done  bool
}

const (
	// snapshotBatchBytes is how much is written between two looks at the disk's
	// room, and a batch of replayed entries.
	snapshotBatchBytes = 1 << 20
	tableBytes         = 32 << 20 // of rows in one table
	// tablePrefix begins the names of tables that are not the store's yet.
	tablePrefix = "rows-"
)

// table is one file of rows that is being written.
type table struct {
	path string
	w    *sstable.Writer
	size int // of rows
	room int // of rows that the disk had room for when it was last asked
}

// BeginSnapshot starts a snapshot; the caller must end it by Commit or Abort.
func (c *Copy) BeginSnapshot() (*SnapshotWriter, error) {
	c.write.Lock()
	if err := c.writable(); err != nil {
		c.write.Unlock()
		return nil, err
	}
	w := &SnapshotWriter{c: c, next: meta{gen: c.meta.gen + 1}, b: c.db.NewBatch(), held: newHoldings()}
	if err := w.clean(); err != nil {
		w.Abort()
		return nil, fmt.Errorf("begin snapshot: %w", err)
	}
	return w, nil
}

// clean deletes what an earlier snapshot that was interrupted left behind.
func (w *SnapshotWriter) clean() error {
	c := w.c
	names, err := c.opts.FS.List(c.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, tablePrefix) {
			continue
		}
		if err := c.opts.FS.Remove(c.opts.FS.PathJoin(c.dir, name)); err != nil {
			return err
		}
	}
	if err := w.pass(); err != nil {
		return err
	}
	return c.rotate()
}

// pass deletes rows of snapshots that did not end, and takes a generation behind
// theirs, so that they are erased with what is replaced.
func (w *SnapshotWriter) pass() error {
	lower, _ := prefixBounds(w.next.gen, "")
	it, err := w.c.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{dataSpace + 1}})
	if err != nil {
		return err
	}
	left, newest := it.Last(), uint32(0)
	if left {
		newest = binary.BigEndian.Uint32(it.Key()[1:])
	}
	if err := closeIterator(it, it.Error()); err != nil || !left {
		return err
	}
	_, upper := prefixBounds(newest, "")
	if err := w.b.DeleteRange(lower, upper, nil); err != nil {
		return err
	}
	w.next.gen = newest + 1
	return w.flush()
}

// Add stores one row. Keys ascend, and none comes after a Replay.
func (w *SnapshotWriter) Add(ctx context.Context, key string, value []byte, seq uint64) error {
	kind, value := w.c.form(&Change{Op: Set, Key: key, Value: value})
	return w.row(ctx, key, kind, value, seq)
}

// AddStub stores a row without its value, which is taken over from what is there
// where it is held. Only a partial replica has such rows.
func (w *SnapshotWriter) AddStub(ctx context.Context, key string, sum stubSum, seq uint64) error {
	if _, thin := groupOf(w.c.opts.Thin, key); !thin {
		return fmt.Errorf("snapshot row %s has no value: %w", key, errFrame)
	}
	value, held, err := w.c.carried(key, sum, seq)
	if err != nil {
		return fmt.Errorf("snapshot row %s: %w", key, err)
	}
	if held {
		return w.row(ctx, key, kindValue, value, seq)
	}
	return w.row(ctx, key, kindStub, sum[:], seq)
}

func (w *SnapshotWriter) row(ctx context.Context, key string, kind byte, value []byte, seq uint64) error {
	k := appendDataKey(nil, w.next.gen, key, seq)
	if err := w.put(ctx, k, appendValue(nil, k, kind, value)); err != nil {
		return fmt.Errorf("snapshot row %s: %w", key, err)
	}
	w.c.counts(w.held, key, heldBytes(kind, value))
	return nil
}

func (w *SnapshotWriter) put(ctx context.Context, key, stored []byte) (err error) {
	if w.table == nil {
		if w.table, err = w.c.newTable(w.next.count); err != nil {
			return err
		}
	}
	t := w.table
	if t.size += len(key) + len(stored); t.size > t.room {
		if err := w.c.room(snapshotBatchBytes); err != nil {
			return err
		}
		t.room = t.size + snapshotBatchBytes
	}
	if err := t.w.Set(key, stored); err != nil {
		return err
	}
	w.next.add(stored)
	if t.size < tableBytes {
		return nil
	}
	return w.ingest(ctx)
}

// newTable begins a file of rows; n makes its name unlike that of any other.
func (c *Copy) newTable(n uint64) (*table, error) {
	path := c.opts.FS.PathJoin(c.dir, fmt.Sprintf("%s%d", tablePrefix, n))
	f, err := c.opts.FS.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	format := c.db.FormatMajorVersion().MaxTableFormat()
	return &table{path: path, w: sstable.NewWriter(objstorageprovider.NewFileWritable(f), c.store.MakeWriterOptions(lowest, format))}, nil
}

// lowest is the level at which the store keeps what nothing lies below.
const lowest = 6

// ingest hands the table of rows to the store, which owns it from then on.
func (w *SnapshotWriter) ingest(ctx context.Context) error {
	t := w.table
	if t == nil {
		return nil
	}
	w.table = nil
	if err := t.w.Close(); err != nil { // syncs it
		return err
	}
	// What has begun is not left half done where the connection ends.
	ctx = context.WithoutCancel(ctx)
	return w.c.settled(w.c.health.guarded(func() error { return w.c.db.Ingest(ctx, []string{t.path}) }))
}

// Replay adds the changes of an entry to a snapshot, beside its rows: where a
// row is newer than the entry it stays what is read.
func (w *SnapshotWriter) Replay(ctx context.Context, e *Entry) error {
	if err := w.ingest(ctx); err != nil {
		return fmt.Errorf("snapshot, entry %d: %w", e.Seq, err)
	}
	if e.Seq <= w.until { // another connection brought it before
		if err := w.flush(); err != nil {
			return fmt.Errorf("snapshot, entry %d: %w", e.Seq, err)
		}
	}
	w.until = max(w.until, e.Seq)
	last := lastOfEachKey(e.Changes)
	for i := range e.Changes {
		change := &e.Changes[i]
		if change.Op == Signal || last != nil && last[change.Key] != i {
			continue
		}
		if err := w.replay(change, e.Seq); err != nil {
			return fmt.Errorf("snapshot, entry %d: %s: %w", e.Seq, change.Key, err)
		}
	}
	return nil
}

func (w *SnapshotWriter) replay(change *Change, seq uint64) error {
	key := appendDataKey(nil, w.next.gen, change.Key, seq)
	known, err := w.has(key)
	if err != nil || known {
		return err
	}
	kind, value := w.c.form(change)
	stored := appendValue(nil, key, kind, value)
	if err := w.b.Set(key, stored, nil); err != nil {
		return err
	}
	w.next.add(stored)
	w.c.counts(w.held, change.Key, heldBytes(kind, value))
	if w.b.Len() < snapshotBatchBytes {
		return nil
	}
	return w.flush()
}

// has reports whether this version of a key is stored: as a row, or because the
// entry came before. A batch cannot be asked, so that one is not in it.
func (w *SnapshotWriter) has(key []byte) (bool, error) {
	_, closer, err := w.c.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, closer.Close()
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
func (w *SnapshotWriter) Commit(ctx context.Context, at Cursor) error {
	if w.done {
		return errors.New("snapshot has ended already")
	}
	defer w.Abort()
	c := w.c
	if err := w.ingest(ctx); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	if err := w.flush(); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	if err := c.rotate(); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	lower, upper := prefixBounds(c.meta.gen, "")
	if err := w.b.DeleteRange(lower, upper, nil); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	if c.meta.kept.first > 0 || c.meta.kept.stale { // they lead to another state
		if err := dropKept(w.b, 0, 0); err != nil {
			return fmt.Errorf("commit snapshot: %w", err)
		}
	}
	w.next.cursor = at
	if err := w.b.Set(metaKey, w.next.encode(), nil); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	if c.held == nil {
		if err := w.b.Delete(thinKey, nil); err != nil {
			return fmt.Errorf("commit snapshot: %w", err)
		}
	}
	if err := w.replace(); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	if err := c.rotate(); err != nil { // the state is replaced all the same
		c.log.Warn("copy store does not flush", "error", err)
	}
	c.eraseOlder(c.db, c.health, c.meta.gen)
	return nil
}

// replace writes the end and moves to it. Readers take their view and the
// generation under mu, so both change under it; the wait is one sync.
func (w *SnapshotWriter) replace() error {
	c := w.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.commit(w.b, !c.opts.NoSync); err != nil {
		return err
	}
	c.meta, c.refill = w.next, false
	if c.held != nil {
		c.held.replace(w.held)
	}
	return nil
}

// Abort gives the snapshot up; after Commit it does nothing.
func (w *SnapshotWriter) Abort() {
	if w.done {
		return
	}
	w.done = true
	if w.table != nil {
		_ = w.table.w.Close()                // it is of no use
		_ = w.c.opts.FS.Remove(w.table.path) // or by the next one that begins
	}
	_ = w.b.Close()
	w.c.write.Unlock()
}
