package head

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/selvage-edge/selvage/wire/msg"
)

// Class is a set of octets.
type Class uint8

// Classes of octets (RFC 9110 §5.6.2, §5.5; RFC 9112 §3.2).
const (
	Token  Class = 1 << iota // tchar
	Value                    // field-vchar, SP, HTAB
	Target                   // VCHAR but '#'
	Host                     // of a registered name as DNS has it, and '_'
	Hex
	LowerToken // tchar without capital letters (RFC 9113 §8.2.1, RFC 9114 §4.2)
)

// classes is written by its initialiser only.
var classes = func() (t [256]Class) {
	for c := range 256 {
		b := byte(c)
		alnum := '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z' && b < 0x80
		if alnum || bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), b) >= 0 {
			t[c] |= Token
			if b < 'A' || b > 'Z' {
				t[c] |= LowerToken
			}
		}
		if b == '\t' || b >= ' ' && b != 0x7f {
			t[c] |= Value
		}
		if b > ' ' && b < 0x7f && b != '#' {
			t[c] |= Target
		}
		if alnum || b == '-' || b == '.' || b == '_' {
			t[c] |= Host
		}
		if '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'f' {
			t[c] |= Hex
		}
	}
	return t
}()

// Has reports whether the octet is in the class.
func (c Class) Has(b byte) bool { return classes[b]&c != 0 }

// All reports whether every octet of p is in the class.
func (c Class) All(p []byte) bool {
	for _, b := range p {
		if classes[b]&c == 0 {
			return false
		}
	}
	return true
}

// AllValue is Value.All, eight octets at a time.
func AllValue(p []byte) bool {
	const ones = 0x0101010101010101
	if len(p) < 8 {
		return Value.All(p)
	}
	last := len(p) - 8 // the last eight may have been looked at in part before
	for i := 0; ; i = min(i+8, last) {
		x := binary.LittleEndian.Uint64(p[i:])
		low := (x - ones*0x20) &^ x // below 0x20
		del := x ^ ones*0x7f        // zero where DEL is
		del = (del - ones) &^ del   // likewise
		if (low|del)&(ones*0x80) != 0 && !Value.All(p[i:i+8]) {
			return false // neither a tab nor a carry of the sums
		}
		if i == last {
			return true
		}
	}
}

// Authority accepts a name of letters, digits, '-', '_' and dots without
// empty labels (a final dot is one), an IPv4 address, or an IPv6 address in
// brackets; then, at will, a colon and a port 0-65535. User information,
// percent-encoding and the sub-delimiters that RFC 3986 would allow are not
// accepted: no name in the DNS needs them and parsers disagree on them.
func Authority(p []byte) bool {
	host := p
	if len(p) > 0 && p[0] == '[' {
		end := bytes.IndexByte(p, ']')
		if end < 0 {
			return false
		}
		addr, err := netip.ParseAddr(string(p[1:end]))
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return false
		}
		return end+1 == len(p) || p[end+1] == ':' && validPort(p[end+2:])
	}
	if colon := bytes.IndexByte(p, ':'); colon >= 0 {
		if !validPort(p[colon+1:]) {
			return false
		}
		host = p[:colon]
	}
	if len(host) == 0 || len(host) > 254 {
		return false
	}
	for i, b := range host {
		if !Host.Has(b) || b == '.' && (i == 0 || host[i-1] == '.') {
			return false
		}
	}
	return true
}

func validPort(p []byte) bool {
	n, ok := Length(p)
	return ok && len(p) <= 5 && n <= 65535
}

// Length reads 1*DIGIT of at most 18 digits, the form of Content-Length.
func Length(p []byte) (n int64, ok bool) {
	if len(p) == 0 || len(p) > 18 {
		return 0, false
	}
	for _, b := range p {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + int64(b-'0')
	}
	return n, true
}

// Imitates reports names that differ from a framing field's only by '_' for
// '-': behind us, gateways that map both to one variable would take them for it.
func Imitates(name []byte) bool {
	var like string
	switch len(name) {
	case len("content_length"):
		like = "content-length"
	case len("transfer_encoding"):
		like = "transfer-encoding"
	default:
		return false
	}
	for i, b := range name {
		if b == '_' {
			b = '-'
		}
		if b|0x20 != like[i]|0x20 {
			return false
		}
	}
	return true
}

// OfConnection reports the fields that messages of HTTP/2 and HTTP/3 must not
// carry, since they would speak of a connection that is not there (RFC 9113
// §8.2.2, RFC 9114 §4.2).
func OfConnection(id msg.ID) bool {
	switch id {
	case msg.Connection, msg.KeepAlive, msg.ProxyConnection, msg.TransferEncoding, msg.Upgrade:
		return true
	}
	return false
}

// SetTarget sets Target, Path and Query of an origin-form target.
func SetTarget(req *msg.Request, target []byte) {
	req.Target, req.Path = target, target
	if q := bytes.IndexByte(target, '?'); q >= 0 {
		req.Path, req.Query = target[:q:q], target[q+1:]
	}
}

// TrailerAllowed refuses sections with fields that would reframe or reroute a
// message when someone merged them into its head (RFC 9110 §6.5.1).
func TrailerAllowed(f *msg.Fields) bool {
	for _, id := range [...]msg.ID{msg.ContentLength, msg.TransferEncoding, msg.Host, msg.Connection, msg.Trailer, msg.Upgrade, msg.TE, msg.Expect} {
		if f.Has(id) {
			return false
		}
	}
	return true
}
