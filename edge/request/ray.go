package request

// Ray identifies a request in headers, pages and logs: 16 hex digits.
type Ray uint64

const hexDigits = "0123456789abcdef"

// AppendTo appends the 16 hex digits.
func (y Ray) AppendTo(p []byte) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		p = append(p, hexDigits[(y>>shift)&15])
	}
	return p
}

// AppendWithColo appends the form of the CF-Ray header: ray, dash, colo.
func (y Ray) AppendWithColo(p []byte, colo string) []byte {
	p = y.AppendTo(p)
	p = append(p, '-')
	return append(p, colo...)
}

func (y Ray) String() string { return string(y.AppendTo(nil)) }
