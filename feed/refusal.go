package feed

import (
	"errors"
	"fmt"
)

// Reason names why one side ends a connection.
type Reason uint8

const (
	ReasonInternal  Reason = 1 // the sender's own trouble; try again
	ReasonVersion   Reason = 2 // the sender does not speak this version
	ReasonMalformed Reason = 3 // bytes that break the protocol
	// 4 is free: a cursor ahead of the log gets a snapshot.
	ReasonUnknown  Reason = 5 // no such node
	ReasonRevoked  Reason = 6 // the node was removed
	ReasonToken    Reason = 7 // join token unknown, used or too old
	ReasonRequest  Reason = 8 // join request with a bad field
	ReasonReplaced Reason = 9 // the node connected again
	ReasonDraining Reason = 10
	ReasonRole     Reason = 11 // the node's certificate does not allow it
	ReasonNoCopy   Reason = 12 // values are to be asked of a relay, which this is not
	ReasonBusy     Reason = 13 // too many connections of this node's
	ReasonWide     Reason = 14 // the rows asked for are too many
)

var reasonNames = [...]string{
	"", "internal", "wrong version", "malformed", "", "unknown node",
	"revoked", "join token not valid", "bad request", "replaced by a newer connection", "draining",
	"not of this node's role", "no copy here", "too many connections", "too wide",
}

func (r Reason) String() string {
	if int(r) < len(reasonNames) && reasonNames[r] != "" {
		return reasonNames[r]
	}
	return "unknown reason"
}

// Refusal is an error that the other side is told, and the form in which it
// arrives there.
type Refusal struct {
	Reason Reason
	Detail string // one sentence; "" when the reason says all
}

func (r *Refusal) Error() string {
	if r.Detail == "" {
		return "refused: " + r.Reason.String()
	}
	return "refused: " + r.Reason.String() + ": " + r.Detail
}

// Refuse makes a Refusal with a formatted detail.
func Refuse(reason Reason, format string, args ...any) error {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Refused reports whether err carries a Refusal for this reason.
func Refused(err error, reason Reason) bool {
	r, ok := errors.AsType[*Refusal](err)
	return ok && r.Reason == reason
}

func (r *Refusal) append(dst []byte) []byte {
	dst = append(dst, byte(r.Reason))
	return append(dst, r.Detail[:min(len(r.Detail), maxReasonBytes)]...)
}

func decodeRefusal(p []byte) error {
	if len(p) < 1 || len(p) > 1+maxReasonBytes {
		return errFrame
	}
	return &Refusal{Reason: Reason(p[0]), Detail: string(p[1:])}
}

// refusalOf is what to tell the other side about err: a Refusal as it is, and
// of anything else only that it happened.
func refusalOf(err error) *Refusal {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r
	}
	if errors.Is(err, errFrame) || errors.Is(err, ErrLimit) {
		return &Refusal{Reason: ReasonMalformed, Detail: err.Error()}
	}
	return &Refusal{Reason: ReasonInternal}
}
