package store

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"
)

// A statement that is run often is compiled once, and does what it did before.
func TestStatementsThatAreRunOftenAreCompiled(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	const set, get = `INSERT INTO kv (key, value, seq) VALUES ($1, $2, $3)`, `SELECT value FROM kv WHERE key = $1`
	failed := errors.New("undone")
	for i := range 10 {
		key := fmt.Sprint(i)
		err := s.Write(ctx, func(tx *Tx) error {
			if _, err := tx.ExecContext(ctx, set, key, []byte(key), 1); err != nil {
				return err
			}
			if i%3 == 2 {
				return failed
			}
			return nil
		})
		if want := i%3 == 2; errors.Is(err, failed) != want {
			t.Fatalf("write %d: %v", i, err)
		}
		if err := s.Write(ctx, func(tx *Tx) error {
			var got []byte
			err := tx.QueryRowContext(ctx, get, key).Scan(&got)
			if i%3 == 2 && errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err == nil && string(got) != key {
				t.Errorf("%s has the value %q", key, got)
			}
			return err
		}); err != nil {
			t.Fatalf("read %d: %v", i, err)
		}
	}
	for _, query := range []string{set, get} {
		if s.compiled.find(query) == nil {
			t.Errorf("not compiled after ten runs: %s", query)
		}
	}
	// A statement is compiled again by itself when the schema is another one.
	if err := s.Write(ctx, func(tx *Tx) error {
		if _, err := tx.ExecContext(ctx, `ALTER TABLE kv ADD COLUMN more INTEGER`); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, set, "after", []byte("x"), 1)
		return err
	}); err != nil {
		t.Error(err)
	}
	// What never comes again takes no room without end.
	for i := range 2 * maxStatements {
		s.compiled.find(fmt.Sprint(i))
	}
	if n := len(s.compiled.seen); n > maxStatements {
		t.Errorf("%d statements are counted, at most %d", n, maxStatements)
	}
}
