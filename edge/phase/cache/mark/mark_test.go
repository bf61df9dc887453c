package mark

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Marks tells how many marks are held.
func (l *Ledger) Marks() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.marks
}

var noon = time.Unix(1_000_000, 0)

func subject(seq uint64, url string, tags ...string) *Subject {
	s := &Subject{Seq: seq, URL: []byte(url)}
	for _, t := range tags {
		s.Tags = append(s.Tags, TagHash(t))
	}
	return s
}

func TestPurgesNameWhatTheyMean(t *testing.T) {
	const url = "www.example.com/img/a/b.png?x=1"
	for _, c := range []struct {
		name string
		p    Purge
		url  string
		gone bool
	}{
		{"everything", Purge{Everything: true}, url, true},
		{"tag, other case", Purge{Tags: []string{"BLUE"}}, url, true},
		{"other tag", Purge{Tags: []string{"green"}}, url, false},
		{"host", Purge{Hosts: []string{"www.example.com"}}, url, true},
		{"other host", Purge{Hosts: []string{"example.com"}}, url, false},
		{"host is no prefix", Purge{Hosts: []string{"www.example.com/img"}}, url, false},
		{"prefix", Purge{Prefixes: []string{"www.example.com/img"}}, url, true},
		{"prefix with slash", Purge{Prefixes: []string{"www.example.com/img/"}}, url, true},
		{"prefix of two segments", Purge{Prefixes: []string{"www.example.com/img/a"}}, url, true},
		{"prefix that is the path", Purge{Prefixes: []string{"www.example.com/img/a/b.png"}}, url, true},
		{"prefix without query", Purge{Prefixes: []string{"www.example.com/img/a/b.png"}}, "www.example.com/img/a/b.png", true},
		{"part of a segment", Purge{Prefixes: []string{"www.example.com/im"}}, url, false},
		{"longer segment", Purge{Prefixes: []string{"www.example.com/img/a/b"}}, url, false},
		{"slash after the path", Purge{Prefixes: []string{"www.example.com/img/a/b.png/"}}, url, false},
		{"not into the query", Purge{Prefixes: []string{"www.example.com/p?u=/a"}}, "www.example.com/p?u=/a/b", false},
		{"page", Purge{Pages: []string{url}}, url, true},
		{"page without query", Purge{Pages: []string{"www.example.com/img/a/b.png"}}, url, false},
		{"root", Purge{Prefixes: []string{"www.example.com/"}}, "www.example.com/", true},
	} {
		l := New()
		z, _ := l.Acquire("zone")
		seq := l.Note("zone", 5, &c.p, noon)
		if got := z.Judge(subject(4, c.url, "red", "blue")); got.Gone != c.gone || !c.p.Everything && got.Seen != 5 {
			t.Errorf("%s: %+v, want gone %v", c.name, got, c.gone)
		}
		if seq != 5 || z.Judge(subject(5, c.url, "red", "blue")).Gone {
			t.Errorf("%s: what was fetched after it is gone", c.name)
		}
		if c.gone && !z.Gone(4) && !z.News(4, true) {
			t.Errorf("%s: no news of it", c.name)
		}
		other, _ := l.Acquire("other")
		if other.Judge(subject(0, c.url, "blue")).Gone {
			t.Errorf("%s: reaches another zone", c.name)
		}
	}
}

func TestSoftPurgeExpires(t *testing.T) {
	l := New()
	z, _ := l.Acquire("zone")
	l.Note("zone", 3, &Purge{Tags: []string{"a"}, Soft: true}, noon)
	l.Note("zone", 4, &Purge{Everything: true, Soft: true}, noon.Add(time.Hour))
	if v := z.Judge(subject(2, "h/p", "a")); v.Gone || v.Expired != noon.UnixNano() || v.Seen != 4 {
		t.Errorf("%+v, want expired at the earlier purge", v)
	}
	if v := z.Judge(subject(3, "h/p", "a")); v.Expired != noon.Add(time.Hour).UnixNano() {
		t.Errorf("%+v, want expired at the later purge", v)
	}
	if v := z.Judge(subject(4, "h/p", "a")); v.Expired != 0 || z.News(4, true) || !z.News(3, false) {
		t.Errorf("%+v: expired by an older purge", v)
	}
}

