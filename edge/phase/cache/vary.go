package cache

import (
	"bytes"

	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
)

// maxVary is how many field names a Vary may list; answers with more are not
// stored, as they would hardly ever be a hit.
const maxVary = 16

// varyField is one request field that an answer was chosen by.
type varyField struct {
	id    msg.ID
	name  []byte // lower case where id is Unknown
	value []byte // as normalValue gives it; nil = the field was absent
	sent  []byte // of a known field sent in one line: its value as it was
}

// readVary reads the names in an answer's Vary with the request's values,
// all in memory of their own; not ok with "*" and with too many names.
func readVary(in, out *msg.Fields) (list []varyField, ok bool) {
	if !out.Has(msg.Vary) {
		return nil, true
	}
	var a arena.Arena
	for i := range out.Len() {
		l := out.At(i)
		if l.ID != msg.Vary {
			continue
		}
		for t, rest := msg.NextToken(l.Value); t != nil; t, rest = msg.NextToken(rest) {
			if len(t) == 1 && t[0] == '*' || len(list) == maxVary {
				return nil, false
			}
			v := varyField{id: msg.Known(t)}
			if v.id == msg.Unknown {
				v.name = bytes.ToLower(t)
			}
			v.value = bytes.Clone(normalValue(in, &v, &a))
			if in.Count(v.id) == 1 {
				v.sent = bytes.Clone(in.Get(v.id))
			}
			list = append(list, v)
		}
	}
	return list, true
}

// matches reports whether a request would have been given the answer that
// list was read from (RFC 9111 §4.1).
func matches(list []varyField, in *msg.Fields, a *arena.Arena) bool {
	for i := range list {
		v := &list[i]
		if v.sent != nil && in.Count(v.id) == 1 && bytes.Equal(in.Get(v.id), v.sent) {
			continue // most visitors send the same line
		}
		got := normalValue(in, v, a)
		if (got == nil) != (v.value == nil) || !bytes.Equal(got, v.value) {
			return false
		}
	}
	return true
}

// sameChoice reports whether two requests agree on the fields of list.
func sameChoice(list []varyField, in, other *msg.Fields, a *arena.Arena) bool {
	for i := range list {
		x, y := normalValue(in, &list[i], a), normalValue(other, &list[i], a)
		if (x == nil) != (y == nil) || !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}

// normalValue is the value of a field with its lines joined. The lists of
// content negotiation lose the white space and empty members that carry no
// meaning, and their case; other fields are compared as they are. It is nil
// when the field is absent, borrowed when there was nothing to do.
func normalValue(f *msg.Fields, v *varyField, a *arena.Arena) []byte {
	if v.id != msg.Unknown && !f.Has(v.id) {
		return nil
	}
	list := v.id == msg.AcceptEncoding || v.id == msg.AcceptLanguage || v.id == msg.Accept
	var one []byte
	lines, total := 0, 0
	for i := range f.Len() {
		if l := f.At(i); v.is(l) {
			one = l.Value
			lines++
			total += len(l.Value) + 2
		}
	}
	if lines == 0 {
		return nil
	}
	if one == nil {
		one = []byte{}
	}
	if lines == 1 && !list {
		return one
	}
	joined := a.Alloc(total)[:0]
	for i := range f.Len() {
		l := f.At(i)
		if !v.is(l) {
			continue
		}
		if !list {
			joined = append(append(joined, l.Value...), ", "...)
			continue
		}
		for t, rest := msg.NextToken(l.Value); t != nil; t, rest = msg.NextToken(rest) {
			joined = appendMember(joined, t)
		}
	}
	if !list {
		joined = joined[:len(joined)-len(", ")]
	}
	return joined
}

// appendMember appends a list member in lower case, without white space.
func appendMember(b, member []byte) []byte {
	for _, c := range member {
		if c == ' ' || c == '\t' {
			continue
		}
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	return append(b, ',')
}

func (v *varyField) is(l *msg.Field) bool {
	if v.id != msg.Unknown {
		return l.ID == v.id
	}
	return l.ID == msg.Unknown && msg.EqualFold(l.Name, v.name)
}
