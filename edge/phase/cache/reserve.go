package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/phase/cache/reserve"
	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// DefaultReserveTTL is the least freshness of what goes to the reserve, as
// Cloudflare documents for its own: what is fresh for less is sooner fetched
// again than it pays to be kept.
const DefaultReserveTTL = 10 * time.Hour

// far is the reserve: answers in an object store, kept for zones that ask for
// it. They are asked for just before the origin is, by who has no answer at all;
// what the origin then sends is written behind the visitor. An object is under
// the ID of this edge's ledger of purges, the hash of its zone and that of its key:
// so edges can share a bucket, each knows what was purged of its own, and what a
// zone has can be cleared. Variants lie as they do on a disk; see disk.
type far struct {
	store  *reserve.Reserve
	least  time.Duration
	epochs epochs
}

// UseReserve gives the engine a reserve, before the first request. least is the
// shortest freshness that is kept, 0 = DefaultReserveTTL. Closing the reserve,
// after the engine, is for who opened it.
func (e *Engine) UseReserve(store *reserve.Reserve, least time.Duration) {
	if least == 0 {
		least = DefaultReserveTTL
	}
	e.far = &far{store: store, least: least, epochs: newEpochs()}
}

// ReserveOwn is what the names of the objects begin with whose purges a ledger
// knows.
func ReserveOwn(marks *mark.Ledger) string { return strconv.FormatUint(marks.ID(), 16) + "/" }

// farZone is what the names of a zone's objects begin with.
func (e *Engine) farZone(zoneID string) string {
	return ReserveOwn(e.marks) + strconv.FormatUint(recordKey([]byte(zoneID)).Hi, 16) + "/"
}

// farName is where the object at a key is.
func (e *Engine) farName(zoneID string, k ssd.Key) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], k.Hi)
	binary.BigEndian.PutUint64(b[8:], k.Lo)
	name := hex.EncodeToString(b[:])
	return e.farZone(zoneID) + name[:2] + "/" + name
}

// Reserved fills r.Out from the reserve, for who would ask the origin for r
// next: the whole, or the one range that r asks for. It is false, and r untouched,
// when r's zone keeps nothing there, when r revalidates something, and when there
// is nothing fresh that was not purged.
func (e *Engine) Reserved(r *request.Request) bool {
	in := &r.In.Fields
	pol, ok := r.CachePolicy.(*policy)
	if e.far == nil || r.Off.Has(zone.KillReserve) || !ok || !pol.reserve.eligible || r.In.Method != msg.GET || r.CacheKey == nil && r.ReserveKey == nil ||
		in.Has(msg.IfNoneMatch) || in.Has(msg.IfModifiedSince) || in.Has(msg.IfMatch) || in.Has(msg.IfUnmodifiedSince) {
		return false
	}
	spec, single, well := oneSpec(in.Get(msg.Range))
	if well && !single {
		return false
	}
	l := e.lookFar(r, well)
	if l == nil {
		return false
	}
	if well {
		return l.part(r, spec)
	}
	l.h.show(r.Out, l.age)
	r.Out.Length, r.Out.Body = l.o.Size, l.o.Body
	r.Cache.Tier = request.TierReserve
	return true
}

// distant is what was found in the reserve.
type distant struct {
	o   *reserve.Object
	h   stored
	age time.Duration
}

// part answers with one range of it, if r's If-Range is about it.
func (l *distant) part(r *request.Request, spec rangeSpec) bool {
	s, ok := spec.of(l.h.size)
	if want := r.In.Fields.Get(msg.IfRange); want != nil {
		ok = ok && strong(want) && !l.h.noETag && bytes.Equal(want, l.h.field(msg.ETag))
	}
	if !ok || l.h.field(msg.ContentRange) != nil {
		return false
	}
	body := l.o.Range(r.Ctx, s.from, s.to)
	if body == nil {
		return false
	}
	l.h.show(r.Out, l.age)
	r.Out.Status, r.Out.Length, r.Out.Body = 206, s.size(), body
	addContentRange(r, s, l.h.size)
	r.Cache.Tier = request.TierReserve
	return true
}

// field is the first value of a stored field, nil when absent.
func (h *stored) field(id msg.ID) []byte {
	for name, value, rest := msg.CutLine(h.lines); name != nil; name, value, rest = msg.CutLine(rest) {
		if msg.EqualFold(name, id.Bytes()) {
			return value
		}
	}
	return nil
}

