package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/selvage-edge/selvage/fault"
)

const (
	// oldestPostgres is PostgreSQL 15 as server_version_num says it.
	oldestPostgres = 150000
	// reachTimeout bounds the first connection.
	reachTimeout = 10 * time.Second
	// paramConns in the address says how many connections a control plane has
	// at most. PostgreSQL's own default limit is 100 for all its clients.
	paramConns   = "pool_max_conns"
	defaultConns = 16
	maxConns     = 1000
)

type postgresKind struct{}

// putEvent takes the number from a sequence: writers do not wait for each
// other, so a number may be given and never be seen, and a lower one may be
// committed after a higher one. Two changes of which one was made knowing the
// other still have theirs in order, since the later one began after the earlier
// one's commit.
func (postgresKind) putEvent() string {
	return `INSERT INTO outbox (seq, actor, action, object, before, after, changes, created, zone, account, version, diff)
		VALUES ($12, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id`
}

func (postgresKind) shared() bool { return true }

func (postgresKind) now() string {
	return `CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)`
}

// copied moves the sequence past the numbers that are taken.
func (postgresKind) copied(ctx context.Context, tx *Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT setval(pg_get_serial_sequence('outbox', 'id'), (SELECT COALESCE(MAX(id), 0) + 1 FROM outbox), false)`)
	return wrote(err, "outbox")
}

// erase leaves the server's own write-ahead log, which it recycles by itself.
func (postgresKind) erase() []string {
	return []string{`VACUUM FULL log`, `VACUUM FULL kv`, `VACUUM FULL outbox`}
}

func (postgresKind) oneState() sql.IsolationLevel { return sql.LevelRepeatableRead }

func (postgresKind) lock() string { return `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))` }

// Codes of PostgreSQL (its manual, Appendix A).
const (
	codeDiskFull       = "53100"
	codeTaken          = "23505"
	codeSerialization  = "40001"
	codeDeadlock       = "40P01"
	codeNotInEncoding  = "22021" // a NUL, or what is not UTF-8
	codeUntranslatable = "22P05"
	classOperator      = "57P" // the server is told to end, or starts
)

func (postgresKind) explain(err error) (error, bool) {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err, pgconn.SafeToRetry(err)
	}
	if strings.HasPrefix(e.Code, classOperator) {
		return err, !errors.Is(err, errCommit)
	}
	switch e.Code {
	case codeDiskFull:
		return &fault.Error{Op: "store.write", Side: fault.Control, Kind: fault.Limit, Err: fmt.Errorf("the database's disk is full: %w", err)}, false
	case codeNotInEncoding, codeUntranslatable:
		return &fault.Error{Op: "store.write", Side: fault.Visitor, Kind: fault.Malformed, Err: fmt.Errorf("a text has a NUL or is not UTF-8: %w", err)}, false
	case codeTaken:
		return &fault.Error{Op: "store.write", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf("it exists already: %w", err)}, false
	case codeSerialization, codeDeadlock:
		return err, true
	}
	return err, false
}

func openPostgres(ctx context.Context, place string) (*Store, error) {
	cfg, err := pgx.ParseConfig(place)
	if err != nil {
		return nil, fmt.Errorf("store: read the database's address: %w", err) // pgx leaves the password out
	}
	s := &Store{kind: postgresKind{}, place: fmt.Sprintf("postgres://%s@%s:%d/%s",
		cfg.User, cfg.Host, cfg.Port, cfg.Database)}
	conns := defaultConns
	if n, ok := cfg.RuntimeParams[paramConns]; ok {
		if conns, err = strconv.Atoi(n); err != nil || conns < 2 || conns > maxConns {
			return nil, fmt.Errorf("store: %s=%s in the database's address: a number from 2 to %d is needed", paramConns, n, maxConns)
		}
		delete(cfg.RuntimeParams, paramConns)
	}
	cfg.RuntimeParams["application_name"] = "selvage"
	// What Write answers with is durable, whatever the server's default is.
	cfg.RuntimeParams["synchronous_commit"] = "on"
	s.write = stdlib.OpenDB(*cfg)
	s.read = s.write
	s.write.SetMaxOpenConns(conns)
	s.write.SetMaxIdleConns(conns)
	s.write.SetConnMaxIdleTime(5 * time.Minute)
	if err := s.ready(ctx); err != nil {
		return nil, errors.Join(err, s.write.Close())
	}
	return s, nil
}

// ready checks that the server is there and new enough, and its schema.
func (s *Store) ready(ctx context.Context) error {
	reach, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	var version int
	if err := s.write.QueryRowContext(reach, `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return fmt.Errorf("store: the database %s cannot be used: %w", s.place, err)
	}
	if version < oldestPostgres {
		return fmt.Errorf("store: the database %s is PostgreSQL %d; %d or newer is needed", s.place, version/10000, oldestPostgres/10000)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("store: read migrations: %w", err)
	}
	// Several control planes may start at the same time.
	one, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return fmt.Errorf("store: lock migrations: %w", err)
	}
	return s.migrate(ctx, goose.DialectPostgres, inPostgres{files}, goose.WithSessionLocker(one))
}

var (
	blobType = regexp.MustCompile(`\bBLOB\b`)
	textType = regexp.MustCompile(`\bTEXT\b`)
	counted  = regexp.MustCompile(`\bBIGINT PRIMARY KEY, -- counted\b`)
)

// inPostgres is the same migrations in PostgreSQL's words: bytes are BYTEA,
// texts are ordered by their bytes as SQLite orders them, and a column that says
// "counted" gets its numbers from a sequence.
type inPostgres struct{ fs.FS }

// Open is fs.FS's.
func (p inPostgres) Open(name string) (fs.File, error) {
	f, err := p.FS.Open(name)
	if err != nil || path.Ext(name) != ".sql" {
		return f, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	text = counted.ReplaceAll(text, []byte(`BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,`))
	text = blobType.ReplaceAll(text, []byte("BYTEA"))
	text = textType.ReplaceAll(text, []byte(`TEXT COLLATE "C"`))
	return &translated{f, bytes.NewReader(text)}, nil
}

// translated is a file with another text.
type translated struct {
	fs.File
	text *bytes.Reader
}

// Read is fs.File's.
func (t *translated) Read(p []byte) (int, error) { return t.text.Read(p) }
