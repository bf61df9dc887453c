package h1

import (
	"cmp"
	"time"

	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Limits bound what a visitor may send and how long it may take. A zero field
// means its default.
type Limits struct {
	Line   int // bytes of one line of a head; default 16 KiB, at most Head
	Head   int // bytes of a whole head or trailer section; default 32 KiB
	Fields int // field lines in a head or trailer section; default 128

	HeadTimeout  time.Duration // from a head's first byte to its last; default 15 s
	BodyTimeout  time.Duration // for body bytes to come, and what a visitor may fall behind MinRate; default 30 s
	IdleTimeout  time.Duration // between requests, and in tunnels; default 75 s
	WriteTimeout time.Duration // for each 64 KiB or less to be taken; default 30 s

	MinRate    int   // bytes a second of a body while it is waited for, but of gRPC's; default 240
	DrainBytes int64 // of an unread body, read to keep the connection; default 256 KiB
	Body       int64 // largest request body in bytes; 0 = unlimited
}

func (l Limits) withDefaults() Limits {
	l.Head = cmp.Or(max(l.Head, 0), 32<<10)
	l.Line = min(cmp.Or(max(l.Line, 0), 16<<10), l.Head)
	l.Fields = cmp.Or(max(l.Fields, 0), 128)
	l.HeadTimeout = cmp.Or(max(l.HeadTimeout, 0), 15*time.Second)
	l.BodyTimeout = cmp.Or(max(l.BodyTimeout, 0), 30*time.Second)
	l.IdleTimeout = cmp.Or(max(l.IdleTimeout, 0), 75*time.Second)
	l.WriteTimeout = cmp.Or(max(l.WriteTimeout, 0), 30*time.Second)
	l.MinRate = cmp.Or(max(l.MinRate, 0), clock.DefaultRate)
	l.DrainBytes = cmp.Or(max(l.DrainBytes, 0), 256<<10)
	return l
}

// ClientLimits bound what an origin may send and how long it may take. A zero
// field means its default.
type ClientLimits struct {
	Line    int // bytes of one line of a head; default 32 KiB, at most Head
	Head    int // bytes of a whole head or trailer section; default 64 KiB
	Fields  int // field lines in a head or trailer section; default 256
	Interim int // 1xx answers before the final one; default 16

	// HeadTimeout bounds the wait for a head, counted from when the request,
	// or the latest part of its body, had been sent; default 100 s.
	HeadTimeout  time.Duration
	BodyTimeout  time.Duration // between two arrivals of body bytes; default 100 s
	WriteTimeout time.Duration // for each 64 KiB or less to be taken; default 30 s

	// OnInterim is told of each 1xx answer but 101. It runs in Do, the fields
	// are valid until it returns. nil = interim answers are passed over.
	OnInterim func(status int, fields *msg.Fields)

	// Memory is shared by the clients of one pool; nil = one of its own.
	Memory *Memory
}

// Memory is buffers and a clock that many clients share. Safe for all.
type Memory struct {
	clock *clock.Clock
	pools *pools
}

// NewMemory makes memory for clients whose Head limit is head bytes or less;
// 0 means the default limit.
func NewMemory(head int) *Memory {
	return &Memory{clock: clock.New(nil), pools: newPools(max(head, ClientLimits{}.withDefaults().Head))}
}

func (l ClientLimits) withDefaults() ClientLimits {
	l.Head = cmp.Or(max(l.Head, 0), 64<<10)
	l.Line = min(cmp.Or(max(l.Line, 0), 32<<10), l.Head)
	l.Fields = cmp.Or(max(l.Fields, 0), 256)
	l.Interim = cmp.Or(max(l.Interim, 0), 16)
	l.HeadTimeout = cmp.Or(max(l.HeadTimeout, 0), 100*time.Second)
	l.BodyTimeout = cmp.Or(max(l.BodyTimeout, 0), 100*time.Second)
	l.WriteTimeout = cmp.Or(max(l.WriteTimeout, 0), 30*time.Second)
	if l.Memory != nil && l.Head > l.Memory.pools.bigSize-lineRoom {
		l.Memory = nil
	}
	return l
}

// bounds are the three limits that the parser itself needs.
type bounds struct{ line, head, fields int }
