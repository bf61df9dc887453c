package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/coding"
	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/phase/cache/stream"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// outcome is what became of a fill when its head was there.
type outcome uint8

const (
	shared  outcome = iota // everybody reads the object
	standIn                // the origin failed, a stale object serves
	private                // not for sharing: the leader has the answer
	vain                   // what was looked for on the disk is not there: look again
	failed                 // no answer
)

// fill is one fetch on behalf of the cache. It runs in a goroutine of its own
// on a detached request, so it goes on when whoever asked first has left.
type fill struct {
	e     *Engine
	plan  *Plan
	key   key              // text of its own
	in    msg.Fields       // of the request that began it, as the visitor sent them
	d     *request.Request // owned by the fill; by the leader after outcome private
	stop  context.CancelFunc
	seq   uint64
	zone  *mark.Zone
	loose bool    // several URLs have its key
	stale *object // what it may revalidate, with a reference; or nil
	led   bool    // a leader waits for it
	reads bool    // its source is the disk
	body  *place  // where stale's body, or obj's, is on the disk; nil = in memory
	// keepers take the body where it is too large for memory.
	keepers  []keeper
	inMemory atomic.Bool // the body has ended, and is in memory
	want     []byte      // the Range that all its visitors ask for; nil = the whole
	wish                 // what the origin is asked for

	// expected counts those who joined and do not read yet; holders the same and
	// the fill itself: the last of them releases obj and stale.
	expected, holders atomic.Int32

	early chan *interim // 1xx answers for the leader; nil = nobody takes them
	ready chan struct{} // closed when what follows is settled
	outcome
	status request.CacheStatus
	large  bool           // the body is announced to be too large for memory
	obj    *object        // shared, with a reference
	have   contentRange   // what stream is of the whole, where that is not all
	span   []byte         // as the origin said it
	room   bodyRoom       // of obj's body
	stream *stream.Stream // of obj's body; nil = obj is complete
	solo   bool           // obj is for the leader alone; what is read from the disk, for who reads
	fault  *fault.Error
	note   request.OriginNote
	from   request.Tier // that answered; 0 = the origin

	mu   sync.Mutex
	gone bool // the leader left before ready; guarded by mu
}

// newFill prepares a fill for r of the range want, all if that is nil; nil when
// there are too many. stale may be nil; a reference of its own is taken.
func (e *Engine) newFill(p *Plan, r *request.Request, k key, stale *object, want []byte, led bool) *fill {
	if e.fills.Add(1) > int64(e.cfg.MaxFills) {
		e.fills.Add(-1)
		e.refused.Add(1)
		return nil
	}
	ctx, stop := context.WithCancel(e.cfg.Ctx)
	f := &fill{e: e, plan: p, d: r.Detach(ctx), stop: stop, led: led, ready: make(chan struct{})}
	f.holders.Store(1)
	f.key = key{hash: k.hash, text: bytes.Clone(k.text)}
	f.d.CacheKey, f.d.Cache = f.key.text, request.CacheNote{}
	f.zone, f.seq = e.marks.Acquire(r.ZoneID)
	f.loose = p.decide(r).recipe != nil
	if stale != nil {
		stale.retain()
		f.stale = stale
	}
	for i := range f.d.In.Fields.Len() {
		f.in.AddField(*f.d.In.Fields.At(i))
	}
	f.d.In.Method, f.d.In.MethodText = msg.GET, []byte("GET")
	if led && r.In.Interim != nil {
		f.early = make(chan *interim, maxEarly)
		f.d.In.Interim = f.toLeader
	}
	f.want = bytes.Clone(want)
	f.ask(f.firstWish())
	return f
}