func TestURLPurgesAreNewsForLooseOnly(t *testing.T) {
	l := New()
	z, _ := l.Acquire("zone")
	l.Note("zone", 3, &Purge{Pages: []string{"h/p?a=1", "h/p"}}, noon)
	if z.News(2, false) || !z.News(2, true) || z.Fresh(2, true) || !z.Fresh(2, false) {
		t.Error("a purge of a URL is news for all, or for none")
	}
	s := subject(2, "h/p?b=1")
	if z.Judge(s).Gone {
		t.Error("another query is gone")
	}
	s.Loose = true
	if !z.Judge(s).Gone {
		t.Error("a loose object of the path is not gone")
	}
}

// Whatever is forgotten for want of room, nothing that was purged comes back.
func TestFullTablesPurgeMore(t *testing.T) {
	l := New()
	l.most.zoneMarks, l.most.marks = 10, 25
	var zones []*Zone
	for i := range 4 {
		z, _ := l.Acquire(fmt.Sprint("zone", i))
		zones = append(zones, z)
	}
	for seq := uint64(1); seq <= 200; seq++ {
		i := seq % 4
		l.Note(fmt.Sprint("zone", i), seq, &Purge{Tags: []string{fmt.Sprint("t", seq)}}, noon)
		for old := range seq {
			if s := subject(old, "h/p", fmt.Sprint("t", old+1)); !zones[(old+1)%4].Judge(s).Gone {
				t.Fatalf("at %d: the purge of t%d is forgotten", seq, old+1)
			}
		}
		if v := zones[i].Judge(subject(seq, "h/p", fmt.Sprint("t", seq))); v.Gone {
			t.Fatalf("what is new at %d is gone", seq)
		}
	}
	if n := l.Marks(); n > 25 {
		t.Errorf("%d marks, want at most 25", n)
	}
}

func TestIdleZonesAreForgotten(t *testing.T) {
	l := New()
	for range 2 {
		z, _ := l.Acquire("zone")
		l.Note("zone", 1, &Purge{Tags: []string{"a"}}, noon)
		z.Release()
		if l.Zones() != 0 || l.Marks() != 0 {
			t.Errorf("%d zones, %d marks of nothing", l.Zones(), l.Marks())
		}
	}
	l, _, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.most.zones = 3
	for i := range 10 {
		l.Note(fmt.Sprint("zone", i), uint64(i+1), &Purge{Tags: []string{"a"}}, noon)
	}
	for i := range 10 {
		z, _ := l.Acquire(fmt.Sprint("zone", i))
		if !z.Judge(subject(uint64(i), "h/p", "a")).Gone {
			t.Errorf("the purge of zone %d is forgotten", i)
		}
	}
}

