package reserve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// spoolOf is a spool for a store.
func spoolOf(t testing.TB, s Store) *Spool {
	t.Helper()
	if d, ok := s.(*Dir); ok {
		sp, err := d.Spool()
		if err != nil {
			t.Fatal(err)
		}
		return sp
	}
	sp, err := OpenSpool(filepath.Join(t.TempDir(), "spool"), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sp.Close() })
	return sp
}

// testLarge is what every Store has to do with objects that come in pieces.
func testLarge(t *testing.T, s Store) {
	r := New(Config{Store: s, Ctx: t.Context(), Spool: spoolOf(t, s)})
	defer r.Close()
	body := make([]byte, 40<<20+12345) // three parts of a bucket
	for i := range body {
		body[i] = byte(i * 7 >> 5)
	}
	const name = "ab/12/large"
	write := func(body []byte) *Writer {
		w := r.Begin(name, len("meta"))
		if w == nil {
			t.Fatal("it is not taken")
		}
		for rest := body; len(rest) > 0; {
			n, err := w.Write(rest[:min(len(rest), 99_999)])
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		return w
	}
	w := write(body)
	if r.Get(t.Context(), name) != nil {
		t.Error("half an object is seen")
	}
	if !w.Commit([]byte("meta")) {
		t.Fatal("it is not queued")
	}
	settle(t, r)
	o := r.Get(t.Context(), name)
	if o == nil {
		t.Fatalf("not found: %+v", r.Stats())
	}
	got, err := io.ReadAll(o.Body)
	o.Close()
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	testRanges(t, r, name, body)
	write(body[:1000]).Abort()
	if w := write(body[:1000]); w.Commit([]byte("longer meta")) {
		t.Error("a meta of another length is taken")
	}
	w = write(body[:200_000])
	if !w.Commit([]byte("meta")) {
		t.Fatal("not queued")
	}
	settle(t, r)
	testRanges(t, r, name, body[:200_000])
	if st := r.Stats(); st.Spooled != 0 || st.Failed != 0 {
		t.Errorf("stats %+v", st)
	}
	r.Delete(name)
	settle(t, r)
	if r.Get(t.Context(), name) != nil {
		t.Error("a deleted object is found")
	}
}

// testExpiry is what every Store has to know of its objects' use.
func testExpiry(t *testing.T, s Store, margin time.Duration) {
	r := newReserve(t, s)
	for i := range 3 {
		r.Put(fmt.Sprintf("top%d/a/%d", i, i), []byte("meta"), []byte("body"), nil)
	}
	settle(t, r)
	tops, err := s.Tops(t.Context())
	for i := range 3 {
		if !slices.Contains(tops, fmt.Sprintf("top%d", i)) {
			t.Errorf("tops %q, %v", tops, err)
		}
	}
	listed := func(prefix string) (names []string) {
		t.Helper()
		err := s.List(t.Context(), prefix, func(name string, size int64, used time.Time) error {
			if size != stored(4, 4) || time.Since(used).Abs() > time.Minute {
				t.Errorf("%s has %d bytes and was used %s", name, size, used)
			}
			names = append(names, name)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return names
	}
	if got := listed("top1/"); !slices.Equal(got, []string{"top1/a/1"}) || listed("top9/") != nil {
		t.Errorf("listed %q", got)
	}
	<-time.After(margin)
	now := time.Now()
	if err := errors.Join(s.Use(t.Context(), "top1/a/1"), s.Use(t.Context(), "top1/a/none")); err != nil {
		t.Fatal(err)
	}
	r.deleteOlder(t.Context(), "top0/", now.Add(-margin/2))
	r.deleteOlder(t.Context(), "top1/", now.Add(-margin/2))
	if listed("top0/") != nil || len(listed("top1/")) != 1 || len(listed("top2/")) != 1 || r.Stats().Expired != 1 {
		t.Errorf("%q, %q, %q are left", listed("top0/"), listed("top1/"), listed("top2/"))
	}
	if o := r.Get(t.Context(), "top1/a/1"); o == nil {
		t.Error("what was used is damaged")
	} else {
		o.Close()
	}
}

func TestLargeInDir(t *testing.T)  { testLarge(t, newDir(t, 1<<30)) }
func TestExpiryInDir(t *testing.T) { testExpiry(t, newDir(t, 1<<30), 40*time.Millisecond) }

// What is used is told to the store, what is not goes, and what others left too.
func TestRetention(t *testing.T) {
	d := newDir(t, 1<<30)
	r := New(Config{Store: d, Ctx: t.Context(), Retain: 10 * time.Hour, Own: "own/"})
	defer r.Close()
	for _, name := range []string{"own/used", "own/left", "own/new", "other/left"} {
		r.Put(name, nil, []byte("x"), nil)
	}
	settle(t, r)
	old := time.Now().Add(-12 * time.Hour)
	for _, name := range []string{"own/used", "own/left", "other/left"} {
		if err := os.Chtimes(filepath.Join(d.root.Name(), name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if o := r.Get(t.Context(), "own/used"); o != nil {
		o.Close()
	}
	settle(t, r)
	for range 50 { // whose turn it is, is chance
		r.round(t.Context())
	}
	for name, want := range map[string]bool{"own/used": true, "own/left": false, "own/new": true, "other/left": false} {
		if got := d.sizeOf(name) > 0; got != want {
			t.Errorf("%s is there: %v", name, got)
		}
	}
	if st := r.Stats(); st.Used != 1 || st.Expired != 2 {
		t.Errorf("stats %+v", st)
	}
	older := time.Now().Add(-time.Minute)
	if err := os.Chtimes(filepath.Join(d.root.Name(), "own/used"), older, older); err != nil {
		t.Fatal(err)
	}
	r.Clear("own/")
	for end := time.Now().Add(20 * time.Second); d.sizeOf("own/used") > 0; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is not cleared")
		}
	}
}

// slowUse is a store that takes its time to hear of a use.
type slowUse struct {
	*Dir
	heard chan struct{}
	n     atomic.Int32
}

func (s *slowUse) Use(ctx context.Context, name string) error {
	s.n.Add(1)
	<-s.heard
	return s.Dir.Use(ctx, name)
}

// A bucket copies an object to hear of its use: however many ask for it
// meanwhile, it does so once.
func TestUseIsToldOnce(t *testing.T) {
	s := &slowUse{Dir: newDir(t, 1<<30), heard: make(chan struct{})}
	r := New(Config{Store: s, Ctx: t.Context(), Retain: 10 * time.Hour})
	defer r.Close()
	r.Put("own/a", nil, []byte("x"), nil)
	settle(t, r)
	for round := range 2 {
		old := time.Now().Add(-2 * time.Hour)
		if err := os.Chtimes(filepath.Join(s.root.Name(), "own/a"), old, old); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			r.Look(t.Context(), "own/a")
		}
		s.heard <- struct{}{}
		settle(t, r)
		if got := int(s.n.Load()); got != round+1 {
			t.Fatalf("round %d: told %d times", round, got)
		}
	}
}

// What is counted is what is there, also when objects are replaced and deleted at
// the same time, as by who makes room.
func TestDirCountsWhatIsThere(t *testing.T) {
	d := newDir(t, 1<<30)
	var work sync.WaitGroup
	work.Go(func() {
		for i := range 500 {
			if err := d.Put(t.Context(), "own/a", bytes.NewReader(make([]byte, i)), int64(i)); err != nil {
				t.Error(err)
			}
		}
	})
	work.Go(func() {
		for range 500 {
			if err := d.Delete(t.Context(), "own/a"); err != nil {
				t.Error(err)
			}
		}
	})
	work.Wait()
	if used, _ := d.room(); used != d.sizeOf("own/a") {
		t.Errorf("%d bytes are counted, %d are there", used, d.sizeOf("own/a"))
	}
}

// A folder that is full lets go what was not used for longest.
func TestFullDirMakesRoom(t *testing.T) {
	d := newDir(t, 100_000)
	r := newReserve(t, d)
	for i := range 9 {
		name := fmt.Sprintf("own/%d", i)
		r.Put(name, nil, make([]byte, 10_000), nil)
		settle(t, r)
		at := time.Now().Add(-time.Hour << (9 - i))
		if err := os.Chtimes(filepath.Join(d.root.Name(), name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	r.Put("own/one", nil, make([]byte, 20_000), nil) // no room
	for end := time.Now().Add(20 * time.Second); d.sizeOf("own/0") > 0; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			used, most := d.room()
			t.Fatalf("no room is made: %d of %d, %+v", used, most, r.Stats())
		}
	}
	if d.sizeOf("own/8") == 0 || r.Stats().Failed != 0 || r.Stats().Off {
		t.Errorf("what was used last went, or it counts as a failure: %+v", r.Stats())
	}
}

// What is deleted while it is on its way to the store is not found there.
func TestDeletedWhileSpooled(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	s := &holding{Dir: newDir(t, 1<<30), began: began, end: end}
	r := New(Config{Store: s, Ctx: t.Context(), Spool: spoolOf(t, s.Dir)})
	w := r.Begin("a/b", 0)
	if _, err := w.Write(make([]byte, 100_000)); err != nil || !w.Commit(nil) {
		t.Fatal(err)
	}
	<-began
	r.Delete("a/b")
	for r.Stats().Deleted == 0 {
		<-time.After(time.Millisecond)
	}
	close(end)
	r.Close()
	if s.sizeOf("a/b") != 0 {
		t.Error("it is there")
	}
	if used, _ := s.room(); used != 0 {
		t.Errorf("%d bytes count as used", used)
	}
}

// holding is a folder into which nothing gets before end.
type holding struct {
	*Dir
	began, end chan struct{}
}

func (h *holding) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	close(h.began)
	<-h.end
	return h.Dir.Put(ctx, name, body, size)
}

// A spool that is full gives up what comes, and has its room back.
func TestFullSpool(t *testing.T) {
	d := newDir(t, 3<<20)
	r := New(Config{Store: d, Ctx: t.Context(), Spool: spoolOf(t, d)})
	defer r.Close()
	w := r.Begin("a/b", 0)
	var err error
	for n := 0; n < 100 && err == nil; n++ {
		_, err = w.Write(make([]byte, 100_000))
	}
	w.Abort()
	if !errors.Is(err, ErrGivenUp) || !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	if used, _ := d.room(); used != 0 || r.Stats().Spooled != 0 {
		t.Errorf("%d bytes are used", used)
	}
	left, err := filepath.Glob(filepath.Join(d.root.Name(), spoolName, "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("%q stayed, %v", left, err)
	}
}

// Blocks of another place or object do not pass for this one's.
func TestBlocksAreBoundToTheirPlace(t *testing.T) {
	body := make([]byte, 3*blockBytes)
	whole := object("meta", body) // equal blocks, but for their place
	const each = blockBytes + sumBytes
	from := headBytes + len("meta")
	swapped := slices.Concat(whole[:from], whole[from+each:from+2*each], whole[from:from+each], whole[from+2*each:])
	other, err := io.ReadAll(encode([]byte("meta"), body, 8))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"swapped": swapped, "mixed": slices.Concat(whole[:from], other[from:])} {
		d := newDir(t, 1<<30)
		r := newReserve(t, d)
		if err := d.Put(t.Context(), name, bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatal(err)
		}
		if o := r.Get(t.Context(), name); o != nil {
			t.Errorf("%s: served", name)
		}
		if o := r.Look(t.Context(), name); o != nil && o.Range(t.Context(), blockBytes, blockBytes+1) != nil {
			t.Errorf("%s: a range is served", name)
		}
	}
}
