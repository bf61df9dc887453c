package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/pressly/goose/v3"
	"github.com/selvage-edge/selvage/fault"
	"modernc.org/sqlite" // also the driver of this name
)

// FileName is SQLite's database inside the control plane's state folder.
const FileName = "control.db"

const (
	// readers is how many connections serve reads beside the one writer.
	readers = 4
	// writeCache and readCache are the memory for pages of each connection, in
	// KiB. Readers follow the end of the log and scan; what they read twice is in
	// the system's cache as well.
	writeCache = 16 << 10
	readCache  = 4 << 10
)

type sqliteKind struct{}

// putEvent's next number is the highest plus one: the write transaction is the
// only one.
func (sqliteKind) putEvent() string {
	return `INSERT INTO outbox (id, seq, actor, action, object, before, after, changes, created, zone, account, version, diff)
		VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM outbox), $12, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id`
}

func (sqliteKind) shared() bool { return false }

func (sqliteKind) now() string { return `CAST(unixepoch('subsec') * 1000000 AS INTEGER)` }

func (sqliteKind) erase() []string {
	return []string{`VACUUM`, `PRAGMA wal_checkpoint(TRUNCATE)`}
}

func (sqliteKind) copied(context.Context, *Tx) error { return nil }

func (sqliteKind) oneState() sql.IsolationLevel { return sql.LevelDefault }

func (sqliteKind) lock() string { return "" }

// codeFull is SQLITE_FULL: the disk has no room. The transaction is undone.
const (
	codeFull       = 13
	codeConstraint = 19
)

// broken reports a COMMIT that is refused because what was written does not hold
// together (SQLITE_CONSTRAINT, the low byte of its kinds).
func broken(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == codeConstraint
}

func (sqliteKind) explain(err error) (error, bool) {
	if e, ok := errors.AsType[*sqlite.Error](err); ok && e.Code() == codeFull {
		return &fault.Error{Op: "store.write", Side: fault.Control, Kind: fault.Limit, Err: err}, false
	}
	return err, false
}

func openSQLite(ctx context.Context, dir string) (*Store, error) {
	path := filepath.Join(dir, FileName)
	if err := touch(path); err != nil {
		return nil, fmt.Errorf("store: create %s: %w", path, err)
	}
	s := &Store{kind: sqliteKind{}, place: path}
	var err error
	if s.write, err = connect(path, 1, writeCache, "immediate"); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	s.compiled = newStatements(s.write)
	if s.read, err = connect(path, readers, readCache, "deferred"); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	s.queue = newQueue(s)
	return s, nil
}

// Exists is an error that names the file unless a folder has a database.
func Exists(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, FileName)); err != nil {
		return fmt.Errorf("no database: %w", err)
	}
	return nil
}

// touch makes the file, so that it never has wider permissions than 0600.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator's own state folder
	if err != nil {
		return err
	}
	return f.Close()
}

func connect(path string, connections, cache int, lock string) (*sql.DB, error) {
	q := url.Values{"_txlock": {lock}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "cache_size(-" + strconv.Itoa(cache) + ")",
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
	return s.migrate(ctx, goose.DialectSQLite3, files)
}

func (s *Store) damaged(cause error) error {
	return &fault.Error{Op: "store.open", Side: fault.Control, Kind: fault.Malformed, Err: fmt.Errorf(
		"the database %s is damaged (%w); stop the control plane, move the file and its -wal and -shm neighbours away, and put a backup in their place", s.place, cause)}
}
