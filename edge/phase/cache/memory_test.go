package cache

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
)

// fillStore stores n objects with bodies of a size, as fills do, without an
// origin. It returns the bytes of keys, heads and bodies.
func fillStore(tb testing.TB, e *Engine, n, size int) (own int64) { return fillFrom(tb, e, 0, n, size) }

func fillFrom(tb testing.TB, e *Engine, from, n, size int) (own int64) {
	z, seq := e.marks.Acquire(testZone)
	defer z.Release()
	body := bytes.Repeat([]byte{'x'}, size)
	for i := range n {
		text := fmt.Appendf(nil, "%s https://www.example.com/some/path/to/a/page-%d-%d.html", testZone, size, from+i)
		k := key{hash: maphash.Bytes(e.seed, text), text: text}
		p := parts{key: text, head: []byte("Content-Type: text/html; charset=utf-8\r\nCache-Control: max-age=3600\r\nETag: \"5f3c6d1b-400\"\r\n"), date: []byte("Sun, 22 Nov 2026 10:00:00 GMT")}
		if size <= smallBody {
			p.room = size
		}
		o := e.makeObject(z, &p)
		if o == nil {
			tb.Fatal("no memory")
		}
		o.seq.Store(seq)
		o.lifetime.Store(int64(time.Hour))
		to := o.inner()
		if size > smallBody {
			to = e.newBody(size, false)
		}
		o.seal(e, append(to[:0], body...))
		f := &fill{e: e, key: k, zone: z}
		s := e.shardOf(k.hash)
		s.fills[k.hash] = append(s.fills[k.hash], f)
		e.put(f, o)
		o.Release()
		own += int64(len(p.key) + len(p.head) + len(p.date) + size)
	}
	return own
}

func nobody(*request.Request) error { return errors.New("no origin here") }

// An object costs at most 150 bytes beside its key, head and body.
func TestCostOfAnObject(t *testing.T) {
	for _, size := range []int{0, 1000, smallBody + 1000} {
		e := New(Config{Bytes: 1 << 30, Ctx: t.Context(), Fetch: nobody})
		n := 20_000
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		own := fillStore(t, e, n, size)
		runtime.GC()
		runtime.ReadMemStats(&after)
		st := e.Stats()
		if st.Objects != n {
			t.Fatalf("%d objects of %d", st.Objects, n)
		}
		index := float64(st.Memory.Live-own) / float64(n)
		heap := (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / float64(n)
		t.Logf("%d bytes of body: %.0f bytes beside key, head and body in the slab, %.0f on the heap", size, index, heap)
		if index > 150 && size <= smallBody || index > 165 || heap > 20 {
			t.Errorf("%d bytes of body: an object costs %.0f bytes in the slab and %.0f on the heap beside its own", size, index, heap)
		}
		e.Close()
		e.Drop()
	}
}

// After a purge of all the memory goes back to the system.
func TestPurgeGivesMemoryBack(t *testing.T) {
	e := New(Config{Bytes: 64 << 20, Ctx: t.Context(), Fetch: nobody})
	defer e.Drop()
	fillStore(t, e, 40_000, 1000)
	before := e.Stats().Memory
	e.PurgeAll(1, 0)
	e.Close()
	if after := e.Stats().Memory; before.Resident < 40<<20 || after.Resident > 4<<20 {
		t.Errorf("resident before the purge %d bytes, after it %d", before.Resident, after.Resident)
	}
}

// BenchmarkStored tells what objects cost: bytes of the process for each beside
// key, head and body, bytes of its heap, and a garbage collection's time.
func BenchmarkStored(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000} {
		for _, size := range []int{0, 1024} {
			b.Run(fmt.Sprintf("n=%d/body=%d", n, size), func(b *testing.B) {
				for b.Loop() {
					reportStored(b, n, size)
				}
			})
		}
	}
}

func reportStored(b *testing.B, n, size int) {
	e := New(Config{Bytes: 2 << 30, Ctx: b.Context(), Fetch: nobody})
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rss := residentBytes(b)
	own := fillStore(b, e, n, size)
	runtime.GC()
	start := time.Now()
	runtime.GC()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(residentBytes(b)-rss-own)/float64(n), "rss-B/object")
	b.ReportMetric(float64(e.Stats().Memory.Resident-own)/float64(n), "slab-B/object")
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/float64(n), "heap-B/object")
	b.ReportMetric(float64(took.Microseconds()), "gc-µs")
	b.ReportMetric(0, "ns/op")
	e.Close()
	e.Drop()
}

// residentBytes is what the process takes of the machine's memory.
func residentBytes(tb testing.TB) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		tb.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return n * int64(os.Getpagesize())
}

// BenchmarkFullStore tells how far the process goes beyond its budget when a
// store of 1 GiB is full of objects of 1 KiB to 1 MiB and goes on taking in more.
func BenchmarkFullStore(b *testing.B) {
	const budget = 1 << 30
	for b.Loop() {
		rss := residentBytes(b)
		e := New(Config{Bytes: budget, Ctx: b.Context(), Fetch: nobody})
		for round := range 150 {
			for bits := range 11 {
				fillFrom(b, e, round*1000, 1000>>bits, 1000<<bits)
			}
		}
		st := e.Stats()
		b.ReportMetric(float64(residentBytes(b)-rss)/budget, "rss/budget")
		b.ReportMetric(float64(st.Bytes)/budget, "stored/budget")
		b.ReportMetric(float64(st.Memory.Resident)/budget, "slab/budget")
		b.ReportMetric(float64(st.Evictions), "evictions")
		e.Close()
		e.Drop()
	}
}
