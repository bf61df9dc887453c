package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/stream"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// pipeBody is an origin's body that a test writes piece by piece.
type pipeBody struct {
	*io.PipeReader
	w *io.PipeWriter
}

func newPipeBody() *pipeBody {
	r, w := io.Pipe()
	return &pipeBody{r, w}
}

func (g *rig) piped(b *pipeBody, length int64, lines ...string) {
	g.serve = func(r *request.Request) error {
		r.Out.Status, r.Out.Length, r.Out.Body = 200, length, b
		addLines(&r.Out.Fields, lines...)
		return nil
	}
}

func TestThousandRequestsOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		body := strings.Repeat("0123456789", 20_000)
		g := newRig(t, Config{}, nil)
		g.serve = func(r *request.Request) error {
			time.Sleep(50 * time.Millisecond)
			return reply(r, 200, body, "Cache-Control: max-age=60")
		}
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() { g.want(g.run("GET /hot"), 200, "MISS", body) })
		}
		wg.Wait()
		g.wantFetches(1)
		if got := g.e.Stats().Coalesced; got != n-1 {
			t.Errorf("%d coalesced, want %d", got, n-1)
		}
		g.want(g.run("GET /hot"), 200, "HIT", body)
		g.e.Close()
		if st := g.e.Stats(); st.Fills != 0 || st.Objects != 1 {
			t.Errorf("after close: %+v", st)
		}
	})
}

// The same without a fake clock, so that the scheduler finds the races.
func TestConcurrentRequestsOneFetchUnderRealScheduler(t *testing.T) {
	body := strings.Repeat("x", 100_000)
	for round := range 20 {
		g := newRig(t, Config{}, always(200, body, "Cache-Control: max-age=60"))
		start := make(chan struct{})
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				<-start
				runtime.Gosched()
				if a := g.run(fmt.Sprintf("GET /hot%d", round)); a.body != body || a.readAs != nil {
					t.Errorf("body of %d bytes, %v", len(a.body), a.readAs)
				}
			})
		}
		close(start)
		wg.Wait()
		g.wantFetches(1)
	}
}

func TestReadersStreamAtTheirOwnPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, nil)
		b := newPipeBody()
		g.piped(b, 10, "Cache-Control: max-age=60")
		slow, fast := ask(t.Context(), "GET /a"), ask(t.Context(), "GET /a")
		go func() { _, _ = b.w.Write([]byte("hello")) }()
		_, _ = g.e.Run(&g.plan, slow)
		_, _ = g.e.Run(&g.plan, fast)
		p := make([]byte, 64)
		if n, err := fast.Out.Body.Read(p); string(p[:n]) != "hello" || err != nil {
			t.Errorf("first piece %q, %v", p[:n], err)
		}
		late := make(chan string)
		go func() {
			rest, err := io.ReadAll(fast.Out.Body)
			late <- fmt.Sprint(string(rest), err)
		}()
		synctest.Wait() // the fast reader waits for more
		_, _ = b.w.Write([]byte("world"))
		if got := <-late; got != "world<nil>" {
			t.Errorf("rest %q", got)
		}
		g.want(g.run("GET /a"), 200, "HIT", "helloworld") // while the slow one has read nothing
		if all, err := io.ReadAll(slow.Out.Body); string(all) != "helloworld" || err != nil {
			t.Errorf("slow reader got %q, %v", all, err)
		}
		slow.Out.Close()
		fast.Out.Close()
		g.wantFetches(1)
	})
}

func TestFillGoesOnWhenItsLeaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, nil)
		b := newPipeBody()
		release := make(chan struct{})
		g.piped(b, msg.LengthUnknown, "Cache-Control: max-age=60")
		inner := g.serve
		g.serve = func(r *request.Request) error { <-release; return inner(r) }
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan *answer)
		go func() { gone <- g.do(ask(ctx, "GET /a")) }()
		synctest.Wait()
		leave()
		if a := <-gone; a.fault == nil || a.fault.Side != fault.Visitor {
			t.Errorf("leader that left: %+v", a.fault)
		}
		close(release)
		go func() { _, _ = b.w.Write([]byte("whole")); _ = b.w.Close() }()
		synctest.Wait()
		g.want(g.run("GET /a"), 200, "HIT", "whole")
		g.wantFetches(1)
	})
}

