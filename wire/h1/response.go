package h1

import (
	"bytes"

	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

var (
	errStatusLine   = bad("invalid status line")
	errStatusProto  = bad("HTTP version of the answer not supported")
	errStatus       = bad("invalid status code")
	errSwitch       = bad("101 that was not asked for")
	errInterimMany  = bad("too many interim answers")
	errTrailerField = bad("field not allowed in a trailer section")
)

// responseHead is what the client needs besides msg.Response.
type responseHead struct {
	proto msg.Proto
	framing
	keep bool // the origin allows another request
}

// parseResponse reads a whole head, the empty line included, into res, whose
// slices are then slices of head. res.Fields is empty before.
func parseResponse(head []byte, res *msg.Response) (h responseHead, err *refusal) {
	eol := bytes.IndexByte(head, '\n')
	if eol < 1 || len(head) < eol+3 {
		return h, errStatusLine
	}
	if h.proto, res.Status, err = parseStatusLine(head[:eol-1]); err != nil {
		return h, err
	}
	if err = parseFields(head[eol+1:len(head)-2], &res.Fields); err != nil {
		return h, err
	}
	if h.framing, err = parseFraming(&res.Fields, h.proto); err != nil {
		return h, err
	}
	h.keep = keepAlive(&res.Fields, h.proto)
	return h, nil
}

// parseStatusLine reads version, status and reason (RFC 9112 §4). The space
// before an absent reason may be missing, as many servers have it.
func parseStatusLine(p []byte) (proto msg.Proto, status int, err *refusal) {
	if len(p) < len("HTTP/1.1 200") || p[8] != ' ' {
		return 0, 0, errStatusLine
	}
	if proto, err = parseVersion(p[:8]); err != nil {
		return 0, 0, errStatusProto
	}
	if len(p) > 12 && p[12] != ' ' || !head.Value.All(p[12:]) {
		return 0, 0, errStatusLine
	}
	code, ok := head.Length(p[9:12])
	if !ok || code < 100 || code > 599 {
		return 0, 0, errStatus
	}
	return proto, int(code), nil
}

// bodiless reports answers that end with their head whatever its fields say
// (RFC 9112 §6.3).
func bodiless(method msg.Method, status int) bool {
	return method == msg.HEAD || status < 200 || status == 204 || status == 304
}

// strip removes the fields that belong to the connection, not to the message
// (RFC 9110 §7.6.1): framing, Connection and what it names.
func strip(f *msg.Fields, keepLength bool) {
	if !f.Has(msg.Connection) && !f.Has(msg.TransferEncoding) && !f.Has(msg.Upgrade) &&
		!f.Has(msg.KeepAlive) && !f.Has(msg.ProxyConnection) && (keepLength || !f.Has(msg.ContentLength)) {
		return
	}
	named := make([][]byte, 0, 8)
	for i := range f.Len() {
		if f.At(i).ID != msg.Connection {
			continue
		}
		for t, rest := msg.NextToken(f.At(i).Value); t != nil; t, rest = msg.NextToken(rest) {
			named = append(named, t)
		}
	}
	f.DelFunc(func(l *msg.Field) bool {
		switch l.ID {
		case msg.Connection, msg.TransferEncoding, msg.Upgrade, msg.KeepAlive, msg.ProxyConnection:
			return true
		case msg.ContentLength:
			return !keepLength
		}
		for _, name := range named {
			if msg.EqualFold(l.Name, name) {
				return true
			}
		}
		return false
	})
}
