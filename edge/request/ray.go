package request

// Ray identifies a request in headers, pages and logs: 16 hex digits.
type Ray uint64

const hexDigits = "0123456789abcdef"

// AppendTo appends the 16 hex digits.
func (y Ray) AppendTo(p []byte) []byte {
	var digits [16]byte
	for i := 15; i >= 0; i-- {
		digits[i] = hexDigits[y&15]
		y >>= 4
	}
	return append(p, digits[:]...)
}

// AppendWithColo appends the form of the CF-Ray header: ray, dash, colo.
func (y Ray) AppendWithColo(p []byte, colo string) []byte {
	p = y.AppendTo(p)
	p = append(p, '-')
	return append(p, colo...)
}

func (y Ray) String() string { return string(y.AppendTo(nil)) }