func TestBodyThatFailsInTheMiddleIsCutAndNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, nil)
		for name, test := range map[string]struct {
			length int64
			end    error
		}{
			"reset": {10, io.ErrUnexpectedEOF},
			"short": {10, io.EOF},
			"chunk": {msg.LengthUnknown, errors.New("bad chunk")},
		} {
			b := newPipeBody()
			g.piped(b, test.length, "Cache-Control: max-age=60")
			go func() { _, _ = b.w.Write([]byte("half")); _ = b.w.CloseWithError(test.end) }()
			a := g.run("GET /" + name)
			if a.body != "half" || a.readAs == nil {
				t.Errorf("%s: read %q, %v, want an error after half", name, a.body, a.readAs)
			}
			g.e.work.Wait()
			g.serve = always(200, "whole", "Cache-Control: max-age=60")
			g.want(g.run("GET /"+name), 200, "MISS", "whole")
		}
	})
}

func TestPrivateAnswersAreNeverShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, nil)
		g.serve = func(r *request.Request) error {
			time.Sleep(time.Second)
			return reply(r, 200, "for "+string(r.In.Fields.Get(msg.Cookie)), "Cache-Control: private")
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				id := fmt.Sprint(i)
				g.want(g.run("GET /me", "Cookie: "+id), 200, "BYPASS", "for "+id)
			})
		}
		wg.Wait()
		g.wantFetches(10)
		begin := time.Now()
		for i := range 10 {
			wg.Go(func() {
				id := fmt.Sprint(i)
				g.want(g.run("GET /me", "Cookie: "+id), 200, "BYPASS", "for "+id)
			})
		}
		wg.Wait()
		if took := time.Since(begin); took != time.Second {
			t.Errorf("a marked key took %v, want no waiting for a leader", took)
		}
	})
}

func TestMarkerEndsWhenTheAnswerBecomesStorable(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: no-store"))
	g.want(g.run("GET /a"), 200, "BYPASS", "x")
	g.serve = always(200, "y", "Cache-Control: max-age=60")
	g.want(g.run("GET /a"), 200, "MISS", "y") // passes by the marker and lifts it
	g.want(g.run("GET /a"), 200, "MISS", "y")
	g.want(g.run("GET /a"), 200, "HIT", "y")
	g.wantFetches(3)
}

// closeCounter tells when an origin's body is closed.
type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

func TestHandedOverAnswerIsClosedByItsReader(t *testing.T) {
	var ctx context.Context
	body := &closeCounter{Reader: strings.NewReader("x")}
	released := 0
	g := newRig(t, Config{}, func(r *request.Request) error {
		ctx = r.Ctx
		r.Out.Status, r.Out.Length, r.Out.Body = 200, 1, body
		r.Out.Release = func() { released++ }
		addLines(&r.Out.Fields, "Set-Cookie: a=b")
		r.Tried.Status = 200
		return nil
	})
	r := ask(t.Context(), "GET /a")
	_, _ = g.e.Run(&g.plan, r)
	if ctx.Err() != nil || body.closed != 0 || r.Tried.Status != 200 {
		t.Fatalf("before close: %v, closed %d, tried %+v", ctx.Err(), body.closed, r.Tried)
	}
	g.want(readAnswer(r), 200, "BYPASS", "x")
	r.Out.Close()
	if ctx.Err() == nil || body.closed != 1 || released != 1 {
		t.Errorf("after close: %v, closed %d, released %d", ctx.Err(), body.closed, released)
	}
}

func TestPrivateAnswerOfAbsentLeaderIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := &closeCounter{Reader: strings.NewReader("x")}
		g := newRig(t, Config{}, func(r *request.Request) error {
			time.Sleep(time.Minute)
			r.Out.Status, r.Out.Length, r.Out.Body = 200, 1, body
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g.do(ask(ctx, "GET /a"))
		g.e.Close()
		if body.closed != 1 {
			t.Errorf("closed %d times, want once", body.closed)
		}
	})
}

func TestFaultIsSharedByWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, func(*request.Request) error {
			time.Sleep(time.Second)
			return originFault(fault.Refused)
		})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				a := g.run("GET /a")
				if a.fault == nil || a.fault.Kind != fault.Refused || a.cache != "" {
					t.Errorf("got fault %v, cache %q", a.fault, a.cache)
				}
			})
		}
		wg.Wait()
		g.wantFetches(1)
	})
}

func TestFullTableOfFillsPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{MaxFills: 1}, nil)
		g.serve = func(r *request.Request) error {
			time.Sleep(time.Second)
			return reply(r, 200, "x", "Cache-Control: max-age=60")
		}
		var wg sync.WaitGroup
		wg.Go(func() { g.want(g.run("GET /a"), 200, "MISS", "x") })
		synctest.Wait()
		g.want(g.run("GET /b"), 200, "BYPASS", "x")
		wg.Wait()
		if st := g.e.Stats(); st.Refused != 1 || st.Objects != 1 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestVariantsAreFetchedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, func(r *request.Request) error {
			time.Sleep(time.Second)
			return reply(r, 200, string(r.In.Fields.Get(msg.AcceptLanguage)), "Cache-Control: max-age=60", "Vary: Accept-Language")
		})
		var wg sync.WaitGroup
		for i := range 30 {
			lang := []string{"en", "de", "fr"}[i%3]
			wg.Go(func() { g.want(g.run("GET /a", "Accept-Language: "+lang), 200, "MISS", lang) })
		}
		wg.Wait()
		g.wantFetches(3)
		g.want(g.run("GET /a", "Accept-Language:  DE"), 200, "HIT", "de")
	})
}

func TestPurgeDuringFillKeepsItOutOfTheStore(t *testing.T) {
	for name, purge := range map[string]zone.Purge{
		"url":        {Files: []string{"https://www.example.com/a"}},
		"everything": {Everything: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, Config{}, nil)
				g.e.Advance(5)
				b := newPipeBody()
				g.piped(b, 3, "Cache-Control: max-age=60")
				old := ask(t.Context(), "GET /a")
				_, _ = g.e.Run(&g.plan, old)
				if err := g.e.Purge(testZone, 6, purge); err != nil {
					t.Fatal(err)
				}
				g.serve = always(200, "new", "Cache-Control: max-age=60")
				g.want(g.run("GET /a"), 200, "MISS", "new") // does not join the old fill
				_, _ = b.w.Write([]byte("old"))
				g.want(readAnswer(old), 200, "MISS", "old") // who asked before gets it
				old.Out.Close()
				synctest.Wait()
				g.want(g.run("GET /a"), 200, "HIT", "new")
			})
		})
	}
}

// fetched notes, as the origin's row does, that this edge asked the origin.
func fetched(serve func(*request.Request) error) func(*request.Request) error {
	return func(r *request.Request) error {
		r.Tried.Status = 200
		return serve(r)
	}
}

func TestLargeObjectPassesThroughAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{Bytes: 1 << 20, MaxObject: 4 << 10, Window: 64 << 10}, nil)
		b := newPipeBody()
		g.piped(b, msg.LengthUnknown, "Cache-Control: max-age=60")
		g.serve = fetched(g.serve)
		fast, slow := ask(t.Context(), "GET /a"), ask(t.Context(), "GET /a")
		const size = 1 << 20
		_, _ = g.e.Run(&g.plan, fast)
		_, _ = g.e.Run(&g.plan, slow) // while the fill is open to others
		wrote := make(chan error, 1)
		go func() {
			for range size / 1024 {
				if _, err := b.w.Write(make([]byte, 1024)); err != nil {
					wrote <- err
					return
				}
			}
			wrote <- b.w.Close()
		}()
		all, err := io.ReadAll(fast.Out.Body)
		if len(all) != size || err != nil || <-wrote != nil {
			t.Errorf("fast reader got %d bytes, %v", len(all), err)
		}
		if n, err := io.Copy(io.Discard, slow.Out.Body); !errors.Is(err, stream.ErrLag) {
			t.Errorf("slow reader got %d bytes, %v, want errLag", n, err)
		}
		fast.Out.Close()
		slow.Out.Close()
		synctest.Wait()
		if st := g.e.Stats(); st.Objects != 0 || st.Fills != 0 {
			t.Errorf("stats %+v", st)
		}
		g.serve = fetched(always(200, strings.Repeat("y", 5000), "Cache-Control: max-age=60"))
		if a := g.run("GET /a"); a.cache != "BYPASS" || len(a.body) != 5000 {
			t.Errorf("next request: %s, %d bytes", a.cache, len(a.body))
		}
	})
}

