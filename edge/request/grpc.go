package request

import (
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// MediaGRPC is the media type of gRPC, alone or before "+" and the coding of its
// messages. What else begins so, as gRPC-Web, is another protocol.
const MediaGRPC = "application/grpc"

// CallsGRPC reports whether a request is a call of gRPC.
func (r *Request) CallsGRPC() bool {
	kind := r.In.Fields.Get(msg.ContentType)
	n := len(MediaGRPC)
	if len(kind) < n || !msg.EqualFold(kind[:n], MediaGRPC) {
		return false
	}
	return len(kind) == n || kind[n] == '+' || kind[n] == ';' || kind[n] == ' ' || kind[n] == '\t'
}

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