// ask sets the fields of the origin request: the visitor's without
// conditions and ranges, which are answered from the object, and those of the
// wish.
func (f *fill) ask(w wish) {
	f.wish = w
	to := &f.d.In.Fields
	to.Reset()
	for i := range f.in.Len() {
		switch l := f.in.At(i); l.ID {
		case msg.Range, msg.IfRange, msg.IfMatch, msg.IfNoneMatch, msg.IfModifiedSince, msg.IfUnmodifiedSince:
		default:
			to.AddField(*l)
		}
	}
	if w.text != nil {
		to.AddID(msg.Range, w.text)
	}
	if w.ifRange != nil {
		to.AddID(msg.IfRange, w.ifRange)
	}
	if !w.validate {
		return
	}
	if f.stale.etag() != nil {
		to.AddID(msg.IfNoneMatch, f.d.Arena.Copy(f.stale.etag()))
	}
	if f.stale.lastMod() != nil {
		to.AddID(msg.IfModifiedSince, f.d.Arena.Copy(f.stale.lastMod()))
	}
}

// discard gives back what a fill holds. It ends one that ran, and undoes one
// that did not.
func (f *fill) discard() {
	if f.stale != nil {
		if !f.led {
			f.stale.endRefresh()
		}
	}
	f.zone.Release()
	f.e.fills.Add(-1)
	f.letGo()
}

// expect is called for each who joins.
func (f *fill) expect() {
	f.expected.Add(1)
	f.holders.Add(1)
}

func (f *fill) letGo() {
	if f.holders.Add(-1) > 0 {
		return
	}
	if f.obj != nil {
		f.obj.Release()
	}
	if f.stale != nil {
		f.stale.Release()
	}
}

// run fetches and distributes.
func (f *fill) run() {
	defer f.discard()
	asked := f.e.cfg.Now()
	err := f.e.cfg.Fetch(f.d)
	if err == nil && f.contradicts() {
		err = f.askAnew()
	}
	f.settle(err, asked)
}

// askAnew drops an answer and asks for what the visitors want, without regard to
// what is held.
func (f *fill) askAnew() error {
	f.d.Out.Close()
	f.d.Out.Reset()
	f.ask(wish{text: f.want})
	return f.e.cfg.Fetch(f.d)
}

// settle decides what becomes of an answer, or of none.
func (f *fill) settle(err error, asked time.Time) {
	got := f.e.cfg.Now()
	f.note, f.from = f.d.Tried, f.d.Cache.Tier
	out := f.d.Out
	switch {
	case err != nil:
		f.fail(fault.As(err), asked, got)
	case out.Status == 304 && f.validate:
		f.refresh(asked, got)
	case out.Status == 206 && f.text != nil:
		f.takePart(asked, got)
	case out.Status >= 500 && f.stale != nil && f.lack.size() == 0 && !f.plan.decide(f.d).errorsPass && f.stale.mayStandIn(f.e.since(got), f.plan.alwaysOnline):
		f.fail(&fault.Error{Op: "cache.fill", Side: fault.Origin, Err: errServer}, asked, got)
	default:
		f.take(asked, got)
	}
}

// contradicts reports an answer that is not about what we hold: a 304 or a part
// of something else, a part that is not what was asked for. It is asked again
// then, for what the visitors want.
func (f *fill) contradicts() bool {
	switch f.d.Out.Status {
	case 304:
		return f.validate && !f.stale.confirmedBy(&f.d.Out.Fields)
	case 206:
		return f.lack.size() > 0 && !f.fits()
	case 416:
		return f.lack.size() > 0
	}
	return false
}

var errMemory = &fault.Error{Op: "cache.fill", Side: fault.Edge, Err: errors.New("no memory for an object")}

var errServer = errors.New("the origin answered with a server error")

// fail ends a fill without a usable answer.
func (f *fill) fail(cause *fault.Error, asked, got time.Time) {
	f.d.Out.Close()
	f.stop()
	f.outcome, f.fault = failed, cause
	now := f.e.since(got)
	if cause.Side == fault.Origin && f.stale != nil && f.stale.mayStandIn(now, f.plan.alwaysOnline) {
		f.stale.tried(f.e.since(asked), now)
		f.outcome, f.status = standIn, request.CacheStale
	}
	f.close()
}

