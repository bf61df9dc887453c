package edge

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/edge/peer"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
)

func asked(ctx context.Context, path string) *Request {
	return &Request{In: ask(path), Out: new(msg.Response), Ctx: ctx, Arena: new(arena.Arena), Body: request.NewBody(nil, 0), Role: request.RoleOwner}
}

// An entry that has begun to take effect counts for what this edge asks for,
// and not yet for what it answers: a purge in it still waits for the entries
// that came along.
func TestPeerIsAnsweredWhenItsSeqHasTakenEffect(t *testing.T) {
	e := inMemory(t, site(), stored)
	e.stand.begin(1)
	if e.stand.newest() != 1 {
		t.Errorf("asks with %d, want 1", e.stand.newest())
	}
	if err := e.passOn(peer.Envelope{Zone: site().ID, Seq: 1}, asked(t.Context(), "/")); !errors.Is(err, errBehind) {
		t.Errorf("begun and not done: %v, want %v", err, errBehind)
	}
	r := asked(t.Context(), "/")
	done := make(chan error)
	go func() { done <- e.passOn(peer.Envelope{Zone: site().ID, Seq: 1}, r) }()
	e.stand.reach(1)
	if err := <-done; err != nil || r.Out.Status != 200 {
		t.Errorf("reached while it waited: %d, %v", r.Out.Status, err)
	}
	r.Out.Close()
}

func TestStandIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s stand
		done := make(chan bool)
		go func() { done <- s.wait(t.Context(), 2, time.Second) }()
		<-time.After(time.Second / 4)
		s.reach(1)
		<-time.After(time.Second / 4)
		s.reach(2)
		if !<-done {
			t.Error("reached in time and not seen")
		}
		if began := time.Now(); s.wait(t.Context(), 3, time.Second) || time.Since(began) != time.Second {
			t.Errorf("waited %s for what does not come", time.Since(began))
		}
		// A snapshot of another history may have a lower number.
		s.begin(9)
		if s.reach(1); s.newest() != 1 || s.wait(t.Context(), 2, time.Millisecond) {
			t.Errorf("stands at %d after another history's 1", s.newest())
		}
	})
}

func TestPeerIsToldTheTierOrTheFault(t *testing.T) {
	fails := false
	e := inMemory(t, site(), func(r *Request) error {
		if fails {
			return &fault.Error{Op: "origin.dial", Side: fault.Origin, Kind: fault.Refused, Err: errors.New("connection\nrefused")}
		}
		r.Out.Fields.Add([]byte("Selvage-Tier"), []byte("ssd")) // an origin that plays an edge
		return stored(r)
	})
	env := peer.Envelope{Zone: site().ID, Role: uint8(request.RoleUpper)}
	for i, want := range []request.Tier{request.TierOrigin, request.TierRAM} {
		out := new(msg.Response)
		e.servePeer(t.Context(), env, ask("/a"), out)
		got := &Request{Out: out}
		from, err := readNote(got)
		if out.Status != 200 || from != want || err != nil || got.Held <= 0 || out.Fields.Lookup("Selvage-Tier") != nil {
			t.Errorf("answer %d: %d from %s, %v, want %s", i, out.Status, from, err, want)
		}
		if out.Body != nil {
			for p := make([]byte, 4096); err == nil; {
				_, err = out.Body.Read(p)
			}
		}
		out.Close()
	}
	fails = true
	out := new(msg.Response)
	e.servePeer(t.Context(), env, ask("/b"), out)
	_, err := readNote(&Request{Out: out})
	f := fault.As(err)
	if f.Side != fault.Origin || f.Kind != fault.Refused || f.Error() != "peer.answer: origin.dial: connection?refused" || out.Status != 521 {
		t.Errorf("%d: %v of side %s", out.Status, f, f.Side)
	}
	if _, err := readNote(&Request{Out: &msg.Response{Status: 403}}); !errors.Is(err, errNoNote) {
		t.Errorf("refusal: %v, want %v", err, errNoNote)
	}
}
