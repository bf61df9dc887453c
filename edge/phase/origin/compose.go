package origin

import (
	"bytes"
	"errors"
	"io"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

// product is our name in CDN-Loop (RFC 8586 §2).
const product = "selvage"

// Bounds on CDN-Loop: how many Selvages a request may have come through, and
// how many networks in all.
const (
	maxOurs   = 8
	maxOthers = 32
)

var (
	visitorHTTP  = []byte(`{"scheme":"http"}`)
	visitorHTTPS = []byte(`{"scheme":"https"}`)
	schemeHTTP   = []byte("http")
	schemeHTTPS  = []byte("https")
	trailers     = []byte("trailers")
	deviceType   = []byte("CF-Device-Type")
	early        = []byte("1")
)

// compose builds the request for the origin in out: the visitor's, without
// what belongs to one hop, with what we know of the visitor.
func (e *Engine) compose(r *request.Request, out *msg.Request) {
	in := r.In
	out.Reset()
	out.MethodText, out.Method, out.Scheme, out.Proto = in.MethodText, in.Method, in.Scheme, msg.HTTP11
	out.Target, out.Path, out.Query, out.Length = in.Target, in.Path, in.Query, in.Length
	out.Patience = r.Route.ReadTimeout
	if !r.Body.Present() {
		out.Length = 0
	}
	out.Authority = r.Host
	if r.Route.HostHeader != "" {
		out.Authority = r.Arena.CopyString(r.Route.HostHeader)
	}
	out.Upgrade = in.Upgrade
	f := &out.Fields
	f.AddID(msg.Host, out.Authority)
	var room [8][]byte
	named := nominations(&in.Fields, room[:0])
	for i := range in.Fields.Len() {
		if l := in.Fields.At(i); passedOn(l, named) {
			f.AddField(*l)
		}
	}
	if in.Fields.HasToken(msg.TE, "trailers") {
		f.AddID(msg.TE, trailers)
	}
	introduce(r, f)
}

// introduce adds who the visitor is and which way the request came.
func introduce(r *request.Request, f *msg.Fields) {
	if r.Client.IsValid() {
		client := r.Client.AppendTo(r.Arena.Alloc(64)[:0])
		f.AddID(msg.CFConnectingIP, client)
		f.AddID(msg.XForwardedFor, client)
	}
	scheme, visitor := schemeHTTP, visitorHTTP
	if r.In.Scheme == msg.HTTPS {
		scheme, visitor = schemeHTTPS, visitorHTTPS
	}
	f.AddID(msg.XForwardedProto, scheme)
	f.AddID(msg.CFVisitor, visitor)
	f.AddID(msg.CFRay, r.Ray.AppendWithColo(r.Arena.Alloc(16 + 1 + len(r.Colo))[:0], r.Colo))
	if r.Geo.Country != [2]byte{} {
		f.AddID(msg.CFIPCountry, r.Arena.Copy(r.Geo.Country[:]))
	}
	if r.Device != nil {
		f.Add(deviceType, r.Device)
	}
	if r.In.Early && !f.Has(msg.EarlyData) {
		f.AddID(msg.EarlyData, early) // it may be a replay (RFC 8470 §5.1)
	}
	loop := r.Arena.Alloc(len(product) + len("; zone=") + len(r.ZoneID))[:0]
	loop = append(append(loop, product...), "; zone="...)
	f.AddID(msg.CDNLoop, append(loop, r.ZoneID...))
}

// passedOn reports whether a field of the visitor's goes to the origin: not
// what concerns one connection (RFC 9110 §7.6.1), not what framing or
// introduce writes anew.
func passedOn(l *msg.Field, named [][]byte) bool {
	switch l.ID {
	case msg.Connection, msg.KeepAlive, msg.ProxyConnection, msg.ProxyAuthorization, msg.ProxyAuthenticate,
		msg.TE, msg.Trailer, msg.TransferEncoding, msg.Upgrade, msg.HTTP2Settings,
		msg.Host, msg.ContentLength, msg.Expect,
		msg.CFConnectingIP, msg.CFIPCountry, msg.CFRay, msg.CFVisitor, msg.CFCacheStatus,
		msg.XForwardedFor, msg.XForwardedProto:
		return false
	case msg.CDNLoop:
		return true // a visitor who could nominate it away could build loops (RFC 8586 §3)
	case msg.Unknown:
		if foldPrefix(l.Name, "cf-") || foldPrefix(l.Name, "proxy-") {
			return false
		}
	}
	for _, t := range named {
		if msg.EqualFold(l.Name, t) {
			return false
		}
	}
	return true
}

// handOn copies a visitor's trailers for the origin, without those that would
// be refused in a head: servers exist that merge the two.
func handOn(from, to *msg.Fields) {
	for i := range from.Len() {
		if l := from.At(i); passedOn(l, nil) && !request.Reserved(l) {
			to.AddField(*l)
		}
	}
}

// nominations appends the names of the fields that Connection lists.
func nominations(f *msg.Fields, named [][]byte) [][]byte {
	if !f.Has(msg.Connection) {
		return named
	}
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.Connection {
			continue
		}
		for t, rest := msg.NextToken(l.Value); t != nil; t, rest = msg.NextToken(rest) {
			named = append(named, t)
		}
	}
	return named
}

