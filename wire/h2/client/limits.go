package client

import (
	"cmp"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/wire/h2/hpack"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Limits bound what an origin may send and how long it may take. A zero field
// means its default.
type Limits struct {
	Streams int // requests at a time, if the origin allows as many; default 100
	Head    int // of a head or trailer section, counted by RFC 9113 §6.5.2; default 64 KiB
	Interim int // 1xx answers before the final one; default 16
	// Window is the most that one answer's body may be ahead of its reader, in
	// bytes; each starts with 64 KiB. Default 1 MiB.
	Window int

	// HeadTimeout bounds the wait for a head, counted from when the request,
	// or the latest part of its body, had been sent; default 100 s.
	HeadTimeout  time.Duration
	BodyTimeout  time.Duration // between two arrivals of body bytes; default 100 s
	WriteTimeout time.Duration // for something to be taken; default 30 s
	// PingAfter is how long an origin with requests in flight may be silent
	// before it is asked whether it lives; PingTimeout how long it has to answer.
	// Defaults 15 s each.
	PingAfter, PingTimeout time.Duration

	// Memory is shared by the connections of one engine; nil = one of its own.
	Memory *Memory
}

func (l Limits) withDefaults() Limits {
	l.Streams = cmp.Or(max(l.Streams, 0), 100)
	l.Head = cmp.Or(max(l.Head, 0), 64<<10)
	l.Interim = cmp.Or(max(l.Interim, 0), 16)
	l.Window = max(cmp.Or(max(l.Window, 0), 1<<20), firstWindow)
	l.HeadTimeout = cmp.Or(max(l.HeadTimeout, 0), 100*time.Second)
	l.BodyTimeout = cmp.Or(max(l.BodyTimeout, 0), 100*time.Second)
	l.WriteTimeout = cmp.Or(max(l.WriteTimeout, 0), 30*time.Second)
	l.PingAfter = cmp.Or(max(l.PingAfter, 0), 15*time.Second)
	l.PingTimeout = cmp.Or(max(l.PingTimeout, 0), 15*time.Second)
	if l.Memory == nil {
		l.Memory = NewMemory()
	}
	return l
}

// Bounds that are not worth a setting.
const (
	firstWindow = 64 << 10 // of each answer's body
	connWindow  = 16 << 20 // of the connection; given back on arrival, see data
	extraWindow = 32 << 20 // by which all streams together may outgrow firstWindow
	maxPending  = 256 << 10
	maxControl  = 1 << 20 // bytes that the origin makes us say and does not take
	maxPieces   = 64      // CONTINUATION frames of one section
	maxJunk     = 10_000  // frames within junkTime that bring nothing
	junkTime    = 10 * time.Second
	frameSize   = 16 << 10
)

// Memory is what connections of one engine share. Safe for all.
type Memory struct {
	chunks sync.Pool // *chunk
	kits   sync.Pool // *kit
}

// NewMemory makes an empty one.
func NewMemory() *Memory {
	return &Memory{
		chunks: sync.Pool{New: func() any { return new(chunk) }},
		kits:   sync.Pool{New: func() any { return newKit() }},
	}
}

func (m *Memory) chunk() *chunk {
	k := m.chunks.Get().(*chunk)
	k.r, k.w = 0, 0
	return k
}

// chunk holds part of a body.
type chunk struct {
	b    [frameSize]byte
	r, w int
}

// kit is what a stream needs and the next one can use again.
type kit struct {
	wake, room       chan struct{} // of who awaits the answer, and who sends the body; each takes one signal
	timer, sendTimer *time.Timer
	head, tail       hpack.Section
	fields, trailer  msg.Fields
	queue            []*chunk // empty
}

// keepMem is the most memory in bytes that a kit keeps for sections.
const keepMem = 16 << 10

func newKit() *kit {
	k := &kit{wake: make(chan struct{}, 1), room: make(chan struct{}, 1), timer: time.NewTimer(time.Hour), sendTimer: time.NewTimer(time.Hour)}
	k.timer.Stop()
	k.sendTimer.Stop()
	k.head.Fields, k.tail.Fields = &k.fields, &k.trailer
	return k
}

// reset makes the kit ready for the next stream.
func (k *kit) reset() {
	k.timer.Stop()
	k.sendTimer.Stop()
	drain(k.wake)
	drain(k.room)
	k.head.Reset()
	k.tail.Reset()
	if cap(k.head.Mem) > keepMem {
		k.head.Mem = nil
	}
	if cap(k.tail.Mem) > keepMem {
		k.tail.Mem = nil
	}
}

func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
