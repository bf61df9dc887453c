package h3

import (
	"cmp"
	"time"

	"github.com/selvage-edge/selvage/internal/clock"
)

// Limits bound what a visitor may send and how long it may take. A zero field
// means its default; what is out of range is moved to the nearer end.
type Limits struct {
	Streams int   // requests at a time on a connection, 1 to 1,024; default 128
	Head    int   // bytes of a field section as RFC 9114 §4.2.2 counts them, 1 KiB to 1 MiB; default 32 KiB
	Fields  int   // field lines in a section; default 128
	Window  int   // bytes of one request body held unread, 16 KiB to 16 MiB; default 256 KiB
	Windows int   // bytes of all request bodies of a connection held unread; default 4 Windows
	Body    int64 // largest request body in bytes; 0 = unlimited

	HeadTimeout  time.Duration // for a field section, or a frame of the control stream, to come whole; default 15 s
	BodyTimeout  time.Duration // for body bytes to come, and what a visitor may fall behind MinRate; default 30 s
	IdleTimeout  time.Duration // without a request, and in tunnels without a byte; default 75 s
	WriteTimeout time.Duration // for what is sent to be taken, and what a visitor may fall behind MinRate; default 30 s
	MinRate      int           // bytes a second of a body while it is waited for, but of gRPC's, or of an answer; default 240

	// Floods: how many of each a visitor may send in FloodTime before its
	// connection ends with H3_EXCESSIVE_LOAD; default in 30 s.
	FloodTime time.Duration
	Resets    int // requests given up before their answer, or broken by the visitor; default 512
	Unknown   int // frames and streams of unknown types; default 1,024
	Updates   int // PRIORITY_UPDATE; default 4,096
}

func (l Limits) withDefaults() Limits {
	l.Streams = within(l.Streams, 128, 1, 1024)
	l.Head = within(l.Head, 32<<10, 1<<10, 1<<20)
	l.Fields = cmp.Or(max(l.Fields, 0), 128)
	l.Window = within(l.Window, 256<<10, 16<<10, 16<<20)
	l.Windows = within(l.Windows, 4*l.Window, l.Window, 1<<30)
	l.Body = max(l.Body, 0)
	l.HeadTimeout = cmp.Or(max(l.HeadTimeout, 0), 15*time.Second)
	l.BodyTimeout = cmp.Or(max(l.BodyTimeout, 0), 30*time.Second)
	l.IdleTimeout = cmp.Or(max(l.IdleTimeout, 0), 75*time.Second)
	l.WriteTimeout = cmp.Or(max(l.WriteTimeout, 0), 30*time.Second)
	l.MinRate = cmp.Or(max(l.MinRate, 0), clock.DefaultRate)
	l.FloodTime = cmp.Or(max(l.FloodTime, 0), 30*time.Second)
	l.Resets = cmp.Or(max(l.Resets, 0), 512)
	l.Unknown = cmp.Or(max(l.Unknown, 0), 1024)
	l.Updates = cmp.Or(max(l.Updates, 0), 4096)
	return l
}

func within(v, byDefault, low, high int) int {
	if v <= 0 {
		v = byDefault
	}
	return min(max(v, low), high)
}
