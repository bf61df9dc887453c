package ssd

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func put(t testing.TB, s *Store, id, size int) {
	t.Helper()
	for !s.Put(key(id), meta(id), body(id, size), nil) {
		settle(t, s)
	}
}

var sizes = []int{0, 1, 15, 16, 1000, 4000, 4096, 64 << 10, blockBytes, blockBytes + 1, 3*blockBytes + 7, 2 << 20}

func TestRecordsAreFoundAgainAndAfterRestart(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Bytes: 64 << 20}
	s := open(t, cfg)
	for i, n := range sizes {
		put(t, s, i, n)
	}
	settle(t, s)
	for range 2 { // the second time they have been compared
		for i, n := range sizes {
			if !check(t, s, i, n) {
				t.Errorf("record %d of %d bytes is not found", i, n)
			}
		}
	}
	if s.Find(key(1000), 0) != nil {
		t.Error("a record that was never put is found")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	for i, n := range sizes {
		if !check(t, s, i, n) {
			t.Errorf("record %d of %d bytes is not found after a restart", i, n)
		}
	}
}

func TestWholeRecords(t *testing.T) {
	s := open(t, Config{})
	put(t, s, 1, 5000)
	settle(t, s)
	r := s.Find(key(1), 64<<10)
	if r == nil {
		t.Fatal("not found")
	}
	b, ok := r.Whole()
	if !ok || !bytes.Equal(b, body(1, 5000)) {
		t.Error("the body is another")
	}
	r.Close()
	r = s.Find(key(1), 64)
	if b, ok := r.Whole(); ok {
		t.Errorf("a record larger than asked for was read whole: %d bytes", len(b))
	}
	r.Close()
}

func TestNewestRecordCounts(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg)
	for id := range 50 {
		s.Put(key(id), meta(id), body(id+7, 3000), nil) // replaced
		put(t, s, id, 2000+id)
	}
	for id := range 10 {
		s.Delete(key(id))
	}
	again := func() {
		t.Helper()
		for id := range 50 {
			if got, want := check(t, s, id, 2000+id), id >= 10; got != want {
				t.Errorf("record %d: found %v, want %v", id, got, want)
			}
		}
	}
	settle(t, s)
	again()
	s.Close()
	s = open(t, cfg)
	again()
}

// heldFS is a disk on which no file is created before hold is closed.
func heldFS() (disk *memFS, hold chan struct{}) {
	disk = newMemFS()
	hold = make(chan struct{})
	disk.before = func(op string, n int) (int, error) {
		if op == "create" {
			disk.mu.Unlock()
			<-hold
			disk.mu.Lock()
		}
		return n, nil
	}
	return disk, hold
}

// TestDeleteOvertakesTheQueue wants a Delete to hold for what was put before
// and is not written yet, and not for what is put after.
func TestDeleteOvertakesTheQueue(t *testing.T) {
	disk, hold := heldFS()
	s := open(t, Config{FS: disk})
	put(t, s, 1, 1000)
	put(t, s, 2, 1000)
	s.Delete(key(1))
	s.Delete(key(2))
	put(t, s, 2, 500)
	if check(t, s, 1, 1000) || check(t, s, 2, 1000) {
		t.Error("a deleted record is found before it is written")
	}
	close(hold)
	settle(t, s)
	if check(t, s, 1, 1000) {
		t.Error("a record was written after it had been deleted")
	}
	if !check(t, s, 2, 500) {
		t.Error("what was put after the delete is not found")
	}
	if n := len(s.queue.kills); n != 0 {
		t.Errorf("%d deletes are remembered after they were written", n)
	}
}

func TestFullQueueDropsAndNeverWaits(t *testing.T) {
	disk, hold := heldFS()
	s := open(t, Config{FS: disk, Queue: 64 << 10})
	taken, freed := 0, 0
	for id := range 100 {
		if s.Put(key(id), meta(id), body(id, 4000), func() { freed++ }) {
			taken++
		}
	}
	if taken < 10 || taken > 17 {
		t.Errorf("%d records of 4 KB were queued in 64 KiB", taken)
	}
	if got := s.Stats().Dropped; got != uint64(100-taken) {
		t.Errorf("%d counted as dropped, want %d", got, 100-taken)
	}
	close(hold)
	settle(t, s)
	if freed != 100 {
		t.Errorf("%d of 100 bodies were given back", freed)
	}
}

