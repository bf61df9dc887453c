package request

import "time"

// GRPCTimeout returns how long the caller of gRPC waits; false where it says nothing
// that can be read (PROTOCOL-HTTP2: 1 to 8 digits and a unit).
func (r *Request) GRPCTimeout() (time.Duration, bool) {
	v := r.In.Fields.Lookup("grpc-timeout")
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	var unit time.Duration
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	count := time.Duration(0)
	for _, c := range v[:len(v)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		count = count*10 + time.Duration(c-'0')
	}
	return min(count, maxTimeout/unit) * unit, true
}

// maxTimeout stands for all that is longer, as eight digits of hours are.
const maxTimeout = 1 << 62 * time.Nanosecond