var errClosed = &fault.Error{Op: "cache.fill", Side: fault.Edge, Kind: fault.Draining, Err: errors.New("the cache is closed")}

// refuse ends a fill that could not be started.
func (f *fill) refuse() {
	now := f.e.cfg.Now()
	f.fail(errClosed, now, now)
	f.discard()
}

// close takes the fill out of the table, then wakes those who wait.
func (f *fill) close() {
	s := f.e.shardOf(f.key.hash)
	s.mu.Lock()
	s.leave(f)
	s.mu.Unlock()
	close(f.ready)
}

// refresh stores the stale object anew under the fields of a 304 (RFC 9111
// §4.3.4).
func (f *fill) refresh(asked, got time.Time) {
	out := f.d.Out
	var store bool
	if f.obj, store = f.renew(f.stale, &out.Fields, asked, got); f.obj == nil {
		f.fail(errMemory, asked, got)
		return
	}
	out.Close()
	f.stop()
	f.outcome, f.status, f.solo = shared, request.CacheRevalidated, !store
	switch {
	case store && f.body != nil:
		f.e.disk.rewrite(f.obj, *f.body)
		f.close()
	case store:
		if f.e.put(f, f.obj) {
			f.keepFar()
		}
		close(f.ready)
	default:
		f.forgetStale()
		f.close()
	}
}

// renew makes an object of another's body, under its fields as others update
// them. It is nil when there is no memory for it.
func (f *fill) renew(old *object, update *msg.Fields, asked, got time.Time) (o *object, store bool) {
	body := old.body()
	answer := msg.Response{Status: int(old.status), Fields: *old.merge(update), Length: int64(len(body))}
	j := f.plan.decide(f.d).judge(f.d, &f.in, &answer, asked, got)
	var l layout
	if old.partial() {
		l = old.layout()
	}
	if o = f.e.newPartial(f, &answer, &j, f.e.since(got), l); o == nil {
		return nil, false
	}
	if inner := o.inner(); old.large == nil || len(body) <= len(inner) {
		body = append(inner[:0], body...)
	} else {
		stateOf(old.large).holders.Add(1)
	}
	o.seal(f.e, body)
	return o, j.store
}

func (f *fill) forgetStale() {
	if f.stale == nil {
		return
	}
	s := f.e.shardOf(f.key.hash)
	s.mu.Lock()
	f.e.drop(s, f.key.hash, f.stale)
	s.mu.Unlock()
}

// take judges a new answer: it becomes an object, or the leader's own.
func (f *fill) take(asked, got time.Time) {
	out := f.d.Out
	if out.Bytes != nil {
		out.Length = int64(len(out.Bytes))
	}
	j := f.plan.decide(f.d).judge(f.d, &f.in, out, asked, got)
	if !j.store {
		f.hand(j.status, got)
		return
	}
	if f.obj = f.e.newObject(f, out, &j, f.e.since(got)); f.obj == nil {
		f.hand(request.CacheBypass, got)
		return
	}
	if f.large = out.Length > f.e.cfg.MaxObject; f.large {
		if f.findKeepers(out.Length); f.keepers == nil && f.fromOrigin() {
			f.hand(request.CacheBypass, got)
			return
		}
	}
	f.outcome, f.status = shared, f.fetched(asked)
	f.room = bodyRoom{e: f.e, o: f.obj}
	f.stream = stream.New(out.Length, &f.room)
	f.startKeepers()
	close(f.ready)
	err := f.pump(out)
	if cut := err != nil && out.Status == 200 && out.Length > 0 && strong(f.obj.etag()) && len(f.stream.Kept()) > 0; cut {
		f.keep(out, &j, got, contentRange{total: out.Length})
	}
	f.finish(err)
	f.room.refund(int(f.room.granted))
	out.Close()
	f.stop()
}

