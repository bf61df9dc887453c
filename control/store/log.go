package store

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"
	"time"
)

// Event is an outbox row: one change, who made it, and what it publishes.
type Event struct {
	ID      int64 // of two changes of which one followed from the other, the later one's is higher
	Seq     uint64
	Actor   string
	Action  string // "dns_record.create"
	Object  string // id of what was changed
	Before  string // JSON, "" for nothing
	After   string
	Changes []byte // encoded feed changes
	Created time.Time
}

// LogRow is one numbered entry of the feed's log.
type LogRow struct {
	Seq     uint64
	Time    time.Time
	Payload []byte // the encoded entry
	Hash    []byte
}

// PutEvent adds an outbox row and returns its number; Seq is 0 unless the entry is
// put into the log with it. s is the zero Step where it is about no zone's rows.
func (tx *Tx) PutEvent(ctx context.Context, e Event, s Step) (id int64, err error) {
	var diff any
	if s.Diff != nil {
		packed, err := s.Diff.pack()
		if err != nil {
			return 0, wrote(err, "history")
		}
		diff = packed
	}
	err = tx.QueryRowContext(ctx, tx.kind.putEvent(), e.Actor, e.Action, e.Object, e.Before, e.After, e.Changes, micro(e.Created),
		s.Zone, s.Account, s.Version, diff, int64(e.Seq)).Scan(&id)
	return id, wrote(err, "outbox")
}

// Unnumbered returns outbox rows without a number, in commit order: up to limit
// of them and about maxBytes of changes, but at least one when there is one.
func (tx *Tx) Unnumbered(ctx context.Context, limit, maxBytes int) ([]Event, error) {
	return tx.events(ctx, maxBytes, `WHERE seq = 0 ORDER BY id LIMIT $1`, limit)
}

// Waits reports whether an outbox row of one of these actions has no number yet.
func (tx *Tx) Waits(ctx context.Context, actions ...string) (waits bool, err error) {
	err = rows(ctx, tx, func(r *sql.Rows) error {
		var action string
		err := r.Scan(&action)
		waits = waits || slices.Contains(actions, action)
		return err
	}, `SELECT action FROM outbox WHERE seq = 0`)
	return waits, missing(err, "outbox")
}

// Events returns up to limit outbox rows, newest first: the audit trail.
func (tx *Tx) Events(ctx context.Context, limit int) ([]Event, error) {
	return tx.events(ctx, math.MaxInt, `ORDER BY id DESC LIMIT $1`, limit)
}

func (tx *Tx) events(ctx context.Context, maxBytes int, tail string, limit int) (all []Event, err error) {
	r, err := tx.QueryContext(ctx, `SELECT id, seq, actor, action, object, before, after, changes, created FROM outbox `+tail, limit)
	if err != nil {
		return nil, missing(err, "outbox")
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for size := 0; size < maxBytes && r.Next(); {
		var e Event
		var created int64
		if err := r.Scan(&e.ID, &e.Seq, &e.Actor, &e.Action, &e.Object, &e.Before, &e.After, &e.Changes, &created); err != nil {
			return nil, missing(err, "outbox")
		}
		e.Created = fromMicro(created)
		size += len(e.Changes)
		all = append(all, e)
	}
	return all, missing(r.Err(), "outbox")
}

// NumberedAfter returns the numbers of outbox rows that became entries after
// seq, by their ids.
func (tx *Tx) NumberedAfter(ctx context.Context, seq uint64) (map[int64]uint64, error) {
	got := map[int64]uint64{}
	err := rows(ctx, tx, func(r *sql.Rows) error {
		var id int64
		var seq uint64
		err := r.Scan(&id, &seq)
		got[id] = seq
		return err
	}, `SELECT id, seq FROM outbox WHERE seq > $1`, int64(seq))
	return got, missing(err, "outbox")
}

// RewriteEvents puts what fn makes of them in the place of before and after of
// the outbox rows in which one of them has the text part.
func (tx *Tx) RewriteEvents(ctx context.Context, part string, fn func(string) string) error {
	type texts struct {
		id            int64
		before, after string
	}
	for last := int64(0); ; {
		var some []texts
		if err := rows(ctx, tx, func(r *sql.Rows) error {
			var t texts
			err := r.Scan(&t.id, &t.before, &t.after)
			some = append(some, t)
			return err
		}, `SELECT id, before, after FROM outbox WHERE id > $1 AND (before LIKE $2 OR after LIKE $2) ORDER BY id LIMIT 256`, last, "%"+part+"%"); err != nil {
			return missing(err, "outbox")
		}
		if len(some) == 0 {
			return nil
		}
		for _, t := range some {
			if _, err := tx.ExecContext(ctx, `UPDATE outbox SET before = $1, after = $2 WHERE id = $3`, fn(t.before), fn(t.after), t.id); err != nil {
				return wrote(err, "outbox")
			}
			last = t.id
		}
	}
}

// TrimEvents drops numbered outbox rows up to and including an id: the audit trail
// and zones' history as of then.
func (tx *Tx) TrimEvents(ctx context.Context, through int64) error {
	if err := tx.raiseFloor(ctx, through); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE id <= $1 AND seq > 0`, through)
	return wrote(err, "outbox")
}

// Number marks an outbox row as entry seq of the log. Its changes now stand in
// the log, so they are dropped here; the audit columns stay.
func (tx *Tx) Number(ctx context.Context, id int64, seq uint64) error {
	_, err := tx.ExecContext(ctx, `UPDATE outbox SET seq = $1, changes = $2 WHERE id = $3`, int64(seq), []byte{}, id)
	return wrote(err, "outbox")
}

func (tx *Tx) PutLog(ctx context.Context, r LogRow) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO log (seq, time, payload, hash) VALUES ($1, $2, $3, $4)`,
		int64(r.Seq), r.Time.UnixNano(), r.Payload, r.Hash)
	return wrote(err, "log")
}

