package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// Everything that is waited for has its time.
func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(p *peer)
		after  time.Duration
		reason Reason
		last   string
	}{
		{"no preface", func(*peer) {}, 10 * time.Second, SlowPreface, "GOAWAY 0 SETTINGS_TIMEOUT"},
		{"half a preface", func(p *peer) { _, _ = p.nc.Write([]byte(frame.Preface[:10])) }, 10 * time.Second, SlowPreface, "GOAWAY 0 SETTINGS_TIMEOUT"},
		{"no settings", func(p *peer) { _, _ = p.nc.Write([]byte(frame.Preface)) }, 10 * time.Second, SlowPreface, "GOAWAY 0 SETTINGS_TIMEOUT"},
		{"idle", func(p *peer) { greet(p) }, 75 * time.Second, Idle, "GOAWAY 0 NO_ERROR"},
		{"idle after a request", func(p *peer) { greet(p); p.headers(1, true, get("/")...) }, 75 * time.Second, Idle, "GOAWAY 1 NO_ERROR"},
		{"idle with pings", func(p *peer) {
			greet(p)
			for range 20 {
				time.Sleep(5 * time.Second)
				if p.fr.WritePing(false, [8]byte{}) != nil {
					return
				}
			}
		}, 75 * time.Second, Idle, "GOAWAY 0 NO_ERROR"},
		{"half a frame", func(p *peer) { greet(p); _, _ = p.nc.Write([]byte{0, 0, 8, 6, 0}) }, 15 * time.Second, SlowHead, "GOAWAY 0 PROTOCOL_ERROR"},
		{"half a section", func(p *peer) {
			greet(p)
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.lines(get("/")...)})
		}, 15 * time.Second, SlowHead, "GOAWAY 0 PROTOCOL_ERROR"},
		{"a section byte by byte", func(p *peer) {
			greet(p)
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.lines(get("/")...)})
			for range 30 {
				time.Sleep(time.Second)
				if p.fr.WriteContinuation(1, false, p.lines("a", "b")) != nil {
					return
				}
			}
		}, 15 * time.Second, SlowHead, "GOAWAY 0 PROTOCOL_ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewServer(inline(answer200), Limits{})
				begin := time.Now()
				p := bare(t, s, 1<<20)
				go c.do(p)
				last := p.last()
				took := time.Since(begin)
				if last != c.last || took < c.after || took > c.after+3*time.Second {
					t.Errorf("ended by %q after %s, want %q after %s", last, took, c.last, c.after)
				}
				if n := s.Stats().Ended[c.reason]; n != 1 {
					t.Errorf("%d counted as %s, want 1", n, c.reason)
				}
				time.Sleep(time.Minute) // do ends
			})
		})
	}
}

func greet(p *peer) {
	_, _ = p.nc.Write([]byte(frame.Preface))
	_ = p.fr.WriteSettings()
}

// readBody answers with how reading the body went.
func readBody(got chan<- error) *msgtest.Site {
	return &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
		_, err := io.ReadAll(req.Body)
		got <- err
		res.Status = 200
		if err != nil {
			res.Status = 408
		}
	}}
}

func TestSlowBodyIsATimeoutOfItsRequestOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan error, 1)
		p := dial(t, readBody(got), Limits{})
		p.headers(1, false, post("/")...)
		p.data(1, false, "abc")
		begin := time.Now()
		err := <-got
		if f, ok := errors.AsType[*fault.Error](err); !ok || f.Side != fault.Visitor || f.Kind != fault.Timeout {
			t.Errorf("body ended by %v", err)
		}
		if took := time.Since(begin); took < 30*time.Second || took > 33*time.Second {
			t.Errorf("after %s", took)
		}
		p.want("HEADERS 1 408 end", "RST_STREAM 1 NO_ERROR")
		p.headers(3, false, post("/")...)
		p.data(3, true, "abc")
		p.want("HEADERS 3 200 end")
	})
}

// Who listens to an answer that has begun may have nothing to say for long.
func TestSilenceWhileTheAnswerStreamsIsNoSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dial(t, &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
			res.Status, res.Length, res.Body = 200, msg.LengthUnknown, io.NopCloser(req.Body)
		}}, Limits{})
		p.headers(1, false, post("/")...)
		p.data(1, false, "abc")
		p.want("HEADERS 1 200", "DATA 1 3")
		time.Sleep(5 * time.Minute)
		p.data(1, true, "de")
		p.want("DATA 1 2", "DATA 1 0 end")
	})
}

