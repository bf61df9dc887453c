package edge

import (
	"io"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// step runs one request as HTTP/2 and HTTP/3 do: Step, and Serve where that
// was not done.
func step(t *testing.T, s msg.Session, in *msg.Request, out *msg.Response) (done bool) {
	t.Helper()
	out.Reset()
	if done = s.(msg.Stepper).Step(in, out); !done {
		if out.Status != 0 || out.Fields.Len() != 0 || out.Body != nil || out.Bytes != nil {
			t.Errorf("a Step that is not done has touched the answer: %d, %d fields", out.Status, out.Fields.Len())
		}
		s.Serve(in, out)
	}
	if out.Body != nil {
		if _, err := io.Copy(io.Discard, out.Body); err != nil {
			t.Error(err)
		}
	}
	out.Close()
	s.Done(in, out, 0, nil)
	return done
}

func TestStepAnswersWhatNeedsNoWaiting(t *testing.T) {
	fetched := 0
	e := inMemory(t, site(), func(r *Request) error { fetched++; return stored(r) })
	s := e.Open(conn())
	defer s.Close()
	out := new(msg.Response)
	for i, c := range []struct {
		path   string
		change func(*msg.Request)
		done   bool
		status int
		cache  string
	}{
		{"/a", nil, false, 200, "MISS"},
		{"/a", nil, true, 200, "HIT"},
		{"/b", nil, false, 200, "MISS"},
		{"/a", nil, true, 200, "HIT"},
		{"/a", func(in *msg.Request) { in.Authority = []byte("unknown.example") }, true, 421, ""},
		{"/a", func(in *msg.Request) { in.Fields.AddID(msg.IfNoneMatch, []byte(`"v1"`)) }, true, 304, "HIT"},
		{"/a", func(in *msg.Request) { in.Method, in.MethodText = msg.HEAD, []byte("HEAD") }, true, 200, "HIT"},
		{"/a", nil, true, 200, "HIT"},
	} {
		in := ask(c.path)
		in.Proto = msg.HTTP2
		if c.change != nil {
			c.change(in)
		}
		if done := step(t, s, in, out); done != c.done || out.Status != c.status || string(out.Fields.Get(msg.CFCacheStatus)) != c.cache {
			t.Errorf("%d: %s: done %v with %d %s, want %v, %d %s", i, c.path, done, out.Status, out.Fields.Get(msg.CFCacheStatus), c.done, c.status, c.cache)
		}
	}
	if fetched != 2 {
		t.Errorf("%d fetches, want 2", fetched)
	}
}

// A request whose body has to be read is never answered by waiting in Step.
func TestStepLeavesBodiesToServe(t *testing.T) {
	e := inMemory(t, site(), func(r *Request) error {
		if r.NoWait {
			t.Error("a row that waits was run by Step")
		}
		return stored(r)
	})
	s := e.Open(conn())
	defer s.Close()
	in, out := ask("/post"), new(msg.Response)
	in.Method, in.MethodText, in.Length = msg.POST, []byte("POST"), 5
	in.Body = io.NopCloser(strings.NewReader("hello"))
	if s.(msg.Stepper).Step(in, out) {
		t.Fatalf("POST was answered by Step: %d", out.Status)
	}
	if got := s.(*session).at; got == 0 {
		t.Error("Step does not remember where it stopped")
	}
	s.Serve(in, out)
	out.Close()
	s.Done(in, out, 0, nil)
}

// The rows above the one that waits run once, so that a request is timed,
// counted and named once.
func TestServeGoesOnWhereStepStopped(t *testing.T) {
	e := inMemory(t, site(), stored)
	s := e.Open(conn()).(*session)
	defer s.Close()
	in, out := ask("/once"), new(msg.Response)
	if s.Step(in, out) {
		t.Fatal("a miss was answered by Step")
	}
	ray, start, normalized := s.r.Ray, s.r.Start, s.r.Marks[rowNamed("normalize")]
	s.Serve(in, out)
	if s.r.Ray != ray || s.r.Start != start || s.r.Marks[rowNamed("normalize")] != normalized {
		t.Error("Serve began anew")
	}
	if s.r.Cache.Status != request.CacheMiss || s.at != 0 {
		t.Errorf("%s, at row %d", s.r.Cache.Status, s.at)
	}
	out.Close()
	s.Done(in, out, 0, nil)
}

func TestStepAllocatesNothingForAHit(t *testing.T) {
	e := inMemory(t, site(), stored)
	s := e.Open(conn())
	defer s.Close()
	in, out := ask("/a"), new(msg.Response)
	step(t, s, in, out)
	if allocs := testing.AllocsPerRun(200, func() { step(t, s, in, out) }); allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}