// fromOrigin reports that this edge itself asked the origin. What came from the
// reserve or another edge may be had there again, so that who asks next is to go
// the same way, and not past it to the origin.
func (f *fill) fromOrigin() bool { return f.note.Status != 0 }

// fetched is the status of an answer that was fetched, beginning when asked.
func (f *fill) fetched(asked time.Time) request.CacheStatus {
	if f.stale != nil && !f.stale.isFresh(f.e.since(asked)) {
		return request.CacheExpired
	}
	return request.CacheMiss
}

// aboutRequest reports the codes that speak of how one visitor asked. They tell
// nothing about the page: a marker for them would let anybody keep it out of the
// cache.
func aboutRequest(status int) bool {
	switch status {
	case 400, 408, 413, 414, 416, 417, 425, 431:
		return true
	}
	return false
}

// rangeMark makes the marker of a key's parts from that of the whole.
const rangeMark = 0x9e3779b97f4a7c15

// hand leaves an answer that is not for sharing to the leader, if it is
// still there, and lets the next requests go their own way at once. A server
// error passes, so it does not separate later requests.
func (f *fill) hand(status request.CacheStatus, got time.Time) {
	s := f.e.shardOf(f.key.hash)
	s.mu.Lock()
	s.leave(f)
	switch status := f.d.Out.Status; {
	case status >= 500, aboutRequest(status): // of this moment, of this visitor
	case status == 206:
		s.mark(f.key.hash^rangeMark, f.e.since(got)+passFor)
	default:
		s.mark(f.key.hash, f.e.since(got)+passFor)
	}
	s.mu.Unlock()
	if status := f.d.Out.Status; status < 500 && !aboutRequest(status) {
		f.forgetStale()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outcome, f.status = private, status
	close(f.ready)
	if f.gone || !f.led {
		f.d.Out.Close()
		f.stop()
	}
}

// interim is a 1xx answer, in memory of its own.
type interim struct {
	status int
	fields msg.Fields
}

// maxEarly is how many 1xx answers may wait for a leader to send them.
const maxEarly = 16

// toLeader keeps a 1xx answer (RFC 9110 §15.2) for the leader, who sends it while
// it waits: a visitor who takes nothing holds up itself and not the fill. Those
// who share the fetch get none: whether the answer may be shared is not known yet.
func (f *fill) toLeader(status int, fields *msg.Fields) error {
	i := &interim{status: status}
	if fields != nil {
		fields.CopyTo(&i.fields, bytes.Clone)
	}
	select {
	case f.early <- i:
	default: // it takes none, and who misses one misses nothing
	}
	return nil
}

// await waits for the head of f, and sends what comes ahead of it to a leader.
// It is false when the visitor has left.
func (t task) await(f *fill, led bool) bool {
	var early <-chan *interim
	if led {
		early = f.early
	}
	for {
		select {
		case i := <-early:
			t.tell(i)
		case <-f.ready:
			for len(early) > 0 {
				t.tell(<-early)
			}
			return true
		case <-t.r.Ctx.Done():
			return false
		}
	}
}

// tell sends a 1xx answer; who cannot take it misses nothing.
func (t task) tell(i *interim) { _ = t.r.In.Interim(i.status, &i.fields) }

// abandon is called by a leader that leaves before the head is there, or
// just when it comes.
func (f *fill) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = true
	if f.concluded() && f.outcome == private {
		f.d.Out.Close()
		f.stop()
	}
}

// handOver gives the leader an answer that is not for sharing. Its memory
// and its connection to the origin are given back by r.Out.Close.
func (f *fill) handOver(r *request.Request) {
	from, to := f.d.Out, r.Out
	for i := range from.Fields.Len() {
		to.Fields.AddField(*from.Fields.At(i))
	}
	r.Cache.Tier = f.from
	to.Status, to.Prepared, to.Length, to.Bytes = from.Status, from.Prepared, from.Length, from.Bytes
	to.Body, to.Trailer, to.Tunnel, to.EndConn = from.Body, from.Trailer, from.Tunnel, from.EndConn
	release := from.Release
	to.Release = func() {
		if release != nil {
			release()
		}
		f.stop()
	}
}

