package cache

import (
	"bytes"
	"io"
	"strconv"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/stream"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// wants is the range that has to be fetched for a request, nil for all of it. It
// is not ok where nothing that the cache may keep would answer the request.
func (t task) wants(o *object) (want []byte, ok bool) {
	in := &t.r.In.Fields
	if !in.Has(msg.Range) || o != nil && !o.partial() {
		return nil, true
	}
	value := in.Get(msg.Range)
	spec, single, well := oneSpec(value)
	switch {
	case !well:
		return nil, true // as if there were none (RFC 9110 §14.2)
	case !single, in.Has(msg.IfRange) && (o == nil || !o.rangeHolds(in)):
		return nil, false
	case o == nil && spec == rangeSpec{to: -1}:
		return nil, true
	}
	return value, true
}

// oneSpec reads a Range of one part; well is false where it is to be ignored.
func oneSpec(value []byte) (spec rangeSpec, single, well bool) {
	set, ok := rangeSet(value)
	if !ok {
		return spec, false, false
	}
	if bytes.IndexByte(set, ',') >= 0 {
		return spec, false, readRanges(value, maxOffset).part != wholeBody
	}
	spec, ok = readSpec(bytes.Trim(set, " \t"))
	return spec, ok, ok
}

// wish is what a fill asks of the origin, beside the request's own fields.
type wish struct {
	validate bool   // the stale object's validators, for a 304
	text     []byte // Range; nil = none
	ifRange  []byte // ETag of the parts that are held; nil = none
	lack     stretch
}

// firstWish decides what to ask for first: what is missing of an object of which
// parts are held, else what the visitors want.
func (f *fill) firstWish() wish {
	if f.stale == nil || !f.stale.partial() {
		return wish{text: f.want, validate: f.stale != nil && f.stale.validate && f.want == nil}
	}
	l := f.stale.layout()
	span, ok := stretch{0, l.total}, true
	if f.want != nil {
		spec, _, _ := oneSpec(f.want)
		span, ok = spec.of(l.total)
	}
	tag := bytes.Clone(f.stale.etag())
	lack := l.lacks(span)
	switch {
	case !ok || !strong(tag), lack.size() > f.e.cfg.MaxObject:
		return wish{text: f.want}
	case lack.size() == 0:
		return wish{text: f.want, validate: true}
	}
	text := strconv.AppendInt([]byte("bytes="), lack.from, 10)
	text = append(text, '-')
	if lack.to < l.total {
		text = strconv.AppendInt(text, lack.to-1, 10)
	}
	return wish{text: text, ifRange: tag, lack: lack}
}

// fits reports whether a 206 is what is missing of the stale object, and of the
// same version.
func (f *fill) fits() bool {
	c, ok := f.contentRange()
	return ok && c.stretch == f.lack && c.total == f.stale.layout().total && bytes.Equal(f.d.Out.Fields.Get(msg.ETag), f.ifRange)
}

// contentRange is what part of the whole the answer has. A body that is shorter
// than its Content-Range says is known as far as it goes.
func (f *fill) contentRange() (contentRange, bool) {
	out := f.d.Out
	c, ok := readContentRange(out.Fields.Get(msg.ContentRange))
	if !ok || c.total < 0 || out.Fields.Count(msg.ContentRange) != 1 || out.Length > c.size() || out.Length == 0 {
		return c, false
	}
	if out.Length > 0 {
		c.to = c.from + out.Length
	}
	return c, true
}

// takePart judges a 206: it becomes, with what is held, an object that has more
// of the whole (RFC 9111 §3.4), or the leader's own.
func (f *fill) takePart(asked, got time.Time) {
	out := f.d.Out
	if out.Bytes != nil {
		out.Length = int64(len(out.Bytes))
	}
	c, ok := f.contentRange()
	if !ok {
		f.hand(request.CacheDynamic, got)
		return
	}
	fields := &out.Fields
	if f.lack.size() > 0 {
		fields = f.stale.merge(fields)
	}
	whole := msg.Response{Status: 200, Length: c.size()}
	for _, l := range fields.All() {
		if l.ID != msg.ContentRange && l.ID != msg.ContentLength {
			whole.Fields.AddField(l)
		}
	}
	j := f.plan.decide(f.d).judge(f.d, &f.in, &whole, asked, got)
	if j.store && c.size() > f.e.cfg.MaxObject {
		j.store, j.status = false, request.CacheBypass
	}
	if j.store {
		f.obj = f.e.newObject(f, &whole, &j, f.e.since(got))
	}
	switch {
	case f.obj == nil && f.lack.size() > 0:
		// Without what is held it is not what anybody asked for.
		f.settle(f.askAnew(), asked)
		return
	case f.obj == nil:
		f.hand(j.status, got)
		return
	}
	f.outcome, f.status, f.have = shared, f.fetched(asked), c
	f.span = bytes.Clone(out.Fields.Get(msg.ContentRange))
	f.room = bodyRoom{e: f.e, o: f.obj}
	f.stream = stream.New(c.size(), &f.room)
	close(f.ready)
	err := f.pump(out)
	if err == nil || strong(f.obj.etag()) && len(f.stream.Kept()) > 0 {
		f.keep(&whole, &j, got, c)
	}
	f.endPart(err)
	f.room.refund(int(f.room.granted))
	out.Close()
	f.stop()
}

// endPart lets the readers of a part see the end. Its memory goes with the last
// of them.
func (f *fill) endPart(err error) {
	if err != nil {
		f.finish(err)
		return
	}
	s := f.e.shardOf(f.key.hash)
	s.mu.Lock()
	s.leave(f)
	s.mu.Unlock()
	f.obj.adopt(f.room.trim(f.stream.Buffer()))
	f.stream.Show()
	f.stream.End(io.EOF)
}

// keep stores the bytes that a fill brought of c, together with what is held of the
// same version.
func (f *fill) keep(answer *msg.Response, j *judgement, got time.Time, c contentRange) {
	body := f.stream.Kept()
	p := patch{total: c.total, list: []piece{{stretch{c.from, c.from + int64(len(body))}, body}}}
	seq := f.seq
	if base := f.base(c.total); base != nil {
		defer base.Release()
		if !base.partial() {
			return // somebody has got all of it meanwhile
		}
		p.add(base, f.e.cfg.MaxObject)
		seq = min(seq, base.seq.Load())
	}
	answer.Length = p.size()
	o := f.e.newPartial(f, answer, j, f.e.since(got), p.layout())
	if o == nil {
		return
	}
	defer o.Release()
	to := o.inner()[:0]
	if int64(cap(to)) < answer.Length {
		if to = f.e.newBody(int(answer.Length), false); to == nil {
			return
		}
		to = to[:0:answer.Length]
	}
	o.seq.Store(seq)
	o.seal(f.e, p.appendTo(to))
	f.e.put(f, o)
}

// base returns the stored object that a part belongs to, with a reference: of
// the same variant and version; nil where none is held.
func (f *fill) base(total int64) *object {
	tag := f.obj.etag()
	if !strong(tag) {
		return nil
	}
	s := f.e.shardOf(f.key.hash)
	s.mu.RLock()
	defer s.mu.RUnlock()
	for o := range s.variants(f.key) {
		if !o.purged() && o.status == 200 && sameVariant(o.vary(), f.obj.vary()) && bytes.Equal(o.etag(), tag) && o.layout().total == total {
			o.retain()
			return o
		}
	}
	return nil
}
