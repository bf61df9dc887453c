package origin

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 §1.3 has it; nothing is kept secret by it
	"encoding/base64"
	"errors"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

// A WebSocket is opened in one of two ways: over HTTP/1.1 with a key and its
// proof (RFC 6455 §4), over HTTP/2 and HTTP/3 by an extended CONNECT without
// either (RFC 8441 §5). Where the visitor's way differs from the origin's, the
// edge makes the key and checks the proof, or makes the proof itself.

const (
	websocket  = "websocket"
	acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

var (
	errProof     = errors.New("wrong or missing Sec-WebSocket-Accept")
	errNotShaken = errors.New("success without a change of protocol, where one was asked for")
)

// handshake is what the edge has to do for a visitor's Upgrade.
type handshake struct {
	key   []byte // that we made for the origin, nil = the visitor's own goes there
	prove []byte // the visitor's key that we have to prove ourselves, nil = the origin does
	newer bool   // the visitor's protocol has no 101
}

// shakeHands adapts the request in c to how the origin takes WebSocket.
func shakeHands(r *request.Request, c *conn) (h handshake) {
	if r.In.Upgrade == nil {
		return h
	}
	h.newer = r.In.Proto >= msg.HTTP2
	if !msg.EqualFold(r.In.Upgrade, websocket) {
		return h
	}
	key := r.In.Fields.Get(msg.SecWebSocketKey)
	switch {
	case c.session != nil:
		h.prove = key // the client does not send it
	case h.newer: // what HTTP/1.1 is given is passed on as it is
		var raw [16]byte
		_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
		h.key = r.Arena.Alloc(base64.StdEncoding.EncodedLen(len(raw)))
		base64.StdEncoding.Encode(h.key, raw[:])
		c.req.Fields.Set(msg.SecWebSocketKey, h.key)
	}
	return h
}

// check judges the answer to an Upgrade and makes it what the visitor expects.
func (h handshake) check(r *request.Request) error {
	out := r.Out
	if out.Status != 101 {
		if h.newer && out.Status >= 200 && out.Status < 300 {
			// To this visitor a success says that the tunnel is open.
			return failure("origin.upgrade", fault.Malformed, errNotShaken)
		}
		return nil
	}
	if h.key != nil && string(out.Fields.Get(msg.SecWebSocketAccept)) != string(proof(r, h.key)) {
		return failure("origin.upgrade", fault.Malformed, errProof)
	}
	if h.newer {
		out.Fields.Del(msg.SecWebSocketAccept)
		out.Fields.Del(msg.Upgrade)
	} else if h.prove != nil {
		out.Fields.Set(msg.SecWebSocketAccept, proof(r, h.prove))
		out.Fields.Set(msg.Upgrade, []byte(websocket))
	}
	return nil
}

// proof is the value of Sec-WebSocket-Accept for a key (RFC 6455 §4.2.2).
func proof(r *request.Request, key []byte) []byte {
	sum := sha1.Sum(append(append(r.Arena.Alloc(len(key) + len(acceptGUID))[:0], key...), acceptGUID...)) //nolint:gosec // see the import
	p := r.Arena.Alloc(base64.StdEncoding.EncodedLen(len(sum)))
	base64.StdEncoding.Encode(p, sum[:])
	return p
}
