package cache

import (
	"bytes"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// overhead is what an object costs beside its bytes: the structure, its place
// in map and queue, slice headers of its fields. Measured generously.
const (
	overhead      = 512
	fieldOverhead = 64
)

// maxFreq is where S3-FIFO stops counting hits.
const maxFreq = 3

// object is a stored answer. What is not atomic or marked is never changed
// after the object is published; the memory is the collector's, so a reader
// may hold on to it after eviction.
type object struct {
	key    key // text of its own
	status int
	origin *msg.Prepared // the origin's fields
	date   []byte
	etag   []byte
	lastMod,
	expires []byte // as sent, nil when absent
	modified time.Time
	body     []byte // set when the fill ends, before the store shows the object
	vary     []varyField

	born     int64 // instant of age zero, in nanoseconds of the engine
	lifetime int64
	revalid  int64
	fail     int64
	strict   bool
	shared   bool
	validate bool

	seq  uint64     // newest feed entry that was applied when its fill began
	zone *zoneState // held by the object

	size       int64                // what it counts in the budget
	seen       atomic.Pointer[head] // what browsers are shown
	notMod     atomic.Pointer[msg.Prepared]
	refreshing atomic.Bool  // a fill that nobody waits for runs
	failed     atomic.Int64 // instant of the last vain refresh, 0 = none
	slow       atomic.Bool  // that refresh took longer than a visitor should wait
	freq       atomic.Uint32
	refs       atomic.Int32 // the store's and the readers'
	release    func()       // gives back one of refs

	next, prev *object // in its queue; guarded by the shard
	queue      *fifo   // likewise; nil = not stored
}

// head is a prepared head under one value of browser_cache_ttl.
type head struct {
	ttl      time.Duration
	prepared *msg.Prepared
}

// newObject makes an object of an answer's head; the fill adds the body.
func (e *Engine) newObject(f *fill, out *msg.Response, j *judgement, got int64) *object {
	o := &object{
		key: f.key, status: out.Status, vary: j.vary, modified: j.modified,
		born: got - int64(j.age), lifetime: int64(j.lifetime), revalid: int64(j.revalid), fail: int64(j.fail),
		strict: j.strict, shared: j.shared, validate: j.validate,
		seq: f.seq, zone: f.zone,
	}
	o.setFields(&out.Fields)
	if j.etag == nil {
		o.etag = nil
	}
	if o.date == nil {
		o.date = appendDate(nil, e.cfg.Now())
	}
	o.own(e)
	return o
}

func (o *object) setFields(f *msg.Fields) {
	o.origin = prepare(f, notStored(f))
	o.date = bytes.Clone(f.Get(msg.Date))
	stored := &o.origin.Fields
	o.etag, o.lastMod, o.expires = stored.Get(msg.ETag), stored.Get(msg.LastModified), stored.Get(msg.Expires)
}

// own sets what an object needs to be shared: one reference, its maker's.
func (o *object) own(e *Engine) {
	o.refs.Store(1)
	e.zones.retain(o.zone)
	o.release = func() {
		if o.refs.Add(-1) == 0 {
			e.alive.Add(-o.size)
			e.zones.release(o.zone)
		}
	}
}

// seal gives the object its body and counts it.
func (o *object) seal(e *Engine, body []byte) {
	o.body = body
	o.size = overhead + int64(len(o.key.text)+cap(body)+len(o.origin.H1)+len(o.date)) + fieldOverhead*int64(o.origin.Fields.Len())
	for i := range o.vary {
		o.size += fieldOverhead + int64(len(o.vary[i].name)+len(o.vary[i].value))
	}
	e.alive.Add(o.size)
}

func (o *object) age(now int64) int64    { return max(0, now-o.born) }
func (o *object) isFresh(now int64) bool { return o.age(now) < o.lifetime }

// mayRefreshBehind reports the window of stale-while-revalidate.
func (o *object) mayRefreshBehind(now int64) bool {
	return !o.strict && o.age(now) < o.lifetime+o.revalid
}

// mayStandIn reports whether a stale object may be served for a failing
// origin, with or without the zone's Always Online.
func (o *object) mayStandIn(now int64, alwaysOnline bool) bool {
	return !o.strict && (alwaysOnline && !o.shared || o.age(now) < o.lifetime+o.fail || o.mayRefreshBehind(now))
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

// purged reports whether its zone was purged after its fill began.
func (o *object) purged() bool { return o.seq < o.zone.purged.Load() }

// touch counts a hit for the eviction policy. Losing one to a race is fine.
func (o *object) touch() {
	if n := o.freq.Load(); n < maxFreq {
		o.freq.Store(n + 1)
	}
}

// headFor returns the prepared head under a browser_cache_ttl, made anew
// when the zone's setting has changed since.
func (o *object) headFor(ttl time.Duration) *msg.Prepared {
	if h := o.seen.Load(); h != nil && h.ttl == ttl {
		return h.prepared
	}
	h := &head{ttl: ttl, prepared: o.origin}
	if ttl > 0 {
		h.prepared = o.withBrowserTTL(ttl)
	}
	o.seen.Store(h)
	return h.prepared
}

// withBrowserTTL raises what browsers may keep to ttl. Where the origin says
// as much or more, or forbids keeping, its fields stay.
func (o *object) withBrowserTTL(ttl time.Duration) *msg.Prepared {
	f := &o.origin.Fields
	d := readDirectives(f, msg.CacheControl)
	var own time.Duration
	switch {
	case d.noCache || d.noStore:
		return o.origin
	case d.maxAge.given:
		own = d.maxAge.duration()
	case o.expires != nil:
		date, okDate := readDate(o.date, o.modified)
		expires, ok := readDate(o.expires, o.modified)
		if ok && okDate {
			own = expires.Sub(date)
		}
	}
	if own >= ttl {
		return o.origin
	}
	var value []byte
	var shown msg.Fields
	for _, l := range f.All() {
		switch l.ID {
		case msg.Expires:
		case msg.CacheControl:
			for t, rest := msg.NextToken(l.Value); t != nil; t, rest = msg.NextToken(rest) {
				if name, _, _ := bytes.Cut(t, []byte{'='}); !msg.EqualFold(name, "max-age") {
					value = append(append(value, t...), ", "...)
				}
			}
		default:
			shown.AddField(l)
		}
	}
	value = strconv.AppendInt(append(value, "max-age="...), int64(ttl/time.Second), 10)
	shown.AddID(msg.CacheControl, value)
	return prepare(&shown, func(*msg.Field) bool { return false })
}

// notModified returns the fields of a 304 (RFC 9110 §15.4.5).
func (o *object) notModified(shown *msg.Prepared) *msg.Prepared {
	if shown == o.origin {
		if p := o.notMod.Load(); p != nil {
			return p
		}
	}
	p := prepare(&shown.Fields, func(l *msg.Field) bool {
		switch l.ID {
		case msg.CacheControl, msg.ContentLocation, msg.ETag, msg.Expires, msg.Vary, msg.CDNCacheControl:
			return false
		case msg.LastModified:
			return o.etag != nil
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
	p, block := new(msg.Prepared), make([]byte, 0, n)
	for i := range f.Len() {
		l := f.At(i)
		if drop(l) {
			continue
		}
		from := len(block)
		block = append(block, l.Name...)
		colon := len(block)
		block = append(block, ": "...)
		value := len(block)
		block = append(block, l.Value...)
		p.Fields.AddField(msg.Field{Name: block[from:colon:colon], Value: block[value:len(block):len(block)], ID: l.ID})
		block = append(block, "\r\n"...)
	}
	p.H1 = block
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
			msg.Date, msg.Age, msg.CFCacheStatus, msg.CFRay, msg.Server, msg.SetCookie, msg.Warning:
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