func TestOneProcessOnly(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := open(t, cfg)
	if _, err := Open(Config{Dir: cfg.Dir, Bytes: 64 << 20}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second opening: %v, want ErrLocked", err)
	}
	s.Close()
	open(t, cfg)
}

func TestBudgetIsKept(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Bytes: 16 << 20, Queue: 2 << 20}
	s := open(t, cfg)
	rnd := rand.New(rand.NewPCG(1, 2))
	most := int64(0)
	for id := range 3000 {
		put(t, s, id, rnd.IntN(40<<10))
		if id%100 == 0 {
			put(t, s, 100000+id, 1<<20) // a file of its own
		}
		most = max(most, diskUsage(t, cfg.Dir))
	}
	settle(t, s)
	if most > cfg.Bytes {
		t.Errorf("the files took %d bytes, the budget is %d", most, cfg.Bytes)
	}
	st := s.Stats()
	if st.Bytes > cfg.Bytes || st.Bytes < cfg.Bytes/2 {
		t.Errorf("%d bytes are counted of a budget of %d", st.Bytes, cfg.Bytes)
	}
	if st.Evicted == 0 {
		t.Error("nothing was evicted")
	}
	s.Close()
	if used, counted := diskUsage(t, cfg.Dir), s.used.Load(); used != counted {
		t.Errorf("the files have %d bytes, %d are counted", used, counted)
	}
	cfg.Bytes = 8 << 20
	s = open(t, cfg)
	if used := diskUsage(t, cfg.Dir); used > cfg.Bytes {
		t.Errorf("under a smaller budget of %d the files have %d bytes", cfg.Bytes, used)
	}
	found := 0
	for id := range 3000 {
		if s.Has(key(id)) {
			found++
		}
	}
	if records := s.Stats().Records; found == 0 || found > records {
		t.Errorf("%d records are found, %d are counted", found, records)
	}
}

func diskUsage(t testing.TB, dir string) (n int64) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if info, err := e.Info(); err == nil { // it may be gone since
			n += info.Size()
		}
	}
	return n
}

// TestAskedForStays wants records that are asked for to outlive those that are
// not, in shared segments and in files of their own.
func TestAskedForStays(t *testing.T) {
	s := open(t, Config{Bytes: 16 << 20, Queue: 2 << 20})
	const hot = 100
	for id := range hot {
		put(t, s, id, 4000)
	}
	put(t, s, 77777, 1<<20)
	settle(t, s)
	for id := hot; id < 12000; id++ {
		put(t, s, id, 4000)
		if id%500 == 0 {
			settle(t, s)
			for h := range hot {
				check(t, s, h, 4000)
			}
			check(t, s, 77777, 1<<20)
		}
	}
	settle(t, s)
	stayed := 0
	for h := range hot {
		if check(t, s, h, 4000) {
			stayed++
		}
	}
	if stayed != hot {
		t.Errorf("%d of %d records that were asked for stayed", stayed, hot)
	}
	if !check(t, s, 77777, 1<<20) {
		t.Error("a file that was asked for did not stay")
	}
	if s.Has(key(200)) {
		t.Error("a record that nobody asked for stayed")
	}
}

func TestStreams(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Bytes: 64 << 20}
	s := open(t, cfg)
	write := func(id, size int, announced int64) error {
		w := s.Begin(key(id), meta(id), announced)
		if w == nil {
			return ErrGivenUp
		}
		b := body(id, size)
		for len(b) > 0 {
			n := min(len(b), 30000)
			if _, err := w.Write(b[:n]); err != nil {
				w.Abort()
				return err
			}
			b = b[n:]
		}
		return w.Commit()
	}
	for i, n := range sizes {
		if err := write(i, n, int64(n)); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		if err := write(100+i, n, -1); err != nil {
			t.Errorf("%d bytes of unknown length: %v", n, err)
		}
	}
	if err := write(50, 1000, 999); err == nil {
		t.Error("a longer body than announced was stored")
	}
	if err := write(51, 1000, 1001); err == nil {
		t.Error("a shorter body than announced was stored")
	}
	if err := write(52, 2<<20, 3<<20); err == nil {
		t.Error("a shorter body than announced was stored")
	}
	if w := s.Begin(key(53), meta(53), 1<<30); w != nil {
		t.Error("a body larger than an eighth of the budget was taken")
	}
	w := s.Begin(key(54), meta(54), -1)
	w.Write(body(54, 3<<20))
	s.Delete(key(54)) // what was asked for before the delete is not to appear after
	_ = w.Commit()
	settle(t, s)
	again := func() {
		t.Helper()
		for i, n := range sizes {
			if !check(t, s, i, n) || !check(t, s, 100+i, n) {
				t.Errorf("a streamed record of %d bytes is not found", n)
			}
		}
		for id := 50; id < 55; id++ {
			if s.Has(key(id)) {
				t.Errorf("record %d was not to be stored", id)
			}
		}
	}
	again()
	s.Close()
	if used, counted := diskUsage(t, cfg.Dir), s.used.Load(); used != counted {
		t.Errorf("the files have %d bytes, %d are counted", used, counted)
	}
	s = open(t, cfg)
	again()
}

