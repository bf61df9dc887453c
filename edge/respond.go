package edge

import (
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// statusOf is the one place of the data plane where a fault becomes a status
// code. 52x say which side of the edge failed (docs/reference/defaults.md).
func statusOf(f *fault.Error) int {
	switch f.Side {
	case fault.Visitor:
		return visitorStatus(f.Kind)
	case fault.Origin:
		return originStatus(f.Kind)
	}
	switch f.Kind {
	case fault.Limit, fault.Draining, fault.Off:
		return 503
	case fault.Loop:
		return 508
	}
	return 500
}

func visitorStatus(k fault.Kind) int {
	switch k {
	case fault.Forbidden:
		return 403
	case fault.Timeout:
		return 408
	case fault.TooLarge:
		return 413
	case fault.NotFound:
		return 421
	case fault.TooEarly:
		return 425
	case fault.Closed:
		return 499
	case fault.Loop:
		return 508
	}
	return 400
}

func originStatus(k fault.Kind) int {
	switch k {
	case fault.Refused:
		return 521
	case fault.ConnectTime:
		return 522
	case fault.Unreachable:
		return 523
	case fault.Timeout:
		return 524
	case fault.Handshake:
		return 525
	case fault.Certificate:
		return 526
	case fault.Resolve, fault.Forbidden, fault.NotFound:
		return 530
	case fault.Limit:
		return 503
	case fault.Loop:
		return 508
	}
	return 520
}

// errorPage is the errors row: an answer for a request that has only a fault.
func (e *Edge) errorPage(r *Request) {
	if r.Fault == nil {
		return
	}
	r.Out.Close()
	r.Out.Reset()
	if status := statusOf(r.Fault); r.In.CallsGRPC() {
		e.errors.RenderGRPC(r, grpcStatusOf(r), status, r.Fault)
	} else {
		e.errors.Render(r, status, r.Fault)
	}
	if r.Fault.Side == fault.Visitor && r.Body.Present() {
		r.Out.EndConn = true
	}
}

// altSvcClear makes visitors forget what altSvc told them (RFC 7838 §3).
var altSvcClear = []byte("clear")

var serverName = []byte("selvage")

// identify is the headers row: who answered, and under which ray.
func (e *Edge) identify(r *Request) {
	r.Out.Fields.AddID(msg.Server, serverName)
	ray := r.Arena.Alloc(16 + 1 + len(r.Colo))[:0]
	r.Out.Fields.AddID(msg.CFRay, r.Ray.AppendWithColo(ray, r.Colo))
	off := r.Off.Has(zone.KillHTTP3)
	if r.In.Proto == msg.HTTP3 && off {
		r.Out.EndConn = true // the visitor comes again by TCP
	}
	if r.Conn.TLS == nil || r.In.Proto == msg.HTTP3 {
		return
	}
	if off {
		r.Out.Fields.AddID(msg.AltSvc, altSvcClear)
	} else if z, ok := r.Zone.(*Zone); ok && z.TLS.HTTP3() {
		r.Out.Fields.AddID(msg.AltSvc, e.altSvc)
	}
}

// encode is the encode row: the content coding that the visitor likes best.
func (e *Edge) encode(r *Request) {
	if z, ok := r.Zone.(*Zone); ok && !r.Off.Has(zone.KillCompression) {
		e.cache.Encode(z.Cache, r)
	}
}
