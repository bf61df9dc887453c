package cache

import (
	"sync"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
	"github.com/selvage-edge/selvage/zone"
)

// Hit implements lower.
func (d *disk) Hit(o *object) { d.save(o) }

// Demote implements lower.
func (d *disk) Demote(o *object) {
	if !o.saved() && d.seen.again(ghost(o, d.e.hashOf(o))) {
		d.save(o)
	}
}

// worth reports whether an object is of use long enough to be written.
func (d *disk) worth(o *object, k ssd.Key) bool {
	now := d.e.now()
	left := o.lifetime.Load() - o.age(now)
	if left < soonStale && !o.validate && (o.revalid+o.fail).nanoseconds() < soonStale {
		return false
	}
	return left >= soonAgain || !d.store.Has(k)
}

// save queues an object to be written, once in its life, unless the disk is
// switched off.
func (d *disk) save(o *object) bool {
	if d.e.off(zone.KillDisk) || !o.save() || o.purged() {
		return false
	}
	k := recordKey(o.text())
	if !d.worth(o, k) {
		return false
	}
	h := headOf(d.e, o)
	h.kind, h.size = storedWhole, int64(len(o.body()))
	k = d.placeOf(o, k)
	o.retain()
	d.saved.Add(1)
	return d.store.Put(k, h.append(nil), o.body(), o.Release)
}

// placeOf is where an object goes, and writes the Vary record that leads there
// where there is none.
func (d *disk) placeOf(o *object, k ssd.Key) ssd.Key {
	if len(o.vary()) == 0 {
		return k
	}
	names := sortedNames(o.vary().fields())
	epoch, made := d.epochs.of(k, names)
	if made || !d.store.Has(k) {
		d.store.Put(k, varyRecord(epoch, names).append(nil), nil, nil)
	}
	return variantOf(o, epoch, names)
}

// headOf is an object's head as it is stored, but for kind and size.
func headOf(e *Engine, o *object) *stored {
	h := &stored{
		stamp: randomStamp(), life: e.marks.ID(), seq: o.seq.Load(), tags: o.tags(),
		status: int(o.status), born: e.wall(o.born), lifetime: o.lifetime.Load(),
		revalid: o.revalid.nanoseconds(), fail: o.fail.nanoseconds(),
		strict: o.strict, shared: o.shared, validate: o.validate, noETag: o.noETag,
		date: o.date(), lines: o.head(), vary: o.vary().fields(),
	}
	if o.loose {
		h.page = o.page()
	}
	return h
}

// wall is the wall clock at an instant, in nanoseconds of Unix time.
func (e *Engine) wall(instant int64) int64 { return e.epoch.UnixNano() + instant }

// rewrite stores the new head of an answer whose body stays where it is.
func (d *disk) rewrite(o *object, at place) {
	h := headOf(d.e, o)
	h.kind, h.size, h.stamp = storedHead, at.size, at.stamp
	d.store.Put(at.key, h.append(nil), nil, nil)
}

// warm writes objects that are hot in memory and not on the disk, so that the
// next start has them, until an instant of the clock.
func (d *disk) warm(until time.Time) {
	for i := range d.e.shards {
		s := &d.e.shards[i]
		var hot []*object
		s.mu.RLock()
		for o := range s.all() {
			if o.Hits() > 0 && !o.saved() {
				o.retain()
				hot = append(hot, o)
			}
		}
		s.mu.RUnlock()
		for _, o := range hot {
			for !d.store.Room(o.size()) && time.Now().Before(until) {
				<-time.After(time.Millisecond)
			}
			if time.Now().Before(until) {
				d.save(o)
			}
			o.Release()
		}
	}
}

// warmTime is how long Close may write what is hot.
const warmTime = 3 * time.Second

// doorkeeper remembers about as many numbers as it has room for: two halves,
// of which the older is emptied when the newer is full.
type doorkeeper struct {
	mu         sync.Mutex
	now, older []uint64
	count      int
}

// perSeen is how much of the budget one number remembered stands for.
const perSeen = 8 << 10

func (k *doorkeeper) open(n int64) {
	words := min(max(n*seenBits/64, 1<<10), 1<<20)
	k.now, k.older = make([]uint64, words), make([]uint64, words)
}

const seenBits = 8 // bits of a half for each number; two are set

// again reports whether a number was passed before, lately, and notes it.
func (k *doorkeeper) again(n uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	size := uint64(len(k.now)) * 64
	a, b := n%size, (n>>32|n<<32)*0x9e3779b97f4a7c15>>8%size
	has := func(bits []uint64) bool {
		return bits[a/64]&(1<<(a%64)) != 0 && bits[b/64]&(1<<(b%64)) != 0
	}
	if has(k.now) {
		return true
	}
	again := has(k.older)
	k.now[a/64] |= 1 << (a % 64)
	k.now[b/64] |= 1 << (b % 64)
	if k.count++; k.count >= len(k.now)*64/seenBits {
		k.now, k.older, k.count = k.older, k.now, 0
		clear(k.now)
	}
	return again
}
