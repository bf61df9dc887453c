package ssd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A folder that somebody deletes is made again: what was stored is lost, what
// comes is stored, and the folder has one user still.
func TestDeletedFolderIsMadeAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	s, err := Open(Config{Dir: dir, Bytes: MinBytes})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	body := make([]byte, 100<<10)
	put := func(hi uint64) {
		s.Put(Key{Hi: hi}, []byte("meta"), body, nil)
		s.Flush()
	}
	put(0)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	const many = 10 * MinBytes / (100 << 10) // the open file and all others are replaced
	for i := range uint64(many) {
		put(1 + i)
	}
	if st := s.Stats(); st.Failed != 0 || st.Off {
		t.Errorf("stats %+v", st)
	}
	if r := s.Find(Key{Hi: many}, 1<<20); r == nil {
		t.Error("what was put last is not found")
	} else {
		r.Close()
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) < 2 {
		t.Errorf("%d files, %v", len(names), err)
	}
	if again, err := Open(Config{Dir: dir, Bytes: MinBytes}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second user is let in: %v", err)
		if err == nil {
			again.Close()
		}
	}
}
