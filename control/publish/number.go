package publish

import (
	"context"
	"fmt"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
)

// writeNumbered is Write where nobody else can lead and one writes at a time: the
// order of commits is known before them, so a change gets its number in its own
// transaction.
func (p *Publisher) writeNumbered(ctx context.Context, a Action, fn func(*store.Tx) (Written, error)) (uint64, error) {
	var head feed.Cursor
	var floor uint64
	err := p.Store.Write(ctx, func(tx *store.Tx) error {
		w, err := fn(tx)
		if err != nil {
			return err
		}
		if head.Seq, head.Hash, err = tx.LogEnd(ctx); err != nil {
			return err
		}
		var id int64
		for _, changes := range w.steps() {
			e := feed.Seal(head.Hash, head.Seq+1, p.Now(), changes)
			if err := fits(&e); err != nil {
				return err
			}
			if id, err = tx.PutEvent(ctx, store.Event{
				Seq: e.Seq, Actor: a.Actor, Action: a.Name, Object: a.Object, Before: w.Before, After: w.After, Changes: []byte{}, Created: store.Now(),
			}, w.Step); err != nil {
				return err
			}
			if head, err = p.put(ctx, tx, &e); err != nil {
				return err
			}
		}
		floor, err = p.retain(ctx, tx, head.Seq, id)
		return err
	})
	if err != nil {
		return 0, err
	}
	p.announce(head, floor, nil)
	return head.Seq, nil
}

// number gives the next batch of outbox rows their numbers, in one transaction,
// and returns how many there were.
func (p *Publisher) number(ctx context.Context) (int, error) {
	from, floor := p.position()
	head := from
	var numbers map[int64]uint64
	err := p.Store.Write(ctx, func(tx *store.Tx) error {
		head, numbers = from, nil // it may have been undone and begun again
		events, err := tx.Unnumbered(ctx, batchRows, batchBytes)
		if err != nil || len(events) == 0 {
			return err
		}
		if err := p.lease.hold(ctx, tx); err != nil {
			return err
		}
		if p.lease == nil { // others may write entries
			if head.Seq, head.Hash, err = tx.LogEnd(ctx); err != nil {
				return err
			}
		}
		numbers = map[int64]uint64{}
		for i := range events {
			if head, err = p.append(ctx, tx, head, &events[i]); err != nil {
				return err
			}
			numbers[events[i].ID] = events[i].Seq
		}
		floor, err = p.retain(ctx, tx, head.Seq, events[len(events)-1].ID)
		return err
	})
	if err != nil || len(numbers) == 0 {
		return 0, err
	}
	p.announce(head, floor, numbers)
	return len(numbers), nil
}

// append seals one outbox row as the entry after head.
func (p *Publisher) append(ctx context.Context, tx *store.Tx, head feed.Cursor, ev *store.Event) (feed.Cursor, error) {
	box, _, err := feed.DecodeEntry(ev.Changes)
	if err != nil {
		return head, &fault.Error{Op: "publish.number", Side: fault.Control, Kind: fault.Malformed, Err: fmt.Errorf(
			"outbox row %d of the control database is damaged (%w); restore the database from a backup", ev.ID, err)}
	}
	if head, err = p.enter(ctx, tx, head, box.Changes); err != nil {
		return head, err
	}
	ev.Seq = head.Seq
	return head, tx.Number(ctx, ev.ID, ev.Seq)
}

// enter writes changes as the entry after head, and makes them in the feed's
// state.
func (p *Publisher) enter(ctx context.Context, tx *store.Tx, head feed.Cursor, changes []feed.Change) (feed.Cursor, error) {
	e := feed.Seal(head.Hash, head.Seq+1, p.Now(), changes)
	return p.put(ctx, tx, &e)
}

// put adds an entry to the log, and its changes to the state, and returns the
// position after it.
func (p *Publisher) put(ctx context.Context, tx *store.Tx, e *feed.Entry) (at feed.Cursor, err error) {
	if err := tx.PutLog(ctx, store.LogRow{Seq: e.Seq, Time: e.Time, Payload: feed.AppendEntry(nil, e), Hash: e.Hash[:]}); err != nil {
		return at, err
	}
	p.times.add(e.Seq, e.Time)
	for _, c := range e.Changes {
		switch c.Op {
		case feed.Set:
			err = tx.SetKey(ctx, c.Key, c.Value, e.Seq)
		case feed.Delete:
			err = tx.DeleteKey(ctx, c.Key)
		}
		if err != nil {
			return at, err
		}
	}
	return feed.Cursor{Seq: e.Seq, Hash: e.Hash}, nil
}

// retain drops what is too much when the log goes to head and the outbox to id,
// and returns the newest number that the log then does not hold.
func (p *Publisher) retain(ctx context.Context, tx *store.Tx, head uint64, id int64) (floor uint64, err error) {
	_, floor = p.position()
	if keep := uint64(p.Retain); head > keep && head-keep > floor {
		floor = head - keep
		if err := tx.TrimLog(ctx, floor); err != nil {
			return 0, err
		}
	}
	if old := id - int64(p.RetainAudit); old > 0 {
		return floor, tx.TrimEvents(ctx, old)
	}
	return floor, nil
}
