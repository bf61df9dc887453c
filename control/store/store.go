// Package store keeps what the control plane must not lose: accounts, tokens,
// zones and their parts, nodes, the outbox and the numbered log. It promises
// that a write is one transaction, durable when Write returns, and that texts
// which a user will see again come back byte for byte.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/selvage-edge/selvage/fault"
	"modernc.org/sqlite" // also the driver of this name
)

//go:embed migrations/*.sql
var migrations embed.FS

// FileName is the database inside the control plane's state folder.
const FileName = "control.db"

// readers is how many connections serve reads beside the one writer.
const readers = 4

// Store is an open database. Safe for concurrent use.
type Store struct {
	write *sql.DB // one connection: commits are serial, in order
	read  *sql.DB
	path  string
}

// Tx is one transaction, given to the functions of Write and Read. It must not
// be kept beyond them.
type Tx struct{ *sql.Tx }

// Open opens or creates the database in dir and brings its schema up to date.
// A database that is damaged is refused with an error that says what to do.
func Open(ctx context.Context, dir string) (*Store, error) {
	path := filepath.Join(dir, FileName)
	if err := touch(path); err != nil {
		return nil, fmt.Errorf("store: create %s: %w", path, err)
	}
	s := &Store{path: path}
	var err error
	if s.write, err = open(path, 1, "immediate"); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	if s.read, err = open(path, readers, "deferred"); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	return s, nil
}

// touch makes the file, so that it never has wider permissions than 0600.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator's own state folder
	if err != nil {
		return err
	}
	return f.Close()
}

func open(path string, connections int, lock string) (*sql.DB, error) {
	q := url.Values{"_txlock": {lock}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "cache_size(-16384)",
	}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxLifetime(0)
	return db, nil
}

func (s *Store) prepare(ctx context.Context) error {
	var verdict string
	if err := s.write.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return s.damaged(err)
	}
	if verdict != "ok" {
		return s.damaged(errors.New(verdict))
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("store: read migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.write, files)
	if err != nil {
		return fmt.Errorf("store: read migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("store: migrate %s: %w", s.path, err)
	}
	return nil
}

func (s *Store) damaged(cause error) error {
	return &fault.Error{Op: "store.open", Side: fault.Control, Kind: fault.Malformed, Err: fmt.Errorf(
		"the database %s is damaged (%w); stop the control plane, move the file and its -wal and -shm neighbours away, and put a backup in their place", s.path, cause)}
}

// Close ends the store. Transactions in progress fail.
func (s *Store) Close() error {
	return errors.Join(s.read.Close(), s.write.Close())
}

// Write runs fn in the one write transaction; what it did is durable when nil
// is returned and undone otherwise. Writes are serial.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	return run(ctx, s.write, nil, fn)
}

// Read runs fn on one consistent state of the database.
func (s *Store) Read(ctx context.Context, fn func(*Tx) error) error {
	return run(ctx, s.read, &sql.TxOptions{ReadOnly: true}, fn)
}

func run(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*Tx) error) error {
	err := inTx(ctx, db, o, fn)
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code() == codeFull {
		return &fault.Error{Op: "store.write", Side: fault.Control, Kind: fault.Limit, Err: err}
	}
	return err
}

// codeFull is SQLITE_FULL: the disk has no room. The transaction is undone.
const codeFull = 13

func inTx(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*Tx) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return fmt.Errorf("store: begin: %w", err)
	}
	if err := fn(&Tx{tx}); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("store: commit: %w", err)
	}
	return nil
}

// ignoreDone drops the complaint of rolling back what a cancelled context has
// rolled back already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
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
