// Package prefixint is the integer of HPACK and QPACK (RFC 7541 §5.1, RFC 9204
// §4.1.1): some low bits of an octet, and more octets where they do not suffice.
// It keeps nothing and never reads beyond what it is given.
package prefixint

// Append appends v, which is not negative, with a prefix of n bits, 1 to 8,
// beside those of rep.
func Append(dst []byte, rep byte, n uint, v int) []byte {
	mask := 1<<n - 1
	if v < mask {
		return append(dst, rep|byte(v))
	}
	dst = append(dst, rep|byte(mask))
	for v -= mask; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}

// Read reads an integer with a prefix of n bits, 1 to 8, at most 2^28 or so:
// nothing that is counted in a head can be larger. What is cut off or larger is
// not ok.
func Read(p []byte, n uint) (v int, rest []byte, ok bool) {
	if len(p) == 0 {
		return 0, nil, false
	}
	mask := 1<<n - 1
	v = int(p[0]) & mask
	p = p[1:]
	if v < mask {
		return v, p, true
	}
	for shift := uint(0); shift <= 21 && len(p) > 0; shift += 7 {
		b := p[0]
		p = p[1:]
		v += int(b&0x7f) << shift
		if b < 0x80 {
			return v, p, true
		}
	}
	return 0, nil, false
}
