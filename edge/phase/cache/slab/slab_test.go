package slab

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
)

// both runs a test over mapped memory and over its twin on the Go heap.
func both(t *testing.T, budget int64, test func(t *testing.T, s *Slab)) {
	for _, heap := range []bool{false, true} {
		t.Run("heap="+strconv.FormatBool(heap), func(t *testing.T) {
			s := New(budget, Options{Heap: heap, Poison: true})
			defer s.Close()
			test(t, s)
			s.verify(t)
		})
	}
}

// verify walks all blocks and recounts.
func (s *Slab) verify(t testing.TB) {
	t.Helper()
	for i := range s.regions {
		r := &s.regions[i]
		r.mu.Lock()
		var live, idle, blocks, clean int64
		free := map[uint32]bool{}
		before, last := r.size(0), uint32(0)
		for at := uint32(1); at < r.units-1; at += r.size(at) {
			if r.head(at).before != before || r.size(at) == 0 {
				t.Fatalf("block %d says %+v after one of %d", at, *r.head(at), before)
			}
			before = r.size(at)
			bytes := int64(before) * unit
			switch kind := r.kind(at); kind {
			case 0:
				live += bytes
				blocks++
			case flagFree, flagFree | flagClean:
				if kind == last {
					t.Errorf("two free blocks of one kind side by side at %d", at)
				}
				if kind == flagFree {
					idle += bytes
				} else if clean += r.interior(at, before); r.interior(at, before) == 0 {
					t.Errorf("a clean block without a whole page at %d", at)
				}
				free[at] = true
			default:
				t.Errorf("block %d of kind %x", at, kind)
			}
			last = r.kind(at)
		}
		for _, b := range []*bins{&r.dirty, &r.clean} {
			for u := range b.first {
				for l, at := range b.first[u] {
					if (at != 0) != (b.parts[u]&(1<<l) != 0) || (b.parts[u] != 0) != (b.some&(1<<u) != 0) {
						t.Errorf("bin %d/%d: bits disagree with the list", u, l)
					}
					for ; at != 0; at = r.links(at).next {
						if gu, gl := binOf(r.size(at)); gu != u || gl != l || !free[at] {
							t.Errorf("block %d of %d units in bin %d/%d, free %v", at, r.size(at), u, l, free[at])
						}
						delete(free, at)
					}
				}
			}
		}
		if len(free) > 0 {
			t.Errorf("%d free blocks in no bin", len(free))
		}
		if live != r.live || idle != r.idle || blocks != r.blocks || int64(s.span)-clean != r.resident {
			t.Errorf("recount: live %d idle %d blocks %d resident %d, kept %d %d %d %d", live, idle, blocks, int64(s.span)-clean, r.live, r.idle, r.blocks, r.resident)
		}
		r.mu.Unlock()
	}
}

// held is a block with what must be in it.
type held struct {
	b    []byte
	seed byte
}

func (h *held) fill() {
	for i := range h.b {
		h.b[i] = h.seed + byte(i)
	}
}

func (h *held) whole() bool {
	for i := range h.b {
		if h.b[i] != h.seed+byte(i) {
			return false
		}
	}
	return true
}

// exercise runs a program of steps against a slab: what is held keeps its bytes.
func exercise(t testing.TB, s *Slab, steps int, rng *rand.Rand) {
	var list []held
	for step := range steps {
		switch op := rng.IntN(10); {
		case op < 5 || len(list) == 0:
			n := rng.IntN(64)
			switch rng.IntN(8) {
			case 0:
				n = rng.IntN(300 << 10)
			case 1, 2, 3:
				n = rng.IntN(9000)
			}
			take := s.Alloc
			if n > 2*page {
				take = func(n int) []byte { return s.Paged(n, false) }
			}
			b := take(n)
			for b == nil && len(list) > 0 { // evict, then retry
				i := rng.IntN(len(list))
				s.release(t, &list, i, rng.IntN(2) == 0)
				b = take(n)
			}
			if len(b) != n {
				t.Fatalf("step %d: %d bytes, want %d", step, len(b), n)
			}
			if f, _, from, to := s.File(b); f != nil && (from > 2*page || to-from < n-2*page || n > 2*page && to != n) {
				t.Fatalf("step %d: of %d bytes those from %d to %d lie in a file", step, n, from, to)
			}
			h := held{b[:cap(b)], byte(step)}
			h.fill()
			list = append(list, h)
		case op < 7:
			s.release(t, &list, rng.IntN(len(list)), rng.IntN(2) == 0)
		case op < 8:
			h := &list[rng.IntN(len(list))]
			if grown := s.Grow(h.b, len(h.b)+rng.IntN(20000)); grown != nil {
				if !(&held{grown[:len(h.b)], h.seed}).whole() {
					t.Fatalf("step %d: Grow changed what was there", step)
				}
				h.b = grown[:cap(grown)]
				h.fill()
			}
		case op < 9:
			h := &list[rng.IntN(len(list))]
			h.b = s.Trim(h.b, rng.IntN(len(h.b)+1))
			h.b = h.b[:cap(h.b)]
		default:
			if rng.IntN(20) == 0 {
				s.Scavenge()
			}
		}
		if st := s.Stats(); st.Resident > st.Budget {
			t.Fatalf("step %d: %+v", step, st)
		}
	}
	s.verify(t)
	for len(list) > 0 {
		s.release(t, &list, len(list)-1, false)
	}
	if st := s.Stats(); st.Live != 0 || st.Blocks != 0 {
		t.Errorf("left: %+v", st)
	}
	s.Scavenge()
	if st := s.Stats(); st.Resident > int64(len(s.regions))*4*page {
		t.Errorf("after all was released and given back: %+v", st)
	}
}

