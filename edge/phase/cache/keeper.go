package cache

import (
	"io"

	"github.com/selvage-edge/selvage/edge/phase/cache/reserve"
	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
	"github.com/selvage-edge/selvage/edge/phase/cache/stream"
	"github.com/selvage-edge/selvage/zone"
)

// keeper is a slower tier that takes a body which is too large for memory, as it
// comes. Each has a goroutine that follows the stream, as far behind its visitors as
// the stream's window; one that is slower gives up, and visitors wait a second for it
// at most.
type keeper interface {
	io.Writer
	commit(size int64) // keeps what was written
	abort()
}

// findKeepers asks the tiers for f.obj's body; size is -1 where it is not known.
func (f *fill) findKeepers(size int64) {
	if !f.d.Off.Has(zone.KillDisk) {
		if k := f.e.disk.keeper(f.obj, size); k != nil {
			f.keepers = append(f.keepers, k)
		}
	}
	if k := f.farKeeper(size); k != nil {
		f.keepers = append(f.keepers, k)
	}
}

// startKeepers lets them follow the stream.
func (f *fill) startKeepers() {
	for _, k := range f.keepers {
		body := f.stream.Follow(f.e.cfg.Ctx)
		if body == nil {
			k.abort()
			continue
		}
		f.obj.retain()
		if !f.e.start(func() { f.keepWith(k, body) }) {
			_ = body.Close() // never fails
			f.obj.Release()
			k.abort()
		}
	}
}

// keepWith gives a keeper what the stream brings. What ended small enough for
// memory is there, and nowhere else.
func (f *fill) keepWith(k keeper, body *stream.Reader) {
	defer f.obj.Release()               // what is read is its memory
	defer func() { _ = body.Close() }() // never fails
	n, err := io.CopyBuffer(struct{ io.Writer }{k}, struct{ io.Reader }{body}, make([]byte, keptAtOnce))
	if err != nil || f.inMemory.Load() {
		k.abort()
		return
	}
	k.commit(n)
}

const keptAtOnce = 64 << 10

// passing calls then when so many bytes of a body have come.
type passing struct {
	io.Reader
	left int64
	then func()
}

func (p *passing) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if p.left > 0 {
		if p.left -= int64(n); p.left <= 0 {
			p.then()
		}
	}
	return n, err
}

// diskKeeper writes to the disk.
type diskKeeper struct {
	*ssd.Writer
	d    *disk
	key  ssd.Key
	head *stored
}

// keeper begins the body of an answer that is too large for memory; nil where the
// disk does not take it. d may be nil.
func (d *disk) keeper(o *object, size int64) keeper {
	if d == nil {
		return nil
	}
	k := d.placeOf(o, recordKey(o.text()))
	h := headOf(d.e, o)
	h.kind = storedHead
	w := d.store.Begin(bodyKey(k), bodyMeta(h.stamp), size)
	if w == nil {
		return nil
	}
	w.Wait()
	return &diskKeeper{Writer: w, d: d, key: k, head: h}
}

func (k *diskKeeper) commit(size int64) {
	if k.Commit() == nil {
		k.head.size = size
		k.d.saved.Add(1)
		k.d.store.Put(k.key, k.head.append(nil), nil, nil)
	}
}

func (k *diskKeeper) abort() { k.Abort() }

// farKeeper writes to where objects wait for the reserve.
type farKeeper struct {
	*reserve.Writer
	head  *stored
	least int64
}

// farKeeper begins a body for the reserve; nil where it is not for that.
func (f *fill) farKeeper(size int64) keeper {
	if !f.farWants(max(size, f.e.cfg.MaxObject)) {
		return nil
	}
	h := headOf(f.e, f.obj)
	h.kind = storedWhole
	w := f.e.far.store.Begin(f.e.farPlace(f.d.ZoneID, f.obj), len(h.append(nil)))
	if w == nil {
		return nil
	}
	return &farKeeper{Writer: w, head: h, least: f.plan.decide(f.d).reserve.least}
}

func (k *farKeeper) commit(size int64) {
	if k.head.size = size; size < k.least {
		k.Abort()
		return
	}
	k.Commit(k.head.append(nil))
}

func (k *farKeeper) abort() { k.Abort() }
