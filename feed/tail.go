package feed

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// tail follows the log and keeps the newest entries encoded, so that a batch is
// encoded once and written to everybody who is at its start.
type tail struct {
	log      Log
	logger   *slog.Logger
	gather   time.Duration
	batch    int
	room     int
	packer   *packer
	counters *serverCounters
	raw      []byte // owned by run

	mu      sync.Mutex
	pos     Cursor        // the end of the newest batch; guarded by mu
	batches []*batch      // oldest first; guarded by mu
	bytes   int           // of all batches; guarded by mu
	next    chan struct{} // closed when pos moves; guarded by mu
}

// batch is a complete Entries frame, packed; replaced, never changed.
type batch struct {
	from  Cursor
	to    Cursor
	frame []byte
}

func newTail(cfg ServerConfig, pack *packer, counters *serverCounters) *tail {
	t := &tail{
		log: cfg.Log, logger: cfg.Logger, gather: cfg.Gather, batch: cfg.BatchBytes,
		room: cfg.RingBytes, packer: pack, counters: counters, next: make(chan struct{}),
	}
	t.pos.Seq, t.pos.Hash = cfg.Log.Head()
	return t
}

// run moves the tail until ctx ends. After a pause a change goes out at once;
// changes that come closer together than the gather window share a batch, and
// signals that nothing waits before go at once: a purge is asked for because
// what is served now is wrong.
func (t *tail) run(ctx context.Context) {
	var last time.Time
	for ctx.Err() == nil {
		changed := t.log.Changed()
		seq, hash := t.log.Head()
		if end := t.end(); seq <= end.Seq && end != (Cursor{seq, hash}) {
			t.reset() // the log of a relay begins another history
		}
		if seq == t.end().Seq {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if d := time.Until(last.Add(t.gather)); d > 0 && !t.urgent(ctx) {
			wait(ctx, d)
		}
		last = time.Now()
		if err := t.advance(ctx); err != nil && ctx.Err() == nil {
			t.logger.Error("feed log cannot be read", "after", t.end().Seq, "error", err)
			wait(ctx, time.Second)
		}
	}
}

// urgent reports whether the first entry that is to go out is signals alone. A
// log that cannot be read is for advance to tell.
func (t *tail) urgent(ctx context.Context) bool {
	entries, err := t.log.Read(ctx, t.end().Seq, 1)
	return err == nil && len(entries) > 0 && Signals(entries[0].Changes)
}

func (t *tail) end() Cursor {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pos
}

func (t *tail) advance(ctx context.Context) error {
	pos := t.end()
	entries, err := t.log.Read(ctx, pos.Seq, t.batch)
	if errors.Is(err, ErrCompacted) {
		t.reset()
		return nil
	}
	if err != nil {
		return err
	}
	for len(entries) > 0 {
		n := fit(entries, t.batch)
		b := &batch{from: pos}
		if t.raw, b.to, err = encodeEntries(t.raw[:0], pos, entries[:n]); err != nil {
			return err
		}
		b.frame = bytes.Clone(t.packer.frame(nil, frameEntries, t.raw))
		t.counters.encodes.Add(1)
		t.push(b)
		pos, entries = b.to, entries[n:]
	}
	return nil
}

// reset goes to the log's head, for a log that was compacted under the tail.
func (t *tail) reset() {
	seq, hash := t.log.Head()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.batches, t.bytes = nil, 0
	t.move(Cursor{seq, hash})
}

func (t *tail) push(b *batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.batches = append(t.batches, b)
	t.bytes += len(b.frame)
	for t.bytes > t.room && len(t.batches) > 1 {
		t.bytes -= len(t.batches[0].frame)
		t.batches[0] = nil
		t.batches = t.batches[1:]
	}
	t.move(b.to)
}

// move is called with mu held.
func (t *tail) move(to Cursor) {
	t.pos = to
	close(t.next)
	t.next = make(chan struct{})
}

// after returns the batch that starts exactly after seq, nil when there is
// none; where the tail ends; and a channel that is closed when that moves.
func (t *tail) after(seq uint64) (*batch, Cursor, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lo, hi := 0, len(t.batches)
	for lo < hi {
		mid := (lo + hi) / 2
		if t.batches[mid].from.Seq < seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(t.batches) && t.batches[lo].from.Seq == seq {
		return t.batches[lo], t.pos, t.next
	}
	return nil, t.pos, t.next
}

// fit is how many entries go into a frame of about room bytes: at least one.
func fit(entries []Entry, room int) int {
	n, size := 1, entries[0].Size()
	for n < len(entries) && size+entries[n].Size() <= room {
		size += entries[n].Size()
		n++
	}
	return n
}

// encodeEntries appends the payload of an Entries frame, refusing entries that
// do not chain from pos: a broken log is not handed on.
func encodeEntries(dst []byte, pos Cursor, entries []Entry) ([]byte, Cursor, error) {
	for i := range entries {
		e := &entries[i]
		if err := e.Follows(pos); err != nil {
			return dst, pos, err
		}
		if err := e.Check(); err != nil {
			return dst, pos, err
		}
		dst = AppendEntry(dst, e)
		pos = Cursor{e.Seq, e.Hash}
	}
	return dst, pos, nil
}
