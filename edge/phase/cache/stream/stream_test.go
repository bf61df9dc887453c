package stream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// room is memory for a body, at most so many bytes at a time. What is given back
// is overwritten.
type room struct{ most int }

func (m *room) Alloc(n int) []byte {
	if n > m.most {
		return nil
	}
	return make([]byte, 0, n+n%7)
}

func (m *room) Extend(b []byte, n int) []byte {
	if n > m.most || n > cap(b) {
		return nil
	}
	return b
}

func (m *room) Free(b []byte) {
	for i := range b[:cap(b)] {
		b[:cap(b)][i] = 0xdb
	}
}

func open(length int64) *Stream { return New(length, &room{1 << 30}) }

func nobody() bool         { return false }
func somebody() bool       { return true }
func pattern(n int) []byte { return bytes.Repeat([]byte("0123456789abcde"), n/15+1)[:n] }

func TestFill(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name   string
		length int64
		src    io.Reader
		limit  int64
		want   error
		held   int
	}{
		{"known length", 5, strings.NewReader("hello"), 10, nil, 5},
		{"known length, end unread", 5, io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(broken)), 10, nil, 5},
		{"unknown length", -1, strings.NewReader("hello"), 10, nil, 5},
		{"unknown, byte by byte", -1, iotest.OneByteReader(strings.NewReader("hello")), 10, nil, 5},
		{"data with the end", -1, iotest.DataErrReader(strings.NewReader("hello")), 10, nil, 5},
		{"empty", 0, strings.NewReader(""), 10, nil, 0},
		{"empty unknown", -1, strings.NewReader(""), 10, nil, 0},
		{"just the limit", -1, strings.NewReader("0123456789"), 10, nil, 10},
		{"over the limit", -1, strings.NewReader("0123456789a"), 10, ErrFull, 10},
		{"short", 6, strings.NewReader("hello"), 10, io.ErrUnexpectedEOF, 5},
		{"broken", -1, io.MultiReader(strings.NewReader("he"), iotest.ErrReader(broken)), 10, broken, 2},
		{"broken at the limit", -1, io.MultiReader(strings.NewReader("0123456789"), iotest.ErrReader(broken)), 10, broken, 10},
		{"idle", -1, idle{}, 10, errIdle, 0},
		{"large", -1, bytes.NewReader(pattern(100_000)), 1 << 20, nil, 100_000},
	} {
		st := open(test.length)
		err := st.Fill(test.src, test.limit)
		if !errors.Is(err, test.want) || len(st.buf) != test.held {
			t.Errorf("%s: %v with %d bytes, want %v with %d", test.name, err, len(st.buf), test.want, test.held)
		}
	}
}

// idle returns nothing, and no error.
type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestRefusedMemoryIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := pattern(300_000)
		src := bytes.NewReader(body)
		st := New(int64(len(body)), &room{64 << 10})
		r := st.Attach(t.Context())
		got := make(chan []byte)
		go func() {
			all, err := io.ReadAll(r)
			if err != nil {
				t.Errorf("read: %v", err)
			}
			got <- all
		}()
		err := st.Fill(src, 1<<20)
		if err != ErrCrowded {
			t.Fatalf("Fill = %v, want ErrCrowded", err)
		}
		if err = st.Pass(t.Context(), src, 32<<10, nobody); err != ErrSpilled {
			t.Fatalf("Pass = %v, want ErrSpilled", err)
		}
		st.End(io.EOF)
		if all := <-got; !bytes.Equal(all, body) {
			t.Errorf("read %d bytes, want %d alike", len(all), len(body))
		}
	})
}

// Readers of any pace see the same bytes while all is kept.
func TestReadersSeeTheSameBytes(t *testing.T) {
	body := pattern(200_000)
	st := open(-1)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			r := st.Attach(t.Context())
			defer r.Close()
			var all []byte
			for p := make([]byte, 5000); ; {
				n, err := r.Read(p[:1+rand.IntN(len(p))])
				all = append(all, p[:n]...)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
			}
			if !bytes.Equal(all, body) {
				t.Errorf("read %d bytes, want %d alike", len(all), len(body))
			}
		})
	}
	if err := st.Fill(iotest.HalfReader(bytes.NewReader(body)), 1<<20); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(st.Buffer(), body) {
		t.Error("the stored body differs")
	}
	st.Show()
	st.End(io.EOF)
	wg.Wait()
}

func TestMemoryOfAPassedBodyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, window, size = 10_000, 100_000, 2_000_000
		src := bytes.NewReader(pattern(size))
		st := open(-1)
		fast, slow := st.Attach(t.Context()), st.Attach(t.Context())
		if err := st.Fill(src, limit); err != ErrFull {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- st.Pass(t.Context(), src, window, nobody) }()
		read := 0
		for p := make([]byte, 1000); read < size; {
			n, err := fast.Read(p)
			if err != nil {
				t.Fatalf("after %d: %v", read, err)
			}
			read += n
			st.mu.Lock()
			held := int64(0)
			for _, c := range st.chunks {
				held += int64(len(c.data))
			}
			st.mu.Unlock()
			if held > limit+window+2*passBuffer {
				t.Fatalf("%d bytes held", held)
			}
		}
		if err := <-ended; err != ErrSpilled {
			t.Errorf("Pass = %v", err)
		}
		if _, err := slow.Read(make([]byte, 1)); err != ErrLag {
			t.Errorf("the laggard reads %v, want ErrLag", err)
		}
		if late := st.Attach(t.Context()); late != nil {
			t.Error("a reader began after the first bytes were gone")
		}
	})
}

func TestPassWaitsForItsOnlyReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := bytes.NewReader(pattern(1_000_000))
		st := open(-1)
		r := st.Attach(t.Context())
		if err := st.Fill(src, 1000); err != ErrFull {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() { ended <- st.Pass(t.Context(), src, 100_000, nobody); st.End(io.EOF) }()
		synctest.Wait()
		if src.Len() < 700_000 {
			t.Errorf("%d bytes left at the source: no back-pressure", src.Len())
		}
		go func() { _, _ = io.Copy(io.Discard, r) }()
		if err := <-ended; err != ErrSpilled {
			t.Errorf("Pass = %v", err)
		}
	})
}

func TestPassEnds(t *testing.T) {
	for name, test := range map[string]struct {
		expected func() bool
		leave    func(*Stream, *Reader, context.CancelFunc)
		want     error
	}{
		"reader leaves":          {nobody, func(_ *Stream, r *Reader, _ context.CancelFunc) { _ = r.Close() }, errLeft},
		"context ends":           {somebody, func(_ *Stream, _ *Reader, cancel context.CancelFunc) { cancel() }, context.Canceled},
		"reader leaves, expects": {somebody, func(_ *Stream, r *Reader, cancel context.CancelFunc) { _ = r.Close(); cancel() }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				src := bytes.NewReader(pattern(1_000_000))
				st := open(-1)
				r := st.Attach(t.Context())
				if err := st.Fill(src, 1000); err != ErrFull {
					t.Fatal(err)
				}
				ended := make(chan error)
				go func() { ended <- st.Pass(ctx, src, 100_000, test.expected) }()
				synctest.Wait()
				test.leave(st, r, cancel)
				if err := <-ended; !errors.Is(err, test.want) {
					t.Errorf("Pass = %v, want %v", err, test.want)
				}
			})
		})
	}
}

// Who was expected and leaves without reading must not keep a fill waiting.
func TestPokeWakesPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := bytes.NewReader(pattern(1_000_000))
		st := open(-1)
		if err := st.Fill(src, 1000); err != ErrFull {
			t.Fatal(err)
		}
		var mu sync.Mutex
		expects := true
		ended := make(chan error)
		go func() {
			ended <- st.Pass(t.Context(), src, 100_000, func() bool { mu.Lock(); defer mu.Unlock(); return expects })
		}()
		synctest.Wait()
		mu.Lock()
		expects = false
		mu.Unlock()
		st.Poke()
		if err := <-ended; err != errLeft {
			t.Errorf("Pass = %v, want errLeft", err)
		}
	})
}
