package reserve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func newReserve(t testing.TB, s Store) *Reserve {
	t.Helper()
	r := New(Config{Store: s, Ctx: t.Context()})
	t.Cleanup(r.Close)
	return r
}

func newDir(t testing.TB, most int64) *Dir {
	t.Helper()
	d, err := OpenDir(t.TempDir(), most)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// settle waits until nothing is queued.
func settle(t testing.TB, r *Reserve) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); r.Stats().QueuedBytes > 0; <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the queue does not empty")
		}
	}
}

// testStore is what every Store has to do.
func testStore(t *testing.T, s Store) {
	r := newReserve(t, s)
	if o := r.Get(t.Context(), "ab/none"); o != nil {
		t.Error("an object that was never put is found")
	}
	for _, size := range []int{0, 1, 1000, blockBytes, blockBytes + 1, 1 << 20} {
		name := fmt.Sprintf("ab/%d", size)
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		if !r.Put(name, []byte("meta"), body, nil) {
			t.Fatal("not queued")
		}
		settle(t, r)
		o := r.Get(t.Context(), name)
		if o == nil {
			t.Fatalf("%s is not found", name)
		}
		got, err := io.ReadAll(o.Body)
		o.Body.Close()
		if err != nil || !bytes.Equal(got, body) || string(o.Meta) != "meta" || o.Size != int64(size) {
			t.Errorf("%s: %d bytes, meta %q, size %d, %v", name, len(got), o.Meta, o.Size, err)
		}
		testRanges(t, r, name, body)
	}
	r.Put("ab/1000", []byte("new"), []byte("x"), nil)
	settle(t, r)
	if o := r.Get(t.Context(), "ab/1000"); o == nil || string(o.Meta) != "new" || o.Size != 1 {
		t.Errorf("the newer object is not found: %+v", o)
	} else {
		o.Body.Close()
	}
	r.Delete("ab/1000")
	r.Delete("ab/none")
	settle(t, r)
	if r.Get(t.Context(), "ab/1000") != nil {
		t.Error("a deleted object is found")
	}
	if st := r.Stats(); st.Failed != 0 || st.Dropped != 0 {
		t.Errorf("stats %+v", st)
	}
}

// testRanges reads parts of an object.
func testRanges(t *testing.T, r *Reserve, name string, body []byte) {
	t.Helper()
	o := r.Look(t.Context(), name)
	if o == nil || o.Size != int64(len(body)) || string(o.Meta) != "meta" {
		t.Fatalf("%s: looked at: %+v", name, o)
	}
	n := len(body)
	for _, s := range [][2]int{{0, 1}, {0, n}, {n - 1, n}, {n / 2, n/2 + 1}, {blockBytes - 1, blockBytes + 1}, {blockBytes, 3 * blockBytes}, {100_000, 300_000}} {
		if s[0] < 0 || s[1] > n || s[0] >= s[1] {
			continue
		}
		b := o.Range(t.Context(), int64(s[0]), int64(s[1]))
		if b == nil {
			t.Fatalf("%s: no bytes %v", name, s)
		}
		got, err := io.ReadAll(iotest.OneByteReader(b))
		b.Close()
		if err != nil || !bytes.Equal(got, body[s[0]:s[1]]) {
			t.Errorf("%s: bytes %v: %d bytes, %v", name, s, len(got), err)
		}
	}
}

func TestDir(t *testing.T) { testStore(t, newDir(t, 1<<30)) }

// TestS3 runs against the bucket of $SELVAGE_TEST_S3 (a URL) with the keys in
// $SELVAGE_TEST_S3_KEY and $SELVAGE_TEST_S3_SECRET: lab/tools starts one.
func TestS3(t *testing.T) {
	where := os.Getenv("SELVAGE_TEST_S3")
	if where == "" {
		where = "http://127.0.0.1:1/none" // nobody listens: what fails is not there
		s, err := OpenS3(where, "k", "s")
		if err != nil {
			t.Fatal(err)
		}
		r := newReserve(t, s)
		for range sickAfter {
			if r.Get(t.Context(), "a") != nil {
				t.Error("found in a store that is away")
			}
		}
		if !r.Stats().Off {
			t.Error("a store that is away is asked on")
		}
		return
	}
	s, err := OpenS3(where, os.Getenv("SELVAGE_TEST_S3_KEY"), os.Getenv("SELVAGE_TEST_S3_SECRET"))
	if err != nil {
		t.Fatal(err)
	}
	testStore(t, s)
	testLarge(t, s)
	testExpiry(t, s, 4*time.Second)
}

