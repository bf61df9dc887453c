package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Shared reports whether several processes may have the database open: then
// who does what only one may do holds a lease.
func (s *Store) Shared() bool { return s.kind.shared() }

// TakeLease makes holder the one who leads by name for ttl, unless another
// one's time is not over, and returns the epoch under which it does. Times are
// by the database's clock, so that those of the processes need not agree; a time
// that ends later than any that could be given was given before that clock was
// set back, and is over.
func (tx *Tx) TakeLease(ctx context.Context, name, holder string, ttl time.Duration) (epoch int64, taken bool, err error) {
	if _, err := tx.ExecContext(ctx, `INSERT INTO leases (name, holder, epoch, expires) VALUES ($1, '', 0, 0) ON CONFLICT (name) DO NOTHING`, name); err != nil {
		return 0, false, wrote(err, "lease")
	}
	now := tx.kind.now()
	err = tx.QueryRowContext(ctx, `UPDATE leases SET holder = $1, epoch = epoch + 1, expires = `+now+` + $2
		WHERE name = $3 AND (expires < `+now+` OR expires > `+now+` + $4 OR holder = $1) RETURNING epoch`, holder, ttl.Microseconds(), name, 2*ttl.Microseconds()).Scan(&epoch)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return epoch, err == nil, wrote(err, "lease")
}

// HoldLease prolongs a lease and reports whether it is still held: nobody has
// taken it since it was given under that epoch. Until the transaction ends nobody
// can, so what else is written in it is written by the one who leads.
func (tx *Tx) HoldLease(ctx context.Context, name string, epoch int64, ttl time.Duration) (bool, error) {
	r, err := tx.ExecContext(ctx, `UPDATE leases SET expires = `+tx.kind.now()+` + $1 WHERE name = $2 AND epoch = $3`, ttl.Microseconds(), name, epoch)
	if err != nil {
		return false, wrote(err, "lease")
	}
	n, err := r.RowsAffected()
	return n == 1, wrote(err, "lease")
}

// LeaveLease lets the next one lead at once, if it is still held.
func (tx *Tx) LeaveLease(ctx context.Context, name string, epoch int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE leases SET expires = 0 WHERE name = $1 AND epoch = $2`, name, epoch)
	return wrote(err, "lease")
}

// Fact returns what the database is said to be by name; when nothing was said,
// value is, from now on.
func (tx *Tx) Fact(ctx context.Context, name, value string) (string, error) {
	if _, err := tx.ExecContext(ctx, `INSERT INTO facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, value); err != nil {
		return "", wrote(err, "fact")
	}
	err := tx.QueryRowContext(ctx, `SELECT value FROM facts WHERE name = $1`, name).Scan(&value)
	return value, missing(err, "fact")
}

// PutFact writes a fact, in the place of what is stored.
func (tx *Tx) PutFact(ctx context.Context, name, value string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return wrote(err, "fact")
}

// KnownFact returns what is stored; "" for nothing.
func (tx *Tx) KnownFact(ctx context.Context, name string) (value string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT value FROM facts WHERE name = $1`, name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, missing(err, "fact")
}
