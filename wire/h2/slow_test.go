package h2

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// A byte now and then keeps neither a request nor a connection for ever, and
// who keeps to the rate is waited for.
func TestDribblingVisitors(t *testing.T) {
	window := func(stream uint32, n uint32) func(*peer) error {
		return func(p *peer) error { return p.fr.WriteWindowUpdate(stream, n) }
	}
	for name, c := range map[string]struct {
		large  bool // the answer, and the body is not read
		begin  func(p *peer)
		more   func(p *peer) error
		every  time.Duration
		reason Reason // None = it may go on
	}{
		"body": {
			begin:  func(p *peer) { p.headers(1, false, post("/")...) },
			more:   func(p *peer) error { return p.fr.WriteData(1, false, []byte("x")) },
			every:  29 * time.Second,
			reason: SlowBody,
		},
		"body of padding": {
			begin:  func(p *peer) { p.headers(1, false, post("/")...) },
			more:   func(p *peer) error { return p.fr.WriteDataPadded(1, false, nil, make([]byte, 200)) },
			every:  10 * time.Second,
			reason: SlowBody,
		},
		"inside a frame": {
			begin: func(p *peer) {
				p.headers(1, false, post("/")...)
				_, _ = p.nc.Write([]byte{0, 0x40, 0, 0, 0, 0, 0, 0, 1})
			},
			more:   func(p *peer) error { _, err := p.nc.Write([]byte("x")); return err },
			every:  9 * time.Second,
			reason: SlowBody,
		},
		"inside a frame of a body that nobody reads": {
			large: true,
			begin: func(p *peer) {
				p.headers(1, false, post("/")...)
				_, _ = p.nc.Write([]byte{0, 0x40, 0, 0, 0, 0, 0, 0, 1})
			},
			more:   func(p *peer) error { _, err := p.nc.Write([]byte("x")); return err },
			every:  9 * time.Second,
			reason: SlowBody,
		},
		"body at the rate": {
			begin: func(p *peer) { p.headers(1, false, post("/")...) },
			more:  func(p *peer) error { return p.fr.WriteData(1, false, make([]byte, 20*240)) },
			every: 20 * time.Second,
		},
		"calls of gRPC": {
			begin: func(p *peer) { p.headers(1, false, post("/", "content-type", "application/grpc")...) },
			more:  func(p *peer) error { return p.fr.WriteData(1, false, []byte("x")) },
			every: 29 * time.Second,
		},
		"the window of a stream": {
			large:  true,
			begin:  func(p *peer) { _ = window(0, 1<<20)(p); p.headers(1, true, get("/")...) },
			more:   window(1, 1),
			every:  900 * time.Millisecond,
			reason: SlowReader,
		},
		"the window of the connection": {
			large:  true,
			begin:  func(p *peer) { p.headers(1, true, get("/")...); _ = window(1, 1<<20)(p) },
			more:   window(0, 1),
			every:  2100 * time.Millisecond,
			reason: SlowReader,
		},
		"a window at the rate": {
			large: true,
			begin: func(p *peer) { _ = window(0, 1<<20)(p); p.headers(1, true, get("/")...) },
			more:  window(1, 20*240),
			every: 20 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var h msg.Handler = readBody(make(chan error, 1))
				if c.large {
					h = inlineSite()
				}
				s := NewServer(h, Limits{})
				p := dialServer(t, s, 4<<20)
				c.begin(p)
				for at := time.Duration(0); at < 3*time.Minute && c.more(p) == nil; at += c.every {
					time.Sleep(c.every)
					if n := s.Stats().Ended[SlowBody] + s.Stats().Ended[SlowReader]; n > 0 {
						if c.reason == None || s.Stats().Ended[c.reason] != 1 || at > 105*time.Second {
							t.Errorf("after %v: %v", at, s.Stats().Ended)
						}
						return
					}
				}
				if c.reason != None {
					t.Errorf("it goes on: %v", s.Stats().Ended)
				}
			})
		})
	}
}

// What waits for its turn behind a more urgent answer is not slow to be taken.
func TestALessUrgentAnswerWaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(inlineSite(), Limits{})
		p := dialServer(t, s, 4<<20)
		p.headers(1, true, get("/", "priority", "u=1")...)
		p.headers(3, true, get("/", "priority", "u=6")...)
		p.send(func() error { return p.fr.WriteWindowUpdate(1, 1<<20) })
		p.send(func() error { return p.fr.WriteWindowUpdate(3, 1<<20) })
		for range 180 {
			time.Sleep(time.Second)
			p.send(func() error { return p.fr.WriteWindowUpdate(0, 5000) })
		}
		if n := s.Stats().Ended[SlowReader]; n != 0 {
			t.Errorf("%d ended", n)
		}
	})
}

func inlineSite() msg.Handler {
	return inline(func(_ *msg.Request, res *msg.Response) { res.Status, res.Bytes = 200, make([]byte, 1<<20) })
}
