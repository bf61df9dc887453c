package feed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// What a snapshot replaced is only marked as deleted in the store, whose files
// would keep the bytes until it happens to compact them. Keys of certificates
// stood there in earlier versions, so the files are compacted at once.

// erasedKey stands in a copy out of whose files everything is gone that is older
// than the generation it names.
var erasedKey = []byte{0x00, 'e'}

// erasing is one such compaction. Its goroutine is the Copy's, whose close ends
// and awaits it.
type erasing struct {
	stop lasting
	done chan struct{} // closed when it ended, however it did
}

// lasting is the context of work that ends with the Copy, when it is closed.
type lasting chan struct{}

func (l lasting) Deadline() (time.Time, bool) { return time.Time{}, false }
func (l lasting) Done() <-chan struct{}       { return l }
func (l lasting) Value(any) any               { return nil }
func (l lasting) Err() error {
	select {
	case <-l:
		return context.Canceled
	default:
		return nil
	}
}

// eraseOlder begins to erase what is older than a generation. It is called with
// the write lock held, or by who opens the copy.
func (c *Copy) eraseOlder(db *pebble.DB, h *health, gen uint32) {
	c.endErasing(h) // this one does its work too
	e := &erasing{stop: make(lasting), done: make(chan struct{})}
	c.erasing = e
	go func() {
		defer close(e.done)
		err := c.erase(e.stop, db, h, gen)
		if err != nil && e.stop.Err() == nil {
			c.log.Warn("the copy's files keep what a snapshot replaced; it is erased after the next start", "dir", c.dir, "error", err)
		}
	}()
}

// endErasing ends a compaction and waits for it, unless the store hangs.
func (c *Copy) endErasing(h *health) {
	e := c.erasing
	if e == nil {
		return
	}
	c.erasing = nil
	close(e.stop)
	select {
	case <-e.done:
	case <-h.failed:
	}
}

// erase compacts what the store has deleted, and notes that it did. Tables of
// nothing but old rows are dropped whole.
func (c *Copy) erase(ctx context.Context, db *pebble.DB, h *health, gen uint32) error {
	if err := c.room(snapshotBatchBytes); err != nil {
		return err
	}
	lower, _ := prefixBounds(0, "")
	upper, _ := prefixBounds(gen, "")
	for _, bounds := range [][2][]byte{{lower, upper}, {keptKey(0), keptKey(math.MaxUint64)}} {
		if err := h.guarded(func() error { return db.Compact(ctx, bounds[0], bounds[1], false) }); err != nil {
			return fmt.Errorf("compact: %w", err)
		}
	}
	note := binary.BigEndian.AppendUint32(nil, gen)
	return h.guarded(func() error { return db.Set(erasedKey, note, pebble.NoSync) })
}

// erasedBefore reads the generation before which all is erased: 0 = none is.
func erasedBefore(db *pebble.DB) (gen uint32, err error) {
	p, closer, err := db.Get(erasedKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(p) == 4 {
		gen = binary.BigEndian.Uint32(p)
	}
	return gen, closer.Close()
}

// rotate begins a new table in memory, and a new log, so that what is compacted
// afterwards has rows of one generation only.
func (c *Copy) rotate() error {
	return c.settled(c.health.guarded(func() error {
		_, err := c.db.AsyncFlush()
		return err
	}))
}

// cleaner deletes the store's files, as its first part does. The second, whose own
// doing lies deeper and is not reached, tells the store that it must not write new
// logs into old ones, whose ends would stay.
type cleaner struct {
	pebble.DeleteCleaner
	unrecycled
}

type unrecycled struct{ pebble.ArchiveCleaner }
