package store

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// statements are the compiled statements of the one connection that writes to
// SQLite. Compiling them at each call was a quarter of what a change cost the
// database; PostgreSQL's driver keeps its own.
type statements struct {
	db *sql.DB

	mu    sync.Mutex
	known map[string]*sql.Stmt // guarded by mu
	seen  map[string]int       // how often others were run; guarded by mu
}

const (
	worthCompiling = 3   // runs after which a statement is kept
	maxStatements  = 128 // that are kept; those which come later are not
)

func newStatements(db *sql.DB) *statements {
	return &statements{db: db, known: map[string]*sql.Stmt{}, seen: map[string]int{}}
}

// find returns the compiled statement, nil where there is none.
func (s *statements) find(query string) *sql.Stmt {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.known[query]
	if found == nil && len(s.seen) < maxStatements {
		s.seen[query]++
	}
	return found
}

// learn compiles what was run often. The connection must be free: it is called
// between two transactions.
func (s *statements) learn(ctx context.Context) {
	if s == nil {
		return
	}
	for {
		query := s.often()
		if query == "" {
			return
		}
		compiled, err := s.db.PrepareContext(ctx, query)
		if err != nil {
			return // it is compiled at each call, which says what is wrong with it
		}
		s.mu.Lock()
		s.known[query] = compiled
		s.mu.Unlock()
	}
}

// often takes one statement that is worth it out of those that were seen.
func (s *statements) often() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for query, n := range s.seen {
		if n >= worthCompiling {
			delete(s.seen, query)
			if len(s.known) < maxStatements {
				return query
			}
		}
	}
	return ""
}

// ExecContext is sql.Tx's. Only statements whose rows are all read before the
// next one is run are kept compiled: a compiled statement has one set of rows.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return tx.exec(tx.on(ctx), query, args...)
}

func (tx *Tx) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if tx.compiled != nil {
		if s := tx.compiled.find(query); s != nil {
			return tx.StmtContext(ctx, s).ExecContext(ctx, args...)
		}
	}
	return tx.Tx.ExecContext(ctx, query, args...)
}

// QueryRowContext is sql.Tx's.
func (tx *Tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	ctx = tx.on(ctx)
	if tx.compiled != nil {
		if s := tx.compiled.find(query); s != nil {
			return tx.StmtContext(ctx, s).QueryRowContext(ctx, args...)
		}
	}
	return tx.Tx.QueryRowContext(ctx, query, args...)
}

// QueryContext is sql.Tx's.
func (tx *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return tx.Tx.QueryContext(tx.on(ctx), query, args...)
}

// on is the context that a statement is run with. In a transaction that others may
// share, one that has begun comes to its end: interrupting it would undo all of
// them. None begins when ctx is over, or the writer is too slow.
func (tx *Tx) on(ctx context.Context) context.Context {
	if !tx.grouped || ctx.Err() != nil {
		return ctx
	}
	if !tx.late && !tx.until.IsZero() {
		tx.late = time.Now().After(tx.until)
	}
	if tx.late {
		over, cancel := context.WithCancel(ctx)
		cancel()
		return over
	}
	return context.WithoutCancel(ctx)
}