// concluded reports whether the head has been judged.
func (f *fill) concluded() bool {
	select {
	case <-f.ready:
		return true
	default:
		return false
	}
}

// suits reports whether r may read a concluded fill.
func (f *fill) suits(r *request.Request) bool {
	return f.outcome == shared && !f.solo && matches(f.obj.vary(), &r.In.Fields, r.Arena)
}

var errShort = errors.New("the origin announced a body and sent none")

// pump moves the body into the stream. It returns nil when the whole body is
// in memory, stream.ErrSpilled when it was passed on without being kept, and
// why it failed otherwise.
func (f *fill) pump(out *msg.Response) error {
	var src io.Reader = out.Body
	switch {
	case out.Bytes != nil:
		src = bytes.NewReader(out.Bytes)
	case out.Body == nil && out.Length > 0:
		return errShort
	case out.Body == nil:
		return nil
	}
	limit := f.e.cfg.MaxObject
	switch {
	case f.large:
		limit = min(limit, f.e.cfg.Window)
	case out.Length < 0 && f.have.total == 0:
		// Early enough for a keeper to be near the end when memory is full.
		src = &passing{Reader: src, left: limit / 2, then: func() {
			f.findKeepers(out.Length)
			f.startKeepers()
		}}
	}
	err := f.stream.Fill(src, limit)
	if err != stream.ErrFull && err != stream.ErrCrowded {
		return err
	}
	s := f.e.shardOf(f.key.hash)
	s.mu.Lock()
	s.leave(f)
	if err == stream.ErrFull {
		s.mark(f.key.hash, f.e.now()+passFor)
	}
	s.mu.Unlock()
	return f.stream.Pass(f.d.Ctx, src, f.e.window(err), func() bool { return f.expected.Load() > 0 })
}

// window is how much of a body that is passed on is held: little when the
// reason is that too much is held already.
func (e *Engine) window(why error) int64 {
	if why == stream.ErrCrowded {
		return min(e.cfg.Window, unrefused)
	}
	return e.cfg.Window
}

// pinned is how many bytes readers hold of objects that are stored no more.
func (e *Engine) pinned() int64 { return max(0, e.alive.Load()-e.used.Load()) }

// arrived is called once by each who was expected, reading or not.
func (f *fill) arrived() {
	f.expected.Add(-1)
	if f.concluded() && f.stream != nil {
		f.stream.Poke()
	}
	f.letGo()
}

// finish stores what is whole and lets the readers see the end.
func (f *fill) finish(err error) {
	if err == nil {
		body := f.room.trim(f.stream.Buffer())
		f.obj.seal(f.e, body)
		f.inMemory.Store(true)
		if f.e.put(f, f.obj) {
			f.keepFar()
		}
		if !f.d.Off.Has(zone.KillCompression) {
			f.e.codeBehind(f.obj, coding.Choose(&f.in, f.plan.codings.stored))
		}
		f.stream.Show()
		f.stream.End(io.EOF)
		return
	}
	s := f.e.shardOf(f.key.hash)
	s.mu.Lock()
	s.leave(f)
	s.mu.Unlock()
	if f.large || len(f.keepers) > 0 || !f.fromOrigin() {
		s.unmark(f.key.hash)
	}
	if err == stream.ErrSpilled {
		err = io.EOF
	} else {
		err = &fault.Error{Op: "cache.fill", Side: fault.Origin, Kind: fault.Closed, Err: err}
	}
	f.obj.adopt(f.stream.Buffer()) // goes with the last reader
	f.stream.End(err)
}

// since turns a clock reading into an instant.
func (e *Engine) since(t time.Time) int64 { return int64(t.Sub(e.epoch)) }
