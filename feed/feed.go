// Package feed is the one road down: a numbered, chained log of changes that
// travels from the control plane to every edge over one authenticated
// connection, and the copy of its state that an edge keeps on disk.
//
// It promises: entries arrive in order, without gaps and whole, or not at all;
// what an edge has stored is exactly the state at its cursor; a cursor that the
// log cannot continue from is told so and gets a consistent snapshot, never a
// silent clamp. Signals are delivered at least once and, after a snapshot, not
// at all: whoever applies a snapshot must treat it as "everything may have been
// signalled". The byte layouts are in DESIGN.md beside this file.
package feed

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Op says what a change does to its key.
type Op uint8

const (
	// Set gives the key a value.
	Set Op = 1
	// Delete removes the key.
	Delete Op = 2
	// Signal is applied in order but not kept in the copy (a purge).
	Signal Op = 3
)

func (o Op) String() string {
	switch o {
	case Set:
		return "set"
	case Delete:
		return "delete"
	case Signal:
		return "signal"
	}
	return "unknown"
}

// Change is one step of an entry.
type Change struct {
	Op Op
	// Key is 1 to MaxKeyBytes bytes without NUL.
	Key string
	// Value is at most MaxValueBytes; empty for Delete.
	Value []byte
}

// Signals reports whether changes are signals alone, of which there is one: what
// is kept in no state, and waits for no company.
func Signals(changes []Change) bool {
	return len(changes) > 0 && !slices.ContainsFunc(changes, func(c Change) bool { return c.Op != Signal })
}

// Entry is a number and an atomic list of changes. Entries are numbered from 1
// without gaps. Hash covers everything else in it, Prev is the Hash of the
// entry before (zero for the first), so that equal (Seq, Hash) means equal
// history.
type Entry struct {
	Seq     uint64
	Time    time.Time // UTC, nanoseconds
	Changes []Change
	Prev    [32]byte
	Hash    [32]byte
}

// Cursor is a position in the log; the zero value is before its first entry.
type Cursor struct {
	Seq  uint64
	Hash [32]byte
}

// Limits on what is encoded and decoded.
const (
	MaxEntryBytes = 8 << 20 // of one encoded entry
	MaxChanges    = 32768   // in one entry; a zone's last records and keys go in one
	MaxKeyBytes   = 512
	MaxValueBytes = 1 << 20 // the same as zone.MaxValueBytes
)

// Log is the source that a Server serves. All methods may be called from many
// goroutines.
type Log interface {
	// Head is the newest entry's number and hash; zero when there is none.
	Head() (seq uint64, hash [32]byte)
	// Read returns entries after the number, oldest first, of about maxBytes
	// in all but at least one when there is one; none when after is the head.
	// It returns ErrCompacted when the entry after+1 is no longer retained.
	Read(ctx context.Context, after uint64, maxBytes int) ([]Entry, error)
	// Snapshot calls begin with the position that the rows are the state of and
	// then passes every live row whose key is greater than after to yield, in
	// the order of the keys' bytes. An error of either ends it and comes back.
	Snapshot(ctx context.Context, after string, begin func(at Cursor) error, yield func(key string, value []byte, seq uint64) error) error
	// Changed returns a channel that is closed at the next append. Taking the
	// channel before reading Head misses nothing.
	Changed() <-chan struct{}
}

// Errors that callers decide on.
var (
	// ErrCompacted is returned by Log.Read below the retained floor.
	ErrCompacted = errors.New("feed: the log no longer holds the entries after this number")
	// ErrTorn is in the chain of every error about bytes that end early or
	// whose checksum does not match.
	ErrTorn = errors.New("feed: torn or damaged bytes")
	// ErrLimit is in the chain of every error about a stated limit.
	ErrLimit = errors.New("feed: over the limit")
	// ErrGap means that an entry does not follow the cursor's number.
	ErrGap = errors.New("feed: entry does not follow the cursor")
	// ErrFork means that an entry has the right number and another history.
	ErrFork = errors.New("feed: entry continues another history")
	// ErrCorrupt means that the copy on disk cannot be trusted.
	ErrCorrupt = errors.New("feed: copy is corrupt")
	// ErrFull means that the disk under the copy has too little room for a
	// write; nothing was changed, and it may be tried again.
	ErrFull = errors.New("feed: the disk under the copy is full")
	// ErrBroken means that the disk under the copy failed; reads may still
	// work, writes do not until the process is started again.
	ErrBroken = errors.New("feed: copy is broken")
)