// reopen is a restart after Sync, or without one.
func reopen(t *testing.T, dir string, l *Ledger) (*Ledger, bool) {
	t.Helper()
	if l != nil {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l, newLife, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // closed already where the test went on
	return l, newLife
}

func keep(t *testing.T, l *Ledger) {
	t.Helper()
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
}

func TestMarksHoldAfterRestart(t *testing.T) {
	dir := t.TempDir()
	l, newLife := reopen(t, dir, nil)
	if !newLife {
		t.Error("an empty folder is no new life")
	}
	id := l.ID()
	l.Restart(100, 7)
	base := l.Seq()
	l.Note("a", 101, &Purge{Tags: []string{"t"}, Hosts: []string{"h"}, Prefixes: []string{"x/y"}, Pages: []string{"u/v"}}, noon)
	l.Note("b", 102, &Purge{Everything: true}, noon)
	l.Note("c", 103, &Purge{Tags: []string{"t"}, Soft: true}, noon)
	keep(t, l)
	l.Note("d", 104, &Purge{Everything: true}, noon) // not synced
	for round := range 3 {
		l, newLife = reopen(t, dir, l)
		if newLife || l.ID() != id {
			t.Fatalf("round %d: a new life", round)
		}
		if err := l.Resume(7, 110, maps.All(map[string]uint64{"a": 101})); err != nil {
			t.Fatal(err)
		}
		a, seq := l.Acquire("a")
		if seq != base+10 {
			t.Errorf("round %d: newest entry %d, want %d", round, seq, base+10)
		}
		for _, s := range []*Subject{subject(base, "o/p", "t"), subject(base, "h/p"), subject(base, "x/y/z"), subject(base, "u/v")} {
			if !a.Judge(s).Gone {
				t.Errorf("round %d: %s comes back", round, s.URL)
			}
		}
		if a.Judge(subject(base, "o/p", "q")).Gone || !a.Judge(subject(base-1, "o/p")).Gone {
			t.Errorf("round %d: wrong about what was not named", round)
		}
		b, _ := l.Acquire("b")
		c, _ := l.Acquire("c")
		d, _ := l.Acquire("d")
		if !b.Gone(base) || c.Judge(subject(base, "o/p", "t")).Expired != noon.UnixNano() || d.Gone(base) {
			t.Errorf("round %d: purges of b, c, d are not what was synced", round)
		}
		for range round { // the second time from a file that was written anew
			l.journal.whole = true
			keep(t, l)
		}
	}
}

// The process may end after the copy has an entry and before the journal has.
func TestResumePurgesWhatTheJournalMissed(t *testing.T) {
	dir := t.TempDir()
	l, _ := reopen(t, dir, nil)
	l.Restart(1, 1)
	l.Note("a", 5, &Purge{Tags: []string{"t"}}, noon)
	keep(t, l)
	l, _ = reopen(t, dir, l)
	if err := l.Resume(1, 9, maps.All(map[string]uint64{"a": 5, "b": 8})); err != nil {
		t.Fatal(err)
	}
	now := l.Seq()
	a, _ := l.Acquire("a")
	b, _ := l.Acquire("b")
	if a.Gone(now-8) || !b.Gone(now-2) || b.Gone(now-1) {
		t.Error("want zone b purged up to entry 8, and a as it was")
	}
	l, _ = reopen(t, dir, l)
	if b, _ := l.Acquire("b"); !b.Gone(now - 2) {
		t.Error("what was resumed is not kept")
	}
	if err := l.Resume(2, 3, maps.All(map[string]uint64{})); err != nil {
		t.Fatal(err)
	}
	if a, seq := l.Acquire("a"); !a.Gone(seq - 1) {
		t.Error("another replacement of the copy purges not everything")
	}
}

func TestTornAndDamagedJournals(t *testing.T) {
	dir := t.TempDir()
	l, _ := reopen(t, dir, nil)
	l.Restart(1, 1)
	path := filepath.Join(dir, fileName)
	var ends []int
	for i := range 4 {
		l.Note("a", uint64(i+2), &Purge{Tags: []string{fmt.Sprint("t", i)}}, noon)
		keep(t, l)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, int(info.Size()))
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	id := l.ID()
	check := func(b []byte, keeps int, what string) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, newLife := reopen(t, dir, nil)
		if keeps < 0 {
			if !newLife || l.ID() == id {
				t.Errorf("%s: not a new life", what)
			}
			return
		}
		if newLife || l.Marks() != keeps {
			t.Errorf("%s: new life %v, %d marks, want %d", what, newLife, l.Marks(), keeps)
		}
		// It goes on from there.
		l.Note("a", 50, &Purge{Hosts: []string{"h"}}, noon)
		keep(t, l)
		l, newLife = reopen(t, dir, l)
		if newLife || l.Marks() != keeps+1 {
			t.Errorf("%s, gone on: new life %v, %d marks, want %d", what, newLife, l.Marks(), keeps+1)
		}
	}
	check(whole, 4, "whole")
	for cut := ends[2] + 1; cut < ends[3]; cut++ {
		check(whole[:cut], 3, fmt.Sprint("cut at ", cut))
	}
	check(append(whole[:ends[2]:ends[2]], make([]byte, 100)...), 3, "zeros at the end")
	torn := append([]byte{}, whole...)
	torn[len(torn)-1] ^= 1
	check(torn, 3, "last byte wrong")
	damaged := append([]byte{}, whole...)
	damaged[ends[1]-1] ^= 1
	check(damaged, -1, "a byte in the middle wrong")
	check(whole[:5], -1, "cut in the head")
	check(nil, -1, "empty")
}

