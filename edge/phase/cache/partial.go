package cache

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/selvage-edge/selvage/internal/must"
)

// Bounds of what is kept of an object in parts.
const maxStretches = 16

// layout tells which bytes of a representation an object has. Its body has them
// one stretch after the other.
type layout struct {
	total int64     // of the whole, in bytes
	held  []stretch // ordered, apart from each other; nil = all
}

func (l layout) whole() bool { return l.held == nil }

// find returns where in the body a stretch begins; false where not all of it is
// there.
func (l layout) find(s stretch) (at int64, ok bool) {
	if l.held == nil {
		return s.from, s.to <= l.total
	}
	for _, h := range l.held {
		if h.from <= s.from && s.to <= h.to {
			return at + s.from - h.from, true
		}
		at += h.size()
	}
	return 0, false
}

// cut is a stretch of a body that is laid out so.
func (l layout) cut(body []byte, s stretch) []byte {
	at, ok := l.find(s)
	must.That(ok, "an object answers for bytes that it has not")
	return body[at : at+s.size()]
}

// lacks returns the shortest stretch that has all of s that is not held; empty
// where all is.
func (l layout) lacks(s stretch) stretch {
	if l.held == nil {
		return stretch{}
	}
	for _, h := range l.held {
		if h.from <= s.from {
			s.from = max(s.from, min(h.to, s.to))
		}
	}
	for i := len(l.held) - 1; i >= 0; i-- {
		if h := l.held[i]; h.to >= s.to {
			s.to = min(s.to, max(h.from, s.from))
		}
	}
	return s
}

// strong reports an ETag by which parts can be told to be of one version (RFC
// 9110 §8.8.1, RFC 9111 §3.4).
func strong(tag []byte) bool { return len(tag) > 0 && tag[0] == '"' }

// encode is the form that an object keeps; nil of a whole one.
func (l layout) encode() []byte {
	if l.whole() {
		return nil
	}
	b := binary.AppendUvarint(nil, uint64(l.total))
	for _, s := range l.held {
		b = binary.AppendUvarint(b, uint64(s.from))
		b = binary.AppendUvarint(b, uint64(s.size()))
	}
	return b
}

// layout tells what the object has.
func (o *object) layout() layout {
	if !o.partial() {
		return layout{total: int64(len(o.body()))}
	}
	rest := o.held()
	number := func() int64 {
		n, size := binary.Uvarint(rest)
		rest = rest[size:]
		return int64(n)
	}
	l := layout{total: number()}
	for len(rest) > 0 {
		from := number()
		l.held = append(l.held, stretch{from, from + number()})
	}
	return l
}

// partial reports whether some of the object is missing.
func (o *object) partial() bool { return o.restLen > 0 && len(o.held()) > 0 }

// piece is a stretch with its bytes.
type piece struct {
	stretch
	data []byte
}

// patch puts an object together from pieces that lie apart, in order. The first
// one given is the newest and counts where others overlap it.
type patch struct {
	total int64
	list  []piece
}

// add puts in what an object of the same version has, as far as it is not there
// yet, and drops what is furthest from the newest piece until no more than most
// bytes and maxStretches stretches are left.
func (p *patch) add(base *object, most int64) {
	newest := p.list[0]
	body := base.body()
	for _, h := range base.layout().held {
		data := body[:h.size()]
		body = body[h.size():]
		if before := (stretch{h.from, min(h.to, newest.from)}); before.size() > 0 {
			p.list = append(p.list, piece{before, data[:before.size()]})
		}
		if after := (stretch{max(h.from, newest.to), h.to}); after.size() > 0 {
			p.list = append(p.list, piece{after, data[after.from-h.from:]})
		}
	}
	slices.SortFunc(p.list, func(a, b piece) int { return cmp.Compare(a.from, b.from) })
	for p.size() > most || len(p.layout().held) > maxStretches {
		first, last := p.list[0], p.list[len(p.list)-1]
		if newest.from-first.from >= last.to-newest.to {
			p.list = p.list[1:]
		} else {
			p.list = p.list[:len(p.list)-1]
		}
	}
}

func (p *patch) size() (n int64) {
	for i := range p.list {
		n += p.list[i].size()
	}
	return n
}

// layout joins pieces that touch; it is whole where nothing is missing.
func (p *patch) layout() layout {
	var held []stretch
	for i := range p.list {
		held = append(held, p.list[i].stretch)
	}
	held = joined(held)
	if len(held) == 1 && held[0] == (stretch{0, p.total}) {
		return layout{}
	}
	return layout{p.total, held}
}

func (p *patch) appendTo(b []byte) []byte {
	for i := range p.list {
		b = append(b, p.list[i].data...)
	}
	return b
}
