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
	if p == nil || r.Role != request.RoleNone || r.Fault != nil || r.In.Method == msg.HEAD || !passes(r.Cache.Status) {
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
// §7.7), and so does a digest of the content as sent.
func (p *Plan) codable(r *request.Request, get fieldsOf) bool {
	switch s := r.Out.Status; {
	case s < 200, s == 204, s == 206, s == 304:
		return false
	}
	if get(msg.ContentEncoding) != nil || get(msg.ContentRange) != nil || !coding.Compressible(get(msg.ContentType)) {
		return false
	}
	for t, rest := msg.NextToken(get(msg.CacheControl)); t != nil; t, rest = msg.NextToken(rest) {
		if msg.EqualFold(t, "no-transform") {
			return false
		}
	}
	return !p.decide(r).strongETags || weak(get(msg.ETag))
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
