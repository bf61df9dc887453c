package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// queue is the way to SQLite's one writer. Whoever waits while another one writes
// gets the transaction handed on, with what those before did in it: a group pays for
// one COMMIT. Each runs its function itself, after the first in a savepoint of its
// own, so that an error, a panic or a cancelled context undoes nobody else's work.
// None is told that it is done before the COMMIT.
type queue struct {
	db       *sql.DB
	kind     kind
	compiled *statements
	openFor  time.Duration // groupFor
	patience time.Duration // slowAfter

	mu      sync.Mutex
	taken   bool      // somebody has the connection; guarded by mu
	waiting []*writer // in the order in which they came; guarded by mu
}

// writer waits for its turn.
type writer struct {
	// turn brings the open transaction, or nil when one is to be begun. It has
	// room for its only value.
	turn chan *group
	// alone says that no other one may be in its transaction.
	alone bool
}

// group is a transaction that is open. What is not said otherwise belongs to the
// writer whose turn it is.
type group struct {
	tx    *sql.Tx
	begun time.Time
	size  int
	ended chan struct{} // closed when it is known how the transaction ended
	err   error         // written before ended is closed
}

const (
	// maxGroup is how many writers share a transaction at most.
	maxGroup = 64
	// groupFor is how long a transaction is open to others.
	groupFor = 10 * time.Millisecond
	// slowAfter is for how long a writer may keep those waiting that wrote before
	// it: then they are committed without it, and it begins again with a
	// transaction of its own.
	slowAfter = 10 * time.Millisecond
)

func newQueue(s *Store) *queue {
	return &queue{db: s.write, kind: s.kind, compiled: s.compiled, openFor: groupFor, patience: slowAfter}
}

// errUndone is a writer's whose work was undone because of another one's. It is
// run again, alone.
var errUndone = errors.New("store: undone with another writer's")

// run runs fn as Store.Write says.
func (q *queue) run(ctx context.Context, fn func(*Tx) error) error {
	err := q.once(ctx, &writer{turn: make(chan *group, 1)}, fn)
	if errors.Is(err, errUndone) {
		err = q.once(ctx, &writer{turn: make(chan *group, 1), alone: true}, fn)
	}
	return err
}

func (q *queue) once(ctx context.Context, w *writer, fn func(*Tx) error) error {
	g, err := q.await(ctx, w)
	if err != nil {
		return fmt.Errorf("store: begin: %w", err)
	}
	if g != nil {
		slow, err := q.join(ctx, g, fn)
		if !slow {
			return err
		}
	}
	return q.first(ctx, w, fn)
}

// await waits for w's turn.
func (q *queue) await(ctx context.Context, w *writer) (*group, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	if !q.taken {
		q.taken = true
		q.mu.Unlock()
		return nil, nil
	}
	q.waiting = append(q.waiting, w)
	q.mu.Unlock()
	select {
	case g := <-w.turn:
		return g, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	i := slices.Index(q.waiting, w)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	q.mu.Unlock()
	if i < 0 { // its turn has come: the next one's then
		if g := <-w.turn; g == nil || !q.handOn(g) {
			q.end(ctx, g)
		}
	}
	return nil, ctx.Err()
}

// first runs fn as the first of a group. Nothing bounds how long it takes.
func (q *queue) first(ctx context.Context, w *writer, fn func(*Tx) error) (err error) {
	whole := context.WithoutCancel(ctx) // others may be in it when ctx ends
	tx, err := q.db.BeginTx(whole, nil)
	if err != nil {
		q.end(ctx, nil)
		return fmt.Errorf("store: begin: %w", err)
	}
	g := &group{tx: tx, begun: time.Now(), ended: make(chan struct{})}
	done := false
	defer func() {
		if !done { // fn failed or did not return
			err = errors.Join(err, ignoreDone(tx.Rollback()))
			q.end(ctx, nil)
		}
	}()
	err = fn(&Tx{Tx: tx, kind: q.kind, compiled: q.compiled, grouped: true})
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", errCommit, ctx.Err())
	}
	if err != nil {
		return err
	}
	done, g.size = true, 1
	if w.alone || !q.handOn(g) {
		q.end(ctx, g)
	}
	<-g.ended
	return g.err
}

// join runs fn in a group that others are in. It is slow where the group was
// committed without it and the turn is still this writer's.
func (q *queue) join(ctx context.Context, g *group, fn func(*Tx) error) (slow bool, err error) {
	whole := context.WithoutCancel(ctx)
	tx := &Tx{Tx: g.tx, kind: q.kind, compiled: q.compiled, grouped: true}
	_, err = tx.ExecContext(whole, `SAVEPOINT writer`)
	back, lost := err == nil, false
	defer func() { // also where fn does not return
		if back {
			_, rerr := tx.exec(whole, `ROLLBACK TO writer`)
			if rerr == nil {
				_, rerr = tx.exec(whole, `RELEASE writer`)
			}
			lost = rerr != nil
		}
		if lost { // the database has undone all of it
			_ = g.tx.Rollback()
			g.finish(errUndone)
			if slow {
				return
			}
			q.end(ctx, nil)
			return
		}
		if slow {
			q.commit(g)
			return
		}
		if !q.handOn(g) {
			q.end(ctx, g)
		}
		if <-g.ended; g.err != nil {
			err = g.err // what fn saw, and its error says, never was
		}
	}()
	if err != nil {
		return false, fmt.Errorf("store: begin: %w", err)
	}
	tx.until = time.Now().Add(q.patience)
	err = fn(tx)
	if tx.late {
		return true, nil
	}
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", errCommit, ctx.Err())
	}
	if err != nil {
		return false, err
	}
	_, err = tx.exec(whole, `RELEASE writer`)
	lost, back = err != nil, false
	if err == nil {
		g.size++
	}
	return false, err
}

// handOn gives the transaction to the next writer, unless there is none or it is
// time to end it.
func (q *queue) handOn(g *group) bool {
	if g == nil || g.size >= maxGroup || time.Since(g.begun) >= q.openFor {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 || q.waiting[0].alone {
		return false
	}
	q.next().turn <- g
	return true
}

// next takes who is next out of the queue; guarded by mu.
func (q *queue) next() *writer {
	w := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	return w
}

// end commits the group, where there is one, and lets the next writer begin.
func (q *queue) end(ctx context.Context, g *group) {
	if g != nil {
		q.commit(g)
	}
	q.compiled.learn(context.WithoutCancel(ctx))
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken = len(q.waiting) > 0; q.taken {
		q.next().turn <- nil
	}
}

func (q *queue) commit(g *group) {
	err := g.tx.Commit()
	switch {
	case err == nil:
	case g.size > 1 && broken(err):
		// One of them left something that does not hold together: alone, each
		// learns whether that was it.
		err = errUndone
	default:
		err = fmt.Errorf("%w: %w", errCommit, err)
	}
	g.finish(err) // the driver rolls back what a failed COMMIT leaves open
}

func (g *group) finish(err error) {
	g.err = err
	close(g.ended)
}
