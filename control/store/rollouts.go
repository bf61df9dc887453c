package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Rollout is a change that goes by rings, or went.
type Rollout struct {
	N       uint64 // from 1
	Zone    string // "" for one of the operator's, of all zones
	Account string // whose zone it is; "" as well
	Pending bool
	// Version counts its writes; SaveRollout compares it.
	Version  int64
	Document string // JSON
}

// KeptRollouts is how many rollouts are kept that are over: the newest.
const KeptRollouts = 1000

const rolloutColumns = `n, zone, account, pending, version, document`

func scanRollout(r interface{ Scan(...any) error }) (x Rollout, err error) {
	var pending int64
	err = r.Scan(&x.N, &x.Zone, &x.Account, &pending, &x.Version, &x.Document)
	x.Pending = pending == 1
	return x, err
}

// NextRollout returns the number of the next rollout and drops those that are
// over and too many. Only one transaction at a time comes past it.
func (tx *Tx) NextRollout(ctx context.Context) (n uint64, err error) {
	if err := tx.Lock(ctx, "rollouts"); err != nil {
		return 0, err
	}
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(n), 0) + 1 FROM rollouts`).Scan(&n); err != nil {
		return 0, missing(err, "rollout")
	}
	if n > KeptRollouts {
		_, err = tx.ExecContext(ctx, `DELETE FROM rollouts WHERE pending = 0 AND n <= $1`, int64(n-KeptRollouts))
	}
	return n, wrote(err, "rollout")
}

// PutRollout adds a rollout.
func (tx *Tx) PutRollout(ctx context.Context, r Rollout) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO rollouts (`+rolloutColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
		int64(r.N), r.Zone, r.Account, number(r.Pending), r.Version, r.Document)
	return wrote(err, "rollout")
}

// SaveRollout writes a rollout's document and whether it is pending. When
// somebody else wrote it since it was read, it is ErrStale.
func (tx *Tx) SaveRollout(ctx context.Context, r Rollout) error {
	res, err := tx.ExecContext(ctx, `UPDATE rollouts SET pending = $1, document = $2, version = version + 1 WHERE n = $3 AND version = $4`,
		number(r.Pending), r.Document, int64(r.N), r.Version)
	return wrote(one(res, err), "rollout")
}

// Rollout returns one rollout; fault.NotFound when there is none.
func (tx *Tx) Rollout(ctx context.Context, n uint64) (Rollout, error) {
	r, err := scanRollout(tx.QueryRowContext(ctx, `SELECT `+rolloutColumns+` FROM rollouts WHERE n = $1`, int64(n)))
	return r, missing(err, "rollout")
}

// PendingOf returns a zone's rollout that is on its way; nil when there is none.
func (tx *Tx) PendingOf(ctx context.Context, zone string) (*Rollout, error) {
	r, err := scanRollout(tx.QueryRowContext(ctx, `SELECT `+rolloutColumns+` FROM rollouts WHERE pending = 1 AND zone = $1`, zone))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &r, missing(err, "rollout")
}

// PendingRollouts returns what is on its way, in the order in which it began.
func (tx *Tx) PendingRollouts(ctx context.Context) ([]Rollout, error) {
	return tx.rollouts(ctx, `WHERE pending = 1 ORDER BY n`)
}

// Rollouts returns up to limit rollouts, newest first: those of an account and
// of the operator's, which have none.
func (tx *Tx) Rollouts(ctx context.Context, account string, limit int) ([]Rollout, error) {
	return tx.rollouts(ctx, fmt.Sprintf(`WHERE account = '' OR account = $1 ORDER BY n DESC LIMIT %d`, limit), account)
}

func (tx *Tx) rollouts(ctx context.Context, tail string, args ...any) (all []Rollout, err error) {
	err = rows(ctx, tx, func(r *sql.Rows) error {
		x, err := scanRollout(r)
		all = append(all, x)
		return err
	}, `SELECT `+rolloutColumns+` FROM rollouts `+tail, args...)
	return all, missing(err, "rollout")
}

// Key returns the feed's current value of a key and the number of the entry that
// wrote it; ok is false when there is none.
func (tx *Tx) Key(ctx context.Context, key string) (value []byte, seq uint64, ok bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT value, seq FROM kv WHERE key = $1`, key).Scan(&value, &seq)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, false, nil
	}
	return value, seq, err == nil, missing(err, "feed state")
}