// Visitors who read slowly hold objects that are evicted meanwhile: what they
// hold together is bounded, and keeps no page out of the store.
func TestWhatSlowReadersHoldIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const budget, size = 4 << 20, 1 << 20
		g := newRig(t, Config{Bytes: budget, MaxObject: size, Shards: 1}, always(200, strings.Repeat("x", size), "Cache-Control: max-age=60"))
		var held []*request.Request
		stored := 0
		for i := range 40 {
			target := fmt.Sprintf("GET /%d", i)
			g.run(target)
			r := ask(t.Context(), target)
			if _, err := g.e.Run(&g.plan, r); err != nil {
				t.Fatal(err)
			}
			if held = append(held, r); r.Out.Bytes != nil {
				stored++
			}
			synctest.Wait()
			if st := g.e.Stats(); st.Bytes+st.Pinned+st.Filling > budget+budget/2+size {
				t.Fatalf("after %d slow readers: %+v, budget %d", i+1, st, budget)
			}
		}
		if stored == len(held) {
			t.Error("as many objects were stored as there were slow readers")
		}
		g.serve = always(200, "page", "Cache-Control: max-age=60")
		g.run("GET /page")
		g.want(g.run("GET /page"), 200, "HIT", "page")
		for _, r := range held {
			r.Out.Close()
		}
		synctest.Wait()
		if st := g.e.Stats(); st.Pinned != 0 || st.Filling != 0 {
			t.Errorf("%+v: bytes are held for nobody", st)
		}
		g.serve = always(200, strings.Repeat("y", size), "Cache-Control: max-age=60")
		g.run("GET /again")
		if a := g.run("GET /again"); a.cache != "HIT" {
			t.Errorf("a large object, when nothing is held any more: %s, want HIT", a.cache)
		}
	})
}

func TestInterimAnswersReachTheLeaderWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, nil)
		g.serve = func(r *request.Request) error {
			for range 3 {
				if r.In.Interim != nil {
					var f msg.Fields
					f.Add([]byte("Link"), []byte("</a.css>"))
					_ = r.In.Interim(103, &f)
				}
				time.Sleep(time.Second)
			}
			return reply(r, 200, "ok", "Cache-Control: max-age=60")
		}
		told := 0
		tell := func(status int, _ *msg.Fields) error {
			if told++; status != 103 {
				t.Errorf("status %d", status)
			}
			return nil
		}
		r := ask(t.Context(), "GET /a")
		r.In.Interim = tell
		g.want(g.do(r), 200, "MISS", "ok")
		if told != 3 {
			t.Errorf("told of %d interim answers, want 3", told)
		}
		told = 0
		ctx, leave := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer leave()
		r = ask(ctx, "GET /b")
		r.In.Interim = tell
		g.do(r)
		time.Sleep(time.Minute)
		if told != 2 {
			t.Errorf("told of %d interim answers, want the 2 that came before it left", told)
		}
	})
}

