package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// Audit is one event of the audit trail: of a node, as it told it, or a change
// that was made here, whose Node is "".
type Audit struct {
	Node, Colo string
	Run        uint64 // with ID, its name among those of the node
	ID         uint64
	At         time.Time // by the clock of where it was
	Heard      time.Time // by this one's
	Actor      string    // of a change
	Action     string
	Object     string
	Seq        uint64 // of the entry that it is about; 0 for none
	Detail     string
}

// AuditQuery says what is asked of the audit trail.
type AuditQuery struct {
	Node  string    // of this node, or about it; "" for all
	Since time.Time // and later; zero for all
	// Before is an event that was the last of an answer; those before it come. Nil
	// for the newest.
	Before *Audit
	Limit  int
}

const auditRows = 50

// PutAudit adds events of nodes. One that is there already stays as it is: it was
// told again.
func (tx *Tx) PutAudit(ctx context.Context, all []Audit) error {
	for len(all) > 0 {
		var q strings.Builder
		var args []any
		q.WriteString(`INSERT INTO audit (node, run, id, colo, at, heard, action, object, seq, detail) VALUES `)
		for i, a := range all[:min(len(all), auditRows)] {
			if i > 0 {
				q.WriteString(", ")
			}
			n := len(args)
			fmt.Fprintf(&q, "($%d, $%d, $%d, $%d, $%d, $%d, $%d, $%d, $%d, $%d)", n+1, n+2, n+3, n+4, n+5, n+6, n+7, n+8, n+9, n+10)
			args = append(args, a.Node, int64(a.Run), int64(a.ID), a.Colo, micro(a.At), micro(a.Heard), a.Action, a.Object, int64(a.Seq), a.Detail)
		}
		q.WriteString(` ON CONFLICT (node, run, id) DO NOTHING`)
		if _, err := tx.ExecContext(ctx, q.String(), args...); err != nil {
			return wrote(err, "audit")
		}
		all = all[min(len(all), auditRows):]
	}
	return nil
}

// NodeAudit returns events that nodes told, newest first.
func (tx *Tx) NodeAudit(ctx context.Context, q AuditQuery) (all []Audit, err error) {
	where, args := `WHERE at >= $1`, []any{micro(q.Since)}
	if q.Node != "" {
		where += ` AND node = $2`
		args = append(args, q.Node)
	}
	n := len(args)
	switch b := q.Before; {
	case b == nil:
	case b.Node == "": // those of the same moment came before it
		where += fmt.Sprintf(` AND at < $%d`, n+1)
		args = append(args, micro(b.At))
	default:
		where += fmt.Sprintf(` AND (at, node, run, id) < ($%d, $%d, $%d, $%d)`, n+1, n+2, n+3, n+4)
		args = append(args, micro(b.At), b.Node, int64(b.Run), int64(b.ID))
	}
	args = append(args, q.Limit)
	err = rows(ctx, tx, func(r *sql.Rows) error {
		var a Audit
		var run, id, at, heard, seq int64
		err := r.Scan(&a.Node, &run, &id, &a.Colo, &at, &heard, &a.Action, &a.Object, &seq, &a.Detail)
		a.Run, a.ID, a.Seq, a.At, a.Heard = uint64(run), uint64(id), uint64(seq), fromMicro(at), fromMicro(heard)
		all = append(all, a)
		return err
	}, `SELECT node, run, id, colo, at, heard, action, object, seq, detail FROM audit `+where+
		fmt.Sprintf(` ORDER BY at DESC, node DESC, run DESC, id DESC LIMIT $%d`, len(args)), args...)
	return all, missing(err, "audit")
}

// ChangeAudit returns changes that were made here, newest first.
func (tx *Tx) ChangeAudit(ctx context.Context, q AuditQuery) (all []Audit, err error) {
	where, args := `WHERE created >= $1`, []any{micro(q.Since)}
	if q.Node != "" {
		where += ` AND object = $2`
		args = append(args, q.Node)
	}
	n := len(args)
	switch b := q.Before; {
	case b == nil:
	case b.Node == "":
		where += fmt.Sprintf(` AND (created, id) < ($%d, $%d)`, n+1, n+2)
		args = append(args, micro(b.At), int64(b.ID))
	default: // those of the same moment come after it
		where += fmt.Sprintf(` AND created <= $%d`, n+1)
		args = append(args, micro(b.At))
	}
	args = append(args, q.Limit)
	err = rows(ctx, tx, func(r *sql.Rows) error {
		var a Audit
		var id, seq, created int64
		err := r.Scan(&id, &seq, &a.Actor, &a.Action, &a.Object, &created)
		a.ID, a.Seq, a.At = uint64(id), uint64(seq), fromMicro(created)
		a.Heard = a.At
		all = append(all, a)
		return err
	}, `SELECT id, seq, actor, action, object, created FROM outbox `+where+
		fmt.Sprintf(` ORDER BY created DESC, id DESC LIMIT $%d`, len(args)), args...)
	return all, missing(err, "outbox")
}

// TrimAudit drops what nodes told before a time, and of each node all but its
// newest.
func (tx *Tx) TrimAudit(ctx context.Context, before time.Time, keep int) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM audit WHERE heard < $1`, micro(before)); err != nil {
		return wrote(err, "audit")
	}
	var nodes []string
	if err := rows(ctx, tx, func(r *sql.Rows) error {
		var node string
		err := r.Scan(&node)
		nodes = append(nodes, node)
		return err
	}, `SELECT node FROM audit GROUP BY node HAVING COUNT(*) > $1`, keep); err != nil {
		return missing(err, "audit")
	}
	for _, node := range nodes {
		if _, err := tx.ExecContext(ctx, `DELETE FROM audit WHERE node = $1 AND (heard, run, id) <= (SELECT heard, run, id FROM audit
			WHERE node = $1 ORDER BY heard DESC, run DESC, id DESC LIMIT 1 OFFSET $2)`, node, keep); err != nil {
			return wrote(err, "audit")
		}
	}
	return nil
}
