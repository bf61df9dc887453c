package ssd

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// state is what a store should have: record id → size of its body.
type state map[int]int

// stateOf reads all of a store, and fails when a record is not whole.
func stateOf(t testing.TB, s *Store, ids int) state {
	t.Helper()
	got := state{}
	for id := range ids {
		r := s.Find(key(id), 1<<30)
		if r == nil {
			continue
		}
		b, ok := r.Whole()
		if !ok || !bytes.Equal(b, body(id, len(b))) || !bytes.Equal(r.Meta, meta(id)) {
			t.Fatalf("record %d is not what was put", id)
		}
		got[id] = len(b)
		r.Close()
	}
	return got
}

var everyByte = flag.Int("every", 11, "TestCrashAtAnyByte: cut after each n-th byte")

// TestCrashAtAnyByte ends a store's life after each byte that it wrote: what
// the next start finds is what it had after some number of calls, never fewer
// than after an earlier byte.
func TestCrashAtAnyByte(t *testing.T) {
	const ids = 12
	cfg := Config{Bytes: 8 << 20, Segment: 4 << 10, Single: 2 << 10, Scrub: -1}
	disk := newMemFS()
	disk.logged = true
	cfg.FS = disk
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	history := []state{{}}
	for range 60 {
		now := maps.Clone(history[len(history)-1])
		id := rnd.IntN(ids)
		if rnd.IntN(4) == 0 {
			s.Delete(key(id))
			delete(now, id)
		} else {
			n := rnd.IntN(500)
			put(t, s, id, n)
			now[id] = n
		}
		history = append(history, now)
		if rnd.IntN(4) == 0 {
			settle(t, s)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	crashed, at, cuts := newMemFS(), 0, 0
	look := func() {
		t.Helper()
		cuts++
		cfg.FS = crashed.clone()
		s, err := Open(cfg)
		if err != nil {
			t.Fatalf("cut %d: %v", cuts, err)
		}
		got := stateOf(t, s, ids)
		i := slices.IndexFunc(history[at:], func(h state) bool { return maps.Equal(h, got) })
		if i < 0 {
			t.Fatalf("cut %d: found %v, which is no state from call %d on", cuts, got, at)
		}
		at += i
		if err := s.Close(); err != nil {
			t.Fatalf("cut %d: close: %v", cuts, err)
		}
	}
	for _, step := range disk.log {
		if step.op == "write" {
			// Each byte takes half a minute; eleven is prime to all sizes here,
			// so that other bytes are met in each record.
			for n := 0; n < len(step.data); n += *everyByte {
				part := step
				part.data = step.data[:n]
				crashed.apply(part)
				look()
			}
		}
		crashed.apply(step)
		look()
	}
	if at != len(history)-1 {
		t.Errorf("after the whole life the store is as after call %d of %d", at, len(history)-1)
	}
	t.Logf("%d ends of life", cuts)
}

// TestFailingDisk lets steps of the disk fail at random: no wrong byte is ever
// given out, nobody hangs, what was deleted stays so after a restart, and when
// the disk works again so does the store.
func TestFailingDisk(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { failingDisk(t, seed) })
	}
}

