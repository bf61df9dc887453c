package cache

import (
	"bytes"
	"io"

	"github.com/selvage-edge/selvage/edge/phase/cache/coding"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// The settings that say which content codings a zone's visitors are given.
const (
	settingBrotli = "brotli"
	settingZstd   = "zstd"
)

// codings are the content codings of a zone: of stored answers and of those
// that pass.
type codings struct{ stored, passed coding.Set }

func codingsOf(s zone.Settings) codings {
	var off []coding.Coding
	if !s.On(settingBrotli) {
		off = append(off, coding.Brotli)
	}
	if !s.On(settingZstd) {
		off = append(off, coding.Zstd)
	}
	return codings{coding.Stored.Without(off...), coding.Passed.Without(off...)}
}

// Encode is the row "encode": it compresses an answer that is on its way, for a
// visitor who accepts that. What the store answers has been compressed when it
// was stored, or is not worth it. Another edge gets what the origin sent.
func (e *Engine) Encode(p *Plan, r *request.Request) {
	out := r.Out
	if p == nil || r.Role != request.RoleNone || r.Fault != nil || !passes(r.Cache.Status) {
		return
	}
	if r.In.Method == msg.HEAD {
		if p.codable(r, fieldsIn(out)) { // what a GET would say
			varies(out)
		}
		return
	}
	if out.Tunnel != nil || out.Body == nil && out.Bytes == nil || out.Length >= 0 && out.Length < coding.MinBytes || !p.codable(r, fieldsIn(out)) {
		return
	}
	varies(out)
	c := coding.Choose(&r.In.Fields, p.codings.passed)
	if c == coding.Identity || r.In.Fields.Has(msg.Range) {
		return
	}
	own(r)
	recode(&out.Fields, c, r.Arena.Alloc)
	body := out.Body
	if out.Bytes != nil {
		body = io.NopCloser(bytes.NewReader(out.Bytes))
	}
	out.Bytes, out.Length = nil, msg.LengthUnknown
	out.Body = coding.NewReader(c, body)
}

// passes reports the answers that come from an origin for this request.
func passes(s request.CacheStatus) bool {
	switch s {
	case request.CacheMiss, request.CacheExpired, request.CacheBypass, request.CacheDynamic:
		return true
	}
	return false
}

// maxCoded is the largest stored body that is compressed, in bytes.
const maxCoded = 8 << 20

// asBody stands for a protocol where a block is the body in the form's coding;
// an empty one says that no coding makes it smaller.
const asBody msg.Proto = 1

// codable reports whether an object's body may be given in another coding than
// the origin's and gains by it.
func (o *object) codable() bool {
	if n := len(o.body()); n < coding.MinBytes || n > maxCoded || o.status == 204 {
		return false
	}
	return transformable(o.field)
}

// coding decides in which coding a visitor gets a complete object, as a part of
// a form, and says that the answer depends on it. A coding that is not at hand
// is made behind the answer, which goes out as the origin sent it.
func (t task) coding(o *object) form {
	if t.r.Role != request.RoleNone || o.State.Load()&stateCodable == 0 || t.p.decide(t.r).strongETags && !weak(o.field(msg.ETag)) {
		return 0
	}
	in := &t.r.In.Fields
	// The origin's own Vary stands in the head; a second line adds to it.
	t.r.Out.Fields.AddID(msg.Vary, acceptEncoding)
	c := coding.Choose(in, t.p.codings.stored)
	if c == coding.Identity || in.Has(msg.Range) {
		return 0
	}
	as := form(c) << formCoding
	switch coded := o.Block(as, asBody); {
	case coded == nil:
		t.e.encode(o, c)
		return 0
	case len(coded) == 0:
		return 0
	}
	return as
}

// bodyAs is the body in the coding of a form.
func (o *object) bodyAs(as form) []byte {
	if as &= formCodings; as != 0 {
		return o.Block(as, asBody)
	}
	return o.body()
}

// codedLines are the field lines of a coded body.
func (o *object) codedLines(as form) []byte {
	whole := (&msg.Prepared{H1: o.lines(as &^ formCodings)}).Fields()
	var f msg.Fields
	for i := range whole.Len() {
		f.AddField(*whole.At(i))
	}
	recode(&f, coding.Coding(as&formCodings>>formCoding), func(n int) []byte { return make([]byte, n) })
	return prepare(&f, func(*msg.Field) bool { return false })
}

// encode makes a coding of an object's body, in a goroutine of its own, unless
// that is being done, all who do such work are busy, or there was no room.
func (e *Engine) encode(o *object, c coding.Coding) {
	if s := o.State.Load(); c == coding.Identity || s&stateCodable == 0 || s&(stateCoding|stateUncoded) != 0 {
		return
	}
	select {
	case e.coders <- struct{}{}:
	default:
		return
	}
	if o.State.Or(stateCoding)&stateCoding != 0 {
		<-e.coders
		return
	}
	o.retain()
	done := func() {
		o.State.And(^uint32(stateCoding))
		o.Release()
		<-e.coders
	}
	if !e.start(func() {
		defer done()
		e.keepCoded(o, c)
	}) {
		done()
	}
}

// keepCoded adds a coding of its body to an object, for as long as it lives.
func (e *Engine) keepCoded(o *object, c coding.Coding) {
	as := form(c) << formCoding
	if o.Block(as, asBody) != nil {
		return
	}
	coded, err := coding.Encode(c, o.body())
	if err != nil || !o.keepRoom(as, asBody, coded) {
		o.State.Or(stateUncoded)
	}
}

// fieldsOf reads an answer's fields wherever they are.
type fieldsOf func(msg.ID) []byte

func fieldsIn(out *msg.Response) fieldsOf {
	return func(id msg.ID) []byte {
		if v := out.Fields.Get(id); v != nil || out.Prepared == nil {
			return v
		}
		return out.Prepared.Fields().Get(id)
	}
}

// codable reports whether an answer may be given in another coding than the
// origin's and is of a kind that gains by it. no-transform forbids it (RFC 9110
// §7.7).
func (p *Plan) codable(r *request.Request, get fieldsOf) bool {
	switch s := r.Out.Status; {
	case s < 200, s == 204, s == 206, s == 304:
		return false
	}
	return transformable(get) && (!p.decide(r).strongETags || weak(get(msg.ETag)))
}

// transformable judges an answer by its fields.
func transformable(get fieldsOf) bool {
	if get(msg.ContentEncoding) != nil || get(msg.ContentRange) != nil || !coding.Compressible(get(msg.ContentType)) {
		return false
	}
	for t, rest := msg.NextToken(get(msg.CacheControl)); t != nil; t, rest = msg.NextToken(rest) {
		if msg.EqualFold(t, "no-transform") {
			return false
		}
	}
	return true
}

// weak reports whether a validator is none or a weak one.
func weak(tag []byte) bool { return len(tag) == 0 || bytes.HasPrefix(tag, weakMark) }

var (
	weakMark       = []byte("W/")
	acceptEncoding = []byte("Accept-Encoding")
)

// varies says that the answer depends on Accept-Encoding, once.
func varies(out *msg.Response) {
	if out.Fields.HasToken(msg.Vary, "Accept-Encoding") || out.Fields.HasToken(msg.Vary, "*") {
		return
	}
	if out.Prepared != nil {
		if f := out.Prepared.Fields(); f.HasToken(msg.Vary, "Accept-Encoding") || f.HasToken(msg.Vary, "*") {
			return
		}
	}
	out.Fields.AddID(msg.Vary, acceptEncoding)
}

// own moves a prepared head into the answer's own fields, where it may be
// changed.
func own(r *request.Request) {
	out := r.Out
	if out.Prepared == nil {
		return
	}
	for name, value, rest := msg.CutLine(out.Prepared.H1); name != nil; name, value, rest = msg.CutLine(rest) {
		out.Fields.Add(r.Arena.Copy(name), r.Arena.Copy(value))
	}
	out.Prepared = nil
}

// recode changes fields to those of the same answer in a coding: another
// content has another length, no strong validator and no parts.
func recode(f *msg.Fields, c coding.Coding, alloc func(int) []byte) {
	f.Del(msg.ContentLength)
	f.Del(msg.AcceptRanges)
	f.Set(msg.ContentEncoding, c.Token())
	if tag := f.Get(msg.ETag); !weak(tag) {
		b := append(alloc(len(weakMark) + len(tag))[:0], weakMark...)
		f.Set(msg.ETag, append(b, tag...))
	}
}
