package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
)

// repairKey is signalled when the log was cut: no edge keeps or obeys it.
const repairKey = "log/repaired"

// survey is what a walk over the stored log found.
type survey struct {
	floor uint64      // newest number no longer held
	head  feed.Cursor // of the newest entry, by its row where the entry is damaged
	bad   uint64      // newest number that cannot be told any more; 0 = all is well
	cause error       // of bad
}

// verify walks the log from its oldest entry and sets head and floor. The log
// is the way to the state, not the state: where an entry is damaged, what comes
// after it is still told, and who stands before it gets a snapshot.
func (p *Publisher) verify(ctx context.Context, leads bool) error {
	var found survey
	err := p.Store.Read(ctx, func(tx *store.Tx) (err error) {
		found, err = look(ctx, tx, &p.times)
		return err
	})
	if err != nil {
		return err
	}
	p.announce(found.head, found.floor, nil)
	if found.bad == 0 {
		return nil
	}
	if p.unrepaired = !leads; p.unrepaired {
		p.Log.Warn("an entry of the log is damaged; the control plane that leads repairs it when it is started again, or this one when it leads", "seq", found.bad, "err", found.cause)
		return nil
	}
	p.Log.Error("an entry of the log is damaged; entries up to it are dropped, edges that miss them get a snapshot", "seq", found.bad, "err", found.cause)
	return p.repair(ctx, found)
}

func look(ctx context.Context, tx *store.Tx, t *times) (survey, error) {
	var s survey
	first, _, err := tx.LogBounds(ctx)
	if err != nil {
		return s, err
	}
	if first > 0 {
		s.floor = first - 1
	}
	if err := tx.Log(ctx, 0, func(r store.LogRow) (bool, error) {
		s.add(r)
		t.add(r.Seq, r.Time)
		return true, nil
	}); err != nil {
		return s, err
	}
	numbered, err := tx.Numbered(ctx)
	if err != nil {
		return s, err
	}
	if numbered > s.head.Seq {
		s.bad, s.cause = numbered, fmt.Errorf("change %d was numbered, the log ends at %d", numbered, s.head.Seq)
		s.head = feed.Cursor{Seq: numbered}
	}
	return s, nil
}

func (s *survey) add(r store.LogRow) {
	at := feed.Cursor{Seq: r.Seq}
	copy(at.Hash[:], r.Hash)
	e, err := decode(r)
	switch {
	case err != nil:
		s.bad, s.cause = r.Seq, err
	case s.head.Seq == 0:
	default:
		if err := e.Follows(s.head); err != nil {
			s.bad, s.cause = r.Seq-1, err
		}
	}
	s.head = at
}

// repair drops what cannot be told and, where that is the newest entry, begins
// again with one after it, so that there is a head to stand at.
func (p *Publisher) repair(ctx context.Context, s survey) error {
	head := s.head
	err := p.Store.Write(ctx, func(tx *store.Tx) error {
		if err := p.lease.hold(ctx, tx); err != nil {
			return err
		}
		if err := tx.TrimLog(ctx, s.bad); err != nil || s.bad < s.head.Seq {
			return err
		}
		e := feed.Seal(s.head.Hash, s.head.Seq+1, p.Now(), []feed.Change{{Op: feed.Signal, Key: repairKey}})
		head = feed.Cursor{Seq: e.Seq, Hash: e.Hash}
		p.times.add(e.Seq, e.Time)
		return tx.PutLog(ctx, store.LogRow{Seq: e.Seq, Time: e.Time, Payload: feed.AppendEntry(nil, &e), Hash: e.Hash[:]})
	})
	if err == nil {
		p.announce(head, s.bad, nil)
	}
	return err
}

func decode(r store.LogRow) (feed.Entry, error) {
	e, n, err := feed.DecodeEntry(r.Payload)
	switch {
	case err != nil:
		return e, err
	case n != len(r.Payload):
		return e, fmt.Errorf("%d bytes after the entry", len(r.Payload)-n)
	case e.Seq != r.Seq || string(e.Hash[:]) != string(r.Hash):
		return e, errors.New("number or hash differs from its row")
	}
	return e, nil
}