func TestOpenS3(t *testing.T) {
	for _, bad := range []string{"", "ftp://h/b", "https://h", "https://h/", "https:///b", "https://u:p@h/b", "https://h/b?x"} {
		if _, err := OpenS3(bad, "k", "s"); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if _, err := OpenS3("https://h/b", "", "s"); err == nil {
		t.Error("an empty key is accepted")
	}
}

func TestDirKeepsItsBudget(t *testing.T) {
	d := newDir(t, 10000)
	put := func(name string, n int) error {
		return d.Put(t.Context(), name, bytes.NewReader(make([]byte, n)), int64(n))
	}
	if err := errors.Join(put("a/1", 4000), put("a/2", 2000), put("a/1", 4000)); err != nil {
		t.Fatal(err)
	}
	if err := put("a/3", 5000); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if err := errors.Join(d.Delete(t.Context(), "a/2"), put("a/3", 6000)); err != nil {
		t.Errorf("after a deletion: %v", err)
	}
	again, err := OpenDir(d.root.Name(), 10000)
	if err != nil || again.budget.used != 10000 {
		t.Errorf("opened again it counts %d bytes, %v", again.budget.used, err)
	}
	again.Close()
	if err := d.Put(t.Context(), "../out", bytes.NewReader(nil), 0); err == nil {
		t.Error("a name leads out of the folder")
	}
}

// stub is a store that does as it is told.
type stub struct {
	get func(ctx context.Context) (io.ReadCloser, error)
	put func(ctx context.Context) error
	del error
}

func (s *stub) Get(ctx context.Context, _ string, _, _ int64) (io.ReadCloser, time.Time, error) {
	b, err := s.get(ctx)
	return b, time.Now(), err
}
func (s *stub) Use(context.Context, string) error      { return nil }
func (s *stub) Tops(context.Context) ([]string, error) { return nil, nil }
func (s *stub) List(context.Context, string, func(string, int64, time.Time) error) error {
	return nil
}
func (s *stub) Put(ctx context.Context, _ string, _ io.Reader, _ int64) error { return s.put(ctx) }
func (s *stub) Delete(context.Context, string) error                          { return s.del }

// What was deleted while it was being written is not found when that is done,
// and not either where the deletion is in vain.
func TestDeletedWhileWritten(t *testing.T) {
	began, end := make(chan struct{}), make(chan struct{})
	r := New(Config{Ctx: t.Context(), Store: &stub{del: errors.New("no"), put: func(context.Context) error {
		close(began)
		<-end
		return nil
	}}})
	r.Put("a", nil, []byte("x"), nil)
	<-began
	r.Delete("a")
	close(end)
	r.Close()
	if !r.queue.isGoing("a") {
		t.Error("it would be found")
	}
}

func TestSlowStoreIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Ctx: t.Context(), Store: &stub{get: func(ctx context.Context) (io.ReadCloser, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}})
		defer r.Close()
		began := time.Now()
		if r.Get(t.Context(), "a") != nil {
			t.Error("found")
		}
		if took := time.Since(began); took != DefaultPatience {
			t.Errorf("waited %s, want %s", took, DefaultPatience)
		}
		for range sickAfter {
			r.Get(t.Context(), "a")
		}
		began = time.Now()
		r.Get(t.Context(), "a")
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %s for a store that is slow", took)
		}
		time.Sleep(2 * sickFor)
		if r.Stats().Off {
			t.Error("it is never asked again")
		}
	})
}

func TestFullQueueDrops(t *testing.T) {
	hold := make(chan struct{})
	r := New(Config{Ctx: t.Context(), Queue: 10000, Store: &stub{put: func(context.Context) error { <-hold; return nil }}})
	var given atomic.Int32
	taken := 0
	for range 50 {
		if r.Put("a", nil, make([]byte, 1000), func(bool) { given.Add(1) }) {
			taken++
		}
	}
	if taken != 7 {
		t.Errorf("%d taken, want 7", taken)
	}
	close(hold)
	r.Close()
	if given.Load() != 50 || r.Stats().Dropped != 43 {
		t.Errorf("%d given back, %d dropped", given.Load(), r.Stats().Dropped)
	}
}

