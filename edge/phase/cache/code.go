package cache

import (
	"bytes"
	"io"
	"slices"

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
	h := fieldsIn(out)
	if r.In.Method == msg.HEAD {
		if p.codable(r, h) { // what a GET would say
			varies(out, h)
		}
		return
	}
	if out.Tunnel != nil || out.Body == nil && out.Bytes == nil || out.Length >= 0 && out.Length < coding.MinBytes || !p.codable(r, h) {
		return
	}
	varies(out, h)
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
	return transformable(fieldLists{o.fields()})
}

// coding decides in which coding a visitor gets a complete object, as a part of
// a form, and says that the answer depends on it. A coding that is not at hand
// is made behind the answer, which goes out as the origin sent it.
func (t task) coding(o *object) form {
	if t.r.Role != request.RoleNone || t.r.Off.Has(zone.KillCompression) || o.State.Load()&stateCodable == 0 || t.p.decide(t.r).strongETags && !weak(o.field(msg.ETag)) {
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
		t.e.codeBehind(o, c)
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

// codeBehind makes a coding of an object's body, in a goroutine of its own, unless
// that is being done, all who do such work are busy, or there was no room.
func (e *Engine) codeBehind(o *object, c coding.Coding) {
	if s := o.State.Load(); c == coding.Identity || s&stateCodable == 0 || s&(stateCoding|stateUncoded) != 0 || o.partial() {
		return // parts are shown as the origin sent them
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
	switch {
	case err != nil:
		e.uncoded.Add(1)
		o.State.Or(stateUncoded)
	case o.keepRoom(as, asBody, coded):
		e.coded.Add(1)
	default:
		o.State.Or(stateUncoded)
	}
}

// fieldLists are an answer's field lines wherever they are.
type fieldLists []*msg.Fields

func fieldsIn(out *msg.Response) fieldLists {
	if out.Prepared == nil {
		return fieldLists{&out.Fields}
	}
	return fieldLists{&out.Fields, out.Prepared.Fields()}
}

// get returns the first value of a field, nil when absent.
func (h fieldLists) get(id msg.ID) []byte {
	for _, f := range h {
		if v := f.Get(id); v != nil {
			return v
		}
	}
	return nil
}

// has reports whether any line of a field lists the token.
func (h fieldLists) has(id msg.ID, token string) bool {
	for _, f := range h {
		if f.HasToken(id, token) {
			return true
		}
	}
	return false
}

// codable reports whether an answer may be given in another coding than the
// origin's and is of a kind that gains by it. no-transform forbids it (RFC 9110
// §7.7).
func (p *Plan) codable(r *request.Request, h fieldLists) bool {
	switch s := r.Out.Status; {
	case s < 200, s == 204, s == 206, s == 304:
		return false
	}
	return transformable(h) && (!p.decide(r).strongETags || weak(h.get(msg.ETag)))
}

// transformable judges an answer by its fields.
func transformable(h fieldLists) bool {
	return h.get(msg.ContentEncoding) == nil && h.get(msg.ContentRange) == nil && coding.Compressible(h.get(msg.ContentType)) &&
		!h.has(msg.CacheControl, "no-transform")
}

// weak reports whether a validator is none or a weak one.
func weak(tag []byte) bool { return len(tag) == 0 || bytes.HasPrefix(tag, weakMark) }

var (
	weakMark       = []byte("W/")
	acceptEncoding = []byte("Accept-Encoding")
)

// varies says that the answer depends on Accept-Encoding, once.
func varies(out *msg.Response, h fieldLists) {
	if !h.has(msg.Vary, "Accept-Encoding") && !h.has(msg.Vary, "*") {
		out.Fields.AddID(msg.Vary, acceptEncoding)
	}
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

// digests are fields over the content as it was sent (RFC 9530, RFC 1864).
var digests = [...]string{"content-digest", "repr-digest", "digest", "content-md5"}

// recode changes fields to those of the same answer in a coding: another
// content has another length, no strong validator, no parts and no digest.
func recode(f *msg.Fields, c coding.Coding, alloc func(int) []byte) {
	f.DelFunc(func(l *msg.Field) bool {
		if l.ID == msg.ContentLength || l.ID == msg.AcceptRanges {
			return true
		}
		return l.ID == msg.Unknown && slices.ContainsFunc(digests[:], func(name string) bool { return msg.EqualFold(l.Name, name) })
	})
	f.Set(msg.ContentEncoding, c.Token())
	if tag := f.Get(msg.ETag); !weak(tag) {
		b := append(alloc(len(weakMark) + len(tag))[:0], weakMark...)
		f.Set(msg.ETag, append(b, tag...))
	}
}
