package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
)

// A full disk is named, changes nothing, and is over when there is room again.
func TestFullDiskIsNamedAndSurvived(t *testing.T) {
	s := open(t, t.TempDir())
	pages := func(n int) {
		t.Helper()
		write(t, s, func(tx *store.Tx) error {
			_, err := tx.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", n))
			return err
		})
	}
	put := func(id string) error {
		return s.Write(t.Context(), func(tx *store.Tx) error {
			return tx.PutAccount(t.Context(), store.Account{ID: id, Name: strings.Repeat("x", 100_000)})
		})
	}
	pages(1) // as many as there are now
	for range 3 {
		if err := put("a"); !fault.Is(err, fault.Limit) || !strings.Contains(err.Error(), "full") {
			t.Fatalf("write to a full disk: %v", err)
		}
	}
	pages(1 << 20)
	if err := put("b"); err != nil {
		t.Fatalf("write with room again: %v", err)
	}
	if err := s.Read(t.Context(), func(tx *store.Tx) error {
		all, err := tx.Accounts(t.Context())
		if len(all) != 1 || all[0].ID != "b" {
			t.Errorf("%d accounts, want b alone", len(all))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedDatabaseIsNamed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	write(t, s, func(tx *store.Tx) error {
		for i := range 500 {
			if err := tx.SetKey(t.Context(), fmt.Sprintf("key %d", i), make([]byte, 300), 1); err != nil {
				return err
			}
		}
		return nil
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, store.FileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"not a database": []byte(strings.Repeat("garbage ", 1000)),
		"truncated":      whole[:len(whole)/2],
		"overwritten":    append(append(append([]byte{}, whole[:len(whole)/2]...), make([]byte, 8192)...), whole[len(whole)/2+8192:]...),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), dir)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s: got %v, want an error that names the file and the next step", name, err)
		}
	}
}