// cleanAnswer takes out of an origin's answer what belongs to the connection,
// what only an edge may say (CF-*, Selvage-*), and what leads visitors past the edge
// (Alt-Svc). Content-Length stays where it describes a body that is not there,
// Upgrade where the connection becomes a tunnel.
func cleanAnswer(f *msg.Fields, keepLength, tunnel bool) {
	var room [8][]byte
	named := nominations(f, room[:0])
	f.DelFunc(func(l *msg.Field) bool {
		for _, t := range named {
			if msg.EqualFold(l.Name, t) {
				return true
			}
		}
		switch l.ID {
		case msg.Connection, msg.KeepAlive, msg.ProxyConnection, msg.ProxyAuthenticate, msg.TE, msg.Trailer,
			msg.TransferEncoding, msg.AltSvc, msg.Server, msg.HTTP2Settings,
			msg.CFCacheStatus, msg.CFRay, msg.CFVisitor, msg.CFIPCountry, msg.CFConnectingIP:
			return true
		case msg.ContentLength:
			return !keepLength
		case msg.Upgrade:
			return !tunnel
		case msg.Unknown:
			return foldPrefix(l.Name, "cf-") || foldPrefix(l.Name, "proxy-") || foldPrefix(l.Name, "selvage-")
		}
		return false
	})
}

func foldPrefix(name []byte, prefix string) bool {
	return len(name) >= len(prefix) && msg.EqualFold(name[:len(prefix)], prefix)
}

// loops reports whether CDN-Loop tells of this zone, or of too long a way.
func loops(f *msg.Fields, zoneID string) bool {
	if !f.Has(msg.CDNLoop) {
		return false
	}
	ours, all := 0, 0
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.CDNLoop {
			continue
		}
		for t, rest := msg.NextToken(l.Value); t != nil; t, rest = msg.NextToken(rest) {
			if all++; all > maxOthers {
				return true
			}
			id, parameters, _ := bytes.Cut(t, []byte{';'})
			if !msg.EqualFold(bytes.TrimSpace(id), product) {
				continue
			}
			if ours++; ours >= maxOurs || namesZone(parameters, zoneID) {
				return true
			}
		}
	}
	return false
}

func namesZone(parameters []byte, zoneID string) bool {
	for len(parameters) > 0 {
		var p []byte
		p, parameters, _ = bytes.Cut(parameters, []byte{';'})
		name, value, _ := bytes.Cut(p, []byte{'='})
		if msg.EqualFold(bytes.TrimSpace(name), "zone") && string(bytes.Trim(value, " \t\"")) == zoneID {
			return true
		}
	}
	return false
}

// sender reads the visitor's body for the origin: it notes that reading began,
// marks failures as the visitor's, and hands on the trailers at the end.
type sender struct {
	body    *request.Body
	in, out *msg.Request
	started bool
}

func (s *sender) Read(p []byte) (int, error) {
	s.started = true
	n, err := s.body.Read(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		if s.out.Trailer.Len() == 0 {
			handOn(&s.in.Trailer, &s.out.Trailer)
		}
		return n, io.EOF
	}
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Side == fault.Visitor {
		return n, err
	}
	return n, &fault.Error{Op: "origin.body", Side: fault.Visitor, Kind: fault.Closed, Err: err}
}

// Close tells the visitor's protocol that the rest is not wanted.
func (s *sender) Close() error { return s.body.Close() }