// lookFar finds what may answer r; with part its body stays closed. What is
// damaged or purged is deleted.
func (e *Engine) lookFar(r *request.Request, part bool) *distant {
	key := r.CacheKey
	if key == nil {
		key = r.ReserveKey
	}
	k := recordKey(key)
	name := e.farName(r.ZoneID, k)
	o, h, err := e.far.open(r.Ctx, name, part)
	if o == nil {
		e.far.epochs.missing(k)
		return nil
	}
	if err == nil && h.kind == storedVary {
		o.Close()
		if !e.current(r.ZoneID, key, &h) { // nor is what it leads to
			e.forgetFar(r.ZoneID, key)
			return nil
		}
		e.far.epochs.remember(k, h.stamp, h.vary)
		name = e.farName(r.ZoneID, variantKey(key, h.stamp, h.vary, func(v *varyField) []byte { return normalValue(&r.In.Fields, v, r.Arena) }))
		if o, h, err = e.far.open(r.Ctx, name, part); o == nil {
			return nil
		}
	}
	age := time.Duration(e.wall(e.now()) - h.born)
	switch {
	case err != nil, h.kind != storedWhole, h.size != o.Size, !e.current(r.ZoneID, key, &h):
		e.far.store.Delete(name)
	case age < -skew, int64(age) >= h.lifetime, !matches(appendVary(nil, h.vary), &r.In.Fields, r.Arena):
	default:
		return &distant{o: o, h: h, age: max(0, age)}
	}
	o.Close()
	return nil
}

// open reads an object's head; o is nil where there is none.
func (f *far) open(ctx context.Context, name string, part bool) (o *reserve.Object, h stored, err error) {
	if part {
		o = f.store.Look(ctx, name)
	} else {
		o = f.store.Get(ctx, name)
	}
	if o != nil {
		h, err = decodeStored(o.Meta)
	}
	return o, h, err
}

// current reports whether what is stored under a key was not purged since, nor the
// reserve cleared.
func (e *Engine) current(zoneID string, key []byte, h *stored) bool {
	s := h.subject(key)
	s.Reserve = true
	ok, expired, _ := e.valid(h.life, zoneID, s)
	return ok && expired == 0
}

// subject is what purges ask for, of an answer stored under a key's text.
func (h *stored) subject(text []byte) *mark.Subject {
	s := &mark.Subject{Seq: h.seq, Tags: hashTags(h.tags), URL: h.page, Loose: h.page != nil}
	if !s.Loose {
		s.URL = urlOf(text)
	}
	return s
}

// show makes the head that of an answer, as the origin would give it now.
func (h *stored) show(out *msg.Response, age time.Duration) {
	out.Status = h.status
	for name, value, rest := msg.CutLine(h.lines); name != nil; name, value, rest = msg.CutLine(rest) {
		out.Fields.Add(name, value)
	}
	if h.date != nil {
		out.Fields.AddID(msg.Date, h.date)
	}
	if h.tags != nil {
		out.Fields.AddID(msg.CacheTag, h.tags)
	}
	out.Fields.AddID(msg.Age, strconv.AppendInt(nil, int64(age/time.Second), 10))
}

var (
	descFarLooked  = prometheus.NewDesc("selvage_cache_reserve_lookups_total", "Lookups in the cache reserve, by outcome.", []string{"outcome"}, nil)
	descFarWritten = prometheus.NewDesc("selvage_cache_reserve_objects_written_total", "Objects written to the cache reserve.", nil, nil)
	descFarBytes   = prometheus.NewDesc("selvage_cache_reserve_written_bytes_total", "Bytes written to the cache reserve.", nil, nil)
	descFarDropped = prometheus.NewDesc("selvage_cache_reserve_dropped_total", "Objects not written to the cache reserve: its queue was full, it failed, or has no room.", nil, nil)
	descFarQueue   = prometheus.NewDesc("selvage_cache_reserve_queue_bytes", "Bytes that wait to be written to the cache reserve.", nil, nil)
	descFarSpool   = prometheus.NewDesc("selvage_cache_reserve_spool_bytes", "Bytes of large objects on their way to the cache reserve.", nil, nil)
	descFarExpired = prometheus.NewDesc("selvage_cache_reserve_expired_total", "Objects deleted from the cache reserve because nobody asked for them, because its folder was full, or because it was cleared.", nil, nil)
	descFarUsed    = prometheus.NewDesc("selvage_cache_reserve_uses_total", "Objects of which the store was told that they are in use.", nil, nil)
	descFarOff     = prometheus.NewDesc("selvage_cache_reserve_off", "1 while the cache reserve is not asked, after failures.", nil, nil)
)

func describeFar(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descFarLooked, descFarWritten, descFarBytes, descFarDropped, descFarQueue, descFarSpool, descFarExpired, descFarUsed, descFarOff} {
		to <- d
	}
}

// collect reads the counters of the reserve; f may be nil.
func (f *far) collect(gauge func(*prometheus.Desc, float64), count func(*prometheus.Desc, uint64, ...string)) {
	if f == nil {
		return
	}
	st := f.store.Stats()
	count(descFarLooked, st.Hits, "found")
	count(descFarLooked, st.Misses, "nothing")
	count(descFarLooked, st.Failed, "failed")
	count(descFarLooked, st.Damaged, "damaged")
	count(descFarWritten, st.Written)
	count(descFarBytes, st.WrittenBytes)
	count(descFarDropped, st.Dropped)
	count(descFarExpired, st.Expired)
	count(descFarUsed, st.Used)
	gauge(descFarQueue, float64(st.QueuedBytes))
	gauge(descFarSpool, float64(st.Spooled))
	off := 0.0
	if st.Off {
		off = 1
	}
	gauge(descFarOff, off)
}