// A visitor that takes nothing costs a buffer, not a goroutine for ever.
func TestSlowReaders(t *testing.T) {
	big := func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, make([]byte, 1<<20) }
	for _, c := range []struct {
		name   string
		window int
		h      msg.Handler
		last   string
	}{
		{"closed window, bytes", 1 << 20, inline(big), "RST_STREAM 1 CANCEL"},
		{"closed window, stream", 1 << 20, &msgtest.Site{Answer: func(req *msg.Request, res *msg.Response) {
			big(req, res)
			res.Length, res.Body, res.Bytes = 1<<20, io.NopCloser(bytes.NewReader(res.Bytes)), nil
		}}, "RST_STREAM 1 CANCEL"},
		{"socket not read", 1000, inline(big), "end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewServer(c.h, Limits{})
				p := dialServer(t, s, c.window)
				p.headers(1, true, get("/")...)
				time.Sleep(35 * time.Second)
				if n := s.Stats().Ended[SlowReader]; n != 1 {
					t.Errorf("%d counted, want 1", n)
				}
				if c.last == "end" {
					<-p.ended
					return
				}
				for got := ""; got != c.last; {
					if got = p.next(); got == "end" {
						t.Fatalf("no %q", c.last)
					}
				}
			})
		})
	}
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		site := &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) { <-release; res.Status = 200 }}
		s := NewServer(site, Limits{})
		p := dialServer(t, s, 1<<20)
		idle := dialServer(t, s, 1<<20)
		p.headers(1, true, get("/")...)
		synctest.Wait()
		drained := make(chan error)
		go func() { drained <- s.Drain(t.Context()) }()
		p.want("GOAWAY 2147483647 NO_ERROR", "PING false")
		p.headers(3, true, get("/on-its-way")...)
		p.send(func() error { return p.fr.WritePing(true, drainPing) })
		p.want("GOAWAY 3 NO_ERROR")
		p.headers(5, true, get("/late")...)
		idle.want("GOAWAY 2147483647 NO_ERROR", "PING false", "GOAWAY 0 NO_ERROR")
		close(release)
		for range 2 {
			if got := p.next(); got != "HEADERS 1 200 end" && got != "HEADERS 3 200 end" {
				t.Errorf("got %q", got)
			}
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if strings.Contains(site.Calls(), "/late") {
			t.Error("a request beyond the last stream was served")
		}
	})
}

func TestDrainCutsAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := make(chan struct{})
		s := NewServer(leaver{&msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) { <-left; res.Status = 200 }}, left}, Limits{})
		p := dialServer(t, s, 1<<20)
		p.headers(1, true, get("/")...)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := s.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drain: %v", err)
		}
		<-p.ended
	})
}

// leaver closes left when its visitor has gone.
type leaver struct {
	*msgtest.Site
	left chan struct{}
}

func (l leaver) Open(*msg.Conn) msg.Session { return l }
func (l leaver) Left()                      { close(l.left) }

func TestLeftIsTold(t *testing.T) {
	for name, leave := range map[string]func(p *peer){
		"reset":  func(p *peer) { p.send(func() error { return p.fr.WriteRSTStream(1, http2.ErrCodeCancel) }) },
		"closed": func(p *peer) { _ = p.nc.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left := make(chan struct{})
				site := &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) { <-left; res.Status = 200 }}
				p := dial(t, leaver{site, left}, Limits{})
				p.headers(1, true, get("/")...)
				synctest.Wait()
				leave(p)
				synctest.Wait()
				if got := site.Calls(); got != "serve GET /\ndone\nclose" {
					t.Errorf("calls: %s", got)
				}
				if f, ok := errors.AsType[*fault.Error](site.Err); !ok || f.Side != fault.Visitor {
					t.Errorf("Done was told %v", site.Err)
				}
			})
		})
	}
}

// An idle connection gives back what it holds, and serves on afterwards.
func TestSparedConnectionServesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		site := inline(answer200)
		p := dial(t, site, Limits{})
		for _, id := range []uint32{1, 3, 5} {
			p.headers(id, true, get("/", "x-long", strings.Repeat("y", 100))...)
			p.want("HEADERS "+string('0'+byte(id))+" 200", "DATA "+string('0'+byte(id))+" 1 end")
			time.Sleep(10 * time.Second)
			if got := site.Calls(); !strings.HasSuffix(got, "done\nclose") {
				t.Errorf("after some time: %s", got)
			}
		}
	})
}