// Log hands entries after a number to fn, in order, until fn returns false.
func (tx *Tx) Log(ctx context.Context, after uint64, fn func(LogRow) (bool, error)) (err error) {
	rs, err := tx.QueryContext(ctx, `SELECT seq, time, payload, hash FROM log WHERE seq > $1 ORDER BY seq`, int64(after))
	if err != nil {
		return missing(err, "log")
	}
	defer func() { err = errors.Join(err, rs.Close()) }()
	for rs.Next() {
		var r LogRow
		var at int64
		if err := rs.Scan(&r.Seq, &at, &r.Payload, &r.Hash); err != nil {
			return missing(err, "log")
		}
		r.Time = time.Unix(0, at).UTC()
		more, err := fn(r)
		if err != nil || !more {
			return err
		}
	}
	return missing(rs.Err(), "log")
}

// LogBounds returns the oldest and the newest number in the log; both 0 when
// it is empty.
func (tx *Tx) LogBounds(ctx context.Context) (first, last uint64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT COALESCE(MIN(seq), 0), COALESCE(MAX(seq), 0) FROM log`).Scan(&first, &last)
	return first, last, missing(err, "log")
}

// LogEnd is the newest entry's number and hash; zero of an empty log.
func (tx *Tx) LogEnd(ctx context.Context) (seq uint64, hash [32]byte, err error) {
	var h []byte
	err = tx.QueryRowContext(ctx, `SELECT seq, hash FROM log ORDER BY seq DESC LIMIT 1`).Scan(&seq, &h)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, hash, nil
	}
	copy(hash[:], h)
	return seq, hash, missing(err, "log")
}

// LogBefore returns the newest entry that is not needed: entries after it are
// of at most maxBytes in all, and it is older than a time, whichever is the newer
// one. 0 in place of either asks nothing; the newest entry is always needed.
func (tx *Tx) LogBefore(ctx context.Context, maxBytes int64, old time.Time) (through uint64, err error) {
	var large, late uint64
	if maxBytes > 0 {
		err = tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM
			(SELECT seq, SUM(LENGTH(payload)) OVER (ORDER BY seq DESC) AS total FROM log) AS sized WHERE total > $1`, maxBytes).Scan(&large)
	}
	if err == nil && !old.IsZero() {
		err = tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM log WHERE time < $1`, old.UnixNano()).Scan(&late)
	}
	if err != nil {
		return 0, missing(err, "log")
	}
	_, last, err := tx.LogBounds(ctx)
	if last == 0 {
		return 0, err
	}
	return min(max(large, late), last-1), err
}

// TrimLog drops entries up to and including a number.
func (tx *Tx) TrimLog(ctx context.Context, through uint64) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM log WHERE seq <= $1`, int64(through))
	return wrote(err, "log")
}

// Numbered returns the highest number in the outbox, 0 when there is none: what
// the log must reach at least.
func (tx *Tx) Numbered(ctx context.Context) (uint64, error) {
	var seq uint64
	err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM outbox`).Scan(&seq)
	return seq, missing(err, "outbox")
}

func (tx *Tx) SetKey(ctx context.Context, key string, value []byte, seq uint64) error {
	if value == nil {
		value = []byte{}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO kv (key, value, seq) VALUES ($1, $2, $3)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, seq = excluded.seq`, key, value, int64(seq))
	return wrote(err, "feed state")
}

func (tx *Tx) DeleteKey(ctx context.Context, key string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM kv WHERE key = $1`, key)
	return wrote(err, "feed state")
}

// Keys hands the feed's current state of the keys greater than after to fn, in
// the order of their bytes.
func (tx *Tx) Keys(ctx context.Context, after string, fn func(key string, value []byte, seq uint64) error) error {
	err := rows(ctx, tx, func(r *sql.Rows) error {
		var key string
		var value []byte
		var seq uint64
		if err := r.Scan(&key, &value, &seq); err != nil {
			return err
		}
		return fn(key, value, seq)
	}, `SELECT key, value, seq FROM kv WHERE key > $1 ORDER BY key`, after)
	return missing(err, "feed state")
}
