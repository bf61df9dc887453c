package feed

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// dump is all that a copy holds: versions, what is kept, and meta.
func dump(t *testing.T, c *Copy) map[string]string {
	t.Helper()
	it, err := c.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for it.First(); it.Valid(); it.Next() {
		all[string(it.Key())] = string(it.Value())
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// randomEntries follow each other and change few keys often, some twice.
func randomEntries(random *rand.Rand, n int) (entries []Entry) {
	var at Cursor
	for range n {
		var changes []Change
		for range random.IntN(4) {
			key := fmt.Sprintf("k/%d", random.IntN(7))
			switch op := Op(1 + random.IntN(3)); op {
			case Delete:
				changes = append(changes, Change{Op: Delete, Key: key})
			default:
				changes = append(changes, Change{Op: op, Key: key, Value: fmt.Append(nil, random.Uint32())})
			}
		}
		e := Seal(at.Hash, at.Seq+1, time.Unix(int64(at.Seq), 0), changes)
		entries, at = append(entries, e), Cursor{e.Seq, e.Hash}
	}
	return entries
}

// What a copy holds after entries does not depend on how many came at a time.
func TestBurstsLeaveWhatSingleEntriesDo(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		entries := randomEntries(random, 400)
		open := func(disk vfs.FS) *Copy {
			c, err := OpenCopy("copy", CopyOptions{FS: disk, NoSync: true, Retain: Retention{Entries: 1 << 20}})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		oneDisk, manyDisk := vfs.NewMem(), vfs.NewMem()
		one, many := open(oneDisk), open(manyDisk)
		for i := range entries {
			if err := one.Apply(&entries[i]); err != nil {
				t.Fatal(err)
			}
		}
		for rest := entries; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(90))
			if got, err := many.apply(rest[:n]); err != nil || got != n {
				t.Fatalf("%d of %d, %v", got, n, err)
			}
			rest = rest[n:]
			if random.IntN(3) == 0 { // opening compares with what must be there
				if err := many.Close(); err != nil {
					t.Fatal(err)
				}
				many = open(manyDisk)
				if at := (Cursor{entries[len(entries)-len(rest)-1].Seq, entries[len(entries)-len(rest)-1].Hash}); many.Cursor() != at {
					t.Fatalf("seed %d: cursor %d after opening, want %d", seed, many.Cursor().Seq, at.Seq)
				}
			}
		}
		if a, b := dump(t, one), dump(t, many); !maps.Equal(a, b) {
			t.Errorf("seed %d: %d rows and %d, which differ", seed, len(a), len(b))
		}
		if err := errors.Join(one.Close(), many.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// Of entries that do not all follow each other those up to the gap are stored.
func TestBurstEndsWhereEntriesDoNotFollow(t *testing.T) {
	entries := randomEntries(rand.New(rand.NewPCG(1, 1)), 10)
	forked := Seal([32]byte{1}, 6, time.Unix(6, 0), nil)
	for name, c := range map[string]struct {
		entries []Entry
		stored  int
		err     error
	}{
		"gap":    {append(append([]Entry(nil), entries[:4]...), entries[6:]...), 4, ErrGap},
		"fork":   {append(append([]Entry(nil), entries[:5]...), forked), 5, ErrFork},
		"at all": {entries[3:], 0, ErrGap},
		"none":   {nil, 0, nil},
	} {
		copied := memCopy(t, vfs.NewMem())
		n, err := copied.apply(c.entries)
		if n != c.stored || !errors.Is(err, c.err) || copied.Cursor().Seq != uint64(c.stored) {
			t.Errorf("%s: %d stored, cursor %d, %v; want %d, %v", name, n, copied.Cursor().Seq, err, c.stored, c.err)
		}
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The bounds of what is kept hold after a burst that is larger than they are.
func TestBurstLargerThanWhatIsKept(t *testing.T) {
	entries := randomEntries(rand.New(rand.NewPCG(1, 1)), 300)
	var size int64
	for i := range entries[290:] {
		size += int64(entries[290+i].Size())
	}
	for name, r := range map[string]Retention{"entries": {Entries: 10}, "bytes": {Bytes: size}} {
		c, err := OpenCopy("copy", CopyOptions{FS: vfs.NewMem(), NoSync: true, Retain: r})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.apply(entries); err != nil {
			t.Fatal(err)
		}
		all, err := c.Kept(290, 1<<20)
		if err != nil || len(all) != 10 || all[0].Hash != entries[290].Hash {
			t.Errorf("%s: %d kept, %v; want the last 10", name, len(all), err)
		}
		if _, err := c.Kept(289, 1<<20); !errors.Is(err, ErrCompacted) {
			t.Errorf("%s: %v, want the 290th gone", name, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
