// Package audit keeps what nodes did and what befell them beside the changes that
// were made here. It promises that an event which a node was told is stored is in
// the database, that one told twice is there once, that what a node says in a form
// not known here is kept as well, and that what it holds is bounded.
package audit

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/telemetry/report"
)

const (
	// queued is how many events wait to be stored; what comes beyond is not
	// taken, and its node sends it again. batch is how many are stored at a time.
	queued = 4096
	batch  = 500
	// keepFor is how long events of nodes are kept, keepOf how many of each.
	keepFor   = 400 * 24 * time.Hour
	keepOf    = 100_000
	trimEach  = time.Hour
	retryEach = time.Second
)

// Config is what a Trail is made from.
type Config struct {
	Store *store.Store
	// Taken tells a node that its events are stored.
	Taken func(node string, ids []feed.AuditID) bool
	Log   *slog.Logger
}

// Trail is where events of nodes are stored. Safe for concurrent use.
type Trail struct {
	Config
	queue chan store.Audit
}

// New makes a Trail; Run stores what it takes.
func New(c Config) *Trail { return &Trail{c, make(chan store.Audit, queued)} }

// Take is the feed's reader of feed.ClassAudit. What finds the queue full is not
// taken, and sent again.
func (t *Trail) Take(r feed.Report) error {
	id, at, text, err := feed.CutAudit(r.Payload)
	if err != nil {
		return err
	}
	said := report.ReadAudit(text)
	now := time.Now().UTC()
	if at.Before(time.Unix(0, 0)) || at.Year() > 9999 {
		at = now
	}
	a := store.Audit{
		Node: r.Node.Node, Colo: r.Node.Colo, Run: id.Run, ID: id.Number, At: at, Heard: now,
		Action: said.Action, Object: said.Object, Seq: said.Seq, Detail: said.Detail,
	}
	select {
	case t.queue <- a:
	default:
	}
	return nil
}

// Run stores what was taken until ctx ends. What the database does not take is
// tried again.
func (t *Trail) Run(ctx context.Context) error {
	trim := time.NewTicker(trimEach)
	defer trim.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-trim.C:
			if err := t.Store.Write(ctx, func(tx *store.Tx) error {
				return tx.TrimAudit(ctx, time.Now().Add(-keepFor), keepOf)
			}); err != nil && ctx.Err() == nil {
				t.Log.Warn("old audit events are not dropped, trying again in an hour", "error", err)
			}
		case a := <-t.queue:
			t.store(ctx, t.more([]store.Audit{a}))
		}
	}
}

// more adds what waits.
func (t *Trail) more(all []store.Audit) []store.Audit {
	for len(all) < batch {
		select {
		case a := <-t.queue:
			all = append(all, a)
		default:
			return all
		}
	}
	return all
}

// store writes events and tells their nodes.
func (t *Trail) store(ctx context.Context, all []store.Audit) {
	for failing := false; ; failing = true {
		err := t.Store.Write(ctx, func(tx *store.Tx) error { return tx.PutAudit(ctx, all) })
		if err == nil {
			break
		}
		if ctx.Err() == nil && !failing {
			t.Log.Warn("audit events of nodes are not stored, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return // they are sent again
		case <-time.After(retryEach):
		}
	}
	ids := map[string][]feed.AuditID{}
	for _, a := range all {
		ids[a.Node] = append(ids[a.Node], feed.AuditID{Run: a.Run, Number: a.ID})
	}
	for node, of := range ids {
		t.Taken(node, of) // if not, they are sent again
	}
}

// Page returns events of nodes and changes made here, newest first; more says
// that there are others before them.
func (t *Trail) Page(ctx context.Context, q store.AuditQuery) (all []store.Audit, more bool, err error) {
	limit := q.Limit
	q.Limit++
	err = t.Store.Read(ctx, func(tx *store.Tx) error {
		told, err := tx.NodeAudit(ctx, q)
		if err != nil {
			return err
		}
		made, err := tx.ChangeAudit(ctx, q)
		all = append(told, made...)
		return err
	})
	// What nodes say of the same moment counts as newer than a change.
	slices.SortFunc(all, func(a, b store.Audit) int {
		return cmp.Or(b.At.Compare(a.At), strings.Compare(b.Node, a.Node), cmp.Compare(int64(b.Run), int64(a.Run)), cmp.Compare(int64(b.ID), int64(a.ID)))
	})
	if more = len(all) > limit; more {
		all = all[:limit]
	}
	return all, more, err
}
