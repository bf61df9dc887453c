package client

import (
	"github.com/selvage-edge/selvage/wire/h2/hpack"
	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// left reports fields of req.Fields that are not written: they follow from
// other parts of the request, or are HTTP/1.1's own.
func left(req *msg.Request, l *msg.Field) bool {
	switch l.ID {
	case msg.Host, msg.Expect, msg.ContentLength, msg.HTTP2Settings:
		return true
	case msg.SecWebSocketKey:
		return len(req.Upgrade) > 0 // RFC 8441 §5
	case msg.TE:
		return !msg.EqualFold(l.Value, "trailers")
	}
	return head.OfConnection(l.ID)
}

// writable refuses what could not be sent without meaning something else.
func writable(req *msg.Request) bool {
	if len(req.MethodText) == 0 || !head.Token.All(req.MethodText) || req.Method == msg.CONNECT ||
		len(req.Target) == 0 || !head.Target.All(req.Target) || req.Target[0] != '/' && string(req.Target) != "*" ||
		!head.Authority(req.Authority) || !head.Token.All(req.Upgrade) {
		return false
	}
	return writableFields(&req.Fields)
}

func writableFields(f *msg.Fields) bool {
	for i := range f.Len() {
		l := f.At(i)
		if l.ID == msg.Unknown && (len(l.Name) == 0 || !head.Token.All(l.Name) || head.Imitates(l.Name)) {
			return false
		}
		if n := len(l.Value); n > 0 && (!head.AllValue(l.Value) || blank(l.Value[0]) || blank(l.Value[n-1])) {
			return false
		}
	}
	return true
}

func blank(b byte) bool { return b == ' ' || b == '\t' }

var (
	connectMethod = []byte("CONNECT")
	schemes       = [...][]byte{msg.HTTP: []byte("http"), msg.HTTPS: []byte("https")}
)

// appendRequest appends the request's field section.
func appendRequest(p []byte, e *hpack.Encoder, req *msg.Request) []byte {
	if len(req.Upgrade) > 0 {
		p = e.Pseudo(p, hpack.Method, connectMethod)
		p = e.Pseudo(p, hpack.Protocol, req.Upgrade)
	} else {
		p = e.Pseudo(p, hpack.Method, req.MethodText)
	}
	p = e.Pseudo(p, hpack.Scheme, schemes[req.Scheme])
	p = e.Pseudo(p, hpack.Authority, req.Authority)
	p = e.Pseudo(p, hpack.Path, req.Target)
	for i := range req.Fields.Len() {
		if l := req.Fields.At(i); !left(req, l) {
			p = e.Field(p, l)
		}
	}
	if req.Length > 0 || req.Length == 0 && (req.Method == msg.POST || req.Method == msg.PUT || req.Method == msg.PATCH) {
		p = hpack.AppendNumber(p, msg.ContentLength, req.Length)
	}
	return p
}

// listSize counts the section as RFC 9113 §6.5.2 has it.
func listSize(req *msg.Request) int {
	n := len(req.MethodText) + len(req.Authority) + len(req.Target) + len(req.Upgrade) + len(":method:authority:path:scheme:protocolhttps") + 5*32
	for i := range req.Fields.Len() {
		if l := req.Fields.At(i); !left(req, l) {
			n += len(l.Name) + len(l.Value) + 32
		}
	}
	return n + len("content-length") + 20 + 32
}