func TestReadAt(t *testing.T) {
	s := open(t, Config{})
	const size = 3*blockBytes + 100
	put(t, s, 1, size)
	settle(t, s)
	want := body(1, size)
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 3 {
		r := s.Find(key(1), 0)
		for range 50 {
			off := rnd.Int64N(size + 10)
			p := make([]byte, rnd.IntN(2*blockBytes))
			n, err := r.ReadAt(p, off)
			wantN := int(max(0, min(int64(len(p)), size-off)))
			if n != wantN || (err == io.EOF) != (wantN < len(p) || off >= size) || err != nil && err != io.EOF {
				t.Fatalf("read %d at %d: %d, %v", len(p), off, n, err)
			}
			if n > 0 && !bytes.Equal(p[:n], want[off:off+int64(n)]) {
				t.Fatalf("read %d at %d: other bytes", len(p), off)
			}
		}
		if round == 1 {
			f, at, done := r.File()
			if f == nil {
				t.Fatal("no file to send from")
			}
			p := make([]byte, size)
			if _, err := f.ReadAt(p, at); err != nil || !bytes.Equal(p, want) {
				t.Errorf("the file has other bytes at %d: %v", at, err)
			}
			done()
		}
		r.Close()
	}
}

func TestDamageIsFound(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	for i, n := range sizes {
		put(t, s, i, n)
	}
	s.Close()
	// One bit of each record's last byte of the body.
	s = open(t, Config{Dir: dir})
	for i, n := range sizes {
		if n == 0 {
			continue
		}
		r := s.Find(key(i), 0)
		name, at := r.seg.name(), r.bodyAt()+int64(n)-1
		r.Close()
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		f.ReadAt(b[:], at)
		b[0] ^= 1
		f.WriteAt(b[:], at)
		f.Close()
	}
	for i, n := range sizes[1:] {
		if check(t, s, i+1, n) {
			t.Errorf("a damaged record of %d bytes was given out", n)
		}
		if s.Has(key(i + 1)) {
			t.Errorf("a damaged record of %d bytes is not forgotten", n)
		}
	}
	if got := s.Stats().Damaged; got != uint64(len(sizes)-1) {
		t.Errorf("%d counted as damaged, want %d", got, len(sizes)-1)
	}
	if !check(t, s, 0, 0) {
		t.Error("the record that is in order is not found")
	}
}

func TestScrubberFindsDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	for id := range 100 {
		put(t, s, id, 3000)
	}
	put(t, s, 500, 2<<20)
	s.Close()
	names, _ := filepath.Glob(filepath.Join(dir, "*.*"))
	for _, name := range names {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		f.ReadAt(b[:], 1000)
		b[0] ^= 0x10
		f.WriteAt(b[:], 1000)
		f.Close()
	}
	s = open(t, Config{Dir: dir, Scrub: 1 << 40})
	until(t, func() bool { return s.Stats().Rounds > 0 })
	st := s.Stats()
	if st.Damaged != 2 || st.Records != 99 {
		t.Errorf("the scrubber counts %d damaged and leaves %d of 101 records, want 2 and 99", st.Damaged, st.Records)
	}
	for id := range 100 {
		if at, ok := s.index.peek(key(id)); ok && at.bits&verified == 0 {
			t.Errorf("record %d was not compared", id)
		}
	}
}
