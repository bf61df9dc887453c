// Package store keeps what the control plane must not lose: accounts, tokens,
// zones and their parts, nodes, the outbox and the numbered log, in PostgreSQL or
// in SQLite. It promises that a write is one transaction, durable when Write
// returns, that no update is lost to another writer's, and that texts which a
// user will see again come back byte for byte. What is said here holds for both
// databases; what only one of them needs is in its file.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/selvage-edge/selvage/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open database. Safe for concurrent use.
type Store struct {
	write *sql.DB
	read  *sql.DB
	kind  kind
	place string // for messages; has no password
	// compiled are statements of write; nil where its driver keeps them.
	compiled *statements
	// queue is where SQLite's writers wait; nil where each has a connection.
	queue *queue
	// around runs each transaction; nil does so at once.
	around func(ctx context.Context, writes bool, run func() error) error
}

// kind is what the two databases do differently.
type kind interface {
	// putEvent is the statement that adds an outbox row and returns its number.
	putEvent() string
	// lock is a statement that waits for the transaction that has the name $1
	// locked and locks it until the end of its own; "" where there is only one
	// writer.
	lock() string
	// erase are statements, run one by one outside of transactions, after which
	// what was deleted is in the database's files no more.
	erase() []string
	// copied ends a transaction that brought rows with their numbers.
	copied(context.Context, *Tx) error
	// shared reports whether several processes may write.
	shared() bool
	// now is the database's clock as an expression: microseconds since 1970.
	now() string
	// oneState is the isolation at which a transaction reads one state.
	oneState() sql.IsolationLevel
	// explain turns errors of the database that a caller decides on into faults
	// and reports whether the transaction may simply be run again.
	explain(err error) (_ error, again bool)
}

// Tx is one transaction, given to the functions of Write and Read. It must not
// be kept beyond them.
type Tx struct {
	*sql.Tx
	kind     kind
	compiled *statements // nil for none
	// grouped says that other writers may be in it; see queue.
	grouped bool
	until   time.Time // when this one is too slow for those before it; zero for never
	late    bool      // it was
}

// Open opens or creates the database at place and brings its schema up to date:
// a PostgreSQL of version 15 or newer when place begins with postgres:// or
// postgresql://, else the file control.db of SQLite in the folder place. A
// database that is damaged, too old or not to be reached is refused with an error
// that says what to do.
func Open(ctx context.Context, place string) (*Store, error) {
	if IsPostgres(place) {
		return openPostgres(ctx, place)
	}
	return openSQLite(ctx, place)
}

// IsPostgres reports whether Open takes place for a PostgreSQL.
func IsPostgres(place string) bool {
	return strings.HasPrefix(place, "postgres://") || strings.HasPrefix(place, "postgresql://")
}

// Place names the database in messages, without its password.
func (s *Store) Place() string { return s.place }

// migrate brings the schema up to date.
func (s *Store) migrate(ctx context.Context, dialect goose.Dialect, files fs.FS, o ...goose.ProviderOption) error {
	p, err := goose.NewProvider(dialect, s.write, files, o...)
	if err != nil {
		return fmt.Errorf("store: read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("store: migrate %s: %w", s.place, err)
	}
	return nil
}

// Close ends the store. Transactions in progress fail.
func (s *Store) Close() error {
	return errors.Join(s.read.Close(), s.write.Close())
}

const (
	// triesFor is how long a transaction is run again that the database undid in
	// favour of another one.
	triesFor = 10 * time.Second
	// maxPause bounds the pause between tries, which is random.
	maxPause = 200 * time.Millisecond
)

// Write runs fn in one write transaction; what it did is durable when nil is
// returned and undone otherwise. SQLite has one writer at a time, in the order in
// which they came; several may be made durable together, and fn may then see what
// is undone with it. PostgreSQL has many, each of which sees what was committed before each of its statements;
// those who read first and write what follows from it use Lock, or a condition in
// the statement that writes. fn is run again when it was undone in favour of another
// writer, so it sets anew what it leaves behind.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	if s.queue != nil {
		err, _ := s.kind.explain(s.queue.run(ctx, fn))
		return err
	}
	end := time.Now().Add(triesFor)
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		err, again := s.kind.explain(s.inTx(ctx, s.write, nil, fn))
		if err == nil || !again || time.Now().After(end) {
			return err
		}
		t := time.NewTimer(rand.N(pause)) //nolint:gosec // a pause, no secret
		select {
		case <-ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
	}
}

// Read runs fn on one consistent state of the database.
func (s *Store) Read(ctx context.Context, fn func(*Tx) error) error {
	err, _ := s.kind.explain(s.inTx(ctx, s.read, &sql.TxOptions{ReadOnly: true, Isolation: s.kind.oneState()}, fn))
	return err
}

func (s *Store) inTx(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*Tx) error) error {
	run := func() error {
		if db != s.write {
			return inTx(ctx, db, o, &Tx{kind: s.kind}, fn)
		}
		defer s.compiled.learn(ctx)
		return inTx(ctx, db, o, &Tx{kind: s.kind, compiled: s.compiled}, fn)
	}
	if s.around == nil {
		return run()
	}
	return s.around(ctx, o == nil, run)
}

func inTx(ctx context.Context, db *sql.DB, o *sql.TxOptions, in *Tx, fn func(*Tx) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return fmt.Errorf("store: begin: %w", err)
	}
	in.Tx = tx
	if err := fn(in); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%w: %w", errCommit, err)
	}
	return nil
}

// Erase makes what was deleted disappear from the database's files as well. It
// rewrites them, and holds up writers meanwhile.
func (s *Store) Erase(ctx context.Context) error {
	for _, q := range s.kind.erase() {
		if _, err := s.write.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("store: erase what was deleted: %w", err)
		}
	}
	return nil
}

// errCommit is in the chain of errors after which it is not known whether the
// transaction arrived.
var errCommit = errors.New("store: commit")

// ignoreDone drops the complaint of rolling back what a cancelled context has
// rolled back already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// Lock waits until no other write transaction has locked the name, and keeps
// it until this one ends. Whoever locks several names does so in their order.
func (tx *Tx) Lock(ctx context.Context, name string) error {
	q := tx.kind.lock()
	if q == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, q, name)
	return wrote(err, "lock of "+name)
}

// micro and fromMicro are the column form of a time; the zero time is 0.
func micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicro(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// rows runs a query and hands each row to scan.
func rows(ctx context.Context, tx *Tx, scan func(*sql.Rows) error, query string, args ...any) (err error) {
	r, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for r.Next() {
		if err := scan(r); err != nil {
			return err
		}
	}
	return r.Err()
}

// missing turns "no rows" into a fault that says what was not found.
func missing(err error, what string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return &fault.Error{Op: "store." + what, Side: fault.Visitor, Kind: fault.NotFound, Err: fmt.Errorf("%s not found", what)}
	}
	if err != nil {
		return fmt.Errorf("store: read %s: %w", what, err)
	}
	return nil
}

func wrote(err error, what string) error {
	if err != nil {
		return fmt.Errorf("store: write %s: %w", what, err)
	}
	return nil
}