// The page goes on to those who share its fetch while who began it takes not even
// the early hints.
func TestALeaderWhoTakesNoHintsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, nil)
		g.serve = func(r *request.Request) error {
			time.Sleep(time.Second)
			for range 3 * maxEarly {
				var f msg.Fields
				link := []byte("</a.css>")
				f.Add([]byte("Link"), link)
				if err := r.In.Interim(103, &f); err != nil {
					return err
				}
				clear(link) // it is the connection's
			}
			return reply(r, 200, "ok", "Cache-Control: max-age=60")
		}
		gate := make(chan struct{})
		told := 0
		slow := ask(t.Context(), "GET /a")
		slow.In.Interim = func(_ int, fields *msg.Fields) error {
			<-gate
			if told++; string(fields.Lookup("link")) != "</a.css>" {
				t.Errorf("got %q", fields.Lookup("link"))
			}
			return nil
		}
		answered := make(chan *answer, 1)
		go func() { answered <- g.do(slow) }()
		synctest.Wait()
		shares := ask(t.Context(), "GET /a")
		shares.In.Interim = func(int, *msg.Fields) error {
			t.Error("who shares a fetch is told what may be another's")
			return nil
		}
		g.want(g.do(shares), 200, "MISS", "ok")
		close(gate)
		g.want(<-answered, 200, "MISS", "ok")
		if told < maxEarly || told > maxEarly+1 {
			t.Errorf("told of %d, want %d and the one that was being sent", told, maxEarly)
		}
	})
}

func TestLargeObjectWithoutReadersIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{Bytes: 1 << 20, MaxObject: 4 << 10, Window: 64 << 10}, nil)
		b := newPipeBody()
		g.piped(b, msg.LengthUnknown, "Cache-Control: max-age=60")
		go func() {
			for {
				if _, err := b.w.Write(make([]byte, 1024)); err != nil {
					return
				}
			}
		}()
		r := ask(t.Context(), "GET /a")
		_, _ = g.e.Run(&g.plan, r)
		synctest.Wait() // the window is full, the fill waits
		r.Out.Close()
		g.e.Close()
		if st := g.e.Stats(); st.Fills != 0 || st.Filling != 0 || st.Objects != 0 {
			t.Errorf("stats %+v", st)
		}
	})
}

func TestEndOfContextCutsReadersOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, nil)
		b := newPipeBody()
		defer b.Close()
		g.piped(b, 10, "Cache-Control: max-age=60")
		ctx, cancel := context.WithCancel(t.Context())
		r := ask(ctx, "GET /a")
		_, _ = g.e.Run(&g.plan, r)
		got := make(chan error)
		go func() { _, err := r.Out.Body.Read(make([]byte, 1)); got <- err }()
		synctest.Wait()
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Errorf("read error %v", err)
		}
		r.Out.Close()
		_ = b.w.CloseWithError(io.ErrClosedPipe)
	})
}

func TestClosedEngineRefusesFills(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
	g.want(g.run("GET /a"), 200, "MISS", "x")
	g.e.Close()
	g.want(g.run("GET /a"), 200, "HIT", "x")
	if a := g.run("GET /b"); a.fault == nil || a.fault.Kind != fault.Draining {
		t.Errorf("fault %v, want draining", a.fault)
	}
	if st := g.e.Stats(); st.Fills != 0 {
		t.Errorf("%d fills", st.Fills)
	}
}

// Everything is purged while all is asked for: each object is fetched once, and
// nobody gets what was purged.
func TestPurgeEverythingAtLoadFetchesEachOnce(t *testing.T) {
	const objects, visitors = 1000, 8
	var version atomic.Int64
	var fetched [objects]atomic.Int64
	g := newRig(t, Config{}, func(r *request.Request) error {
		i, err := strconv.Atoi(string(r.In.Path[1:]))
		if err != nil {
			return err
		}
		fetched[i].Add(1)
		return reply(r, 200, strconv.FormatInt(version.Load(), 10), "Cache-Control: max-age=600")
	})
	for i := range objects {
		g.run(fmt.Sprint("GET /", i))
	}
	for round := int64(1); round <= 3; round++ {
		version.Store(round)
		if err := g.e.Purge(testZone, uint64(round), zone.Purge{Everything: true}); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for v := range visitors {
			wg.Go(func() {
				for i := range objects {
					a := g.run(fmt.Sprint("GET /", (i+v*7)%objects))
					if a.body != strconv.FormatInt(round, 10) {
						t.Errorf("round %d: got version %q", round, a.body)
						return
					}
				}
			})
		}
		wg.Wait()
		for i := range fetched {
			if n := fetched[i].Load(); n != round+1 {
				t.Fatalf("round %d: object %d was fetched %d times, want %d", round, i, n, round+1)
			}
		}
	}
}
