package cache

import (
	"bytes"
	"io"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg"
)

// A body of medium size, or its end, can be sent from the file that the memory of
// the cache is; what begins within the first page, or is made of the body, is
// copied so far.
func TestBodiesLieInAFile(t *testing.T) {
	e := New(Config{Bytes: 64 << 20, Ctx: t.Context(), Fetch: nobody})
	defer func() { e.Close(); e.Drop() }()
	fillStore(t, e, 50, 700) // so that pages are shared
	for _, size := range []int{smallBody + 1, 20_001, 32 << 10, 50_000, pagedMost} {
		o := e.storedObject(t, size)
		body := o.body()
		for i := range body {
			body[i] = byte(i % 251)
		}
		for _, b := range [][]byte{body, body[5:], body[9000:], body[9000:15000], body[len(body)-5000:]} {
			f, at, from := msg.Filed(o).File(b)
			if heapSlab {
				if f != nil {
					t.Fatal("memory of the Go heap lies in a file")
				}
				continue
			}
			if f == nil || from > 4096+16 {
				t.Fatalf("%d of %d bytes: %v from %d", len(b), size, f, from)
			}
			got := make([]byte, len(b)-from)
			if _, err := io.ReadFull(io.NewSectionReader(f, at, int64(len(got))), got); err != nil || !bytes.Equal(got, b[from:]) {
				t.Errorf("%d of %d bytes: the file has others at %d, %v", len(b), size, at, err)
			}
		}
		if f, _, _ := o.File(bytes.Clone(body)); f != nil {
			t.Error("bytes that are not the object's lie in its file")
		}
		if got := stateOf(o.large).filed.Load(); got == heapSlab {
			t.Errorf("whether the body is known to be on its way: %v", got)
		}
		o.Release()
	}
	small := e.storedObject(t, 1000)
	defer small.Release()
	if f, _, _ := small.File(small.body()); f != nil {
		t.Error("a small body is sent from a file")
	}
}

// storedObject stores one object with a body of a size and returns it.
func (e *Engine) storedObject(t *testing.T, size int) *object {
	fillFrom(t, e, size, 1, size)
	for i := range e.shards {
		s := &e.shards[i]
		s.mu.Lock()
		for it := s.queues.Victim(); it != nil; it = s.queues.Victim() {
			o := objectOf(it)
			if len(o.body()) == size {
				o.retain()
				e.forget(s, e.hashOf(o), o)
				s.mu.Unlock()
				return o
			}
			e.forget(s, e.hashOf(o), o)
		}
		s.mu.Unlock()
	}
	t.Fatal("the object is not there")
	return nil
}
