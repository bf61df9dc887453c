package hpack

import (
	"bytes"

	"github.com/selvage-edge/selvage/internal/huffman"
	"github.com/selvage-edge/selvage/internal/prefixint"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// First octets of the representations (RFC 7541 §6).
const (
	repIndexed = 0x80 // 7 bits of index
	repAdd     = 0x40 // 6
	repResize  = 0x20 // 5
	repNever   = 0x10 // 4
	repPlain   = 0x00 // 4
)

// AppendStatic appends all lines of f so that the block refers to the static
// table alone and changes no dynamic table: it fits every connection, at any
// place. Values are Huffman-coded where that is shorter. Fields of a connection
// are left out.
func AppendStatic(dst []byte, f *msg.Fields) []byte {
	for i := range f.Len() {
		if l := f.At(i); !head.OfConnection(l.ID) {
			dst = appendLine(dst, l, true)
		}
	}
	return dst
}

// AppendField appends one line like AppendStatic, its value as it is: for what
// changes with each message, where coding would cost more than it saves. The
// caller keeps fields of a connection out.
func AppendField(dst []byte, l *msg.Field) []byte { return appendLine(dst, l, false) }

// AppendID appends one line with a known name, its value as it is.
func AppendID(dst []byte, id msg.ID, value []byte) []byte {
	return appendPlain(append(dst, spellings[id].line...), value)
}

// AppendNumber appends one line with a known name and a value of digits.
func AppendNumber(dst []byte, id msg.ID, n int64) []byte {
	var digits [20]byte
	at := len(digits)
	for u := uint64(max(n, 0)); ; u /= 10 {
		at--
		digits[at] = byte('0' + u%10)
		if u < 10 {
			return AppendID(dst, id, digits[at:])
		}
	}
}

// AppendStatus appends :status; status has three digits.
func AppendStatus(dst []byte, status int) []byte {
	switch status {
	case 200:
		return append(dst, repIndexed|8)
	case 204:
		return append(dst, repIndexed|9)
	case 206:
		return append(dst, repIndexed|10)
	case 304:
		return append(dst, repIndexed|11)
	case 400:
		return append(dst, repIndexed|12)
	case 404:
		return append(dst, repIndexed|13)
	case 500:
		return append(dst, repIndexed|14)
	}
	return append(dst, repPlain|8, 3, byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10))
}

// AppendPseudo appends another pseudo-header field, without touching a dynamic table.
func AppendPseudo(dst []byte, p Pseudo, value []byte) []byte {
	index := int(pseudoIndex[p])
	for i := index; i > 0 && i <= len(static) && static[i-1][0] == pseudoNames[p]; i++ {
		if len(value) > 0 && static[i-1][1] == string(value) {
			return append(dst, repIndexed|byte(i))
		}
	}
	if index == 0 {
		dst = appendText(append(dst, repPlain), pseudoBytes[p], true)
	} else {
		dst = prefixint.Append(dst, repPlain, 4, index)
	}
	return appendText(dst, value, true)
}

func appendLine(dst []byte, l *msg.Field, code bool) []byte {
	if l.ID != msg.Unknown {
		if l.ID == msg.AcceptEncoding && string(l.Value) == static[15][1] {
			return append(dst, repIndexed|16)
		}
		if dst = append(dst, spellings[l.ID].line...); !code {
			return appendPlain(dst, l.Value)
		}
		return appendText(dst, l.Value, true)
	}
	return appendText(appendOther(dst, repPlain, l.Name, code), l.Value, code)
}

// appendOther appends a name that msg does not know, in lower case.
func appendOther(dst []byte, rep byte, name []byte, code bool) []byte {
	if i := rare(name); i != 0 {
		return prefixint.Append(dst, rep, 4, i)
	}
	dst = append(dst, rep)
	if code {
		var small [64]byte
		name = appendLower(small[:0], name)
		return appendText(dst, name, true)
	}
	return appendLower(prefixint.Append(dst, 0, 7, len(name)), name)
}

// rare finds the names of the static table that msg does not know.
func rare(name []byte) int {
	i := 0
	switch len(name) {
	case len("access-control-allow-origin"):
		i = 20
	case len("accept-charset"):
		i = 15
	case len("refresh"):
		i = 52
	case len("from"):
		i = 37
	}
	if i != 0 && msg.EqualFold(name, static[i-1][0]) {
		return i
	}
	return 0
}

