// Package publish turns accepted changes into the feed's numbered log. It
// promises that a change and its outbox row are one transaction, that rows are
// numbered in commit order without gaps, also after a crash in between, and
// that no change is accepted which the edges' own compile refuses. In a database
// with one writer the number is of that transaction as well; in one that several
// processes write to, the one that leads gives it afterwards.
package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Config is what a Publisher is made from.
type Config struct {
	Store *store.Store
	// Judge refuses a zone that an edge could not compile: snapshot.Compile.
	Judge func(*zone.Spec) error
	// Colos lists the data centers that have nodes.
	Colos func(context.Context, *store.Tx) ([]string, error)
	// Vault wraps data keys at rest.
	Vault Vault
	Log   *slog.Logger
	// Retain is how many entries the log keeps; 0 means 100,000. A cursor
	// below them gets a snapshot.
	Retain int
	// RetainBytes and RetainFor bound the log as well: its encoded entries in
	// all, and their age; 0 bounds nothing.
	RetainBytes int64
	RetainFor   time.Duration
	// RetainAudit and RetainHistory are how many outbox rows are kept, and for how
	// long: the audit trail and zones' history; 0 means 1,000,000 and 90 days.
	RetainAudit   int
	RetainHistory time.Duration
	// Gather is how long the leader waits for company after the first change,
	// so that one transaction numbers many; 0 means 2 ms. SQLite's writers do not
	// wait: those who come meanwhile share the next transaction.
	Gather time.Duration
	// Now is the clock by which entries are dated and grow old; nil means
	// time.Now. What lasts seconds is measured without it.
	Now func() time.Time
}

// Defaults of Config.
const (
	DefaultHistoryChanges = 1_000_000
	DefaultHistory        = 90 * 24 * time.Hour
	DefaultGather         = 2 * time.Millisecond
)

const (
	batchRows  = 256
	batchBytes = 16 << 20
	// splitChanges is how many changes an entry gets that need not be one.
	splitChanges = 4000
	// waitSeq bounds how long a writer waits for its number.
	waitSeq = 5 * time.Second
	// retryAfter is the pause after a numbering that failed (disk full).
	retryAfter = time.Second
)

// Publisher owns the log, or follows the one of another process that owns it.
// One per process.
type Publisher struct {
	Config
	name string        // of this process
	wake chan struct{} // capacity 1: "there may be unnumbered rows"
	// urgent says that one of them is signals alone, a purge, which waits for no
	// company.
	urgent atomic.Bool
	zones  locks
	lease  *lease // nil where nobody else can lead
	times  times
	size   size
	// behind says that what was numbered last is not known; used by New and Run.
	behind bool
	// unrepaired says that the log is damaged and another one led when that was
	// found; used by New and Run.
	unrepaired bool
	trimmed    time.Time // when trim last looked; used by Run
	// keysMoved says that no key of a certificate stands in the log; used by
	// New and Run.
	keysMoved bool

	mu      sync.Mutex
	head    feed.Cursor             // guarded by mu
	floor   uint64                  // guarded by mu; newest number no longer held
	changed chan struct{}           // guarded by mu; replaced at each append
	waiting map[int64]chan<- uint64 // guarded by mu; by outbox id
}

