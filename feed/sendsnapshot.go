package feed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"time"
)

const rowsFrameBytes = 256 << 10 // of rows in one frame, before they are packed

// snapshot streams the whole state. It waits its turn, with heartbeats, so that
// a fleet that comes back at once cannot hold the log by hundreds of readers.
//
// A subscriber that has a part already, of this server or another, gets the
// rows after that part and then the entries since the part's first: together
// they make the state at the end, for a row is only ever replaced by a newer
// one.
func (x *session) snapshot(ctx context.Context, why Resume, beat <-chan time.Time) error {
	s := x.server
	for waiting := true; waiting; {
		select {
		case s.snapshots <- struct{}{}:
			waiting = false
		case <-beat:
			if err := x.heartbeat(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer func() { <-s.snapshots }()
	s.counters.snapshots.Add(1)
	have, err := x.continues(ctx)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	r := &rowSender{x: x, put: func(p []byte) error { return x.send(ctx, p) }, sum: sha256.New()}
	err = s.cfg.Log.Snapshot(ctx, have.last, func(at Cursor) error {
		r.end.cursor = at
		return x.frame(ctx, frameBegin, snapshotBegin{why, have.last != "", at}.append(nil))
	}, r.row)
	if err == nil {
		err = r.flush()
	}
	if err == nil && have.last != "" {
		err = x.replay(ctx, have.base, r.end.cursor)
	}
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	r.end.sum = [32]byte(r.sum.Sum(nil))
	x.cursor = r.end.cursor
	return x.frame(ctx, frameEnd, r.end.append(nil))
}

// continues returns the subscriber's part where this log can go on from it, and
// none where it has to start over. It is asked for once.
func (x *session) continues(ctx context.Context) (partial, error) {
	have := x.have
	x.have = partial{}
	if have.last == "" {
		return have, nil
	}
	holds, err := x.server.holds(ctx, have.base)
	if errors.Is(err, ErrCompacted) {
		holds, err = false, nil
	}
	if err != nil || !holds {
		return partial{}, err
	}
	return have, nil
}

// replay sends the entries after one position up to another.
func (x *session) replay(ctx context.Context, pos, to Cursor) error {
	s := x.server
	for pos.Seq < to.Seq {
		entries, err := s.cfg.Log.Read(ctx, pos.Seq, s.cfg.BatchBytes)
		if err != nil {
			return err
		}
		for len(entries) > 0 && pos.Seq < to.Seq {
			n := fit(entries, s.cfg.BatchBytes)
			for entries[n-1].Seq > to.Seq {
				n--
			}
			if err := x.entries(ctx, &pos, entries[:n]); err != nil {
				return err
			}
			entries = entries[n:]
		}
	}
	if pos != to {
		return fmt.Errorf("%w: entries lead to another %d", ErrFork, pos.Seq)
	}
	return nil
}

// rowSender gathers rows into frames.
type rowSender struct {
	x   *session
	put func(frame []byte) error
	end snapshotEnd
	sum hash.Hash
	raw []byte
}

func (r *rowSender) row(key string, value []byte, seq uint64) error {
	if err := (&Change{Op: Set, Key: key, Value: value}).check(); err != nil {
		return err
	}
	if len(r.raw)+rowHead+len(key)+len(value) > rowsFrameBytes {
		if err := r.flush(); err != nil {
			return err
		}
	}
	r.raw = appendRow(r.raw, key, value, seq)
	r.end.rows++
	return nil
}

func (r *rowSender) flush() error {
	if len(r.raw) == 0 {
		return nil
	}
	r.sum.Write(r.raw)
	x := r.x
	x.buf = x.server.packer.frame(x.buf[:0], frameRows, r.raw)
	r.raw = r.raw[:0]
	return r.put(x.buf)
}
