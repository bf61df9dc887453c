package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Progress is how far a node has come, as the control process knows that it is
// or was connected to.
type Progress struct {
	Node, Colo string
	Control    string    // the process
	Via        string    // the relay between; "" for none
	Applied    uint64    // newest entry that the node has
	At         time.Time // when that was heard
	Connected  bool
	Since      time.Time // since when it is connected, or is not
}

// Rejection is an entry that a node stored and could not use.
type Rejection struct {
	Node   string
	Seq    uint64
	Reason string
	At     time.Time
}

const (
	// progressRows is how many rows one statement writes.
	progressRows = 100
	// KeptRejections is how many rejections of a node are kept: the newest.
	KeptRejections = 32
	// controlLease begins the names of the leases by which control processes
	// tell that they live.
	controlLease = "control/"
)

// PutProgress writes what the process control knows of nodes. That a node is not
// connected is only believed of the process that it was connected to last.
func (tx *Tx) PutProgress(ctx context.Context, control string, all []Progress) error {
	all = slices.SortedFunc(slices.Values(all), func(a, b Progress) int { return strings.Compare(a.Node, b.Node) })
	for rows := range slices.Chunk(all, progressRows) {
		var q strings.Builder
		args := []any{control}
		q.WriteString(`INSERT INTO progress (control, node, colo, via, applied, at, connected, since) VALUES `)
		for i, p := range rows {
			if i > 0 {
				q.WriteString(", ")
			}
			n := len(args)
			fmt.Fprintf(&q, "($1, $%d, $%d, $%d, $%d, $%d, $%d, $%d)", n+1, n+2, n+3, n+4, n+5, n+6, n+7)
			args = append(args, p.Node, p.Colo, p.Via, int64(p.Applied), micro(p.At), number(p.Connected), micro(p.Since))
		}
		q.WriteString(` ON CONFLICT (node) DO UPDATE SET control = excluded.control, colo = excluded.colo, via = excluded.via,
			applied = excluded.applied, at = excluded.at, connected = excluded.connected, since = excluded.since
			WHERE excluded.connected = 1 OR progress.control = excluded.control`)
		if _, err := tx.ExecContext(ctx, q.String(), args...); err != nil {
			return wrote(err, "progress")
		}
	}
	return nil
}

// Progress returns what is known of all nodes, by node. A node is connected only
// while the process that it is connected to lives, as LiveControl says; else since
// is when that was heard last.
func (tx *Tx) Progress(ctx context.Context) (all []Progress, err error) {
	now := tx.kind.now()
	err = rows(ctx, tx, func(r *sql.Rows) error {
		var p Progress
		var at, connected, since, lives int64
		err := r.Scan(&p.Node, &p.Colo, &p.Control, &p.Via, &p.Applied, &at, &connected, &since, &lives)
		p.At, p.Since = fromMicro(at), fromMicro(since)
		if p.Connected = connected == 1 && lives == 1; connected == 1 && lives == 0 {
			p.Since = p.At
		}
		all = append(all, p)
		return err
	}, `SELECT node, colo, control, via, applied, at, connected, since, CASE WHEN leases.expires >= `+now+` THEN 1 ELSE 0 END
		FROM progress LEFT JOIN leases ON leases.name = '`+controlLease+`' || progress.control ORDER BY node`)
	return all, missing(err, "progress")
}

// PutRejections adds rejections; the oldest of a node are dropped.
func (tx *Tx) PutRejections(ctx context.Context, all []Rejection) error {
	nodes := map[string]bool{}
	for _, r := range all {
		nodes[r.Node] = true
		if _, err := tx.ExecContext(ctx, `INSERT INTO rejections (node, seq, reason, at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (node, seq) DO UPDATE SET reason = excluded.reason, at = excluded.at`, r.Node, int64(r.Seq), r.Reason, micro(r.At)); err != nil {
			return wrote(err, "rejection")
		}
	}
	for node := range nodes {
		if _, err := tx.ExecContext(ctx, `DELETE FROM rejections WHERE node = $1 AND seq < (SELECT MIN(seq) FROM
			(SELECT seq FROM rejections WHERE node = $1 ORDER BY seq DESC LIMIT $2) AS newest)`, node, KeptRejections); err != nil {
			return wrote(err, "rejection")
		}
	}
	return nil
}

// Rejections returns all that are kept, by node and number.
func (tx *Tx) Rejections(ctx context.Context) (all []Rejection, err error) {
	err = rows(ctx, tx, func(r *sql.Rows) error {
		var one Rejection
		var at int64
		err := r.Scan(&one.Node, &one.Seq, &one.Reason, &at)
		one.At = fromMicro(at)
		all = append(all, one)
		return err
	}, `SELECT node, seq, reason, at FROM rejections ORDER BY node, seq`)
	return all, missing(err, "rejection")
}

// LiveControl tells that a control process lives for another ttl, and forgets
// those that have been dead for a day.
func (tx *Tx) LiveControl(ctx context.Context, control string, ttl time.Duration) error {
	now := tx.kind.now()
	if _, err := tx.ExecContext(ctx, `INSERT INTO leases (name, holder, epoch, expires) VALUES ($1, $2, 1, `+now+` + $3)
		ON CONFLICT (name) DO UPDATE SET expires = excluded.expires`, controlLease+control, control, ttl.Microseconds()); err != nil {
		return wrote(err, "lease")
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM leases WHERE name LIKE '`+controlLease+`%' AND expires < `+now+` - $1`, (24 * time.Hour).Microseconds())
	return wrote(err, "lease")
}

// LeaseHolder returns who has a lease now; "" for nobody.
func (tx *Tx) LeaseHolder(ctx context.Context, name string) (holder string, err error) {
	err = tx.QueryRowContext(ctx, `SELECT holder FROM leases WHERE name = $1 AND expires >= `+tx.kind.now(), name).Scan(&holder)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return holder, missing(err, "lease")
}

// LogSize returns how many entries the log holds, and of how many bytes.
func (tx *Tx) LogSize(ctx context.Context) (entries, bytes int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(SUM(LENGTH(payload)), 0) FROM log`).Scan(&entries, &bytes)
	return entries, bytes, missing(err, "log")
}
