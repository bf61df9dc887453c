package feed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func apply(t *testing.T, c *Copy, changes ...Change) Entry {
	t.Helper()
	at := c.Cursor()
	e := Seal(at.Hash, at.Seq+1, time.Now(), changes)
	if err := c.Apply(&e); err != nil {
		t.Fatal(err)
	}
	return e
}

func put(key, value string) Change { return Change{Op: Set, Key: key, Value: []byte(value)} }

func mustGet(t *testing.T, c *Copy, key, want string) {
	t.Helper()
	got, _, ok, err := c.Get(key)
	if err != nil || string(got) != want || ok != (want != "") {
		t.Errorf("%s = %q, %t, %v; want %q", key, got, ok, err, want)
	}
}

func scan(t *testing.T, c *Copy, prefix string) (rows []string) {
	t.Helper()
	err := c.Scan(prefix, func(key string, value []byte, seq uint64) error {
		rows = append(rows, fmt.Sprintf("%s=%s@%d", key, value, seq))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestCopyReadsBackWhatWasApplied(t *testing.T) {
	c := memCopy(t, vfs.NewMem())
	defer func() { _ = c.Close() }()
	apply(t, c, put("a", "1"), put("a/b", "2"), put("ab", "3"), put("b", "4"))
	apply(t, c, put("a", "5"), Change{Op: Delete, Key: "b"}, Change{Op: Signal, Key: "purge/x", Value: []byte("{}")})
	apply(t, c, put("a/c", "6"), put("a/c", "7"))
	if got, want := scan(t, c, ""), []string{"a=5@2", "a/b=2@1", "a/c=7@3", "ab=3@1"}; !slices.Equal(got, want) {
		t.Errorf("scan %v, want %v", got, want)
	}
	if got, want := scan(t, c, "a/"), []string{"a/b=2@1", "a/c=7@3"}; !slices.Equal(got, want) {
		t.Errorf("scan a/ %v, want %v", got, want)
	}
	mustGet(t, c, "a", "5")
	mustGet(t, c, "b", "")
	mustGet(t, c, "purge/x", "")
	if v, seq, ok, err := c.GetAt("b", 1); string(v) != "4" || seq != 1 || !ok || err != nil {
		t.Errorf("b at 1 = %s, %d, %t, %v; want 4, 1", v, seq, ok, err)
	}
	stop := errors.New("stop")
	if err := c.Scan("", func(string, []byte, uint64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, want the callback's error", err)
	}
}

func TestCopyKeepsFourVersions(t *testing.T) {
	c := memCopy(t, vfs.NewMem())
	defer func() { _ = c.Close() }()
	for i := range 10 {
		apply(t, c, put("a", fmt.Sprint(i+1)), put("other", "x"))
	}
	for at := uint64(1); at <= 10; at++ {
		v, _, ok, err := c.GetAt("a", at)
		if want := at >= 7; ok != want || err != nil || ok && string(v) != fmt.Sprint(at) {
			t.Errorf("a at %d = %q, %t, %v", at, v, ok, err)
		}
	}
	apply(t, c, Change{Op: Delete, Key: "a"})
	if err := c.Trim(11); err != nil {
		t.Fatal(err)
	}
	if got := versions(t, c); got != 1 {
		t.Errorf("%d versions after Trim, want other's newest alone", got)
	}
	mustGet(t, c, "other", "x")
}

func versions(t *testing.T, c *Copy) (n int) {
	t.Helper()
	it, _, err := c.iterator(func(gen uint32) ([]byte, []byte) { return prefixBounds(gen, "") })
	if err != nil {
		t.Fatal(err)
	}
	for it.First(); it.Valid(); it.Next() {
		n++
	}
	if err := c.release(it, nil); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCopyRefusesWhatDoesNotFollow(t *testing.T) {
	c := memCopy(t, vfs.NewMem())
	defer func() { _ = c.Close() }()
	first := apply(t, c, put("a", "1"))
	gap := Seal(first.Hash, 3, time.Now(), []Change{put("a", "x")})
	if err := c.Apply(&gap); !errors.Is(err, ErrGap) {
		t.Errorf("%v, want ErrGap", err)
	}
	fork := Seal([32]byte{1}, 2, time.Now(), []Change{put("a", "x")})
	if err := c.Apply(&fork); !errors.Is(err, ErrFork) {
		t.Errorf("%v, want ErrFork", err)
	}
	mustGet(t, c, "a", "1")
	if got := c.Cursor(); got != (Cursor{1, first.Hash}) {
		t.Errorf("cursor %v moved", got)
	}
}

func TestSnapshotReplacesAtOnce(t *testing.T) {
	disk := vfs.NewMem()
	c := memCopy(t, disk)
	apply(t, c, put("old", "1"), put("both", "1"))
	value := strings.Repeat("v", 10_000)
	for _, end := range []string{"abort", "crash", "commit"} {
		w, err := c.BeginSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(t.Context(), "both", []byte("2"), 41); err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			if err := w.Add(t.Context(), fmt.Sprintf("new/%s/%03d", end, i), []byte(value), 40); err != nil {
				t.Fatal(err)
			}
		}
		mustGet(t, c, "both", "1")
		if got := len(scan(t, c, "")); got != 2 {
			t.Errorf("%d rows before the end, want the old 2", got)
		}
		switch end {
		case "abort":
			w.Abort()
		case "crash": // what was written stays on disk, without its end: in the store, and a file that is not the store's yet
			if err := w.ingest(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.Abort()
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			f, err := disk.Create("copy/"+tablePrefix+"7", vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write([]byte("torn")); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			c = memCopy(t, disk)
		case "commit":
			if err := w.Commit(t.Context(), Cursor{42, [32]byte{42}}); err != nil {
				t.Fatal(err)
			}
			w.Abort()
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = memCopy(t, disk)
	defer func() { _ = c.Close() }()
	mustGet(t, c, "old", "")
	mustGet(t, c, "both", "2")
	if got := len(scan(t, c, "")); got != 301 {
		t.Errorf("%d rows, want 301: nothing of the snapshots that did not end", got)
	}
	if got := c.Cursor(); got != (Cursor{42, [32]byte{42}}) {
		t.Errorf("cursor %v, want 42", got)
	}
	if names, err := disk.List("copy"); err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, tablePrefix) }) {
		t.Errorf("files %v, %v; want no table that is not the store's", names, err)
	}
}

// filled makes a copy on the disk with its data in tables, and returns the
// folder.
func filled(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	c, err := OpenCopy(dir, CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		apply(t, c, put(fmt.Sprintf("zone/%d", i), strings.Repeat(fmt.Sprint(i), 500)))
	}
	if err := c.db.Flush(); err != nil {
		t.Fatal(err)
	}
	apply(t, c, put("newest", "in the log"))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func only(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	return found[len(found)-1]
}

func TestDamagedCopyIsMovedAsideAndNamed(t *testing.T) {
	cases := []struct {
		name   string
		damage func(t *testing.T, dir string)
	}{
		{"table truncated", func(t *testing.T, dir string) { truncate(t, only(t, dir, "*.sst")) }},
		{"table missing", func(t *testing.T, dir string) { remove(t, only(t, dir, "*.sst")) }},
		{"table with a flipped byte", func(t *testing.T, dir string) { flip(t, only(t, dir, "*.sst")) }},
		{"manifest truncated", func(t *testing.T, dir string) {
			// Pebble takes a torn tail for a crash. The tables that it forgets
			// would come back from their log, were that still there.
			truncate(t, only(t, dir, "MANIFEST-*"))
			logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
			for _, log := range logs[:len(logs)-1] {
				remove(t, log)
			}
		}},
		{"manifest missing", func(t *testing.T, dir string) { remove(t, only(t, dir, "MANIFEST-*")) }},
		{"manifest flipped", func(t *testing.T, dir string) { flip(t, only(t, dir, "MANIFEST-*")) }},
		{"value changed under a good block checksum", func(t *testing.T, dir string) {
			rewrite(t, dir, func(db *pebble.DB) error {
				return db.Set(appendDataKey(nil, 0, "zone/7", 8), []byte{kindValue, 1, 2, 3, 4, 'x'}, pebble.Sync)
			})
		}},
		{"cursor changed", func(t *testing.T, dir string) {
			rewrite(t, dir, func(db *pebble.DB) error {
				p := meta{cursor: Cursor{Seq: 9}}.encode()
				p[9]++
				return db.Set(metaKey, p, pebble.Sync)
			})
		}},
		{"a row gone without a trace", func(t *testing.T, dir string) {
			rewrite(t, dir, func(db *pebble.DB) error { return db.Delete(appendDataKey(nil, 0, "zone/7", 8), pebble.Sync) })
		}},
		{"cursor missing", func(t *testing.T, dir string) {
			rewrite(t, dir, func(db *pebble.DB) error { return db.Delete(metaKey, pebble.Sync) })
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filled(t)
			if err := os.Mkdir(dir+".bad-earlier", 0o700); err != nil {
				t.Fatal(err)
			}
			c.damage(t, dir)
			var log bytes.Buffer
			cp, err := OpenCopy(dir, CopyOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if cp.Cursor() != (Cursor{}) { // it opens; what is wrong is found by reading all of it
				if err := cp.Verify(t.Context(), 0); !errors.Is(err, ErrCorrupt) || !errors.Is(cp.Damage(), ErrCorrupt) {
					t.Fatalf("verified: %v, noted: %v; want the damage", err, cp.Damage())
				}
				e := Seal(cp.Cursor().Hash, cp.Cursor().Seq+1, time.Now(), []Change{put("a", "1")})
				if err := cp.Apply(&e); !errors.Is(err, ErrCorrupt) {
					t.Errorf("a damaged copy is written to: %v", err)
				}
				if err := cp.Recover(cp.Damage()); err != nil {
					t.Fatal(err)
				}
			}
			if got := cp.Cursor(); got != (Cursor{}) || len(scan(t, cp, "")) != 0 {
				t.Errorf("cursor %v and %d rows, want an empty copy", got, len(scan(t, cp, "")))
			}
			apply(t, cp, put("a", "1"))
			if err := cp.Close(); err != nil {
				t.Error(err)
			}
			bad, _ := filepath.Glob(dir + ".bad-*")
			if len(bad) != 1 || bad[0] == dir+".bad-earlier" {
				t.Errorf("moved aside: %v, want the latest alone", bad)
			}
			if !strings.Contains(log.String(), "copy is damaged") {
				t.Errorf("log says %s", log.String())
			}
		})
	}
}

func truncate(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	p, err := os.ReadFile(path)
	if err == nil {
		p[len(p)/3] ^= 0xff
		err = os.WriteFile(path, p, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func rewrite(t *testing.T, dir string, f func(*pebble.DB) error) {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: &health{log: slog.New(slog.DiscardHandler)}})
	if err == nil {
		err = errors.Join(f(db), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A write that was cut off by a crash is not damage: the copy stands one entry
// earlier, and the feed brings that entry again.
func TestTornTailOfTheLogLosesOneEntryOnly(t *testing.T) {
	dir := filled(t)
	log := only(t, dir, "*.log")
	info, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(log, info.Size()-5); err != nil {
		t.Fatal(err)
	}
	c, err := OpenCopy(dir, CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if got := c.Cursor().Seq; got != 50 && got != 51 {
		t.Errorf("cursor %d, want 50 or 51", got)
	}
	if got := len(scan(t, c, "zone/")); got != 50 {
		t.Errorf("%d rows, want 50", got)
	}
}

func TestCopyInUseIsNotTakenForDamaged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "copy")
	c, err := OpenCopy(dir, CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := OpenCopy(dir, CopyOptions{}); !errors.Is(err, errLocked) {
		t.Errorf("%v, want the lock", err)
	}
	apply(t, c, put("a", "1"))
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Error("the copy in use was moved aside")
	}
}

// A disk that fails ends the writing, not the process, and what is in memory
// can still be read.
func TestFailedDiskBreaksTheCopyAlone(t *testing.T) {
	fail := &errorfs.Toggle{Injector: errorfs.ErrInjected.If(errorfs.Writes)}
	c := memCopy(t, errorfs.Wrap(vfs.NewMem(), fail))
	c.opts.NoSync = false
	apply(t, c, put("a", "1"))
	fail.On()
	at := c.Cursor()
	e := Seal(at.Hash, at.Seq+1, time.Now(), []Change{put("a", "2")})
	if err := c.Apply(&e); !errors.Is(err, ErrBroken) {
		t.Fatalf("%v, want ErrBroken", err)
	}
	if c.Cursor() != at {
		t.Errorf("cursor moved to %v", c.Cursor())
	}
	if err := c.Apply(&e); !errors.Is(err, ErrBroken) {
		t.Errorf("%v, want ErrBroken", err)
	}
	if _, err := c.BeginSnapshot(); !errors.Is(err, ErrBroken) {
		t.Errorf("%v, want ErrBroken", err)
	}
	if err := c.Close(); !errors.Is(err, ErrBroken) {
		t.Errorf("%v, want ErrBroken", err)
	}
}

// Entries that are not waited for find the failure of an earlier one, by which
// Pebble panics.
func TestFailedDiskUnderEntriesThatAreNotWaitedFor(t *testing.T) {
	failed := make(chan struct{}, 1)
	fail := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileWrite {
			return nil
		}
		select {
		case failed <- struct{}{}:
		default:
		}
		return syscall.ENOSPC
	})}
	c := memCopy(t, errorfs.Wrap(vfs.NewMem(), fail))
	apply(t, c, put("a", "1"))
	fail.On()
	next := func(value string) error {
		at := c.Cursor()
		e := Seal(at.Hash, at.Seq+1, time.Now(), []Change{put("a", value)})
		return c.Apply(&e)
	}
	err := next(string(make([]byte, 40<<10))) // more than a block of its log, which is written at once
	if err != nil {
		t.Fatal(err)
	}
	<-failed
	deadline, tick := time.After(10*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for err == nil {
		select {
		case <-tick.C:
			err = next("2")
		case <-deadline:
			t.Fatal("the failure was not noticed within 10 s")
		}
	}
	if !errors.Is(err, ErrBroken) {
		t.Fatalf("%v, want ErrBroken", err)
	}
	if got, _, ok, err := c.Get("a"); err != nil || !ok || len(got) == 0 {
		t.Errorf("a = %d bytes, %t, %v; want what was applied", len(got), ok, err)
	}
	if err := c.Close(); !errors.Is(err, ErrBroken) {
		t.Errorf("%v, want ErrBroken", err)
	}
}

func TestRecoverStartsAnEmptyCopy(t *testing.T) {
	dir := filled(t)
	c, err := OpenCopy(dir, CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.Recover(ErrCorrupt); err != nil {
		t.Fatal(err)
	}
	if got := c.Cursor(); got != (Cursor{}) {
		t.Errorf("cursor %v, want zero", got)
	}
	apply(t, c, put("a", "1"))
	mustGet(t, c, "a", "1")
}

func BenchmarkApply(b *testing.B) {
	c, err := OpenCopy("copy", CopyOptions{FS: vfs.NewMem(), NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	value := make([]byte, 1024)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at := c.Cursor()
		e := Seal(at.Hash, at.Seq+1, time.Now(), []Change{{Op: Set, Key: fmt.Sprintf("zone/%d", i%1000), Value: value}})
		if err := c.Apply(&e); err != nil {
			b.Fatal(err)
		}
	}
}

// An edge that restarts on a full disk serves what its copy holds: it waits for
// no write, and says that nothing newer can come.
func TestCopyOnAFullDiskIsRead(t *testing.T) {
	for name, failing := range map[string][]errorfs.OpKind{
		"every write": {errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync},
		"data":        {errorfs.OpFileWrite},
		"sync":        {errorfs.OpFileSync},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewMem()
			c := memCopy(t, disk)
			apply(t, c, put("a", "1"))
			at := c.Cursor()
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			full := errorfs.InjectorFunc(func(op errorfs.Op) error {
				if slices.Contains(failing, op.Kind) {
					return syscall.ENOSPC
				}
				return nil
			})
			c, err := OpenCopy("copy", CopyOptions{FS: errorfs.Wrap(disk, full)})
			if err != nil {
				t.Fatal(err)
			}
			mustGet(t, c, "a", "1")
			if c.Cursor() != at {
				t.Errorf("cursor %v, want %v", c.Cursor(), at)
			}
			e := Seal(at.Hash, at.Seq+1, time.Now(), []Change{put("a", "2")})
			if err := c.Apply(&e); !errors.Is(err, ErrBroken) {
				t.Errorf("%v, want ErrBroken", err)
			}
			if err := c.Close(); !errors.Is(err, ErrBroken) {
				t.Errorf("%v, want ErrBroken", err)
			}
		})
	}
}

// unlockable is a disk that is mounted read-only.
type unlockable struct{ vfs.FS }

func (unlockable) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, syscall.EROFS }
func (unlockable) Lock(string) (io.Closer, error)                         { return nil, syscall.EROFS }

// A disk mounted read-only is not taken for another process, nor for damage.
func TestReadOnlyDiskIsNamed(t *testing.T) {
	_, err := OpenCopy(t.TempDir(), CopyOptions{FS: unlockable{vfs.Default}})
	if !errors.Is(err, syscall.EROFS) || errors.Is(err, errLocked) {
		t.Errorf("got %v, want the disk named", err)
	}
}

// crowded is a disk that says how much room it has.
type crowded struct {
	vfs.FS
	free *atomic.Uint64
}

func (d crowded) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.free.Load()}, nil
}

// Pebble ends the process when it cannot begin a log: it is never asked to.
func TestWriteWithoutRoomIsRefusedUntilThereIsRoom(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 30)
	c, err := OpenCopy(t.TempDir(), CopyOptions{FS: crowded{vfs.Default, &free}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	e := Seal([32]byte{}, 1, time.Unix(1, 0), []Change{{Op: Set, Key: "k", Value: []byte("v")}})
	free.Store(reserveBytes)
	if err := c.Apply(&e); !errors.Is(err, ErrFull) || c.Cursor().Seq != 0 {
		t.Fatalf("without room: %v, cursor %d", err, c.Cursor().Seq)
	}
	free.Store(1 << 30)
	if err := c.Apply(&e); err != nil || c.Cursor().Seq != 1 {
		t.Fatalf("with room again: %v, cursor %d", err, c.Cursor().Seq)
	}
}
