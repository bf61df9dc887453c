package cache

import (
	"bytes"
	"encoding/binary"
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/selvage-edge/selvage/edge/phase/cache/evict"
	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/phase/cache/slab"
	"github.com/selvage-edge/selvage/wire/msg"
)

// object is a stored answer. It lies in the slab, with its bytes right behind
// it: the collector sees neither it nor what it points to. So a field may point
// into the slab, or to what is held elsewhere for as long as the object lives; a
// test looks at the types. What has no fixed size goes behind it.
//
// It lives as long as one of its references is held: by the store, by a fill for
// itself and its followers, and by each answer that shows it, until
// Response.Close. Who holds none must touch neither it nor a slice that one of
// its methods returned. What is not atomic or marked never changes after the
// object is published.
type object struct {
	evict.Item                         // first, so that it has the object's address
	more       *object                 // the next older one with the same hash; guarded by the shard
	zone       *mark.Zone              // held by its ledger while the object lives
	derived    atomic.Pointer[derived] // what was made of the head to be shown
	large      unsafe.Pointer          // the body, where it does not lie behind the head
	seq        atomic.Uint64           // newest feed entry that had taken effect when its fill began, or was compared since
	born       int64                   // instant of age zero, in nanoseconds of the engine
	lifetime   atomic.Int64            // fresh until this age, in nanoseconds; a soft purge shortens it

	revalid, fail wholeSeconds
	failed        atomic.Uint32 // tenth of a second of the last vain refresh, 0 = none
	refs          atomic.Int32  // the store's, the fill's and the readers'

	headLen          uint32
	bodyLen          uint32 // where the body does not lie elsewhere, there is room for so much behind the rest
	keyLen, varyLen  uint16
	tagsLen, restLen uint16
	status           uint16
	dateLen          uint8
	strict           bool // never stale
	shared           bool // s-maxage: not stale beyond its windows
	validate         bool // has an ETag or a Last-Modified
	noETag           bool // its ETag is not one to compare by
	loose            bool // several URLs lead to it: the key does not tell which was fetched
}

// The bits of object.State beside the hits.
const (
	stateRefreshing = 1 << (evict.HitBits + iota) // a fill that nobody waits for runs
	stateSlow                                     // the last vain refresh took longer than a visitor should wait
	stateSaved                                    // it is on the disk, or need not be
	stateCodable                                  // its body may be given in another content coding
	stateCoding                                   // a coding of it is being made
	stateUncoded                                  // there was no room for one
	stateSealed                                   // it has its body, and counts in Engine.alive
)

// wholeSeconds is a duration, rounded down.
type wholeSeconds uint32

func secondsOf(d time.Duration) wholeSeconds {
	return wholeSeconds(min(max(0, d/time.Second), maxSeconds))
}

func (s wholeSeconds) nanoseconds() int64 { return int64(s) * int64(time.Second) }

// objectSize is what stands before an object's bytes.
const objectSize = int(unsafe.Sizeof(object{}))

// indexSize is about what an object takes in its shard's index.
const indexSize = 12

// smallBody is the largest body that lies with its object. It is copied where a
// 304 renews the object.
const smallBody = 16 << 10

// parts are the bytes behind an object, in this order.
type parts struct {
	key, head, vary, date []byte
	tags                  []byte // of Cache-Tag, as joinTags gives it
	page                  []byte // the URL that was fetched, of a loose object
	held                  []byte // which bytes it has, of a partial object; see layout
	room                  int    // for a small body
}

func (p *parts) size() int {
	return len(p.key) + len(p.head) + len(p.vary) + len(p.tags) + p.rest() + len(p.date) + p.room
}

// rest is how many bytes page and held take: page comes with its length, where
// there is one.
func (p *parts) rest() int {
	if p.page == nil {
		return len(p.held)
	}
	return 2 + len(p.page) + len(p.held)
}

// fit reports whether the lengths fit their fields.
func (p *parts) fit() bool {
	return len(p.key) <= math.MaxUint16 && len(p.head) <= math.MaxInt32 && len(p.vary) <= math.MaxUint16 &&
		len(p.tags) <= math.MaxUint16 && p.rest() <= math.MaxUint16 && len(p.date) <= math.MaxUint8 && p.room <= smallBody
}

// makeObject takes memory for an object of these parts, with one reference; nil
// when there is none.
func (e *Engine) makeObject(z *mark.Zone, p *parts) *object {
	if !p.fit() {
		return nil
	}
	block := e.roomFor(objectSize+p.size(), true)
	if block == nil {
		return nil
	}
	clear(block[:objectSize])
	o := (*object)(unsafe.Pointer(unsafe.SliceData(block)))
	to := block[objectSize:objectSize]
	to = append(append(append(append(to, p.key...), p.head...), p.vary...), p.tags...)
	if o.loose = p.page != nil; o.loose {
		to = append(binary.LittleEndian.AppendUint16(to, uint16(len(p.page))), p.page...)
	}
	_ = append(append(to, p.held...), p.date...)
	o.keyLen, o.headLen, o.varyLen, o.bodyLen = uint16(len(p.key)), uint32(len(p.head)), uint16(len(p.vary)), uint32(p.room)
	o.tagsLen, o.restLen, o.dateLen = uint16(len(p.tags)), uint16(p.rest()), uint8(len(p.date))
	z.Retain()
	o.zone = z
	o.refs.Store(1)
	return o
}