func (s *Slab) release(t testing.TB, list *[]held, i int, discard bool) {
	t.Helper()
	if !(*list)[i].whole() {
		t.Fatal("a block lost its bytes")
	}
	if discard {
		s.Discard((*list)[i].b)
	} else {
		s.Free((*list)[i].b)
	}
	(*list)[i] = (*list)[len(*list)-1]
	*list = (*list)[:len(*list)-1]
}

func TestBlocksKeepTheirBytes(t *testing.T) {
	both(t, 4<<20, func(t *testing.T, s *Slab) {
		for seed := range uint64(4) {
			exercise(t, s, 5000, rand.New(rand.NewPCG(seed, 1)))
		}
	})
}

func FuzzSlab(f *testing.F) {
	f.Add(uint64(1), uint16(500), false)
	f.Add(uint64(2), uint16(900), true)
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16, heap bool) {
		s := New(1<<20, Options{Heap: heap, Poison: true})
		defer s.Close()
		exercise(t, s, int(steps%2000), rand.New(rand.NewPCG(seed, 2)))
		s.verify(t)
	})
}

// Full of small blocks, each other one released: a large one needs their pages.
func TestLargeBlockAfterSmallOnes(t *testing.T) {
	s := New(8<<20, Options{})
	defer s.Close()
	var list [][]byte
	for {
		b := s.Alloc(10_000)
		if b == nil {
			break
		}
		list = append(list, b)
	}
	if b := s.Alloc(1 << 20); b != nil {
		t.Fatal("1 MiB in a full slab")
	}
	for i := 0; i < len(list); i += 2 {
		s.Free(list[i])
	}
	big := s.Alloc(1 << 20)
	if big == nil {
		t.Fatalf("no room for 1 MiB with half of 8 MiB free: %+v", s.Stats())
	}
	clear(big)
	s.verify(t)
}

func TestForceGoesPastTheBudget(t *testing.T) {
	both(t, 1<<20, func(t *testing.T, s *Slab) {
		for s.Alloc(10_000) != nil {
		}
		b := s.Force(50_000)
		if len(b) != 50_000 {
			t.Fatalf("Force gave %d bytes", len(b))
		}
		if s.Alloc(50_000) != nil {
			t.Error("Alloc past the budget")
		}
		s.Free(b)
	})
}

func TestPoisonShowsInReleasedMemory(t *testing.T) {
	s := New(1<<20, Options{Poison: true})
	defer s.Close()
	b := s.Alloc(1000)
	s.Free(b)
	if !bytes.Equal(b[100:], bytes.Repeat([]byte{poisonByte}, 900)) {
		t.Error("released bytes are as before")
	}
	defer func() {
		if recover() == nil {
			t.Error("releasing twice went unnoticed")
		}
	}()
	s.Free(b)
}

func TestMemoryOutlivesCloseUntilTheLastBlock(t *testing.T) {
	s := New(1<<20, Options{})
	b := s.Alloc(1000)
	s.Close()
	for i := range b {
		b[i] = 1
	}
	s.Free(b)
	if s.Alloc(10) != nil {
		t.Error("an allocation after the end")
	}
}

func TestSeveralRegions(t *testing.T) {
	s := New(maxBudget*3-5, Options{})
	defer s.Close()
	if len(s.regions) != 3 {
		t.Fatalf("%d regions", len(s.regions))
	}
	seen := map[*region]bool{}
	for range 30 {
		b := s.Alloc(100_000)
		r, _ := s.find(b)
		seen[r] = true
		defer s.Free(b)
	}
	if len(seen) != 3 {
		t.Errorf("%d of 3 regions used", len(seen))
	}
}

func TestAtOnce(t *testing.T) {
	s := New(8<<20, Options{Poison: true})
	defer s.Close()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 9))
			var list []held
			for i := range 3000 {
				if b := s.Alloc(rng.IntN(20000)); b != nil {
					h := held{b, byte(i + w)}
					h.fill()
					list = append(list, h)
				}
				for len(list) > 30 {
					s.release(t, &list, rng.IntN(len(list)), rng.IntN(2) == 0)
				}
			}
			for len(list) > 0 {
				s.release(t, &list, 0, false)
			}
		})
	}
	wg.Wait()
	s.verify(t)
}

// A full slab in steady state: something is evicted for each allocation.
func BenchmarkChurn(b *testing.B) {
	s := New(64<<20, Options{})
	defer s.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	var queue [][]byte
	var lost, full float64
	b.ReportAllocs()
	for b.Loop() {
		n := 200 + rng.IntN(1<<(8+rng.IntN(10)))
		p := s.Alloc(n)
		for p == nil {
			st := s.Stats()
			lost += float64(st.Budget-st.Live) / float64(st.Budget)
			full++
			s.Free(queue[0])
			queue = queue[1:]
			p = s.Alloc(n)
		}
		queue = append(queue, p)
	}
	b.ReportMetric(100*lost/full, "%lost") // of the budget, when an allocation fails
}
