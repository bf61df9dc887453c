package evict

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// thing is an object that a test stores.
type thing struct {
	Item
	id   uint64
	size int64
}

func thingOf(it *Item) *thing { return (*thing)(unsafe.Pointer(it)) }

// box is a store of a fixed room under the policy.
type box struct {
	q    Queues
	room int64
	at   map[uint64]*thing
}

func newBox(room int64, ghosts int) *box {
	b := &box{room: room, at: map[uint64]*thing{}}
	b.q.Size = func(it *Item) int64 { return thingOf(it).size }
	b.q.Ghost = func(it *Item) uint64 { return mix(thingOf(it).id) }
	b.q.Open(ghosts)
	return b
}

func mix(n uint64) uint64 {
	n = (n ^ n>>31) * 0x7fb5d329728ea185
	n = (n ^ n>>27) * 0x81dadef4bc2dd44d
	return n ^ n>>33
}

func (b *box) ask(id uint64, size int64) (hit bool) {
	if x := b.at[id]; x != nil {
		x.Hit()
		return true
	}
	for b.q.Bytes()+size > b.room {
		delete(b.at, thingOf(b.q.Victim()).id)
	}
	x := &thing{id: id, size: size}
	b.at[id] = x
	b.q.Insert(&x.Item, b.q.Known(mix(id)))
	return false
}

// check recounts what the queues hold.
func (b *box) check(t testing.TB) {
	t.Helper()
	n, bytes := 0, int64(0)
	for where, f := range map[uint8]*fifo{inSmall: &b.q.small, inMain: &b.q.main} {
		own, prev := int64(0), (*Item)(nil)
		for it := f.head; it != nil; it = it.next {
			if it.prev != prev || it.queue != where || b.at[thingOf(it).id] != thingOf(it) {
				t.Fatalf("object %d is out of order in queue %d", thingOf(it).id, where)
			}
			own += thingOf(it).size
			prev = it
			n++
		}
		if f.tail != prev || own != f.bytes {
			t.Fatalf("queue %d counts %d bytes, holds %d", where, f.bytes, own)
		}
		bytes += own
	}
	if n != b.q.Len() || n != len(b.at) || bytes != b.q.Bytes() {
		t.Fatalf("%d objects of %d bytes, counted %d of %d, known %d", n, bytes, b.q.Len(), b.q.Bytes(), len(b.at))
	}
}

func TestQueuesHoldWhatTheySay(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	b := newBox(100_000, 100)
	for step := range 50_000 {
		switch id := rng.Uint64N(500); rng.IntN(10) {
		case 0:
			if x := b.at[id]; x != nil {
				b.q.Remove(&x.Item)
				b.q.Remove(&x.Item) // harmless
				delete(b.at, id)
			}
		case 1:
			if x := b.at[id]; x != nil {
				y := &thing{id: id, size: x.size / 2}
				b.q.Replace(&x.Item, &y.Item)
				b.at[id] = y
			}
		default:
			b.ask(id, 1+rng.Int64N(5000))
		}
		if step%100 == 0 {
			b.check(t)
		}
	}
	for it := b.q.Victim(); it != nil; it = b.q.Victim() {
		delete(b.at, thingOf(it).id)
	}
	b.check(t)
}

// Over a skewed trace of equal sizes the policy beats LRU of the same room.
func TestMissesLessThanLRU(t *testing.T) {
	const room, universe, requests = 200, 10_000, 60_000
	zipf := rand.NewZipf(rand.New(rand.NewPCG(7, 7)), 1.07, 1, universe-1)
	b := newBox(room, 2*room)
	var last [universe]int // LRU: when each was asked for; held are the room newest
	ours, theirs := 0, 0
	for now := 1; now <= requests; now++ {
		id := zipf.Uint64()
		if b.ask(id, 1) {
			ours++
		}
		if last[id] > 0 {
			newer := 0
			for _, at := range last {
				if at > last[id] {
					newer++
				}
			}
			if newer < room {
				theirs++
			}
		}
		last[id] = now
	}
	if ours <= theirs {
		t.Errorf("%d hits, LRU has %d", ours, theirs)
	}
}

// A scan drives out nothing that is asked for again and again.
func TestScanLeavesTheHotSet(t *testing.T) {
	b := newBox(100, 200)
	for i := range uint64(5000) {
		b.ask(1000+i, 1)
		b.ask(i%40, 1)
	}
	hits := 0
	for i := range uint64(40) {
		if b.ask(i, 1) {
			hits++
		}
	}
	if hits < 38 {
		t.Errorf("%d of 40 hot objects left", hits)
	}
}

// Where room is short, small objects stay rather than large ones asked for as
// often.
func TestSmallObjectsStayLonger(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	b := newBox(4<<20, 4000)
	var hits, asked [2]int
	for range 200_000 {
		id := rng.Uint64N(4000)
		kind := int(id % 2)
		asked[kind]++
		if b.ask(id, []int64{500, 50_000}[kind]) {
			hits[kind]++
		}
	}
	small, large := float64(hits[0])/float64(asked[0]), float64(hits[1])/float64(asked[1])
	if small < 4*large {
		t.Errorf("hit ratio of small objects %.3f, of large ones %.3f", small, large)
	}
}

