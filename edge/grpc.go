package edge

import (
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/client"
	"github.com/selvage-edge/selvage/wire/h2/frame"
)

// Status codes of gRPC (its statuscodes document).
const (
	grpcCancelled         = 1
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
)

// grpcStatusOf is statusOf for calls of gRPC. Callers may send again what is
// UNAVAILABLE, so that is not what every attempt would meet.
func grpcStatusOf(r *Request) int {
	f := r.Fault
	switch f.Side {
	case fault.Visitor:
		return grpcVisitorStatus(f.Kind)
	case fault.Origin:
		if expired(r) {
			return grpcDeadlineExceeded
		}
		if code, ok := client.ResetCode(f); ok {
			return grpcResetStatus(code)
		}
		if f.Kind == fault.Malformed || f.Kind == fault.Loop || f.Kind == fault.Version {
			return grpcInternal
		}
		return grpcUnavailable
	}
	if f.Kind == fault.Limit || f.Kind == fault.Draining || f.Kind == fault.Off {
		return grpcUnavailable
	}
	return grpcInternal
}

func grpcVisitorStatus(k fault.Kind) int {
	switch k {
	case fault.Forbidden:
		return grpcPermissionDenied
	case fault.Timeout:
		return grpcDeadlineExceeded
	case fault.TooLarge:
		return grpcResourceExhausted
	case fault.NotFound:
		return grpcUnimplemented
	case fault.TooEarly:
		return grpcUnavailable
	case fault.Closed:
		return grpcCancelled
	}
	return grpcInternal
}

// grpcResetStatus says what a server of gRPC means by resetting a stream
// (PROTOCOL-HTTP2, "Errors").
func grpcResetStatus(code frame.Code) int {
	switch code {
	case frame.Cancel:
		return grpcCancelled
	case frame.RefusedStream:
		return grpcUnavailable
	case frame.EnhanceYourCalm:
		return grpcResourceExhausted
	case frame.InadequateSecurity:
		return grpcPermissionDenied
	}
	return grpcInternal
}

// clockSkew is by which part of a deadline two clocks may differ.
const clockSkew = 1000

// expired reports whether the caller's deadline is over. Servers of gRPC keep it
// too and reset the stream by then, which may be known here before the caller
// has left.
func expired(r *Request) bool {
	limit, ok := r.GRPCTimeout()
	return ok && time.Since(r.Start) >= limit-limit/clockSkew
}
