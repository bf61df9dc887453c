package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Step says what an outbox row did to a zone.
type Step struct {
	Zone    string // id; "" where the row is not about a zone's rows
	Account string
	Version int64 // of the zone, after it
	Diff    *Difference
}

// StepOf is the step from one state of a zone, which SaveZone has just replaced
// by another one; either may be nil.
func StepOf(before, after *Zone) Step {
	s := Step{Diff: Differ(before, after)}
	if after != nil {
		s.Zone, s.Account, s.Version = after.ID, after.Account, after.Version
	} else {
		s.Zone, s.Account, s.Version = before.ID, before.Account, before.Version+1
	}
	return s
}

// Past is one change of a zone.
type Past struct {
	Event // without changes
	Step
}

var (
	// ErrForgotten is in the chain when a state is asked for that is older than what
	// is kept.
	ErrForgotten = errors.New("older than what is kept of the zone's history")
	// ErrNoHistory is in the chain when nothing is known of a zone.
	ErrNoHistory = errors.New("no zone has this identifier, nor had one as far as history is kept")
)

// historyFloor is the fact that says from which entry on history is whole.
const historyFloor = "history_floor"

// HistoryFloor returns the newest entry before which states are not kept.
func (tx *Tx) HistoryFloor(ctx context.Context) (uint64, error) {
	var text string
	err := tx.QueryRowContext(ctx, `SELECT value FROM facts WHERE name = $1`, historyFloor).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, missing(err, "fact")
	}
	floor, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("store: fact %s: %w", historyFloor, err)
	}
	return floor, nil
}

// raiseFloor notes that outbox rows up to an id are about to be dropped.
func (tx *Tx) raiseFloor(ctx context.Context, through int64) error {
	floor, err := tx.HistoryFloor(ctx)
	if err != nil {
		return err
	}
	var gone uint64
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM outbox WHERE id <= $1`, through).Scan(&gone); err != nil {
		return missing(err, "outbox")
	}
	if gone <= floor {
		return nil
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		historyFloor, strconv.FormatUint(gone, 10))
	return wrote(err, "fact")
}

// History hands the changes of a zone to fn, newest first, of those that have a
// number only those before one; until fn returns false. 0 is after all of them.
func (tx *Tx) History(ctx context.Context, zoneID string, before uint64, fn func(*Past) (bool, error)) (err error) {
	if before == 0 {
		before = math.MaxInt64
	}
	r, err := tx.QueryContext(ctx, `SELECT id, seq, actor, action, object, created, account, version, diff FROM outbox
		WHERE zone = $1 AND zone <> '' AND seq < $2 ORDER BY id DESC`, zoneID, int64(before))
	if err != nil {
		return missing(err, "history")
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for r.Next() {
		p := &Past{Step: Step{Zone: zoneID}}
		var created int64
		var diff []byte
		if err := r.Scan(&p.ID, &p.Seq, &p.Actor, &p.Action, &p.Object, &created, &p.Account, &p.Version, &diff); err != nil {
			return missing(err, "history")
		}
		p.Created = fromMicro(created)
		if p.Diff, err = unpackDifference(diff); err != nil {
			return fmt.Errorf("store: change %d of zone %s in the history is damaged: %w", p.Seq, zoneID, err)
		}
		more, err := fn(p)
		if err != nil || !more {
			return err
		}
	}
	return missing(r.Err(), "history")
}

// Then is a zone now and as of an earlier entry.
type Then struct {
	Now     *Zone // nil: it is gone
	Was     *Zone // nil: it did not exist; its certificates have no keys
	Account string
	// Newest is the number of the zone's newest change, 0 where that has none yet or
	// is not kept; Version is the zone's, also of one that is gone.
	Newest  uint64
	Version int64
}

// ZoneAt makes a zone's state as of an entry out of the present one and the
// changes since, which must lead to it without a gap.
func (tx *Tx) ZoneAt(ctx context.Context, zoneID string, seq uint64) (*Then, error) {
	t := &Then{}
	var err error
	if t.Now, err = tx.zoneOrNil(ctx, zoneID); err != nil {
		return nil, err
	}
	floor, err := tx.HistoryFloor(ctx)
	if err != nil {
		return nil, err
	}
	s := stateOf(zoneID, t.Now)
	if t.Now != nil {
		t.Account, t.Version = t.Now.Account, t.Now.Version
	}
	first, at := true, t.Version
	if err := tx.History(ctx, zoneID, 0, func(p *Past) (bool, error) {
		if first {
			t.Newest, first = p.Seq, false
			if t.Now == nil {
				t.Account, t.Version, at = p.Account, p.Version, p.Version
			}
		}
		if p.Seq > 0 && p.Seq <= seq {
			return false, nil
		}
		if p.Version != at {
			return false, fmt.Errorf("version %d of zone %s is not in its history: %w", at, zoneID, ErrForgotten)
		}
		at--
		return true, s.undo(p.Diff)
	}); err != nil {
		return t, err
	}
	if t.Now == nil && first {
		return t, ErrNoHistory
	}
	if seq < floor {
		return t, fmt.Errorf("%w, which begins with %d", ErrForgotten, floor)
	}
	t.Was = s.made()
	return t, nil
}

// zoneOrNil is Zone for who asks whether there is one.
func (tx *Tx) zoneOrNil(ctx context.Context, id string) (*Zone, error) {
	n := 0
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM zones WHERE id = $1`, id).Scan(&n); err != nil || n == 0 {
		return nil, missing(err, "zone")
	}
	return tx.Zone(ctx, id)
}

// forgetEach is how many rows ForgetEvents looks at.
const forgetEach = 1000

// ForgetEvents drops the oldest outbox rows that have a number and are from before
// a time, up to 1,000 of them, and reports whether there may be more.
func (tx *Tx) ForgetEvents(ctx context.Context, before time.Time) (more bool, err error) {
	var through int64
	seen := 0
	if err := rows(ctx, tx, func(r *sql.Rows) error {
		var id, created int64
		err := r.Scan(&id, &created)
		if created < micro(before) {
			through = id
			seen++
		}
		return err
	}, `SELECT id, created FROM outbox WHERE seq > 0 ORDER BY id LIMIT $1`, forgetEach); err != nil {
		return false, missing(err, "outbox")
	}
	if through == 0 {
		return false, nil
	}
	return seen == forgetEach, tx.TrimEvents(ctx, through)
}
