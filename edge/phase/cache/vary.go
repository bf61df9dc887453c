package cache

import (
	"bytes"
	"encoding/binary"
	"slices"

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
	// language is, for Accept-Language, the one language that the answer is in:
	// it answers all who like that best (RFC 9111 §4.1: "known to have identical
	// semantics"). nil = unknown or several.
	language []byte
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
			if v.id == msg.AcceptLanguage {
				v.language = soleLanguage(out)
			}
			list = append(list, v)
		}
	}
	return list, true
}

// byEncoding adds Accept-Encoding to the names of a Vary that lacks it although
// the body is encoded: many origins forget it, and who does not accept the coding
// could not read what another was sent.
func byEncoding(list []varyField, in, out *msg.Fields) []varyField {
	if !out.Has(msg.ContentEncoding) || len(list) == maxVary ||
		slices.ContainsFunc(list, func(v varyField) bool { return v.id == msg.AcceptEncoding }) {
		return list
	}
	var a arena.Arena
	v := varyField{id: msg.AcceptEncoding}
	v.value = bytes.Clone(normalValue(in, &v, &a))
	if in.Count(v.id) == 1 {
		v.sent = bytes.Clone(in.Get(v.id))
	}
	return append(list, v)
}

// varyList is a list of varyFields as an object keeps it: for each its id, which
// parts it has, and those parts, each after its length.
type varyList []byte

// appendVary appends the form that is kept.
func appendVary(b []byte, list []varyField) []byte {
	for i := range list {
		v := &list[i]
		parts := [...][]byte{v.name, v.value, v.sent, v.language}
		has := byte(0)
		for j, p := range parts {
			if p != nil {
				has |= 1 << j
			}
		}
		b = append(b, byte(v.id), has)
		for _, p := range parts {
			if p != nil {
				b = append(binary.AppendUvarint(b, uint64(len(p))), p...)
			}
		}
	}
	return b
}

// next cuts the first field of a list that is not empty. Its bytes are the
// list's.
func (l varyList) next() (v varyField, rest varyList) {
	v.id = msg.ID(l[0])
	has, rest := l[1], l[2:]
	cut := func(bit byte) []byte {
		if has&bit == 0 {
			return nil
		}
		n, width := binary.Uvarint(rest)
		part := rest[width : width+int(n) : width+int(n)]
		rest = rest[width+int(n):]
		return part
	}
	v.name, v.value, v.sent, v.language = cut(1), cut(2), cut(4), cut(8)
	return v, rest
}

// fields are the list's, with its bytes.
func (l varyList) fields() []varyField {
	var list []varyField
	for len(l) > 0 {
		var v varyField
		v, l = l.next()
		list = append(list, v)
	}
	return list
}

// sameVariant reports whether two answers were chosen by the same fields
// with the same values.
func sameVariant(a, b varyList) bool {
	for len(a) > 0 && len(b) > 0 {
		var x, y varyField
		x, a = a.next()
		y, b = b.next()
		if x.id != y.id || !bytes.Equal(x.name, y.name) || (x.value == nil) != (y.value == nil) || !bytes.Equal(x.value, y.value) {
			return false
		}
	}
	return len(a) == len(b)
}

// matches reports whether a request would have been given the answer that
// list was read from (RFC 9111 §4.1).
func matches(list varyList, in *msg.Fields, a *arena.Arena) bool {
	for len(list) > 0 {
		var v varyField
		v, list = list.next()
		if v.sent != nil && in.Count(v.id) == 1 && bytes.Equal(in.Get(v.id), v.sent) {
			continue // most visitors send the same line
		}
		got := normalValue(in, &v, a)
		if (got == nil) != (v.value == nil) || !bytes.Equal(got, v.value) {
			if v.language != nil && favours(got, v.language) {
				continue
			}
			return false
		}
	}
	return true
}

