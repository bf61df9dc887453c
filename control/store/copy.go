package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// tables are all tables in an order in which rows may be written: those that
// others refer to come first.
var tables = []string{
	"accounts", "tokens", "zones", "records", "settings", "rulesets", "certificates", "staged", "held",
	"join_tokens", "nodes", "outbox", "log", "kv", "leases", "facts", "progress", "rejections", "rollouts", "health", "audit", "kills",
}

// Copy writes everything that is in from to the empty database to, in one
// transaction on each side: either all of it arrives or nothing. progress, which may
// be nil, is told the rows of a table every now and then and at its end.
func Copy(ctx context.Context, from, to *Store, progress func(table string, rows int64, end bool)) error {
	if progress == nil {
		progress = func(string, int64, bool) {}
	}
	return from.Read(ctx, func(src *Tx) error {
		return to.Write(ctx, func(dst *Tx) error {
			for _, table := range tables {
				var n int64
				if err := dst.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil {
					return missing(err, table)
				}
				if n > 0 {
					return fmt.Errorf("store: %s is not empty: its table %s has %d rows; copy into a new database", to.place, table, n)
				}
			}
			for _, table := range tables {
				if err := copyTable(ctx, src, dst, table, progress); err != nil {
					return err
				}
			}
			return dst.kind.copied(ctx, dst)
		})
	})
}

// tellEach is after how many rows progress is told.
const tellEach = 10_000

func copyTable(ctx context.Context, src, dst *Tx, table string, progress func(string, int64, bool)) (err error) {
	r, err := src.QueryContext(ctx, `SELECT * FROM `+table)
	if err != nil {
		return missing(err, table)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	names, err := r.Columns()
	if err != nil {
		return missing(err, table)
	}
	places := make([]string, len(names))
	values, into := make([]any, len(names)), make([]any, len(names))
	for i := range names {
		places[i], into[i] = fmt.Sprintf("$%d", i+1), &values[i]
	}
	insert, err := dst.PrepareContext(ctx, `INSERT INTO `+table+` (`+strings.Join(names, ", ")+`) VALUES (`+strings.Join(places, ", ")+`)`)
	if err != nil {
		return wrote(err, table)
	}
	defer func() { err = errors.Join(err, insert.Close()) }()
	n := int64(0)
	for r.Next() {
		if err := r.Scan(into...); err != nil {
			return missing(err, table)
		}
		for i, v := range values {
			if b, ok := v.([]byte); ok && b == nil { // of no bytes, not NULL
				values[i] = []byte{}
			}
		}
		if _, err := insert.ExecContext(ctx, values...); err != nil {
			return wrote(err, fmt.Sprintf("row %d of %s", n+1, table))
		}
		if n++; n%tellEach == 0 {
			progress(table, n, false)
		}
	}
	progress(table, n, true)
	return missing(r.Err(), table)
}