// newObject makes an object of an answer's head; the fill adds the body. It is
// nil when there is no memory for it.
func (e *Engine) newObject(f *fill, out *msg.Response, j *judgement, got int64) *object {
	return e.newPartial(f, out, j, got, layout{})
}

// newPartial is newObject for an object that has what l says, all if that is
// the zero layout. The length of out is that of the body that the object gets.
func (e *Engine) newPartial(f *fill, out *msg.Response, j *judgement, got int64, l layout) *object {
	var vary [256]byte
	p := parts{key: f.key.text, head: prepare(&out.Fields, notStored(&out.Fields)), vary: appendVary(vary[:0], j.vary), held: l.encode()}
	if 0 < out.Length && out.Length <= smallBody {
		p.room = int(out.Length)
	}
	if p.date = out.Fields.Get(msg.Date); p.date == nil || len(p.date) > math.MaxUint8 {
		p.date = appendDate(nil, e.cfg.Now())
	}
	if p.tags = joinTags(&out.Fields); f.loose {
		p.page = appendURL(nil, f.d.Host, f.d.In.Path, f.d.In.Query, true)
	}
	o := e.makeObject(f.zone, &p)
	if o == nil {
		return nil
	}
	o.status, o.noETag = uint16(out.Status), j.etag == nil
	o.born, o.revalid, o.fail = got-int64(j.age), secondsOf(j.revalid), secondsOf(j.fail)
	o.strict, o.shared, o.validate = j.strict, j.shared, j.validate
	o.lifetime.Store(int64(j.lifetime))
	o.seq.Store(f.seq)
	return o
}

// part returns n bytes that begin after from bytes behind the object.
func (o *object) part(from, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(o), objectSize+from)), n)
}

// text is the key's.
func (o *object) text() []byte { return o.part(0, int(o.keyLen)) }

// head returns the stored field lines.
func (o *object) head() []byte { return o.part(int(o.keyLen), int(o.headLen)) }

func (o *object) vary() varyList {
	return o.part(int(o.keyLen)+int(o.headLen), int(o.varyLen))
}

// tags are those of Cache-Tag, as joinTags gives them.
func (o *object) tags() []byte {
	return o.part(int(o.keyLen)+int(o.headLen)+int(o.varyLen), int(o.tagsLen))
}

func (o *object) rest() []byte {
	return o.part(int(o.keyLen)+int(o.headLen)+int(o.varyLen)+int(o.tagsLen), int(o.restLen))
}

// page is the URL that was fetched, of a loose object.
func (o *object) page() []byte {
	if !o.loose {
		return nil
	}
	rest := o.rest()
	return rest[2:][:binary.LittleEndian.Uint16(rest)]
}

// held is the layout of a partial object, encoded.
func (o *object) held() []byte {
	rest := o.rest()
	if o.loose {
		rest = rest[2+len(o.page()):]
	}
	return rest
}

// date is the Date field of the answer, or when it came.
func (o *object) date() []byte {
	return o.part(int(o.keyLen)+int(o.headLen)+int(o.varyLen)+int(o.tagsLen)+int(o.restLen), int(o.dateLen))
}

// room is how many bytes there are behind the rest for a small body.
func (o *object) room() int {
	if o.large != nil {
		return 0
	}
	return int(o.bodyLen)
}

// inner is the room for a small body.
func (o *object) inner() []byte {
	return o.part(o.blockSize()-objectSize-o.room(), o.room())
}

// url is the object's host, path and query in the form of keys.
func (o *object) url() []byte {
	if o.loose {
		return o.page()
	}
	return urlOf(o.text())
}

// urlOf is host, path and query of a key's text.
func urlOf(text []byte) []byte {
	_, url, _ := bytes.Cut(text, []byte("://"))
	return url
}

func (o *object) engine() *Engine { return o.zone.Owner().(*Engine) }

// expire ends the object's freshness at an instant.
func (o *object) expire(at int64) {
	if age := max(0, at-o.born); age < o.lifetime.Load() {
		o.lifetime.Store(age)
	}
}

// body is nil until the fill has ended.
func (o *object) body() []byte {
	switch {
	case o.large != nil:
		return unsafe.Slice((*byte)(o.large), o.bodyLen)
	case o.sealed():
		return o.inner()
	}
	return nil
}

// seal gives the object its body, which is its inner room or a large body whose
// reference it takes over, and counts it.
func (o *object) seal(e *Engine, body []byte) {
	o.adopt(body)
	o.State.Or(stateSealed)
	e.alive.Add(o.size())
	if o.codable() {
		o.State.Or(stateCodable)
	}
}

