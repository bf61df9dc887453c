// Package fault is the one error type that crosses folders: what was being
// done, whose fault it is, whether a retry is safe, and the cause.
//
// Status codes are decided from it in two places only: edge/respond.go and
// control/api. Nothing below them knows about status codes of its own failures.
package fault

import (
	"errors"
	"strings"
)

// Side says whose fault an error is.
type Side uint8

const (
	Edge    Side = iota // ours: a bug, a full queue, a broken disk
	Visitor             // the client's: malformed, too large, too slow, gone
	Origin              // the customer's server, or the way to it
	Control             // the control plane or the operator's configuration
)

func (s Side) String() string {
	return [...]string{"edge", "visitor", "origin", "control"}[s&3]
}

// Kind narrows a fault enough to choose a status code and a page.
type Kind uint8

const (
	Other       Kind = iota
	Malformed        // input that breaks its protocol
	TooLarge         // input over a stated limit
	Timeout          // the other side took too long to answer
	Refused          // connection refused or reset before an answer
	ConnectTime      // no connection in time
	Unreachable      // no route, network unreachable
	Handshake        // TLS could not be agreed
	Certificate      // TLS certificate not acceptable
	Resolve          // the name has no usable address
	Forbidden        // an address or target that policy forbids
	Loop             // the request came round to us again
	Limit            // a stated bound of ours is reached (queue, connections)
	Closed           // the other side went away in the middle
	NotFound         // no such zone, host or object
	Conflict         // it exists already, or changed meanwhile
	Draining         // this server is going away
	TooEarly         // a request in TLS early data that must not be a replay
	Version          // the other side does not speak the version of a protocol that is needed
	Cancelled        // the other side called it off: a reset that says so
	Off              // switched off by the operator
)

var kindNames = [...]string{
	"other", "malformed", "too large", "timeout", "refused", "connect timeout",
	"unreachable", "handshake", "certificate", "resolve", "forbidden", "loop",
	"limit", "closed", "not found", "conflict", "draining", "too early", "version", "cancelled", "off",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "other"
}

// Error is a failure with enough said to act on it.
type Error struct {
	Op    string // what was being done, "origin.dial"
	Side  Side
	Kind  Kind
	Retry bool // true when nothing of the request can have taken effect
	Err   error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteString(": ")
	if e.Err != nil {
		b.WriteString(e.Err.Error())
		return b.String()
	}
	b.WriteString(e.Kind.String())
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// As returns the fault in err's chain, or one that blames the edge.
func As(err error) *Error {
	if f, ok := errors.AsType[*Error](err); ok {
		return f
	}
	return &Error{Op: "edge", Side: Edge, Err: err}
}

// Is reports whether err carries a fault of this kind.
func Is(err error, k Kind) bool {
	f, ok := errors.AsType[*Error](err)
	return ok && f.Kind == k
}