func failingDisk(t *testing.T, seed uint64) {
	const ids = 200
	rnd := rand.New(rand.NewPCG(seed, 7))
	disk := newMemFS()
	failing := false // guarded by disk.mu
	faults := []error{unix.EIO, unix.ENOSPC, unix.EROFS}
	trouble := rand.New(rand.NewPCG(seed, 8))
	disk.before = func(op string, n int) (int, error) {
		if !failing || op == "remove" || trouble.IntN(4) > 0 {
			return n, nil
		}
		if n > 0 && trouble.IntN(2) == 0 {
			return trouble.IntN(n), faults[trouble.IntN(3)]
		}
		return 0, faults[trouble.IntN(3)]
	}
	disk.reads = func() error {
		if failing && trouble.IntN(10) == 0 {
			return unix.EIO
		}
		return nil
	}
	now := time.Unix(1e9, 0)
	cfg := Config{FS: disk, Bytes: 8 << 20, Segment: 64 << 10, Single: 16 << 10, Scrub: -1, Now: func() time.Time { return now }}
	s := open(t, cfg)
	gone := map[int]bool{}
	for i := range 3000 {
		disk.mu.Lock()
		failing = i/300%2 == 1
		disk.mu.Unlock()
		id := rnd.IntN(ids)
		switch rnd.IntN(10) {
		case 0:
			s.Delete(key(id))
			gone[id] = true
		case 1, 2, 3, 4:
			if s.Put(key(id), meta(id), body(id, size(id)), nil) {
				gone[id] = false
			}
		default:
			if check(t, s, id, size(id)) && gone[id] {
				t.Fatalf("record %d was deleted and is found", id)
			}
		}
		if i%50 == 0 {
			settle(t, s)
		}
	}
	disk.mu.Lock()
	failing = false
	disk.mu.Unlock()
	settle(t, s)
	now = now.Add(2 * sickFor)
	for id := range 50 {
		put(t, s, 1000+id, 1000)
	}
	settle(t, s)
	for id := range 50 {
		if !check(t, s, 1000+id, 1000) {
			t.Fatalf("record %d is not stored though the disk works again", 1000+id)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := disk.bytes(), s.used.Load(); got > want {
		t.Errorf("the files have %d bytes, %d are counted", got, want)
	}
	s = open(t, cfg)
	for id := range ids {
		if check(t, s, id, size(id)) && gone[id] {
			t.Errorf("record %d was deleted and is found after a restart", id)
		}
	}
}

// size is that of a record in tests where it is always the same.
func size(id int) int { return id * id % 30000 }

// TestFullDisk keeps the tier in what the disk has.
func TestFullDisk(t *testing.T) {
	disk := newMemFS()
	const room = 3 << 20
	disk.before = func(op string, n int) (int, error) {
		if op != "write" {
			return n, nil
		}
		used := 0
		for _, f := range disk.files {
			used += len(f.data)
		}
		if used+n > room {
			return 0, unix.ENOSPC
		}
		return n, nil
	}
	now := time.Unix(1e9, 0)
	s := open(t, Config{FS: disk, Bytes: 8 << 20, Segment: 256 << 10, Now: func() time.Time { return now }})
	for id := range 2000 {
		if !s.Put(key(id), meta(id), body(id, 5000), nil) {
			settle(t, s)
			now = now.Add(sickFor + 1)
		}
		if id%50 == 0 {
			settle(t, s)
		}
	}
	settle(t, s)
	st := s.Stats()
	if st.Full == 0 {
		t.Error("that the disk is full was not counted")
	}
	found := 0
	for id := 1500; id < 2000; id++ {
		if check(t, s, id, 5000) {
			found++
		}
	}
	if found < 200 {
		t.Errorf("%d of the last 500 records are found, on a disk that has room for 600", found)
	}
}

func TestDiskThatCannotBeOpened(t *testing.T) {
	disk := newMemFS()
	disk.before = func(string, int) (int, error) { return 0, unix.EROFS }
	s := open(t, Config{FS: disk})
	for id := range 100 {
		s.Put(key(id), meta(id), body(id, 100), nil)
		s.Delete(key(id))
		if id%10 == 0 {
			settle(t, s)
		}
	}
	if !s.Stats().Off {
		t.Error("a disk that takes nothing is still asked")
	}
	if _, err := Open(Config{Dir: "/proc/nowhere", Bytes: MinBytes}); err == nil {
		t.Error("a folder that cannot be made was opened")
	}
	if _, err := Open(Config{FS: disk, Bytes: MinBytes - 1}); err == nil {
		t.Error("a budget that is too small was accepted")
	}
}

// FuzzRecover opens a folder with any bytes in its files: what is found is
// whole, and new records can be stored.
func FuzzRecover(f *testing.F) {
	for _, closed := range []bool{true, false} {
		disk := newMemFS()
		s, err := Open(Config{FS: disk, Bytes: 8 << 20, Scrub: -1, Single: 4 << 10})
		if err != nil {
			f.Fatal(err)
		}
		for id := range 5 {
			put(f, s, id, id*300)
		}
		s.Delete(key(2))
		put(f, s, 6, 5000)
		settle(f, s)
		seen := disk
		if !closed {
			seen = disk.clone()
		}
		if err := s.Close(); err != nil {
			f.Fatal(err)
		}
		var log, one []byte
		for name, file := range seen.files {
			if _, single, _ := parseName(name); single {
				one = file.data
			} else {
				log = file.data
			}
		}
		f.Add(log, one)
	}
	f.Fuzz(func(t *testing.T, log, one []byte) {
		disk := newMemFS()
		disk.files[fileName(1, false)] = &memFile{fs: disk, name: fileName(1, false), data: bytes.Clone(log)}
		disk.files[fileName(2, true)] = &memFile{fs: disk, name: fileName(2, true), data: bytes.Clone(one)}
		s, err := Open(Config{FS: disk, Bytes: 8 << 20, Scrub: -1})
		if err != nil {
			t.Fatal(err)
		}
		for id := range 7 {
			if r := s.Find(key(id), int64(id)*1000); r != nil {
				p := make([]byte, min(r.Size, 1<<20))
				if _, err := r.ReadAt(p, 0); err == nil && !bytes.Equal(p, body(id, len(p))) && r.head.sum == 0 {
					t.Fatal("a body without checksum was given out")
				}
				r.Close()
			}
		}
		put(t, s, 100, 3000)
		settle(t, s)
		if !check(t, s, 100, 3000) {
			t.Fatal("nothing can be stored")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(Config{FS: disk, Bytes: 8 << 20, Scrub: -1}); err != nil {
			t.Fatal(err)
		}
		if !check(t, s, 100, 3000) {
			t.Fatal("what was stored is not found again")
		}
		if err := errors.Join(s.Close()); err != nil {
			t.Fatal(err)
		}
	})
}
