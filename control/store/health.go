package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Health is how a node was, as the control process heard it.
type Health struct {
	Node     string
	At       time.Time
	Control  string
	Document string
}

// HealthSlots is how many minutes of each node's health are kept.
const HealthSlots = 60

// PutHealth writes the newest of nodes, at most one of each: of every minute the
// last stays.
func (tx *Tx) PutHealth(ctx context.Context, all []Health) error {
	all = slices.SortedFunc(slices.Values(all), func(a, b Health) int { return strings.Compare(a.Node, b.Node) })
	for rows := range slices.Chunk(all, progressRows) {
		var q strings.Builder
		var args []any
		q.WriteString(`INSERT INTO health (node, slot, at, control, document) VALUES `)
		for i, h := range rows {
			if i > 0 {
				q.WriteString(", ")
			}
			n := len(args)
			fmt.Fprintf(&q, "($%d, $%d, $%d, $%d, $%d)", n+1, n+2, n+3, n+4, n+5)
			args = append(args, h.Node, h.At.Unix()/60%HealthSlots, micro(h.At), h.Control, h.Document)
		}
		q.WriteString(` ON CONFLICT (node, slot) DO UPDATE SET at = excluded.at, control = excluded.control, document = excluded.document
			WHERE excluded.at > health.at`)
		if _, err := tx.ExecContext(ctx, q.String(), args...); err != nil {
			return wrote(err, "health")
		}
	}
	return nil
}

// HealthSince passes what was heard after a time, in that order.
func (tx *Tx) HealthSince(ctx context.Context, t time.Time, yield func(Health)) error {
	return missing(rows(ctx, tx, func(r *sql.Rows) error {
		var h Health
		var at int64
		err := r.Scan(&h.Node, &at, &h.Control, &h.Document)
		h.At = fromMicro(at)
		yield(h)
		return err
	}, `SELECT node, at, control, document FROM health WHERE at > $1 ORDER BY at`, micro(t)), "health")
}

// TrimHealth forgets what was heard before a time.
func (tx *Tx) TrimHealth(ctx context.Context, before time.Time) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM health WHERE at < $1`, micro(before))
	return wrote(err, "health")
}