// sameChoice reports whether two requests agree on the fields of list.
func sameChoice(list varyList, in, other *msg.Fields, a *arena.Arena) bool {
	for len(list) > 0 {
		var v varyField
		v, list = list.next()
		x, y := normalValue(in, &v, a), normalValue(other, &v, a)
		if (x == nil) != (y == nil) || !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}

// normalValue is the value of a field with its lines joined, in one form for
// all spellings that mean the same (RFC 9111 §4.1). Accept-Encoding and
// Accept-Language are ordered by weight, then by name, as their order carries no
// meaning (RFC 9110 §12.5.3, §12.5.4); lists lose white space and empty members;
// fields known not to be lists are compared as they are. It is nil when the
// field is absent, borrowed when there was nothing to do.
func normalValue(f *msg.Fields, v *varyField, a *arena.Arena) []byte {
	if v.id != msg.Unknown && !f.Has(v.id) {
		return nil
	}
	var one []byte
	lines, total := 0, 0
	for i := range f.Len() {
		if l := f.At(i); v.is(l) {
			one = l.Value
			lines++
			total += len(l.Value) + len(", ")
		}
	}
	if lines == 0 {
		return nil
	}
	if one == nil {
		one = []byte{}
	}
	if lines == 1 && (!v.list() || len(one) == 0) {
		return one
	}
	joined := a.Alloc(total)[:0]
	for i := range f.Len() {
		l := f.At(i)
		if !v.is(l) {
			continue
		}
		if !v.list() {
			joined = append(append(joined, l.Value...), ", "...)
			continue
		}
		for t, rest := msg.NextToken(l.Value); t != nil; t, rest = msg.NextToken(rest) {
			joined = v.appendMember(joined, t)
		}
	}
	if !v.list() {
		return joined[:len(joined)-len(", ")]
	}
	if v.id == msg.AcceptEncoding || v.id == msg.AcceptLanguage {
		return byWeight(joined, a)
	}
	return joined
}

// list reports whether the field's syntax is a list of members, so that white
// space around commas means nothing. A field that nobody here knows counts as
// one: its name says nothing, and hardly one of them is not.
func (v *varyField) list() bool {
	switch v.id {
	case msg.Unknown, msg.Accept, msg.AcceptEncoding, msg.AcceptLanguage, msg.CacheControl, msg.Forwarded,
		msg.Pragma, msg.TE, msg.Via, msg.XForwardedFor:
		return true
	}
	return false
}

// appendMember appends a list member and a comma. In the fields of content
// negotiation case and inner white space mean nothing and go.
func (v *varyField) appendMember(b, member []byte) []byte {
	switch v.id {
	case msg.Accept, msg.AcceptEncoding, msg.AcceptLanguage:
	default:
		return append(append(b, member...), ',')
	}
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

// maxMembers is how many members of a negotiation field are ordered; a longer
// list stays as it was sent, so that the work per request is bounded.
const maxMembers = 32

// member is one choice of a negotiation field.
type member struct {
	name   []byte // without the weight
	weight int    // thousandths
}

// byWeight orders the members of a list in lower case, each ended by a comma:
// the heavier first, equals by name. A list with a member that cannot be read is
// left as it is.
func byWeight(list []byte, a *arena.Arena) []byte {
	var members [maxMembers]member
	n := 0
	for rest := list; len(rest) > 0; n++ {
		var text []byte
		text, rest, _ = bytes.Cut(rest, []byte{','})
		m, ok := readMember(text)
		if !ok || n == maxMembers {
			return list
		}
		at := n
		for ; at > 0 && m.before(&members[at-1]); at-- {
			members[at] = members[at-1]
		}
		members[at] = m
	}
	ordered := a.Alloc(len(list) + n*len(";q=0.000"))[:0]
	for i := range members[:n] {
		m := &members[i]
		if i > 0 && bytes.Equal(m.name, members[i-1].name) {
			continue
		}
		ordered = append(ordered, m.name...)
		if m.weight < 1000 {
			ordered = append(ordered, ';', byte('0'+m.weight/100), byte('0'+m.weight/10%10), byte('0'+m.weight%10))
		}
		ordered = append(ordered, ',')
	}
	return ordered
}

func (m *member) before(other *member) bool {
	if m.weight != other.weight {
		return m.weight > other.weight
	}
	return bytes.Compare(m.name, other.name) < 0
}

// readMember reads "name" or "name;q=weight" (RFC 9110 §12.4.2).
func readMember(text []byte) (member, bool) {
	name, param, weighted := bytes.Cut(text, []byte{';'})
	if string(name) == "x-gzip" { // RFC 9110 §8.4.1.3
		name = name[len("x-"):]
	}
	if !weighted {
		return member{name, 1000}, len(name) > 0
	}
	digits, ok := bytes.CutPrefix(param, []byte("q="))
	if !ok || len(name) == 0 || len(digits) == 0 || len(digits) > len("0.000") || len(digits) > 1 && digits[1] != '.' {
		return member{}, false
	}
	weight := 0
	for i, unit := 0, 1000; i < len(digits); i++ {
		if i == 1 {
			continue
		}
		if digits[i] < '0' || digits[i] > '9' {
			return member{}, false
		}
		weight += int(digits[i]-'0') * unit
		unit /= 10
	}
	return member{name, weight}, weight <= 1000
}

// soleLanguage is the language of an answer that names exactly one, in memory
// of its own.
func soleLanguage(out *msg.Fields) []byte {
	if out.Count(msg.ContentLanguage) != 1 {
		return nil
	}
	t, rest := msg.NextToken(out.Get(msg.ContentLanguage))
	if more, _ := msg.NextToken(rest); more != nil {
		return nil
	}
	return bytes.ToLower(t)
}

// favours reports whether an ordered list of languages likes one best, and
// none as much.
func favours(ordered, language []byte) bool {
	first, rest, _ := bytes.Cut(ordered, []byte{','})
	name, weight, _ := bytes.Cut(first, []byte{';'})
	if !bytes.Equal(name, language) {
		return false
	}
	next, _, _ := bytes.Cut(rest, []byte{','})
	_, nextWeight, _ := bytes.Cut(next, []byte{';'})
	return len(next) == 0 || !bytes.Equal(weight, nextWeight)
}

func (v *varyField) is(l *msg.Field) bool {
	if v.id != msg.Unknown {
		return l.ID == v.id
	}
	return l.ID == msg.Unknown && msg.EqualFold(l.Name, v.name)
}
