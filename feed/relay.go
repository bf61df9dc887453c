package feed

import (
	"context"
	"time"
)

// RelayLog is the Log of a node that follows a parent itself: its copy, and the
// entries that the copy keeps. What it says is what is stored, so that who
// follows it is never ahead of it.
type RelayLog struct{ copy *Copy }

var _ Log = RelayLog{}

// NewRelayLog serves a copy that was opened with CopyOptions.Retain.
func NewRelayLog(c *Copy) RelayLog { return RelayLog{c} }

// Head is Log's.
func (r RelayLog) Head() (seq uint64, hash [32]byte) {
	c := r.copy.Cursor()
	return c.Seq, c.Hash
}

// Read is Log's. ErrCompacted also says that the copy stands in another history
// than it did, in which there is no such number yet.
func (r RelayLog) Read(_ context.Context, after uint64, maxBytes int) ([]Entry, error) {
	return r.copy.Kept(after, maxBytes)
}

// Snapshot is Log's.
func (r RelayLog) Snapshot(ctx context.Context, after string, begin func(at Cursor) error, yield func(key string, value []byte, seq uint64) error) error {
	return r.copy.rows(after, begin, func(key string, value []byte, seq uint64) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return yield(key, value, seq)
	})
}

// Changed is Log's.
func (r RelayLog) Changed() <-chan struct{} { return r.copy.Changed() }

// Upstream is where a relay stands with its own parent.
type Upstream struct {
	Connected bool
	Since     time.Time // connected since
	Head      Cursor    // the root's newest, as heard; zero: never heard
	At        time.Time // the root's time when that was so
}
