// Package storetest gives tests a database: a folder for SQLite, or with
// SELVAGE_TEST_DB=postgres a PostgreSQL of their own, which runs from Debian's
// packages. `make test` runs the control plane's tests with each.
package storetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/selvage-edge/selvage/control/store"
)

// Which says which database Place gives: "sqlite" or "postgres".
func Which() string {
	if os.Getenv("SELVAGE_TEST_DB") == "postgres" {
		return "postgres"
	}
	return "sqlite"
}

// current is the server of this test program: whoever needs it first starts
// it, Main stops it.
var current = &once{}

type once struct {
	mu     sync.Mutex
	server *Server // guarded by mu
}

func (o *once) get() (*Server, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.server != nil {
		return o.server, nil
	}
	var err error
	o.server, err = Start(context.Background(), "-c", "fsync=off", "-c", "deadlock_timeout=20ms")
	return o.server, err
}

func (o *once) stop() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.server == nil {
		return nil
	}
	return o.server.Stop()
}

// Main is the body of a TestMain of a package whose tests use Place.
func Main(m *testing.M) int {
	code := m.Run()
	if err := current.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "storetest:", err)
		return 1
	}
	return code
}

// Place is a new and empty database: what store.Open takes.
func Place(t testing.TB) string {
	t.Helper()
	if Which() != "postgres" {
		return t.TempDir()
	}
	return Postgres(t)
}

// Postgres is a new and empty database of a PostgreSQL, whatever Which says: for
// tests of what only that one can do.
func Postgres(t testing.TB) string {
	t.Helper()
	place, err := server(t).Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return place
}

func server(t testing.TB) *Server {
	t.Helper()
	s, err := current.get()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Beside is Config.Database of a control plane whose state folder is dir: the
// same each time for the same folder.
func Beside(t testing.TB, dir string) string {
	t.Helper()
	if Which() != "postgres" {
		return ""
	}
	if place, ok := server(t).beside.Load(dir); ok {
		return place.(string)
	}
	place := Place(t)
	server(t).beside.Store(dir, place)
	return place
}

// Exec runs a statement on the database at place, beside whoever has it open.
func Exec(t testing.TB, place, statement string) {
	t.Helper()
	driver, name := "pgx", place
	if !store.IsPostgres(place) {
		driver, name = "sqlite", "file:"+filepath.Join(place, store.FileName)+"?_pragma=busy_timeout(10000)"
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), statement)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// Dump is what the database at place keeps, byte for byte: by file, or by table.
func Dump(t testing.TB, place string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	if !store.IsPostgres(place) {
		files, err := filepath.Glob(filepath.Join(place, store.FileName+"*"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			if all[f], err = os.ReadFile(f); err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	c, err := pgx.Connect(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := c.Query(t.Context(), `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, name := range tables {
		var b bytes.Buffer
		if _, err := c.PgConn().CopyTo(t.Context(), &b, `COPY `+name+` TO STDOUT (FORMAT binary)`); err != nil {
			t.Fatal(err)
		}
		all[name] = b.Bytes()
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return all
}

// Server is a running PostgreSQL with a folder of its own, reached by a socket
// in it.
type Server struct {
	dir  string
	cmd  *exec.Cmd
	said *bytes.Buffer // read after the end of cmd
	made atomic.Int64

	beside sync.Map // folder → address
}

const startTimeout = 30 * time.Second

// Start makes and starts a PostgreSQL; settings are further arguments of
// postgres. It needs Debian's package postgresql.
func Start(ctx context.Context, settings ...string) (*Server, error) {
	bin, err := folder()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "selvage-pg-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, said: &bytes.Buffer{}}
	attr, err := s.owner()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "--no-sync", "--encoding=UTF8", "--no-locale", "--auth=trust", "--username=selvage", "--pgdata", data)
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(dir))
	}
	s.cmd = exec.CommandContext(ctx, filepath.Join(bin, "postgres"), slices.Concat([]string{ //nolint:gosec // a tool of tests
		"-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=300",
	}, settings)...)
	s.cmd.SysProcAttr, s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = attr, dir, s.said, s.said
	// The postmaster ends its children when told so, not when it is killed.
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGINT) }
	s.cmd.WaitDelay = startTimeout
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start postgres: %w", err), os.RemoveAll(dir))
	}
	if err := s.await(ctx); err != nil {
		return nil, errors.Join(err, s.Stop(), errors.New(s.said.String()))
	}
	return s, nil
}

// folder is where Debian has PostgreSQL's programs: of the newest version.
func folder() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		return "", errors.Join(errors.New("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql"), err)
	}
	return slices.MaxFunc(found, func(a, b string) int {
		n := func(s string) int { v, _ := strconv.Atoi(filepath.Base(filepath.Dir(s))); return v } // 0 for what is no number
		return n(a) - n(b)
	}), nil
}

// owner hands the folder to the user that PostgreSQL runs as: root it refuses.
func (s *Server) owner() (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("the user that PostgreSQL runs as: %w", err)
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uerr, gerr, os.Chown(s.dir, int(uid), int(gid))); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// await asks until the server answers.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		c, err := pgx.Connect(ctx, s.address("postgres"))
		if err == nil {
			tick.Stop()
			return c.Close(ctx)
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-tick.C:
		}
	}
}

func (s *Server) address(database string) string {
	return "postgres://selvage@/" + database + "?" + url.Values{"host": {s.dir}}.Encode()
}

// Database makes an empty database and returns its address.
func (s *Server) Database(ctx context.Context) (string, error) {
	c, err := pgx.Connect(ctx, s.address("postgres"))
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("test%d", s.made.Add(1))
	_, err = c.Exec(ctx, "CREATE DATABASE "+name)
	return s.address(name), errors.Join(err, c.Close(ctx))
}

// Stop ends the server and removes its folder.
func (s *Server) Stop() error {
	err := s.cmd.Process.Signal(syscall.SIGINT)
	if werr := s.cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("postgres: %w: %s", werr, s.said))
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}
