package cache

import (
	"bytes"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// freshen uses the answer to a HEAD for the object that a GET would be answered
// with (RFC 9111 §4.3.5): where they agree, its fields are updated; where they
// do not, it is stale.
func (t task) freshen(k key, s *shard, o *object, asked, got time.Time) {
	out := t.r.Out
	if out.Status != 200 || o.status != 200 || t.placeOf(o) != nil {
		return
	}
	if !o.agrees(&out.Fields) {
		o.expire(t.e.since(got))
		t.e.invalidateBelow(t.r.ZoneID, k.text) // it is as old there
		return
	}
	f := t.e.readFill(t, k)
	defer f.zone.Release()
	fresh, store := f.renew(o, &out.Fields, asked, got)
	if fresh == nil {
		return
	}
	defer fresh.Release()
	fresh.seq.Store(o.seq.Load()) // its body is as old
	s.mu.Lock()
	defer s.mu.Unlock()
	if store && o.Held() && !fresh.purged() {
		t.e.insert(s, k, fresh, o)
	}
}

// agrees reports whether an answer without its body has the object's validators
// and length, as far as it tells them.
func (o *object) agrees(f *msg.Fields) bool {
	if tag := f.Get(msg.ETag); tag != nil && !bytes.Equal(tag, o.field(msg.ETag)) {
		return false
	}
	if m := f.Get(msg.LastModified); m != nil && !bytes.Equal(m, o.lastMod()) {
		return false
	}
	n, ok := readDigits(f.Get(msg.ContentLength), maxOffset)
	return !f.Has(msg.ContentLength) || ok && n == o.layout().total
}
