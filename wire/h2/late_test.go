package h2

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// An answer may end a stream while the loop, which has found the stream, hands
// over the last of its body: what then says END_STREAM must not end it again.
func TestEndOfBodyBehindAnswer(t *testing.T) {
	s := &msgtest.Site{Answer: msgtest.Describe}
	_, nc := msgtest.Conns(1 << 20)
	c := newConn(NewServer(s, Limits{}), nc, new(msg.Conn))
	st, _ := c.take()
	st.id, st.req.Length = 1, 3
	c.openBody(st)
	b := st.body
	c.mu.Lock()
	c.openOut()
	c.list(st)
	c.endLocal(st)
	c.mu.Unlock()
	if err := c.bodyData(1, b, []byte("abc"), true); err != nil {
		t.Fatal(err)
	}
	if len(c.done) != 1 {
		t.Fatalf("the stream is finished %d times", len(c.done))
	}
	c.flush(0)
	again, _ := c.take()
	if again != st {
		t.Fatal("the stream is not used again")
	}
	c.mu.Lock()
	st.id = 3
	c.list(st)
	c.mu.Unlock()
	if err := c.bodyEnd(1, b); err != nil || st.remoteEnd {
		t.Errorf("the end of request 1 ended request 3 (%v)", err)
	}
}

// aSession notes whether it is asked for two things at once.
type aSession struct {
	busy, broken *atomic.Int32
	own          atomic.Bool
	closed       atomic.Bool
}

func (s *aSession) Serve(req *msg.Request, res *msg.Response) {
	if s.own.Swap(true) || s.closed.Load() {
		s.broken.Add(1)
	}
	s.busy.Add(1)
	_, _ = io.ReadFull(req.Body, make([]byte, req.Length))
	res.Status, res.Bytes = 200, []byte("ok")
}

func (s *aSession) Done(*msg.Request, *msg.Response, int64, error) {
	if !s.own.Swap(false) {
		s.broken.Add(1)
	}
	s.busy.Add(-1)
}

func (s *aSession) Refused(int, error) {}

func (s *aSession) Close() {
	if s.closed.Swap(true) {
		s.broken.Add(1)
	}
}

type sessions struct{ busy, broken atomic.Int32 }

func (s *sessions) Open(*msg.Conn) msg.Session {
	return &aSession{busy: &s.busy, broken: &s.broken}
}

// A handler that reads no further than the announced length answers while the
// loop is still at the frame that brought the end.
func TestAnswerRacesEndOfBody(t *testing.T) {
	h := new(sessions)
	p := dial(t, h, Limits{Resets: 1 << 20})
	text := strings.Repeat("x", 100)
	for i := range uint32(500) {
		id := 2*i + 1
		p.headers(id, false, post("/", "content-length", "100")...)
		p.data(id, true, text)
		for got := p.next(); !strings.HasPrefix(got, "DATA"); got = p.next() {
			if strings.HasPrefix(got, "GOAWAY") || got == "end" {
				t.Fatalf("request %d: %s", id, got)
			}
		}
	}
	_ = p.nc.Close()
	<-p.ended
	if h.busy.Load() != 0 || h.broken.Load() != 0 {
		t.Errorf("%d requests not done; a session was used wrongly %d times", h.busy.Load(), h.broken.Load())
	}
}
