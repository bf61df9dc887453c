package qpack

import (
	"strconv"

	"github.com/selvage-edge/selvage/internal/huffman"
	"github.com/selvage-edge/selvage/internal/prefixint"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// First octets of the representations (RFC 9204 §4.5).
const (
	repIndexed   = 0xc0 // static, 6 bits of index
	repNamed     = 0x50 // name of the static table, 4 bits of index
	repLiteral   = 0x20 // literal name, 3 bits of length
	neverNamed   = 0x20 // the bit that keeps a line out of tables
	neverLiteral = 0x10
)

// AppendPrefix begins a section that refers to the static table alone.
func AppendPrefix(dst []byte) []byte { return append(dst, 0, 0) }

// AppendStatus appends :status; status has three digits.
func AppendStatus(dst []byte, status int) []byte {
	switch status {
	case 200:
		return append(dst, repIndexed|25)
	case 304:
		return append(dst, repIndexed|26)
	case 404:
		return append(dst, repIndexed|27)
	case 503:
		return append(dst, repIndexed|28)
	case 103:
		return append(dst, repIndexed|24)
	}
	for i := 63; i <= 71; i++ {
		if v := &static[i][1]; int((*v)[0]-'0')*100+int((*v)[1]-'0')*10+int((*v)[2]-'0') == status {
			return append(dst, repIndexed|0x3f, byte(i-0x3f))
		}
	}
	return append(dst, repNamed|15, 24-15, 3, byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10))
}

// AppendStatic appends all lines of f for keeping: values stand in the table
// or are Huffman-coded where that is shorter. Fields of a connection are left
// out (RFC 9114 §4.2).
func AppendStatic(dst []byte, f *msg.Fields) []byte {
	for i := range f.Len() {
		if l := f.At(i); !head.OfConnection(l.ID) {
			dst = appendLine(dst, l, true)
		}
	}
	return dst
}

// AppendField appends one line, its value as it is: for what changes with each
// message, where coding would cost more than it saves.
func AppendField(dst []byte, l *msg.Field) []byte { return appendLine(dst, l, false) }

// AppendID appends one line with a known name, its value as it is.
func AppendID(dst []byte, id msg.ID, value []byte) []byte {
	return appendText(appendName(dst, id), 0, 7, value, false)
}

// AppendNumber appends one line with a known name and a value of digits.
func AppendNumber(dst []byte, id msg.ID, n int64) []byte {
	var digits [20]byte
	return AppendID(dst, id, strconv.AppendInt(digits[:0], n, 10))
}

func appendLine(dst []byte, l *msg.Field, code bool) []byte {
	if l.ID != msg.Unknown {
		if s := &spellings[l.ID]; code && s.index >= 0 {
			if i := exact(s.index, l.Value); i >= 0 {
				return prefixint.Append(dst, repIndexed, 6, i)
			}
		}
		return appendText(appendName(dst, l.ID), 0, 7, l.Value, code)
	}
	var small [64]byte
	name := appendLower(small[:0], l.Name)
	if code {
		if i := find(string(name)); i >= 0 {
			if j := exact(i, l.Value); j >= 0 {
				return prefixint.Append(dst, repIndexed, 6, j)
			}
			return appendText(prefixint.Append(dst, repNamed, 4, i), 0, 7, l.Value, true)
		}
	}
	return appendText(appendText(dst, repLiteral, 3, name, code), 0, 7, l.Value, code)
}

func appendName(dst []byte, id msg.ID) []byte {
	s := &spellings[id]
	if s.index < 0 {
		return append(dst, s.literal...)
	}
	if s.never {
		return prefixint.Append(dst, repNamed|neverNamed, 4, s.index)
	}
	return prefixint.Append(dst, repNamed, 4, s.index)
}

func appendLower(dst, name []byte) []byte {
	for _, b := range name {
		if 'A' <= b && b <= 'Z' {
			b |= 0x20
		}
		dst = append(dst, b)
	}
	return dst
}

// appendText appends a string: rep holds the bits before the one that says
// whether it is coded, which is bit n; the length has n bits in this octet.
func appendText[T ~string | ~[]byte](dst []byte, rep byte, n uint, text T, code bool) []byte {
	if code {
		if size := huffman.Len(text); size < len(text) {
			return huffman.Append(prefixint.Append(dst, rep|1<<n, n, size), text)
		}
	}
	return append(prefixint.Append(dst, rep, n, len(text)), text...)
}
