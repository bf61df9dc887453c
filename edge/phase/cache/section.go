package cache

import (
	"io"

	"github.com/selvage-edge/selvage/edge/phase/cache/stream"
	"github.com/selvage-edge/selvage/wire/msg"
)

// section is a body made of a stretch of a stream and, before and after it, of
// bytes that an object has.
type section struct {
	before []byte
	body   *stream.Reader
	skip   int64 // bytes of the stream that are not wanted yet
	left   int64 // of the stream, after those
	after  []byte
	base   *object // has before and after, held; nil = neither
}

// section cuts the range that a request asks for out of a body that is on its
// way whole. Without a known length it is not possible, and several ranges are
// not worth it: the visitor gets the whole then.
func (t task) section(f *fill, body *stream.Reader) {
	size := f.stream.Length()
	if size < 0 {
		return
	}
	a := readRanges(f.obj.rangeOf(t.r.In), size)
	switch {
	case a.part == unsatisfiable:
		t.r.Out.Body = nil
		_ = body.Close() // never fails
		notSatisfied(t.r, size)
	case a.n == 1:
		s := a.list[0]
		t.r.Out.Status, t.r.Out.Length = 206, s.size()
		t.r.Out.Body = &section{body: body, skip: s.from, left: s.size()}
		addContentRange(t.r, s, size)
	}
}

// stitched answers with a part that is on its way, put between what is held of
// the rest where more is asked for.
func (t task) stitched(f *fill, body *stream.Reader) {
	have, total := f.have.stretch, f.have.total
	s := &section{body: body, left: have.size()}
	span := have
	if f.lack.size() > 0 {
		span = f.wanted(total)
		f.stale.retain() // the fill holds it for as long as somebody follows
		s.base = f.stale
		l := f.stale.layout()
		if before := (stretch{span.from, have.from}); before.size() > 0 {
			s.before = l.cut(f.stale.body(), before)
		}
		if after := (stretch{have.to, span.to}); after.size() > 0 {
			s.after = l.cut(f.stale.body(), after)
		}
	}
	t.r.Out.Body, t.r.Out.Length = s, span.size()
	switch {
	case f.want != nil && f.lack.size() == 0: // what came, as it came
		t.r.Out.Status = 206
		t.r.Out.Fields.AddID(msg.ContentRange, f.span)
	case f.want != nil:
		t.r.Out.Status = 206
		addContentRange(t.r, span, total)
	}
}

// wanted is what the fill's visitors want of a body of a size.
func (f *fill) wanted(total int64) stretch {
	if f.want == nil {
		return stretch{0, total}
	}
	spec, _, _ := oneSpec(f.want)
	s, _ := spec.of(total)
	return s
}

func (s *section) Read(p []byte) (int, error) {
	if len(s.before) > 0 {
		n := copy(p, s.before)
		s.before = s.before[n:]
		return n, nil
	}
	for s.skip > 0 {
		n, err := s.body.Read(p[:min(int64(len(p)), s.skip)])
		if s.skip -= int64(n); err != nil {
			return 0, early(err)
		}
	}
	if s.left > 0 {
		n, err := s.body.Read(p[:min(int64(len(p)), s.left)])
		if s.left -= int64(n); s.left == 0 {
			return n, nil
		}
		return n, early(err)
	}
	if len(s.after) > 0 {
		n := copy(p, s.after)
		s.after = s.after[n:]
		return n, nil
	}
	return 0, io.EOF
}

// early is the error of a stream that ends before the section does.
func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close implements io.Closer. It may be called more than once.
func (s *section) Close() error {
	s.before, s.after, s.left, s.skip = nil, nil, 0, 0
	err := s.body.Close()
	if s.base != nil {
		s.base.Release()
		s.base = nil
	}
	return err
}
