package cache

import (
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

// keepFar queues what this edge itself brought from the origin for the reserve,
// where its zone wants that.
func (f *fill) keepFar() {
	o := f.obj
	if body := o.body(); f.farWants(int64(len(body))) {
		h := headOf(f.e, o)
		h.kind, h.size = storedWhole, int64(len(body))
		name := f.e.farPlace(f.d.ZoneID, o)
		o.retain()
		f.e.far.store.Put(name, h.append(nil), body, func(bool) { o.Release() })
	}
}

// farWants reports whether the answer is for the reserve, with a body of so many
// bytes. What another edge fetched is in that one's reserve, which is asked before
// the origin is: to keep it twice would cost and serve nobody.
func (f *fill) farWants(size int64) bool {
	e, o := f.e, f.obj
	if e.far == nil || f.d.Off.Has(zone.KillReserve) || !f.fromOrigin() || f.from == request.TierReserve || o.purged() {
		return false
	}
	rule := &f.plan.decide(f.d).reserve
	return rule.eligible && size >= rule.least && o.status == 200 &&
		time.Duration(o.lifetime.Load()-o.age(e.now())) >= e.far.least
}

// farPlace is where an object goes, and writes the Vary record that leads there
// where there is none.
func (e *Engine) farPlace(zoneID string, o *object) string {
	k := recordKey(o.text())
	epochs := &e.far.epochs
	if len(o.vary()) == 0 {
		epochs.forget(k) // a Vary record there is no more
		return e.farName(zoneID, k)
	}
	names := sortedNames(o.vary().fields())
	epoch, made := epochs.of(k, names)
	if made {
		h := varyRecord(epoch, names)
		h.life, h.seq = e.marks.ID(), o.seq.Load()
		e.far.store.Put(e.farName(zoneID, k), h.append(nil), nil, func(stored bool) {
			if !stored {
				epochs.forget(k)
			}
		})
	}
	return e.farName(zoneID, variantOf(o, epoch, names))
}

// varyRecord leads to the answers of a key that are chosen by fields.
func varyRecord(epoch uint64, names []varyField) *stored {
	h := &stored{kind: storedVary, stamp: epoch}
	for i := range names {
		h.vary = append(h.vary, varyField{id: names[i].id, name: names[i].name})
	}
	return h
}

// variantOf is where an object is among those of its key.
func variantOf(o *object, epoch uint64, names []varyField) ssd.Key {
	return variantKey(o.text(), epoch, names, func(v *varyField) []byte { return v.value })
}

// forgetFar makes what the reserve has of a key unusable.
func (e *Engine) forgetFar(zoneID string, text []byte) {
	k := recordKey(text)
	e.far.epochs.forget(k)
	e.far.store.Delete(e.farName(zoneID, k))
}
