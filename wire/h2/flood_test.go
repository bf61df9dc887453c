package h2

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

func answer200(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, []byte("x") }

// stuck serves nothing before the test ends.
func stuck(t testing.TB) *msgtest.Site {
	return &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) {
		<-t.Context().Done()
		res.Status = 200
	}}
}

// What a visitor may do without end is counted, and ends its connection.
func TestFloods(t *testing.T) {
	l := Limits{Resets: 20, Pings: 20, Settings: 20, Empty: 20, Updates: 20, Windowing: 20}
	for _, c := range []struct {
		name   string
		reason Reason
		flood  func(p *peer, i uint32) error
	}{
		{"rapid reset", ResetFlood, func(p *peer, i uint32) error {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: p.lines(get("/")...), EndHeaders: true, EndStream: true})
			return p.fr.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}},
		{"made you reset by an empty update", ResetFlood, func(p *peer, i uint32) error {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: p.lines(get("/")...), EndHeaders: true, EndStream: true})
			return p.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, 2*i+1, []byte{0, 0, 0, 0})
		}},
		{"made you reset by data behind the end", ResetFlood, func(p *peer, i uint32) error {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: p.lines(get("/")...), EndHeaders: true, EndStream: true})
			return p.fr.WriteData(2*i+1, true, []byte("x"))
		}},
		{"malformed", ResetFlood, func(p *peer, i uint32) error {
			return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: p.lines(get("no")...), EndHeaders: true, EndStream: true})
		}},
		{"ping", PingFlood, func(p *peer, i uint32) error { return p.fr.WritePing(false, [8]byte{}) }},
		{"settings", SettingsFlood, func(p *peer, i uint32) error { return p.fr.WriteSettings() }},
		{"settings acknowledged", EmptyFlood, func(p *peer, i uint32) error { return p.fr.WriteSettingsAck() }},
		{"empty data", EmptyFlood, func(p *peer, i uint32) error {
			if i == 0 {
				_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.lines(post("/")...), EndHeaders: true})
			}
			return p.fr.WriteData(1, false, nil)
		}},
		{"unknown", EmptyFlood, func(p *peer, i uint32) error { return p.fr.WriteRawFrame(0xbb, 0, 0, nil) }},
		{"priority", PriorityFlood, func(p *peer, i uint32) error { return p.fr.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }},
		{"priority update", PriorityFlood, func(p *peer, i uint32) error {
			return p.fr.WriteRawFrame(http2.FrameType(0x10), 0, 0, []byte("\x00\x00\x00\x01u=1"))
		}},
		{"window update", WindowFlood, func(p *peer, i uint32) error { return p.fr.WriteWindowUpdate(0, 1) }},
		{"continuation", HeadFlood, func(p *peer, i uint32) error {
			if i == 0 {
				return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.lines(get("/")...)})
			}
			return p.fr.WriteContinuation(1, false, p.lines(fmt.Sprintf("a%d", i), strings.Repeat("x", 4000)))
		}},
		{"empty continuation", EmptyFlood, func(p *peer, i uint32) error {
			if i == 0 {
				return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.lines(get("/")...)})
			}
			return p.fr.WriteContinuation(1, false, nil)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewServer(stuck(t), l)
				p := dialServer(t, s, 1<<20)
				for i := range uint32(100) {
					if c.flood(p, i) != nil {
						break // the connection has ended
					}
				}
				if got := p.last(); !strings.HasPrefix(got, "GOAWAY") || !strings.HasSuffix(got, "ENHANCE_YOUR_CALM") {
					t.Errorf("last frame %q, want GOAWAY with ENHANCE_YOUR_CALM", got)
				}
				if st := s.Stats(); st.Ended[c.reason] != 1 {
					t.Errorf("%d ended for %s, want 1: %v", st.Ended[c.reason], c.reason, st.Ended)
				}
			})
		})
	}
}

// A visitor that does the same slowly is a visitor.
func TestSlowlyIsNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := dial(t, inline(answer200), Limits{Pings: 5, FloodTime: time.Second, IdleTimeout: time.Hour})
		for range 50 {
			p.send(func() error { return p.fr.WritePing(false, [8]byte{}) })
			p.want("PING true")
			time.Sleep(time.Second / 4)
		}
	})
}

// Requests that the visitor gave up count while somebody still serves them.
func TestAbandonedRequestsCountUntilServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stuck(t)
		p := dial(t, s, Limits{Streams: 4})
		refused := 0
		for i := range uint32(20) {
			p.headers(2*i+1, true, get("/")...)
			p.send(func() error { return p.fr.WriteRSTStream(2*i+1, http2.ErrCodeCancel) })
		}
		p.send(func() error { return p.fr.WritePing(false, [8]byte{}) })
		for got := p.next(); got != "PING true"; got = p.next() {
			if !strings.HasSuffix(got, "REFUSED_STREAM") {
				t.Errorf("got %q", got)
			}
			refused++
		}
		synctest.Wait()
		if s.Served != 8 || refused != 12 {
			t.Errorf("%d served at a time and %d refused, want 8 and 12", s.Served, refused)
		}
	})
}

func TestTooManyAtATimeAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &msgtest.Site{Answer: func(_ *msg.Request, res *msg.Response) { <-release; res.Status = 200 }}
		p := dial(t, s, Limits{Streams: 2})
		for _, id := range []uint32{1, 3, 5} {
			p.headers(id, true, get("/")...)
		}
		p.want("RST_STREAM 5 REFUSED_STREAM")
		release <- struct{}{}
		p.next()
		p.headers(7, true, get("/")...)
		close(release)
		p.next()
		p.next()
	})
}
