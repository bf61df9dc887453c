package h3

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"github.com/selvage-edge/selvage/wire/msg"
)

// goAways reads the server's control stream and gives the ids of its GOAWAYs as
// they come, to the connection's end.
func goAways(t *testing.T, p *peer) <-chan uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), peerWait)
	defer cancel()
	st, err := p.qc.AcceptUniStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ids := make(chan uint64, 8)
	go func() {
		defer close(ids) // with the connection
		r := quicvarint.NewReader(st)
		if kind, err := quicvarint.Read(r); err != nil || kind != streamControl {
			t.Errorf("the control stream is of type %d, %v", kind, err)
			return
		}
		for {
			kind, err := quicvarint.Read(r)
			if err != nil {
				return
			}
			length, err := quicvarint.Read(r)
			if err != nil {
				return
			}
			payload := make([]byte, length)
			if _, err := io.ReadFull(r, payload); err != nil {
				return
			}
			if kind == frameGoAway {
				id, _ := readVarint(payload)
				ids <- id
			}
		}
	}()
	return ids
}

// A drain says GOAWAY twice. What comes before the second is served, also when
// it was sent behind the first; what comes after is refused. No part of this
// test depends on how long anything takes.
func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	gate := make(chan struct{})
	h := &handler{step: func(req *msg.Request, res *msg.Response) bool {
		if string(req.Path) == "/slow" {
			return false
		}
		hello(req, res)
		return true
	}, serve: func(req *msg.Request, res *msg.Response) {
		if string(req.Path) != "/slow" { // it came in pieces, so that Step was not asked
			hello(req, res)
			return
		}
		<-gate
		res.Status, res.Bytes = 200, []byte("late")
	}}
	r := start(t, h, Limits{})
	p, idle := r.peer(t), r.peer(t)
	said := goAways(t, p)
	answer(t, idle.whole(head3("GET", "/")))
	slow := p.whole(head3("GET", "/slow"))
	answer(t, p.whole(head3("GET", "/"))) // the slow one has been taken
	drained := make(chan error, 1)
	go func() { drained <- r.Drain(t.Context()) }()
	if id := <-said; id != uint64(noLimit) {
		t.Errorf("the first GOAWAY says %d", id)
	}
	late := p.whole(head3("GET", "/"))
	switch limit := <-said; limit {
	case 12:
		if f, _ := answer(t, late); f[":status"] != "200" {
			t.Errorf("between the two GOAWAYs: %v", f)
		}
	case 8: // the machine took longer over it than the grace
		if got := reset(t, late); got != codeRequestRejected {
			t.Errorf("behind the second GOAWAY: reset with %#x", got)
		}
	default:
		t.Errorf("the second GOAWAY says %d", limit)
	}
	if got := idle.ended(); got != codeNone {
		t.Errorf("the idle connection ended with %#x", got)
	}
	if got := reset(t, p.whole(head3("GET", "/"))); got != codeRequestRejected {
		t.Errorf("behind GOAWAY: reset with %#x", got)
	}
	close(gate)
	if f, body := answer(t, slow); f[":status"] != "200" || body != "late" {
		t.Errorf("in flight: %v %q", f, body)
	}
	if got := p.ended(); got != codeNone {
		t.Errorf("ended with %#x", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	for id := range said {
		t.Errorf("one more GOAWAY says %d", id)
	}
}

func TestDrainCutsAtItsEnd(t *testing.T) {
	h := &handler{left: make(chan struct{}, 1)}
	h.serve = func(_ *msg.Request, res *msg.Response) {
		<-h.left // the connection's end is the visitor's leaving
		res.Status = 200
	}
	r := start(t, h, Limits{})
	p := r.peer(t)
	p.whole(head3("GET", "/"))
	until(t, func() bool { return r.Stats().Requests == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	p.ended()
}

func TestAnswerThatAsksForTheConnectionsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		want   code
	}{"with an answer": {403, codeNone}, "without": {0, codeNone}} {
		t.Run(name, func(t *testing.T) {
			h := &handler{step: inline(func(_ *msg.Request, res *msg.Response) { res.Status, res.EndConn = c.status, true })}
			p := start(t, h, Limits{}).peer(t)
			st := p.whole(head3("GET", "/"))
			if c.status > 0 {
				if f, _ := answer(t, st); f[":status"] != "403" {
					t.Errorf("%v", f)
				}
			}
			if got := p.ended(); got != c.want {
				t.Errorf("ended with %#x", got)
			}
		})
	}
}

// With a window that is much smaller than the answers, the order in which they
// come is the server's choice.
func TestPriorities(t *testing.T) {
	const size, window = 1 << 20, 64 << 10
	gate := make(chan struct{})
	h := &handler{serve: func(_ *msg.Request, res *msg.Response) {
		<-gate
		res.Status, res.Bytes = 200, make([]byte, size)
	}}
	r := start(t, h, Limits{})
	p := r.peerWith(t, &quic.Config{
		InitialConnectionReceiveWindow: window, MaxConnectionReceiveWindow: window,
		InitialStreamReceiveWindow: window, MaxStreamReceiveWindow: window,
	})
	low := p.whole(head3("GET", "/", "priority", "u=6"))
	high := p.whole(head3("GET", "/", "priority", "u=1"))
	p.uni(control(frame(framePriorityRequest, varints(8)+"u=0"))) // before its request, or after
	raised := p.whole(head3("GET", "/"))
	until(t, func() bool { return r.Stats().Requests == 3 && r.updated() })
	order := make(chan string, 3)
	for name, st := range map[string]*quic.Stream{"low": low, "high": high, "raised": raised} {
		go func() {
			if f, body := answer(t, st); f[":status"] != "200" || len(body) != size {
				t.Errorf("%s: %v, %d bytes", name, f, len(body))
			}
			order <- name
		}()
	}
	close(gate)
	for _, want := range []string{"raised", "high", "low"} {
		if got := <-order; got != want {
			t.Errorf("%s came where %s was to", got, want)
		}
	}
}