// A disk that takes no more is told to whoever acknowledges, and is tried again.
func TestSyncFailsAndRecovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	l, _ := reopen(t, dir, nil)
	l.Note("a", 2, &Purge{Everything: true}, noon)
	if err := l.journal.file.Close(); err != nil {
		t.Fatal(err)
	}
	moved := dir + "-away"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Sync(); err == nil {
			t.Fatal("a sync without a folder succeeds")
		}
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	keep(t, l)
	l, newLife := reopen(t, dir, l)
	if a, _ := l.Acquire("a"); newLife || !a.Gone(1) {
		t.Errorf("after the disk is back: new life %v, purge kept %v", newLife, a.Gone(1))
	}
}

func TestJournalIsWrittenAnew(t *testing.T) {
	dir := t.TempDir()
	l, _ := reopen(t, dir, nil)
	l.most.zoneMarks = 50
	tags := make([]string, 2000)
	for i := range tags {
		tags[i] = fmt.Sprint("tag", i)
	}
	for seq := range uint64(200) {
		l.Note("a", seq+1, &Purge{Tags: tags[:100+seq]}, noon)
		keep(t, l)
	}
	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil || info.Size() > 3*slack/2 {
		t.Errorf("journal of %d bytes, %v", info.Size(), err)
	}
}

func FuzzReplay(f *testing.F) {
	dir := f.TempDir()
	l, _, err := Open(dir)
	if err != nil {
		f.Fatal(err)
	}
	l.Restart(1, 1)
	l.Note("a", 2, &Purge{Tags: []string{"x"}, Soft: true}, noon)
	if err := l.Sync(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		l := New()
		if good, err := l.replay(b); err == nil && (good <= 0 || good > int64(len(b))) {
			t.Errorf("%d good bytes of %d", good, len(b))
		}
		l = New()
		r := recordReader{b: b}
		l.takeZone(&r) // records without the guard of a checksum
	})
}

func BenchmarkJudge(b *testing.B) {
	l := New()
	z, _ := l.Acquire("zone")
	for i := range 1000 {
		n := fmt.Sprint(i)
		l.Note("zone", uint64(i), &Purge{Tags: []string{"t" + n}, Prefixes: []string{"www.example.com/p" + n}, Hosts: []string{"h" + n}}, noon)
	}
	s := subject(5000, "www.example.com/some/path/of/an/object.html?a=1&b=2", "one", "two", "three", "four", "five")
	b.ReportAllocs()
	for b.Loop() {
		if z.Judge(s).Gone {
			b.Fatal("gone")
		}
	}
}

// One purge of 30 names, kept on disk: what a purge costs an edge before it is
// acknowledged.
func BenchmarkNoteAndSync(b *testing.B) {
	l, _, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	p := &Purge{}
	for i := range 30 {
		p.Tags = append(p.Tags, fmt.Sprint("tag", i))
	}
	seq := uint64(0)
	for b.Loop() {
		seq++
		l.Note("zone", seq, p, noon)
		if err := l.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}
