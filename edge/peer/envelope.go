package peer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// Envelope is what one edge tells another about a request that it passes on.
type Envelope struct {
	Zone    string     // zone id, at most 64 bytes
	Seq     uint64     // of the snapshot the sender serves the zone by
	Depth   uint8      // edges and re-entries so far, at most MaxDepth
	Ray     uint64     // of the visitor's request
	Client  netip.Addr // the visitor; the zero value when it is unknown
	Country [2]byte    // zero when unknown
}

// Bounds on an envelope.
const (
	MaxDepth   = 16
	MaxAge     = 30 * time.Second // by the receiver's clock, either way
	maxZone    = 64
	maxEncoded = 512 // bytes of the field's value
)

// fieldName carries the envelope: base64url of the envelope, a dot, base64url
// of the signature.
const fieldName = "Selvage-Envelope"

const version = 1

// Why a request from a peer is refused. The text is what the peer is told and
// what counters are named by.
var (
	errNoEnvelope = errors.New("no envelope")
	errTwice      = errors.New("several envelopes")
	errMalformed  = errors.New("malformed envelope")
	errSignature  = errors.New("signature does not fit")
	errAge        = errors.New("envelope too old or of the future")
	errDepth      = errors.New("passed on too often")
	errNoPeer     = errors.New("no peer certificate")
	errKey        = errors.New("key type cannot sign envelopes")
)

// append encodes the envelope at a moment. One envelope has one encoding.
func (e *Envelope) append(p []byte, at time.Time) ([]byte, error) {
	if len(e.Zone) > maxZone || e.Depth > MaxDepth || e.Client.Zone() != "" {
		return nil, errMalformed
	}
	p = append(p, version, e.Depth, e.Country[0], e.Country[1])
	p = binary.BigEndian.AppendUint64(p, uint64(at.UnixMilli()))
	p = binary.BigEndian.AppendUint64(p, e.Seq)
	p = binary.BigEndian.AppendUint64(p, e.Ray)
	client := e.Client.Unmap().AsSlice()
	p = append(append(p, byte(len(client))), client...)
	return append(append(p, byte(len(e.Zone))), e.Zone...), nil
}

// decode is the inverse of append.
func decode(p []byte) (e Envelope, at time.Time, err error) {
	const fixed = 4 + 3*8
	if len(p) < fixed+2 || p[0] != version {
		return e, at, errMalformed
	}
	e.Depth, e.Country = p[1], [2]byte(p[2:4])
	at = time.UnixMilli(int64(binary.BigEndian.Uint64(p[4:])))
	e.Seq, e.Ray = binary.BigEndian.Uint64(p[12:]), binary.BigEndian.Uint64(p[20:])
	client, p, ok := cut(p[fixed:])
	if !ok {
		return e, at, errMalformed
	}
	if len(client) > 0 {
		if e.Client, ok = netip.AddrFromSlice(client); !ok || e.Client.Is4In6() {
			return e, at, errMalformed
		}
	}
	zone, p, ok := cut(p)
	if !ok || len(p) > 0 || len(zone) > maxZone {
		return e, at, errMalformed
	}
	e.Zone = string(zone)
	if e.Depth > MaxDepth {
		return e, at, errDepth
	}
	return e, at, nil
}

// cut takes a piece that begins with its length.
func cut(p []byte) (piece, rest []byte, ok bool) {
	if len(p) == 0 || len(p) < 1+int(p[0]) {
		return nil, nil, false
	}
	n := 1 + int(p[0])
	return p[1:n], p[n:], true
}

// signed is what a signature covers: the envelope and the request it came
// with, so that neither can be used with another.
func signed(body []byte, req *msg.Request) []byte {
	p := make([]byte, 0, 64+len(body)+len(req.MethodText)+len(req.Authority)+len(req.Target))
	p = append(p, "selvage envelope 1\n"...)
	for _, part := range [][]byte{req.MethodText, req.Authority, req.Target} {
		p = append(append(p, part...), '\n')
	}
	return append(p, body...)
}

// seal makes the field's value.
func seal(e *Envelope, req *msg.Request, key crypto.PrivateKey, now time.Time) (string, error) {
	body, err := e.append(nil, now)
	if err != nil {
		return "", err
	}
	signature, err := sign(key, signed(body, req))
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	return enc.EncodeToString(body) + "." + enc.EncodeToString(signature), nil
}

// open checks the envelope of a request against the key of the peer that sent
// it, and takes it out of the request's fields.
func open(req *msg.Request, key crypto.PublicKey, now time.Time) (Envelope, error) {
	value, err := take(&req.Fields)
	if err != nil {
		return Envelope{}, err
	}
	first, second, ok := strings.Cut(value, ".")
	enc := base64.RawURLEncoding.Strict()
	body, err1 := enc.DecodeString(first)
	signature, err2 := enc.DecodeString(second)
	if !ok || err1 != nil || err2 != nil {
		return Envelope{}, errMalformed
	}
	if err := verify(key, signed(body, req), signature); err != nil {
		return Envelope{}, err
	}
	e, at, err := decode(body)
	if err != nil {
		return Envelope{}, err
	}
	if age := now.Sub(at); age > MaxAge || age < -MaxAge {
		return Envelope{}, errAge
	}
	return e, nil
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

func sign(key crypto.PrivateKey, message []byte) ([]byte, error) {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(message)
		return ecdsa.SignASN1(rand.Reader, k, digest[:])
	case ed25519.PrivateKey:
		return ed25519.Sign(k, message), nil
	}
	return nil, errKey
}

func verify(key crypto.PublicKey, message, signature []byte) error {
	var good bool
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		good = ecdsa.VerifyASN1(k, digest[:], signature)
	case ed25519.PublicKey:
		good = ed25519.Verify(k, message, signature)
	default:
		return errKey
	}
	if !good {
		return errSignature
	}
	return nil
}
