package cache

import (
	"bytes"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/wire/msg"
)

// overhead is what an object costs beside its bytes: the structure, its place
// in map and queue, slice headers of its fields. Measured generously.
const (
	overhead     = 512
	varyOverhead = 64
)

// maxFreq is where S3-FIFO stops counting hits.
const maxFreq = 3

// object is a stored answer. What is not atomic or marked is never changed
// after the object is published; the memory is the collector's, so a reader
// may hold on to it after eviction.
type object struct {
	key     key // text of its own
	status  int
	origin  *msg.Prepared // the origin's fields
	sent    []byte        // the Date field
	changed time.Time     // Last-Modified, else Date
	noETag  bool          // the ETag is not one to compare by
	body    []byte        // set when the fill ends, before the store shows the object
	vary    []varyField

	born     int64        // instant of age zero, in nanoseconds of the engine
	lifetime atomic.Int64 // fresh until this age; a soft purge shortens it
	revalid  int64
	fail     int64
	strict   bool
	shared   bool
	validate bool

	seq   atomic.Uint64 // newest feed entry that had taken effect when its fill began, or was compared since
	zone  *mark.Zone    // held by the object
	extra *extra        // what few objects have; nil = nothing of it

	size       int64                // what it counts in the budget
	seen       atomic.Pointer[head] // what browsers are shown
	notMod     atomic.Pointer[msg.Prepared]
	refreshing atomic.Bool  // a fill that nobody waits for runs
	failed     atomic.Int64 // instant of the last vain refresh, 0 = none
	slow       atomic.Bool  // that refresh took longer than a visitor should wait
	freq       atomic.Uint32
	refs       atomic.Int32 // the store's and the readers'

	more       *object // with the same hash, the next older one; guarded by the shard
	next, prev *object // in its queue; guarded by the shard
	queue      *fifo   // likewise; nil = not stored
}

// extra is what few objects have.
type extra struct {
	tags []byte // of Cache-Tag, as joinTags gives it
	// page is the URL that was fetched, where the key does not tell: several
	// lead to the object. nil otherwise.
	page []byte
}

func (o *object) tags() []byte {
	if o.extra == nil {
		return nil
	}
	return o.extra.tags
}

// loose reports whether several URLs lead to the object.
func (o *object) loose() bool { return o.extra != nil && o.extra.page != nil }

// url is the object's host, path and query in the form of keys.
func (o *object) url() []byte {
	if o.loose() {
		return o.extra.page
	}
	_, url, _ := bytes.Cut(o.key.text, []byte("://"))
	return url
}

func (o *object) engine() *Engine { return o.zone.Owner().(*Engine) }

// expire ends the object's freshness at an instant.
func (o *object) expire(at int64) {
	if age := max(0, at-o.born); age < o.lifetime.Load() {
		o.lifetime.Store(age)
	}
}

// head is a prepared head under one browser TTL.
type head struct {
	ttl      browserTTL
	prepared *msg.Prepared
}

// newObject makes an object of an answer's head; the fill adds the body.
func (e *Engine) newObject(f *fill, out *msg.Response, j *judgement, got int64) *object {
	o := &object{
		key: f.key, status: out.Status, vary: j.vary, changed: j.modified, noETag: j.etag == nil,
		born: got - int64(j.age), revalid: int64(j.revalid), fail: int64(j.fail),
		strict: j.strict, shared: j.shared, validate: j.validate,
		zone: f.zone,
	}
	o.seq.Store(f.seq)
	o.lifetime.Store(int64(j.lifetime))
	x := extra{tags: joinTags(&out.Fields)}
	if f.loose {
		x.page = appendURL(nil, f.d.Host, f.d.In.Path, f.d.In.Query, true)
	}
	if x.tags != nil || x.page != nil {
		o.extra = &x
	}
	o.origin = prepare(&out.Fields, notStored(&out.Fields))
	if o.sent = bytes.Clone(out.Fields.Get(msg.Date)); o.sent == nil {
		o.sent = appendDate(nil, e.cfg.Now())
	}
	o.own(e)
	return o
}

// fields returns the stored fields, parsed. It is not for the hit path.
func (o *object) fields() *msg.Fields { return o.origin.Fields() }

// field returns the first value of a stored field, nil when absent.
func (o *object) field(id msg.ID) []byte {
	want := id.Bytes()
	for name, value, rest := msg.CutLine(o.origin.H1); name != nil; name, value, rest = msg.CutLine(rest) {
		if len(name) == len(want) && msg.EqualFold(name, want) {
			return value
		}
	}
	return nil
}

// etag returns the validator that conditions are compared with, nil = none.
func (o *object) etag() []byte {
	if o.noETag {
		return nil
	}
	return o.field(msg.ETag)
}

func (o *object) lastMod() []byte { return o.field(msg.LastModified) }

// date is the Date field of the answer, or when it came.
func (o *object) date() []byte { return o.sent }

// modified is Last-Modified, else Date: what If-Modified-Since meets.
func (o *object) modified() time.Time { return o.changed }

// own sets what an object needs to be shared: one reference, its maker's.
func (o *object) own(e *Engine) {
	o.refs.Store(1)
	o.zone.Retain()
}

// retain takes a reference for who holds one already, or the shard's lock.
func (o *object) retain() { o.refs.Add(1) }

