package peer

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/selvage-edge/selvage/wire/msg"
)

// Envelope is what one edge tells another about a request that it passes on.
type Envelope struct {
	Zone    string     // zone id, at most 64 bytes
	Seq     uint64     // newest entry that has taken effect at the sender
	Role    uint8      // what the receiver is asked as, at most MaxRole
	Scheme  msg.Scheme // how the visitor came
	Depth   uint8      // edges and re-entries so far, at most MaxDepth
	Ray     uint64     // of the visitor's request
	Client  netip.Addr // the visitor; the zero value when it is unknown
	Country [2]byte    // zero when unknown
}

// Bounds on an envelope.
const (
	MaxDepth   = 16
	MaxRole    = 3
	maxZone    = 64
	maxEncoded = 512 // bytes of the field's value
)

// fieldName carries the envelope in base64url.
const fieldName = "Selvage-Envelope"

const version = 2

// Why a request from a peer is refused. The text is what the peer is told and
// what counters are named by.
var (
	errNoEnvelope = errors.New("no envelope")
	errTwice      = errors.New("several envelopes")
	errMalformed  = errors.New("malformed envelope")
	errDepth      = errors.New("passed on too often")
	errReport     = errors.New("report that cannot be used")
	errNoPeer     = errors.New("not a node, or one no more")
)

// append encodes the envelope. One envelope has one encoding.
func (e *Envelope) append(p []byte) ([]byte, error) {
	if len(e.Zone) > maxZone || e.Depth > MaxDepth || e.Role > MaxRole || e.Scheme > msg.HTTPS || e.Client.Zone() != "" {
		return nil, errMalformed
	}
	p = append(p, version, e.Depth, e.Role, byte(e.Scheme), e.Country[0], e.Country[1])
	p = binary.BigEndian.AppendUint64(p, e.Seq)
	p = binary.BigEndian.AppendUint64(p, e.Ray)
	client := e.Client.Unmap().AsSlice()
	p = append(append(p, byte(len(client))), client...)
	return append(append(p, byte(len(e.Zone))), e.Zone...), nil
}

// decode is the inverse of append.
func decode(p []byte) (e Envelope, err error) {
	const fixed = 6 + 2*8
	if len(p) < fixed+2 || p[0] != version || p[2] > MaxRole || p[3] > byte(msg.HTTPS) {
		return e, errMalformed
	}
	e.Depth, e.Role, e.Scheme, e.Country = p[1], p[2], msg.Scheme(p[3]), [2]byte(p[4:6])
	e.Seq, e.Ray = binary.BigEndian.Uint64(p[6:]), binary.BigEndian.Uint64(p[14:])
	client, p, ok := cut(p[fixed:])
	if !ok {
		return e, errMalformed
	}
	if len(client) > 0 {
		if e.Client, ok = netip.AddrFromSlice(client); !ok || e.Client.Is4In6() {
			return e, errMalformed
		}
	}
	zone, p, ok := cut(p)
	if !ok || len(p) > 0 || len(zone) > maxZone {
		return e, errMalformed
	}
	e.Zone = string(zone)
	if e.Depth > MaxDepth {
		return e, errDepth
	}
	return e, nil
}

// cut takes a piece that begins with its length.
func cut(p []byte) (piece, rest []byte, ok bool) {
	if len(p) == 0 || len(p) < 1+int(p[0]) {
		return nil, nil, false
	}
	n := 1 + int(p[0])
	return p[1:n], p[n:], true
}

// seal makes the field's value.
func seal(e *Envelope) (string, error) {
	body, err := e.append(nil)
	return base64.RawURLEncoding.EncodeToString(body), err
}

// open reads the envelope of a request and takes it out of the request's
// fields.
func open(req *msg.Request) (Envelope, error) {
	value, err := take(&req.Fields)
	if err != nil {
		return Envelope{}, err
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return Envelope{}, errMalformed
	}
	return decode(body)
}

// take removes the envelope's line and returns its value.
func take(f *msg.Fields) (string, error) {
	n, value := 0, ""
	for i := range f.Len() {
		if l := f.At(i); l.ID == msg.Unknown && msg.EqualFold(l.Name, fieldName) {
			n++
			value = string(l.Value[:min(len(l.Value), maxEncoded+1)])
		}
	}
	switch {
	case n == 0:
		return "", errNoEnvelope
	case n > 1:
		return "", errTwice
	case len(value) > maxEncoded:
		return "", errMalformed
	}
	f.DelFunc(func(l *msg.Field) bool { return l.ID == msg.Unknown && msg.EqualFold(l.Name, fieldName) })
	return value, nil
}
