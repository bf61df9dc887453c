package cache

import (
	"encoding/hex"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/phase/cache/reserve"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// DefaultReserveTTL is the least freshness of what goes to the reserve, as
// Cloudflare documents for its own: what is fresh for less is sooner fetched
// again than it pays to be kept.
const DefaultReserveTTL = 10 * time.Hour

// far is the reserve: answers in an object store, kept for zones that ask for
// it. They are asked for just before the origin is, by who has no answer at all;
// what the origin then sends is written behind the visitor. An object is under
// the ID of this edge's ledger of purges and the hash of its key, so that edges
// can share a bucket and each knows what was purged of its own.
type far struct {
	store *reserve.Reserve
	least time.Duration
}

// UseReserve gives the engine a reserve, before the first request. least is the
// shortest freshness that is kept, 0 = DefaultReserveTTL. Closing the reserve,
// after the engine, is for who opened it.
func (e *Engine) UseReserve(store *reserve.Reserve, least time.Duration) {
	if least == 0 {
		least = DefaultReserveTTL
	}
	e.far = &far{store: store, least: least}
}

// name is where the object of a key is.
func (e *Engine) farName(text []byte) string {
	k := recordKey(text)
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(k.Hi>>(8*i)), byte(k.Lo>>(8*i))
	}
	name := hex.EncodeToString(b[:])
	return strconv.FormatUint(e.marks.ID(), 16) + "/" + name[:2] + "/" + name
}

// Reserved fills r.Out from the reserve, for who would ask the origin for r
// next. It is false, and r untouched, when r's zone keeps nothing there, when r
// revalidates something, and when there is nothing fresh that was not purged.
func (e *Engine) Reserved(r *request.Request) bool {
	in := &r.In.Fields
	pol, ok := r.CachePolicy.(*policy)
	if e.far == nil || !ok || !pol.reserve.eligible || r.CacheKey == nil || r.In.Method != msg.GET ||
		in.Has(msg.IfNoneMatch) || in.Has(msg.IfModifiedSince) || in.Has(msg.Range) {
		return false
	}
	name := e.farName(r.CacheKey)
	o := e.far.store.Get(r.Ctx, name)
	if o == nil {
		return false
	}
	h, err := decodeStored(o.Meta)
	age := time.Duration(e.wall(e.now()) - h.born)
	switch {
	case err != nil, h.kind != storedWhole, h.size != o.Size, !e.current(r, &h):
		e.far.store.Delete(name)
	case age < -skew, int64(age) >= h.lifetime, !matches(appendVary(nil, h.vary), in, r.Arena):
	default:
		h.show(r.Out, max(0, age))
		r.Out.Length, r.Out.Body = o.Size, o.Body
		r.Cache.Tier = request.TierReserve
		return true
	}
	_ = o.Body.Close() // nothing was read of it
	return false
}

// current reports whether what is stored for r was not purged since.
func (e *Engine) current(r *request.Request, h *stored) bool {
	ok, expired, _ := e.valid(h.life, r.ZoneID, h.subject(r.CacheKey))
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

// keepFar queues what this edge itself brought from the origin for the reserve,
// where its zone wants that. What another edge fetched is in that one's reserve,
// which is asked before the origin is; to keep it twice would cost and serve nobody.
func (f *fill) keepFar() {
	e, o := f.e, f.obj
	if e.far == nil || f.note.Status == 0 || f.from == request.TierReserve || o.purged() {
		return
	}
	rule := &f.plan.decide(f.d).reserve
	body := o.body()
	if !rule.eligible || int64(len(body)) < rule.least || o.status != 200 ||
		time.Duration(o.lifetime.Load()-o.age(e.now())) < e.far.least {
		return
	}
	h := headOf(e, o)
	h.kind, h.size = storedWhole, int64(len(body))
	o.retain()
	e.far.store.Put(e.farName(f.key.text), h.append(nil), body, o.Release)
}

var (
	descFarLooked  = prometheus.NewDesc("selvage_cache_reserve_lookups_total", "Lookups in the cache reserve, by outcome.", []string{"outcome"}, nil)
	descFarWritten = prometheus.NewDesc("selvage_cache_reserve_objects_written_total", "Objects written to the cache reserve.", nil, nil)
	descFarBytes   = prometheus.NewDesc("selvage_cache_reserve_written_bytes_total", "Bytes written to the cache reserve.", nil, nil)
	descFarDropped = prometheus.NewDesc("selvage_cache_reserve_dropped_total", "Objects not written to the cache reserve: its queue was full, it failed, or has no room.", nil, nil)
	descFarQueue   = prometheus.NewDesc("selvage_cache_reserve_queue_bytes", "Bytes that wait to be written to the cache reserve.", nil, nil)
	descFarOff     = prometheus.NewDesc("selvage_cache_reserve_off", "1 while the cache reserve is not asked, after failures.", nil, nil)
)

func describeFar(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descFarLooked, descFarWritten, descFarBytes, descFarDropped, descFarQueue, descFarOff} {
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
	gauge(descFarQueue, float64(st.QueuedBytes))
	off := 0.0
	if st.Off {
		off = 1
	}
	gauge(descFarOff, off)
}