func TestGhostsAreRememberedOnceAndForAWhile(t *testing.T) {
	var g ghosts
	g.open(1000)
	for _, span := range []uint32{100, 1 << 15, 1 << 20} {
		for _, now := range []uint32{5, 1<<16 - 3, 1<<32 - 3} {
			g.add(mix(7), now, span)
			if !g.take(mix(7), now+span/2, span) || g.take(mix(7), now+span/2, span) {
				t.Errorf("span %d, now %d: not remembered, or twice", span, now)
			}
			g.add(mix(7), now, span)
			if g.take(mix(7), now+span+span/2, span) {
				t.Errorf("span %d, now %d: remembered too long", span, now)
			}
		}
	}
	clear(g.slots)
	found := 0
	for i := range uint32(1000) {
		g.add(mix(uint64(i)), i, 2000)
	}
	for i := range uint32(1000) {
		if g.take(mix(uint64(i)), 1000, 2000) {
			found++
		}
	}
	if found < 800 || len(g.slots) > 2048 {
		t.Errorf("%d of 1000 remembered in %d slots", found, len(g.slots))
	}
}

// What may not rise leaves the small queue and is known when it comes again; what
// leaves the main queue tells whether it was hit there, hits on account apart.
func TestQueuesTellWhatWasOfUse(t *testing.T) {
	b := newBox(100, 200)
	stayed := map[uint64]bool{}
	b.q.Rises = func(it *Item) bool { return thingOf(it).id != 1 }
	b.q.Stayed = func(it *Item, hit bool) { stayed[thingOf(it).id] = hit }
	fresh := uint64(1000)
	others := func(n int) {
		for range n {
			b.ask(fresh, 1)
			fresh++
		}
	}
	for id := range uint64(3) {
		for range 3 {
			b.ask(id, 1)
		}
	}
	others(120)
	if b.at[1] != nil || b.at[0] == nil || b.at[0].queue != inMain || b.at[2].queue != inMain {
		t.Fatal("what was asked for three times is not in the main queue, or what may not rise is")
	}
	if b.ask(1, 1); b.at[1].queue != inMain {
		t.Error("what comes again is not in the main queue")
	}
	b.ask(2, 1)
	for range 200 { // push all through the main queue
		for range 3 {
			b.ask(fresh, 1)
		}
		fresh++
	}
	if len(stayed) < 3 || stayed[0] || stayed[1] || !stayed[2] {
		t.Errorf("hit in the main queue are %v, want 2 alone of 0 to 2", stayed)
	}
}

func TestGuard(t *testing.T) {
	const scanner, quiet, good = 1, 2, 3
	var g Guard
	const asks = 10_000 // of which one in leastPart is 312, with a deviation of 17
	admitted := func(zone uint64) (n int) {
		for range asks {
			if g.Admits(zone) {
				n++
			}
		}
		return n
	}
	for range 1000 {
		g.Left(scanner, false)
	}
	if n := admitted(scanner); n != asks {
		t.Errorf("a zone alone is let in %d of %d times", n, asks)
	}
	for i := range 1000 {
		g.Left(good, i%3 == 0)
	}
	for i := range 1000 {
		g.Left(quiet, i%9 == 0)
	}
	for zone, want := range map[uint64][2]int{scanner: {200, 450}, quiet: {asks, asks}, good: {asks, asks}, 4: {asks, asks}} {
		if n := admitted(zone); n < want[0] || n > want[1] {
			t.Errorf("zone %d is let in %d of %d times, want %d to %d", zone, n, asks, want[0], want[1])
		}
	}
	for i := range 1000 {
		g.Stayed(quiet, false)
		g.Stayed(good, i%2 == 0)
	}
	rise := 0
	for range asks {
		if g.Rises(quiet) {
			rise++
		}
	}
	if rise < 200 || rise > 450 || !g.Rises(good) || !g.Admits(quiet) {
		t.Errorf("a zone whose items are of no use in the main queue has %d of %d rise, want 200 to 450; others and the small queue are not concerned", rise, asks)
	}
	for i := range 4 * horizon { // it mends its ways
		g.Left(scanner, i%3 == 0)
	}
	if n := admitted(scanner); n != asks {
		t.Errorf("after it changed it is let in %d of %d times", n, asks)
	}
}

func FuzzQueues(f *testing.F) {
	f.Add([]byte("some requests"))
	f.Fuzz(func(t *testing.T, ids []byte) {
		b := newBox(1000, 64)
		for i, id := range ids {
			b.ask(uint64(id), 1+int64(id)*int64(i%4))
		}
		b.check(t)
	})
}

func BenchmarkInsertAndEvict(b *testing.B) {
	for _, n := range []int{1 << 10, 1 << 16} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := newBox(int64(n), n)
			i := uint64(0)
			for b.Loop() {
				i++
				x.ask(i, 1)
			}
		})
	}
}
