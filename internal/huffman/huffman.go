// Package huffman is the fixed code of HPACK and QPACK (RFC 7541 §5.2 and
// appendix B), by which both write strings shorter. It keeps nothing and
// allocates nothing but what the caller's slice needs to grow.
package huffman

import "slices"

// lengths gives each octet's code length in bits, and last that of the end of
// string. The code is canonical: shorter codes come first, equally long ones
// by octet, so that lengths say everything.
var lengths = [257]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
	30,
}

const (
	longest = 30
	eos     = 256
	// direct is how many bits one look into the table of short codes takes.
	// Ten hold every printable octet that is common, in 2 KiB.
	direct = 10
)

// tables are written by their initialiser only.
var tables = func() (t struct {
	code  [257]uint32         // right-aligned
	short [1 << direct]uint16 // octet<<4 | length, 0 when the code is longer
	first [longest + 2]uint64 // first code of each length, aligned to 32 bits
	rank  [longest + 2]int    // how many codes are shorter
	order [257]uint16         // octets by code
}) {
	next, n := uint32(0), 0
	for bits := 1; bits <= longest; bits++ {
		next <<= 1
		t.first[bits], t.rank[bits] = uint64(next)<<(32-bits), n
		for c := range lengths {
			if int(lengths[c]) != bits {
				continue
			}
			t.code[c], t.order[n] = next, uint16(c)
			if bits <= direct {
				from := next << (direct - bits)
				for i := range uint32(1) << (direct - bits) {
					t.short[from+i] = uint16(c)<<4 | uint16(bits)
				}
			}
			next++
			n++
		}
	}
	t.first[longest+1] = 1 << 32
	return t
}()

// Len returns how many bytes the coded form of s takes.
func Len[T ~string | ~[]byte](s T) int {
	bits := 0
	for i := range len(s) {
		bits += int(lengths[s[i]])
	}
	return (bits + 7) / 8
}

// Append appends the coded form of s, padded with ones to a whole byte.
func Append[T ~string | ~[]byte](dst []byte, s T) []byte {
	var acc uint64 // the low n bits are not written yet; n stays below 32
	n := uint(0)
	for i := range len(s) {
		c := s[i]
		acc = acc<<lengths[c] | uint64(tables.code[c])
		if n += uint(lengths[c]); n >= 32 {
			n -= 32
			w := uint32(acc >> n)
			dst = append(dst, byte(w>>24), byte(w>>16), byte(w>>8), byte(w))
		}
	}
	for ; n >= 8; n -= 8 {
		dst = append(dst, byte(acc>>(n-8)))
	}
	if n > 0 {
		dst = append(dst, byte(acc<<(8-n))|byte(0xff>>n))
	}
	return dst
}

// Decode appends what p stands for. It is not ok, and dst as it was, when p
// holds the end of string, a code that is not whole, or padding that is longer
// than 7 bits or not all ones (RFC 7541 §5.2). The result has at most 8/5 of
// p's bytes.
func Decode(dst, p []byte) (_ []byte, ok bool) {
	start := len(dst)
	dst = slices.Grow(dst, len(p)*8/5+1)
	var acc uint64
	n := uint(0) // bits in acc, the low ones
	for {
		for n <= 56 && len(p) > 0 {
			acc, n, p = acc<<8|uint64(p[0]), n+8, p[1:]
		}
		if n < longest && len(p) == 0 {
			return last(dst, start, acc, n)
		}
		for n >= longest {
			e := tables.short[acc>>(n-direct)&(1<<direct-1)]
			if e == 0 {
				c, bits := long(uint32(acc >> (n - longest) << 2))
				if c == eos {
					return dst[:start], false
				}
				dst, n = append(dst, byte(c)), n-bits
				continue
			}
			dst, n = append(dst, byte(e>>4)), n-uint(e&15)
		}
	}
}

// last takes the bits at the end: codes, then fewer than 8 ones.
func last(dst []byte, start int, acc uint64, n uint) ([]byte, bool) {
	for n > 0 {
		w := uint32(acc<<(32-n)) | uint32(uint64(1)<<(32-n)-1)
		c, bits := long(w)
		if bits > n || c == eos {
			if n < 8 && w == 1<<32-1 {
				return dst, true
			}
			return dst[:start], false
		}
		dst, n = append(dst, byte(c)), n-bits
	}
	return dst, true
}

// long finds the code at the top of w by its length.
func long(w uint32) (octet uint16, bits uint) {
	bits = 5
	for uint64(w) >= tables.first[bits+1] {
		bits++
	}
	i := tables.rank[bits] + int((uint64(w)-tables.first[bits])>>(32-bits))
	return tables.order[i], bits
}
