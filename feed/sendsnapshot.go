package feed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
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
	r := newRowSender(x)
	err = s.cfg.Log.Snapshot(ctx, have.last, func(at Cursor) error {
		r.end.cursor = at
		if err := x.frame(ctx, frameBegin, snapshotBegin{why, have.last != "", at}.append(nil)); err != nil {
			return err
		}
		r.start(ctx)
		return nil
	}, r.row)
	err = r.finish(err)
	if err == nil && have.last != "" {
		err = x.replay(ctx, have.base, r.end.cursor)
	}
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
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

// rowSender gathers rows into frames. While one frame is packed and sent the
// next is gathered: reading the log costs about as much as sending.
type rowSender struct {
	x    *session
	raw  []byte // of the frame that is gathered
	end  snapshotEnd
	full chan []byte // to be sent, in order
	free chan []byte // memory to gather in
	ctx  context.Context
	stop context.CancelCauseFunc
	sent chan struct{} // closed when the sending has ended
}

const rowsAhead = 2 // frames that are gathered while one is sent

func newRowSender(x *session) *rowSender {
	r := &rowSender{x: x, full: make(chan []byte, rowsAhead), free: make(chan []byte, rowsAhead+2), sent: make(chan struct{})}
	for range cap(r.free) - 1 { // and one in raw
		r.free <- nil
	}
	return r
}

// start begins to send; finish ends it.
func (r *rowSender) start(ctx context.Context) {
	r.ctx, r.stop = context.WithCancelCause(ctx)
	go r.run()
}

// run packs and sends what is gathered until there is no more, or until it cannot.
func (r *rowSender) run() {
	defer close(r.sent)
	sum := sha256.New()
	for raw := range r.full {
		if r.ctx.Err() == nil {
			sum.Write(raw)
			r.x.buf = r.x.server.packer.frame(r.x.buf[:0], frameRows, raw)
			if err := r.x.send(r.ctx, r.x.buf); err != nil {
				r.stop(err)
			}
		}
		r.free <- raw[:0]
	}
	r.end.sum = [32]byte(sum.Sum(nil))
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
	if x := r.x; x.thin != "" && strings.HasPrefix(key, x.thin) {
		r.raw = appendStub(r.raw, key, value, seq)
	} else {
		r.raw = appendRow(r.raw, key, value, seq)
	}
	r.end.rows++
	return nil
}

// flush hands a frame over; the error is that of one before.
func (r *rowSender) flush() error {
	if len(r.raw) == 0 {
		return nil
	}
	r.full <- r.raw
	r.raw = <-r.free
	return context.Cause(r.ctx)
}

// finish sends what is left, after err that gathering ended with, and returns
// what either ended with. Nothing is sent any more when it returns.
func (r *rowSender) finish(err error) error {
	if r.ctx == nil {
		return err // it was not even begun
	}
	if err == nil {
		err = r.flush()
	} else {
		r.stop(err)
	}
	close(r.full)
	<-r.sent
	if err == nil {
		err = context.Cause(r.ctx)
	}
	r.stop(nil)
	return err
}