// New opens the log: it checks the chain of what the log holds, names and drops
// what is damaged, and numbers what a crash left without a number. Where another
// control plane leads, it does so.
func New(ctx context.Context, c Config) (*Publisher, error) {
	c.Retain = cmp.Or(c.Retain, 100_000)
	c.RetainAudit = cmp.Or(c.RetainAudit, DefaultHistoryChanges)
	c.RetainHistory = cmp.Or(c.RetainHistory, DefaultHistory)
	c.Gather = cmp.Or(c.Gather, DefaultGather)
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Publisher{
		Config: c, name: processName(), wake: make(chan struct{}, 1), changed: make(chan struct{}), waiting: map[int64]chan<- uint64{},
	}
	if c.Store.Shared() {
		p.lease = &lease{store: c.Store, holder: p.name}
	}
	leads, err := p.lease.take(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.verify(ctx, leads); err != nil || !leads {
		return p, err
	}
	if err := p.NumberLeft(ctx); err != nil {
		return nil, err
	}
	return p, p.moveKeys(ctx)
}

// NumberLeft numbers outbox rows that did not come by Write: a crash left them, or
// another program put them there.
func (p *Publisher) NumberLeft(ctx context.Context) error {
	for {
		n, err := p.number(ctx)
		if err != nil || n == 0 {
			return err
		}
		p.Log.Info("numbered changes left from an earlier run", "changes", n)
	}
}

func damaged(seq uint64, cause error) error {
	return &fault.Error{Op: "publish.open", Side: fault.Control, Kind: fault.Malformed, Err: fmt.Errorf(
		"entry %d of the log in the control database is damaged (%w); start the control plane again, which repairs its log", seq, cause)}
}

// Run numbers changes while this control plane leads, and follows the one that
// does otherwise, and trims what is kept, until ctx ends. It returns an error only when a stored change
// cannot be read back, which needs an operator.
func (p *Publisher) Run(ctx context.Context) error {
	defer p.lease.leave(context.WithoutCancel(ctx), p.Log)
	for {
		if !p.idle(ctx) {
			return nil
		}
		err := p.turn(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && fault.Is(err, fault.Malformed) {
			return err
		}
		if errors.Is(err, errNotLeading) {
			p.Log.Warn("another control plane leads the log now")
			continue
		}
		if err != nil {
			p.Log.Error("numbering changes failed, trying again", "error", err, "after", retryAfter)
			if !pause(ctx, retryAfter) {
				return nil
			}
			p.nudge()
		}
	}
}

// idle waits until there may be something to do and reports whether ctx lasts.
func (p *Publisher) idle(ctx context.Context) bool {
	timer, stop := p.lease.timer()
	defer stop()
	select {
	case <-ctx.Done():
		return false
	case <-p.wake:
		if p.urgent.Swap(false) {
			return ctx.Err() == nil
		}
		return pause(ctx, p.Gather)
	case <-timer:
		return true
	}
}

// turn does what there is to do: number everything, or follow.
func (p *Publisher) turn(ctx context.Context) error {
	if p.lease == nil {
		return p.trim(ctx) // writers number what they write
	}
	led := p.lease.held()
	leads, err := p.lease.take(ctx)
	if err != nil {
		return err
	}
	switch {
	case leads && !led:
		p.Log.Info("this control plane leads the log now")
		if p.unrepaired {
			if err := p.verify(ctx, true); err != nil {
				return err
			}
			p.unrepaired = false
		}
	case led && !leads:
		p.Log.Warn("another control plane leads the log now")
	}
	if !leads || !led || p.behind {
		// After a failed numbering it is not known whether it arrived.
		if err := p.follow(ctx); err != nil || !leads {
			return err
		}
		p.behind = false
	}
	if err := p.moveKeys(ctx); err != nil {
		return err
	}
	for {
		n, err := p.number(ctx)
		if err != nil {
			p.behind = true
			return err
		}
		if n == 0 {
			return p.trim(ctx)
		}
	}
}

// nudge says that there may be something to do.
func (p *Publisher) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Action is what the audit trail says about a change.
type Action struct {
	Actor  string // token id, or "control" for what happens by itself
	Name   string // "dns_record.create"
	Object string // id of what is changed
	// ByRings, where it is not nil, sends the change by rings.
	ByRings *ByRings
}

// Write runs fn in one transaction with an outbox row for the changes it
// returns, and waits for their number. The change is durable once Write returns
// without an error; a number of 0 then says that the leader did not come to it
// within five seconds. fn also returns the audit trail's before and after.
func (p *Publisher) Write(ctx context.Context, a Action, fn func(*store.Tx) (Written, error)) (uint64, error) {
	if p.lease == nil {
		return p.writeNumbered(ctx, a, fn)
	}
	var id int64
	signals := false
	got := make(chan uint64, 1)
	err := p.Store.Write(ctx, func(tx *store.Tx) error {
		w, err := fn(tx)
		if err != nil {
			return err
		}
		signals = feed.Signals(w.Changes)
		p.forget(id) // of a transaction that the database undid
		if id, err = putEvents(ctx, tx, a, w); err == nil {
			p.await(id, got)
		}
		return err
	})
	defer func() { p.forget(id) }()
	if err != nil {
		return 0, err
	}
	if signals {
		p.urgent.Store(true)
	}
	p.nudge()
	t := time.NewTimer(waitSeq)
	defer t.Stop()
	select {
	case seq := <-got:
		return seq, nil
	case <-ctx.Done():
	case <-t.C:
	}
	return 0, nil
}

// putEvents adds the outbox row of what was written, or several when it may be
// split, and returns the last one's id.
func putEvents(ctx context.Context, tx *store.Tx, a Action, w Written) (id int64, err error) {
	for _, changes := range w.steps() {
		now := store.Now()
		box := feed.Seal([32]byte{}, 1, now, changes)
		if err := fits(&box); err != nil {
			return 0, err
		}
		if id, err = tx.PutEvent(ctx, store.Event{
			Actor: a.Actor, Action: a.Name, Object: a.Object, Before: w.Before, After: w.After,
			Changes: feed.AppendEntry(nil, &box), Created: now,
		}, w.Step); err != nil {
			return 0, err
		}
	}
	return id, nil
}

// Written is what a transaction did.
type Written struct {
	Changes []feed.Change
	// Split allows the changes to become several entries in a row.
	Split         bool
	Before, After string // JSON for the audit trail, "" for nothing
	// Step is what was done to a zone's rows, for its history; zero for nothing.
	Step store.Step
}

// steps are the changes of each of its entries.
func (w *Written) steps() [][]feed.Change {
	if w.Split && len(w.Changes) > 0 {
		return slices.Collect(slices.Chunk(w.Changes, splitChanges))
	}
	return [][]feed.Change{w.Changes}
}

// fits refuses an entry that the feed does not carry.
func fits(e *feed.Entry) error {
	if err := e.Check(); err != nil {
		return &fault.Error{Op: "publish.write", Side: fault.Visitor, Kind: fault.TooLarge, Err: fmt.Errorf(
			"the change is too large for one step, make it in parts: %w", err)}
	}
	return nil
}

func (p *Publisher) await(id int64, got chan<- uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[id] = got
}

func (p *Publisher) forget(id int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, id)
}

// announce tells that the log goes to head, and writers their numbers: of
// outbox rows by their ids.
func (p *Publisher) announce(head feed.Cursor, floor uint64, numbers map[int64]uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.floor = max(p.floor, floor)
	if head.Seq > p.head.Seq { // of those who were committed together, the last may come first
		p.head = head
		close(p.changed)
		p.changed = make(chan struct{})
	}
	for id, seq := range numbers {
		if got := p.waiting[id]; got != nil {
			got <- seq // has room for its only value
			delete(p.waiting, id)
		}
	}
}

func (p *Publisher) position() (feed.Cursor, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.head, p.floor
}