func appendLower(dst, name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// appendText appends a string literal, coded where that is allowed and shorter.
func appendText(dst, text []byte, code bool) []byte {
	if code {
		if n := huffman.Len(text); n < len(text) {
			return huffman.Append(prefixint.Append(dst, 0x80, 7, n), text)
		}
	}
	return appendPlain(dst, text)
}

// appendPlain appends a string literal as it is.
func appendPlain(dst, text []byte) []byte {
	if len(text) < 0x7f {
		return append(append(dst, byte(len(text))), text...)
	}
	return append(prefixint.Append(dst, 0, 7, len(text)), text...)
}

// Encoder holds one direction of a connection whose dynamic table is used: for
// requests to an origin, where the same lines come again and again. Only values
// that are no visitor's secret go into the table, since others' requests share
// it (RFC 7541 §7.1). Not safe for concurrent use.
type Encoder struct {
	t      table
	lowest int // smallest limit since the latest block, -1 when it did not change
}

// NewEncoder makes an encoder for a peer that has said nothing yet.
func NewEncoder() Encoder { return Encoder{t: table{limit: DefaultTable}, lowest: -1} }

// Limit obeys the peer's SETTINGS_HEADER_TABLE_SIZE. More than DefaultTable is
// not used.
func (e *Encoder) Limit(size uint32) {
	limit := int(min(size, DefaultTable))
	if limit == e.t.limit {
		return
	}
	if e.lowest < 0 {
		e.lowest = limit
	}
	e.lowest = min(e.lowest, limit)
	e.t.resize(limit)
}

// Begin starts a block: it announces a changed table size.
func (e *Encoder) Begin(dst []byte) []byte {
	if e.lowest < 0 {
		return dst
	}
	if e.lowest < e.t.limit {
		dst = prefixint.Append(dst, repResize, 5, e.lowest)
	}
	e.lowest = -1
	return prefixint.Append(dst, repResize, 5, e.t.limit)
}

// Pseudo appends a pseudo-header field.
func (e *Encoder) Pseudo(dst []byte, p Pseudo, value []byte) []byte {
	if p != Authority {
		return AppendPseudo(dst, p, value)
	}
	return e.shared(dst, &line{name: pseudoBytes[p], value: value, pseudo: p}, int(pseudoIndex[p]))
}

// Field appends a line. The caller keeps fields of a connection out.
func (e *Encoder) Field(dst []byte, l *msg.Field) []byte {
	if !public(l.ID) {
		return appendLine(dst, l, true)
	}
	return e.shared(dst, &line{name: l.Name, value: l.Value, id: l.ID}, int(spellings[l.ID].index))
}

// public reports fields whose values many requests have in common and that
// tell nothing of one visitor alone.
func public(id msg.ID) bool {
	switch id {
	case msg.Accept, msg.AcceptEncoding, msg.AcceptLanguage, msg.UserAgent, msg.CacheControl, msg.CDNLoop,
		msg.CFIPCountry, msg.CFVisitor, msg.ContentType, msg.TE, msg.Via, msg.XForwardedProto:
		return true
	}
	return false
}

// shared appends a line by its index in the dynamic table, and puts it there.
func (e *Encoder) shared(dst []byte, l *line, name int) []byte {
	if len(l.value) > e.t.limit/8 {
		if l.pseudo != None {
			return AppendPseudo(dst, l.pseudo, l.value)
		}
		return appendLine(dst, &msg.Field{Name: l.name, Value: l.value, ID: l.id}, true)
	}
	for i := range e.t.n {
		have, _ := e.t.get(i)
		if have.id == l.id && have.pseudo == l.pseudo && bytes.Equal(have.value, l.value) {
			return prefixint.Append(dst, repIndexed, 7, len(static)+1+i)
		}
	}
	if name != 0 {
		dst = prefixint.Append(dst, repAdd, 6, name)
	} else {
		dst = append(append(dst, repAdd), spellings[l.id].literal...)
	}
	e.t.add(l)
	return appendText(dst, l.value, true)
}