func (o *object) sealed() bool { return o.State.Load()&stateSealed != 0 }

// adopt takes a large body over. An object with room for a small one has no
// other.
func (o *object) adopt(body []byte) {
	if cap(body) > 0 && o.room() == 0 {
		o.large, o.bodyLen = unsafe.Pointer(unsafe.SliceData(body)), uint32(len(body))
	}
}

// size is what the object counts in the budget.
func (o *object) size() int64 {
	n := indexSize + slab.Size(o.blockSize())
	if o.large != nil {
		n += slab.Size(bodyHead + int(o.bodyLen))
	}
	return int64(n)
}

func (o *object) blockSize() int {
	return objectSize + int(o.keyLen) + int(o.headLen) + int(o.varyLen) + int(o.tagsLen) + int(o.restLen) + int(o.dateLen) + o.room()
}

// retain takes a reference for who holds one already, or the shard's lock.
func (o *object) retain() { o.refs.Add(1) }

// Release gives back a reference; the object is not to be touched after that.
// It implements msg.Lender.
func (o *object) Release() {
	if o.refs.Add(-1) > 0 {
		return
	}
	z := o.zone
	e := o.engine()
	if o.sealed() {
		e.alive.Add(-o.size())
	}
	if o.large != nil {
		e.freeBody(o.large, int(o.bodyLen))
	}
	for d := o.derived.Load(); d != nil; {
		next := d.next
		e.slab.Free(d.block())
		d = next
	}
	e.slab.Free(unsafe.Slice((*byte)(unsafe.Pointer(o)), o.blockSize()))
	z.Release()
}

// field returns the first value of a stored field, nil when absent.
func (o *object) field(id msg.ID) []byte {
	want := id.Bytes()
	for name, value, rest := msg.CutLine(o.head()); name != nil; name, value, rest = msg.CutLine(rest) {
		if msg.EqualFold(name, want) {
			return value
		}
	}
	return nil
}

// fields returns the stored fields, parsed. It is not for the hit path.
func (o *object) fields() *msg.Fields { return (&msg.Prepared{H1: o.head()}).Fields() }

// etag returns the validator that conditions are compared with, nil = none.
func (o *object) etag() []byte {
	if o.noETag {
		return nil
	}
	return o.field(msg.ETag)
}

func (o *object) lastMod() []byte { return o.field(msg.LastModified) }

// modified is Last-Modified, else Date: what If-Modified-Since meets.
func (o *object) modified(now time.Time) time.Time {
	if t, ok := readDate(o.lastMod(), now); ok {
		return t
	}
	if t, ok := readDate(o.date(), now); ok {
		return t
	}
	return now
}

func (o *object) age(now int64) int64    { return max(0, now-o.born) }
func (o *object) isFresh(now int64) bool { return o.age(now) < o.lifetime.Load() }

// mayRefreshBehind reports the window of stale-while-revalidate.
func (o *object) mayRefreshBehind(now int64) bool {
	return !o.strict && o.age(now) < o.lifetime.Load()+o.revalid.nanoseconds()
}

// mayStandIn reports whether a stale object may be served for a failing
// origin, with or without the zone's Always Online.
func (o *object) mayStandIn(now int64, alwaysOnline bool) bool {
	return !o.strict && (alwaysOnline && !o.shared || o.age(now) < o.lifetime.Load()+o.fail.nanoseconds() || o.mayRefreshBehind(now))
}

// tick is the unit of object.failed.
const tick = int64(time.Second / 10)

// tried notes a vain refresh that began and ended at these instants.
func (o *object) tried(began, ended int64) {
	if ended-began > retryAfter {
		o.State.Or(stateSlow)
	} else {
		o.State.And(^uint32(stateSlow))
	}
	o.failed.Store(uint32(max(ended/tick, 1)))
}

// failedLately reports whether the origin need not be asked again yet.
func (o *object) failedLately(now int64) bool {
	at := int64(o.failed.Load())
	return at > 0 && now/tick-at < retryAfter/tick
}

func (o *object) slow() bool { return o.State.Load()&stateSlow != 0 }

// beginRefresh claims the refresh that nobody waits for; endRefresh gives the
// claim back.
func (o *object) beginRefresh() bool { return o.State.Or(stateRefreshing)&stateRefreshing == 0 }
func (o *object) endRefresh()        { o.State.And(^uint32(stateRefreshing)) }

// save claims the writing of the object to a disk, once.
func (o *object) save() bool  { return o.State.Or(stateSaved)&stateSaved == 0 }
func (o *object) saved() bool { return o.State.Load()&stateSaved != 0 }

// touch notes a hit.
func (o *object) touch() {
	if first := o.Hit(); !first {
		return
	}
	if e := o.engine(); e.lower != nil && !o.partial() {
		e.lower.Hit(o)
	}
}

// sameKey reports whether the object is one of a key.
func (o *object) sameKey(k key) bool { return bytes.Equal(o.text(), k.text) }
