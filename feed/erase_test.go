package feed

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// removals tells of each file that is removed.
type removals struct {
	vfs.FS
	seen chan struct{} // capacity 1
}

func (r removals) Remove(name string) error {
	err := r.FS.Remove(name)
	select {
	case r.seen <- struct{}{}:
	default:
	}
	return err
}

// filesWith returns the files of a folder that have the bytes in them.
func filesWith(t *testing.T, dir string, mark []byte) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		p, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if bytes.Contains(p, mark) {
			found = append(found, d.Name())
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return found
}

// secretBytes cannot be compressed, so that they stand in files as they are.
func secretBytes(t *testing.T) []byte {
	t.Helper()
	p := make([]byte, 8<<10)
	if _, err := rand.Read(p); err != nil {
		t.Fatal(err)
	}
	return p
}

// takeOver replaces the copy's state by a snapshot, with an entry replayed.
func takeOver(t *testing.T, c *Copy, seq uint64) {
	t.Helper()
	w, err := c.BeginSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"cert/1", "zone/1"} {
		if err := w.Add(t.Context(), key, []byte("new"), seq-1); err != nil {
			t.Fatal(err)
		}
	}
	e := Seal([32]byte{1}, seq, time.Now(), []Change{put("zone/2", "replayed")})
	if err := w.Replay(t.Context(), &e); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), Cursor{seq, e.Hash}); err != nil {
		t.Fatal(err)
	}
}

func TestReplacedBytesAreErased(t *testing.T) {
	for name, retain := range map[string]Retention{"edge": {}, "relay": {Entries: 1000}} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "copy")
			disk := removals{vfs.Default, make(chan struct{}, 1)}
			opts := CopyOptions{FS: disk, Retain: retain}
			c, err := OpenCopy(dir, opts)
			if err != nil {
				t.Fatal(err)
			}
			inTable, inLog, halfSent := secretBytes(t), secretBytes(t), secretBytes(t)
			marks := map[string][]byte{"table": inTable[4000:4032], "log": inLog[4000:4032], "interrupted snapshot": halfSent[4000:4032]}
			apply(t, c, put("key/1", string(inTable)), put("cert/1", "old"))
			if err := c.db.Flush(); err != nil {
				t.Fatal(err)
			}
			w, err := c.BeginSnapshot()
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(w.Add(t.Context(), "key/3", halfSent, 1), w.ingest(t.Context())); err != nil {
				t.Fatal(err)
			}
			w.Abort()
			apply(t, c, put("key/2", string(inLog)))
			for where, mark := range marks {
				if filesWith(t, dir, mark) == nil {
					t.Fatalf("what stands in the %s is not found before", where)
				}
			}

			takeOver(t, c, 100)
			done := c.erasing.done
			apply(t, c, put("zone/3", "applied meanwhile"))
			<-done
			deadline := time.After(20 * time.Second)
			for where, mark := range marks {
				for filesWith(t, dir, mark) != nil {
					select {
					case <-disk.seen: // files are removed behind the compaction
					case <-deadline:
						t.Fatalf("what stood in the %s is still in %v", where, filesWith(t, dir, mark))
					}
				}
			}
			for key, want := range map[string]string{"cert/1": "new", "zone/2": "replayed", "zone/3": "applied meanwhile", "key/1": "", "key/2": ""} {
				mustGet(t, c, key, want)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if c, err = OpenCopy(dir, opts); err != nil {
				t.Fatal(err)
			}
			if c.erasing != nil {
				t.Error("what is erased is erased again at the next start")
			}
			for where, mark := range marks {
				if found := filesWith(t, dir, mark); found != nil {
					t.Errorf("after a restart what stood in the %s is in %v", where, found)
				}
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestErasingGoesOnAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "copy")
	c, err := OpenCopy(dir, CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret := secretBytes(t)
	mark := secret[4000:4032]
	apply(t, c, put("key/1", string(secret)))
	takeOver(t, c, 100)
	<-c.erasing.done
	// As an earlier version left it: replaced, and not erased.
	old := appendDataKey(nil, 0, "key/1", 1)
	if err := errors.Join(c.db.Set(old, secret, nil), c.db.Flush(), c.db.Delete(old, nil), c.db.Delete(erasedKey, nil), c.Close()); err != nil {
		t.Fatal(err)
	}
	if filesWith(t, dir, mark) == nil {
		t.Fatal("nothing is left to be erased")
	}
	disk := removals{vfs.Default, make(chan struct{}, 1)}
	if c, err = OpenCopy(dir, CopyOptions{FS: disk}); err != nil {
		t.Fatal(err)
	}
	<-c.erasing.done
	if err := c.Close(); err != nil { // waits for the files' removal
		t.Fatal(err)
	}
	if found := filesWith(t, dir, mark); found != nil {
		t.Errorf("still in %v", found)
	}
}

func TestCloseEndsErasing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "copy")
	secret := secretBytes(t)
	mark := secret[4000:4032]
	for i := range 10 {
		c, err := OpenCopy(dir, CopyOptions{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		apply(t, c, put("key/1", string(secret)))
		takeOver(t, c, uint64(100*(i+1)))
		e := c.erasing
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-e.done:
		default:
			t.Fatal("the compaction goes on in a closed copy")
		}
	}
	c, err := OpenCopy(dir, CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c.erasing != nil {
		<-c.erasing.done
	}
	if err := c.Close(); err != nil { // waits for the files' removal
		t.Fatal(err)
	}
	if found := filesWith(t, dir, mark); found != nil {
		t.Errorf("still in %v", found)
	}
}