func object(meta string, body []byte) []byte {
	b, err := io.ReadAll(encode([]byte(meta), body, 7))
	if err != nil {
		panic(err)
	}
	return b
}

// What is damaged is not served, is deleted, and is no reason to leave the store
// alone.
func TestWhatIsNotOursIsNotServed(t *testing.T) {
	d := newDir(t, 1<<30)
	r := newReserve(t, d)
	whole := object("meta", []byte("0123456789"))
	for name, b := range map[string][]byte{
		"empty": {}, "short": whole[:20], "text": []byte("hello, this is not an object of ours, is it?"),
		"meta": flip(whole, headBytes), "sum": flip(whole, headBytes-1), "stamp": flip(whole, 17), "body": flip(whole, len(whole)-1), "cut": whole[:len(whole)-3],
		"length": flip(whole, 13),
	} {
		if err := d.Put(t.Context(), name, bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatal(err)
		}
		if o := r.Get(t.Context(), name); o != nil {
			t.Errorf("%s: served", name)
			o.Body.Close()
		}
		settle(t, r)
		if d.sizeOf(name) != 0 {
			t.Errorf("%s: kept", name)
		}
	}
	if st := r.Stats(); st.Off || st.Failed != 0 || st.Damaged != 9 {
		t.Errorf("stats %+v", st)
	}
	if err := os.WriteFile(filepath.Join(d.root.Name(), "x"+partSuffix), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := OpenDir(d.root.Name(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := os.Stat(filepath.Join(d.root.Name(), "x"+partSuffix)); !os.IsNotExist(err) {
		t.Error("what was half written is kept")
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// A body that is damaged behind its first block is given out up to there.
func TestDamagedBodyEndsBeforeTheDamage(t *testing.T) {
	d := newDir(t, 1<<30)
	r := newReserve(t, d)
	content := bytes.Repeat([]byte("0123456789abcdef"), blockBytes/4)
	whole := object("meta", content)
	for name, b := range map[string][]byte{"flipped": flip(whole, len(whole)-1), "cut": whole[:len(whole)-1]} {
		if err := d.Put(t.Context(), name, bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatal(err)
		}
		o := r.Get(t.Context(), name)
		if o == nil {
			t.Fatalf("%s: not found", name)
		}
		got, err := io.ReadAll(o.Body)
		o.Body.Close()
		if !errors.Is(err, errDamaged) || !bytes.Equal(got, content[:3*blockBytes]) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		settle(t, r)
		if d.sizeOf(name) != 0 {
			t.Errorf("%s: kept", name)
		}
	}
}

// A connection that breaks says nothing of the object.
func TestBrokenConnectionDeletesNothing(t *testing.T) {
	whole := object("meta", make([]byte, 100))
	r := newReserve(t, &stub{del: errors.New("deleted"), get: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(whole[:len(whole)-1]), iotest.ErrReader(io.ErrUnexpectedEOF))), nil
	}})
	if r.Get(t.Context(), "a") != nil {
		t.Error("found")
	}
	if st := r.Stats(); st.Failed != 1 || st.Damaged != 0 || st.Deleted != 0 || r.queue.isGoing("a") {
		t.Errorf("stats %+v", st)
	}
}

func FuzzObject(f *testing.F) {
	f.Add(object("meta", []byte("0123456789")))
	f.Fuzz(func(t *testing.T, b []byte) {
		src := bytes.NewReader(b)
		h, err := readHead(src)
		if err != nil {
			return
		}
		if headBytes+len(h.meta) > len(b) || h.size < 0 || h.size > MaxBody {
			t.Fatalf("accepted %x", b)
		}
		c := checked{src: src, stamp: h.stamp, left: h.size}
		for err == nil {
			_, err = c.load()
		}
		if err == io.EOF && stored(len(h.meta), h.size) > int64(len(b)) {
			t.Fatalf("a body of %d bytes is whole in %x", h.size, b)
		}
	})
}
