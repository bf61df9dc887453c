package cache

import (
	"cmp"
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/stream"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/must"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// task is one request on its way through the cache.
type task struct {
	e    *Engine
	p    *Plan
	r    *request.Request
	want []byte       // the range that has to be fetched; nil = all
	from request.Tier // who answered the fill that is followed; 0 = the origin
	low  *lying       // what was found on the disk; nil = nothing
	turn int          // how often it was looked for there
}

// retryAfter is how long a stale object is served without asking, after the
// origin failed to refresh it: a dead origin is not asked for each visitor.
// Where the failure itself took longer (a time-out), visitors do not wait for
// the next one either: it happens behind them.
const retryAfter = int64(time.Second)

// get answers GET and HEAD without a body.
func (t task) get() (request.Verdict, error) {
	k := t.e.keyOf(t.p, t.r)
	s := t.e.shardOf(k.hash)
	now := t.e.nowOf(t.r)
	in := &t.r.In.Fields
	o := s.find(k, t.r)
	if in.Has(msg.IfMatch) || in.Has(msg.IfUnmodifiedSince) {
		// Meant for who has the resource itself (RFC 9110 §13.1.1).
		return t.passBeside(s, k, o, request.CacheDynamic)
	}
	if o == nil && t.e.disk != nil && t.turn < maxTurns && !t.r.Off.Has(zone.KillDisk) {
		return t.getLow(k, s, now)
	}
	if o != nil && o.isFresh(now) && o.serves(t.r.In) {
		o.touch()
		return t.stored(o, request.CacheHit, now)
	}
	return t.miss(k, s, o, now)
}

// maxTurns bounds how often a request looks on the disk, when others keep
// looking for the same in vain.
const maxTurns = 4

// getLow is get for what memory does not hold.
func (t task) getLow(k key, s *shard, now int64) (request.Verdict, error) {
	low := t.e.disk.find(t, k, s, now)
	if low == nil {
		return t.miss(k, s, nil, now)
	}
	defer low.close()
	low.o.retain() // so that no other object has its address meanwhile
	defer low.o.Release()
	t.low = low
	if low.o.isFresh(now) {
		low.o.touch()
		return t.stored(low.o, request.CacheHit, now)
	}
	return t.miss(k, s, low.o, now)
}

// placeOf is where the body of an object is that was found on the disk, nil
// when it is in memory.
func (t task) placeOf(o *object) *place {
	if t.low == nil || t.low.o != o || t.low.rec == nil || o == nil {
		return nil
	}
	return &t.low.place
}

// hit answers what takes no waiting: a fresh object of the store.
func (t task) hit() (request.Verdict, error) {
	in := t.r.In
	if in.Method != msg.GET && in.Method != msg.HEAD || in.Length != 0 || t.p.decide(t.r).eligibility != allowed || overridden(&in.Fields) ||
		in.Fields.Has(msg.IfMatch) || in.Fields.Has(msg.IfUnmodifiedSince) {
		return request.Wait, nil
	}
	k := t.e.keyOf(t.p, t.r)
	now := t.e.nowOf(t.r)
	o := t.e.shardOf(k.hash).find(k, t.r)
	if o == nil {
		return request.Wait, nil
	}
	if !o.isFresh(now) || !o.serves(in) {
		o.Release()
		return request.Wait, nil
	}
	o.touch()
	return t.stored(o, request.CacheHit, now)
}

// miss answers what is not held fresh. o is the stale object, with a
// reference, or nil.
func (t task) miss(k key, s *shard, o *object, now int64) (request.Verdict, error) {
	in := &t.r.In.Fields
	wants := readDirectives(in, msg.CacheControl)
	want, keeps := t.wants(o)
	held := o // what may be answered with, if not fresh
	if o != nil && !o.serves(t.r.In) {
		held = nil
	}
	switch {
	case wants.onlyIfCached:
		return t.refuse(o)
	case held != nil && o.mayRefreshBehind(now) && !t.p.decide(t.r).noUpdating:
		t.refreshBehind(k, s, o, now)
		o.touch()
		return t.stored(o, request.CacheUpdating, now)
	case held != nil && (o.failedLately(now) || o.slow()) && o.mayStandIn(now, t.p.alwaysOnline):
		t.refreshBehind(k, s, o, now)
		o.touch()
		return t.stored(o, request.CacheStale, now)
	case t.r.In.Method == msg.HEAD, !keeps:
		return t.passBeside(s, k, o, request.CacheDynamic)
	case wants.noStore:
		return t.passBeside(s, k, o, request.CacheBypass)
	case s.marked(k.hash, now), want != nil && s.marked(k.hash^rangeMark, now):
		return t.passBeside(s, k, o, request.CacheNone)
	}
	t.want = want
	return t.share(k, s, o, now)
}

// refuse answers only-if-cached (RFC 9111 §5.2.1.7).
func (t task) refuse(o *object) (request.Verdict, error) {
	if o != nil {
		o.Release()
	}
	t.r.Cache = request.CacheNote{Tier: request.TierEdge}
	t.r.Out.Status, t.r.Out.Length = 504, 0
	return request.Respond, nil
}

// share answers from one fetch that all have in common: it joins a fill or
// leads one.
func (t task) share(k key, s *shard, o *object, now int64) (request.Verdict, error) {
	var mine *fill
	for {
		found, f := s.join(k, t.r, t.want, mine, now)
		led := found == nil && f == nil && mine != nil
		switch {
		case led:
			f, mine = mine, nil
			if !t.e.start(f.run) {
				f.refuse()
			}
		case found == nil && f == nil:
			if mine = t.e.newFill(t.p, t.r, k, o, t.want, true); mine == nil {
				return t.passBeside(s, k, o, request.CacheBypass)
			}
			mine.body = t.placeOf(o)
			mine.expect()
			continue
		}
		if mine != nil {
			mine.stop()
			mine.discard()
			mine.arrived()
			mine = nil
		}
		if found != nil {
			if o != nil {
				o.Release()
			}
			found.touch()
			return t.stored(found, request.CacheHit, now)
		}
		if v, done, err := t.follow(f, led, k, s, o); done {
			return v, err
		}
		now = t.e.now()
	}
}

// follow waits for the head of a fill and answers with what came of it. It
// is not done when the answer is another variant than the one asked for.
func (t task) follow(f *fill, led bool, k key, s *shard, o *object) (v request.Verdict, done bool, err error) {
	if !led {
		t.e.coalesced.Add(1)
	}
	defer f.arrived()
	if !t.await(f, led) {
		if led {
			f.abandon()
		}
		if o != nil {
			o.Release()
		}
		return t.fail(&fault.Error{Op: "cache.wait", Side: fault.Visitor, Kind: fault.Closed, Err: context.Cause(t.r.Ctx)}), true, nil
	}
	if led {
		t.r.Tried = f.note
	}
	t.from = f.from
	switch {
	case f.outcome == standIn && o != nil && o.serves(t.r.In):
		v, err = t.stored(o, request.CacheStale, t.e.now())
		return v, true, err
	case f.outcome == vain:
		v, err = t.again(k, s, o)
		return v, true, err
	case f.outcome == failed, f.outcome == standIn && o != nil:
		if o != nil {
			o.Release()
		}
		return t.fail(f.fault), true, nil
	case f.outcome == private && led:
		if o != nil {
			o.Release()
		}
		f.handOver(t.r)
		t.label(f.status)
		return request.Respond, true, nil
	case f.outcome != shared:
		v, err = t.passBeside(s, k, o, request.CacheNone)
		return v, true, err
	case !led && !f.suits(t.r):
		return request.Respond, false, nil
	case f.have.total > 0 && !f.obj.rangeHolds(&t.r.In.Fields):
		// The part is of another version than the visitor has.
		v, err = t.passBeside(s, k, o, request.CacheNone)
		return v, true, err
	}
	v, err = t.read(f, k, s, o)
	return v, true, err
}

// read answers from what a fill shares.
func (t task) read(f *fill, k key, s *shard, o *object) (request.Verdict, error) {
	if f.stream == nil {
		if f.body != nil {
			if t.low = t.e.disk.lie(f.obj, *f.body); t.low == nil {
				return t.passBeside(s, k, o, request.CacheNone)
			}
			defer t.low.close()
		}
		if o != nil {
			o.Release()
		}
		f.obj.retain()
		t.answer(f.obj, f.status, t.e.now())
		t.r.Out.Lender = f.obj
		return request.Respond, nil
	}
	body := f.stream.Attach(t.r.Ctx)
	if body == nil {
		return t.passBeside(s, k, o, request.CacheNone)
	}
	if o != nil {
		o.Release()
	}
	t.streamed(f, body)
	return request.Respond, nil
}

// again is for who waited for a fill that found nothing: it looks for itself.
func (t task) again(k key, s *shard, o *object) (request.Verdict, error) {
	if o != nil {
		o.Release()
	}
	if t.turn++; t.turn > 2*maxTurns {
		return t.passBeside(s, k, nil, request.CacheNone)
	}
	return t.get()
}

// fail leaves the answer to whoever turns faults into pages.
func (t task) fail(f *fault.Error) request.Verdict {
	t.r.Fault = f
	t.r.Cache = request.CacheNote{Tier: request.TierEdge}
	return request.Respond
}

// refreshBehind starts a fill that nobody waits for, unless one runs.
func (t task) refreshBehind(k key, s *shard, o *object, now int64) {
	if o.failedLately(now) {
		return
	}
	if !o.beginRefresh() {
		return
	}
	want, _ := t.wants(o)
	f := t.e.newFill(t.p, t.r, k, o, want, false)
	if f == nil {
		o.endRefresh()
		return
	}
	f.body = t.placeOf(o)
	if found, other := s.join(k, t.r, want, f, now); found != nil || other != nil {
		if found != nil {
			found.Release()
		}
		if other != nil {
			other.arrived()
		}
		f.stop()
		f.discard()
		return
	}
	if !t.e.start(f.run) {
		f.refuse()
	}
}

// stored answers with an object of the store and hands its reference on to
// the answer.
func (t task) stored(o *object, status request.CacheStatus, now int64) (request.Verdict, error) {
	t.answer(o, status, now)
	t.r.Out.Lender = o
	t.r.Cache.Tier = request.TierRAM
	if t.low != nil && t.low.o == o && t.low.kind != 0 {
		t.r.Cache.Tier = request.TierSSD
	}
	return request.Respond, nil
}

var (
	warnStale  = []byte(`110 - "Response is Stale"`)
	warnFailed = []byte(`111 - "Revalidation Failed"`)
	statusText = [...][]byte{
		request.CacheHit: []byte("HIT"), request.CacheMiss: []byte("MISS"), request.CacheExpired: []byte("EXPIRED"),
		request.CacheRevalidated: []byte("REVALIDATED"), request.CacheStale: []byte("STALE"), request.CacheBypass: []byte("BYPASS"),
		request.CacheDynamic: []byte("DYNAMIC"), request.CacheUpdating: []byte("UPDATING"),
	}
)

// head sets what an answer with an object has in common, in a coding of its body
// or in none, and reports whether a condition of the request makes it a 304
// without body.
func (t task) head(o *object, status request.CacheStatus, now int64, coded form) (done bool) {
	out, in := t.r.Out, t.r.In
	t.r.Held = time.Duration(max(o.age(now), 1))
	t.r.Left = time.Duration(o.lifetime.Load()) - t.r.Held
	age := uint64(o.age(now) / int64(time.Second))
	t.r.Cache = request.CacheNote{Status: status, Tier: cmp.Or(t.from, request.TierOrigin), Age: uint32(min(age, maxSeconds))}
	t.e.countServed(o, status)
	out.Status, out.Length = int(o.status), 0
	as := form(0)
	if t.r.Role == request.RoleNone { // another edge judges by what the origin said
		as = t.p.decide(t.r).browser.form() | coded
	} else if tags := o.tags(); len(tags) > 0 {
		out.Fields.AddID(msg.CacheTag, t.r.Arena.Copy(tags))
	}
	out.Fields.AddID(msg.Date, t.r.Arena.Copy(o.date()))
	if status != request.CacheMiss && status != request.CacheExpired || age > 0 {
		out.Fields.AddID(msg.Age, strconv.AppendUint(t.r.Arena.Alloc(20)[:0], age, 10))
	}
	out.Fields.AddID(msg.CFCacheStatus, statusText[status])
	if status == request.CacheStale || status == request.CacheUpdating {
		out.Fields.AddID(msg.Warning, warnStale)
	}
	if status == request.CacheStale {
		out.Fields.AddID(msg.Warning, warnFailed)
	}
	if o.status != 200 || !o.unchanged(&in.Fields, t.e.cfg.Now) {
		o.show(out, as)
		return false
	}
	out.Status = 304
	o.show(out, as|formNotModified)
	return true
}

// answer answers with a complete object.
func (t task) answer(o *object, status request.CacheStatus, now int64) {
	if t.head(o, status, now, t.coding(o)) {
		return
	}
	out := t.r.Out
	body := o.bodyAs(out.Room.Form)
	size := int64(len(body))
	at := t.placeOf(o)
	if at != nil {
		size = at.size
	}
	if out.Length = size; t.r.In.Method == msg.HEAD {
		if o.status != 204 {
			out.Fields.AddID(msg.ContentLength, strconv.AppendInt(t.r.Arena.Alloc(20)[:0], out.Length, 10))
		}
		return
	}
	var a asked
	l := layout{total: size}
	if t.r.In.Fields.Has(msg.Range) {
		if o.partial() {
			l = o.layout()
		}
		a = readRanges(o.rangeOf(t.r.In), l.total)
	}
	switch {
	case a.part == unsatisfiable:
		notSatisfied(t.r, l.total)
	case a.n > 1 && at == nil:
		o.serveParts(t.r, &a, l, body)
	case a.n == 1:
		s := a.list[0]
		out.Status, out.Length = 206, s.size()
		addContentRange(t.r, s, l.total)
		t.body(body, at, l, s)
	default:
		must.That(!o.partial(), "an object answers for bytes that it has not")
		t.body(body, at, l, stretch{0, size})
	}
}

// body answers with a stretch of a complete body, from memory or the disk.
func (t task) body(body []byte, at *place, l layout, s stretch) {
	switch {
	case at == nil:
		t.r.Out.Bytes = l.cut(body, s)
	case s.size() > 0:
		t.r.Out.Body = &fileBody{rec: t.low.rec.Share(), at: s.from, end: s.to}
	}
}

// streamed answers with an object whose body is still on its way.
func (t task) streamed(f *fill, body *stream.Reader) {
	f.obj.retain()
	t.r.Out.Lender = f.obj
	if t.head(f.obj, f.status, t.e.now(), 0) {
		_ = body.Close() // never fails
		return
	}
	t.r.Out.Body, t.r.Out.Length = body, f.stream.Length()
	switch {
	case f.have.total > 0:
		t.stitched(f, body)
	case t.r.In.Fields.Has(msg.Range):
		t.section(f, body)
	}
}

// pass fetches for this request alone.
func (t task) pass(status request.CacheStatus) (request.Verdict, error) {
	if err := t.e.cfg.Fetch(t.r); err != nil {
		return t.fail(fault.As(err)), nil
	}
	t.label(status)
	return request.Respond, nil
}

// label notes how an answer came about that is not the cache's own. Fetch may
// have noted that another edge gave it.
func (t task) label(status request.CacheStatus) {
	t.r.Cache = request.CacheNote{Status: status, Tier: cmp.Or(t.r.Cache.Tier, request.TierOrigin)}
	t.r.Out.Fields.Set(msg.CFCacheStatus, statusText[status])
	if t.r.Role == request.RoleNone {
		t.r.Out.Fields.Del(msg.CacheTag) // ours, not the visitors'
	}
	t.e.shards[0].served[status].Add(1)
}

// passBeside is pass for a request that has a key: a stale object may stand
// in for a failing origin. With status CacheNone the answer's own judgement
// is told, and a key that has become storable loses its marker.
func (t task) passBeside(s *shard, k key, o *object, status request.CacheStatus) (request.Verdict, error) {
	asked := t.e.cfg.Now()
	if status == request.CacheNone {
		t.r.ReserveKey = k.text
	}
	err := t.e.cfg.Fetch(t.r)
	got := t.e.cfg.Now()
	now := t.e.since(got)
	out := t.r.Out
	fails := err != nil && fault.As(err).Side == fault.Origin || err == nil && out.Status >= 500 && !t.p.decide(t.r).errorsPass
	if fails && o != nil && o.serves(t.r.In) && o.mayStandIn(now, t.p.alwaysOnline) {
		o.tried(t.e.since(asked), now)
		out.Close()
		out.Reset()
		return t.stored(o, request.CacheStale, now)
	}
	if o != nil {
		if err == nil && t.r.In.Method == msg.HEAD {
			t.freshen(k, s, o, asked, got)
		}
		o.Release()
	}
	if err != nil {
		return t.fail(fault.As(err)), nil
	}
	if status == request.CacheNone {
		j := t.p.decide(t.r).judge(t.r, &t.r.In.Fields, out, asked, got)
		status = j.status
		switch {
		case t.r.Cache.Tier == request.TierReserve:
			status = request.CacheMiss
		case !j.store:
		case out.Length < 0 || out.Length > t.e.cfg.MaxObject:
			// Of unknown length it may be what outgrew the limit before.
			status = request.CacheBypass
		default:
			s.unmark(k.hash)
		}
	}
	t.label(status)
	return request.Respond, nil
}

// unsafe passes a request that may change something, and drops what its
// success makes doubtful (RFC 9111 §4.4): the URI itself, and Location and
// Content-Location on the same host.
func (t task) unsafe() (request.Verdict, error) {
	k := t.e.keyOf(t.p, t.r)
	f := t.e.readFill(t, k)
	turn := t.e.changes.Load()
	asked := t.e.cfg.Now()
	if err := t.e.cfg.Fetch(t.r); err != nil {
		f.zone.Release()
		return t.fail(fault.As(err)), nil
	}
	p := t.repost(f, asked, t.e.cfg.Now())
	t.label(request.CacheDynamic)
	out := t.r.Out
	if out.Status < 200 || out.Status >= 400 {
		f.zone.Release()
		return request.Respond, nil
	}
	all := func(uint64) bool { return true }
	t.e.invalidateKey(t.r.ZoneID, k, all)
	t.e.invalidate(t.r.ZoneID, location{t.r.Host, t.r.In.Path, t.r.In.Query}, all)
	turn++
	for _, id := range [...]msg.ID{msg.Location, msg.ContentLocation} {
		if l, ok := t.sameHost(out.Fields.Get(id)); ok {
			t.e.invalidate(t.r.ZoneID, l, all)
			turn++
		}
	}
	if p == nil {
		f.zone.Release()
		return request.Respond, nil
	}
	p.follow(turn)
	return request.Respond, nil
}

// sameHost resolves a reference in an answer against the request's URI and
// reports whether it stays on the host.
func (t task) sameHost(ref []byte) (location, bool) {
	if len(ref) == 0 {
		return location{}, false
	}
	base := url.URL{Scheme: t.r.In.Scheme.String(), Host: string(t.r.Host), Path: string(t.r.In.Path)}
	u, err := base.Parse(string(ref))
	if err != nil {
		return location{}, false
	}
	u.Fragment, u.RawFragment = "", ""
	l, err := readURL(u.String())
	return l, err == nil && string(l.host) == string(t.r.Host)
}