// Release gives back a reference; the object is not to be touched after that.
// It implements msg.Lender.
func (o *object) Release() {
	if o.refs.Add(-1) == 0 {
		o.engine().alive.Add(-o.size)
		o.zone.Release()
	}
}

// seal gives the object its body and counts it.
func (o *object) seal(e *Engine, body []byte) {
	o.body = body
	o.size = overhead + int64(len(o.key.text)+cap(body)+len(o.origin.H1)+len(o.sent))
	for i := range o.vary {
		o.size += varyOverhead + int64(len(o.vary[i].name)+len(o.vary[i].value))
	}
	if o.extra != nil {
		o.size += int64(unsafe.Sizeof(*o.extra)) + int64(len(o.extra.tags)) + int64(len(o.extra.page))
	}
	e.alive.Add(o.size)
}

func (o *object) age(now int64) int64    { return max(0, now-o.born) }
func (o *object) isFresh(now int64) bool { return o.age(now) < o.lifetime.Load() }

// mayRefreshBehind reports the window of stale-while-revalidate.
func (o *object) mayRefreshBehind(now int64) bool {
	return !o.strict && o.age(now) < o.lifetime.Load()+o.revalid
}

// mayStandIn reports whether a stale object may be served for a failing
// origin, with or without the zone's Always Online.
func (o *object) mayStandIn(now int64, alwaysOnline bool) bool {
	return !o.strict && (alwaysOnline && !o.shared || o.age(now) < o.lifetime.Load()+o.fail || o.mayRefreshBehind(now))
}

// tried notes a vain refresh that began and ended at these instants.
func (o *object) tried(began, ended int64) {
	o.slow.Store(ended-began > retryAfter)
	o.failed.Store(max(ended, 1))
}

// failedLately reports whether the origin need not be asked again yet.
func (o *object) failedLately(now int64) bool {
	at := o.failed.Load()
	return at > 0 && now-at < retryAfter
}

// touch notes a hit.
func (o *object) touch() {
	if first := o.count(); !first {
		return
	}
	if e := o.engine(); e.lower != nil {
		e.lower.Hit(o)
	}
}

// count counts a hit for the eviction policy. Losing one to a race is fine.
func (o *object) count() (first bool) {
	n := o.freq.Load()
	if n < maxFreq {
		o.freq.Store(n + 1)
	}
	return n == 0
}

// headFor returns the prepared head under a browser TTL, made anew when the
// zone's setting or rule has changed since.
func (o *object) headFor(ttl browserTTL) *msg.Prepared {
	if h := o.seen.Load(); h != nil && h.ttl == ttl {
		return h.prepared
	}
	h := &head{ttl: ttl, prepared: o.origin}
	if ttl != (browserTTL{}) {
		h.prepared = ttl.shown(o)
	}
	o.seen.Store(h)
	return h.prepared
}

// notModified returns the fields of a 304 (RFC 9110 §15.4.5).
func (o *object) notModified(shown *msg.Prepared) *msg.Prepared {
	if shown == o.origin {
		if p := o.notMod.Load(); p != nil {
			return p
		}
	}
	p := prepare(shown.Fields(), func(l *msg.Field) bool {
		switch l.ID {
		case msg.CacheControl, msg.ContentLocation, msg.ETag, msg.Expires, msg.Vary, msg.CDNCacheControl:
			return false
		case msg.LastModified:
			return o.etag() != nil
		}
		return true
	})
	if shown == o.origin {
		o.notMod.Store(p)
	}
	return p
}

// prepare serialises fields, without those that drop names, into memory of
// their own.
func prepare(f *msg.Fields, drop func(*msg.Field) bool) *msg.Prepared {
	n := 0
	for i := range f.Len() {
		n += len(f.At(i).Name) + len(": \r\n") + len(f.At(i).Value)
	}
	p := &msg.Prepared{H1: make([]byte, 0, n)}
	for i := range f.Len() {
		l := f.At(i)
		if drop(l) {
			continue
		}
		p.Dated = p.Dated || l.ID == msg.Date
		p.H1 = append(append(append(append(p.H1, l.Name...), ": "...), l.Value...), "\r\n"...)
	}
	return p
}

// notStored names the fields that do not belong to the object: those of the
// connection, of framing and of proxies (RFC 9111 §3.1), and those that are
// made anew at each answer.
func notStored(f *msg.Fields) func(*msg.Field) bool {
	return func(l *msg.Field) bool {
		switch l.ID {
		case msg.Connection, msg.KeepAlive, msg.ProxyConnection, msg.TE, msg.Trailer, msg.TransferEncoding,
			msg.Upgrade, msg.ProxyAuthenticate, msg.ProxyAuthorization, msg.ContentLength,
			msg.Date, msg.Age, msg.CacheTag, msg.CFCacheStatus, msg.CFRay, msg.Server, msg.SetCookie, msg.Warning:
			return true
		}
		if !f.Has(msg.Connection) {
			return msg.EqualFold(l.Name, "proxy-authentication-info")
		}
		for i := range f.Len() {
			c := f.At(i)
			if c.ID != msg.Connection {
				continue
			}
			for t, rest := msg.NextToken(c.Value); t != nil; t, rest = msg.NextToken(rest) {
				if msg.EqualFold(l.Name, t) {
					return true
				}
			}
		}
		return false
	}
}
