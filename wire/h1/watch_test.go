package h1

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// leaver is a site whose requests wait until their visitor has left.
type leaver struct {
	msgtest.Site
	once sync.Once
	left chan struct{}
}

func (l *leaver) Open(*msg.Conn) msg.Session { return l }
func (l *leaver) Left()                      { l.once.Do(func() { close(l.left) }) }

// tcpPair serves one TCP connection, quickly watched, and returns the visitor's end.
func tcpPair(t *testing.T, h msg.Handler) (visitor *net.TCPConn, done <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(h, Limits{})
	s.conns.Every = 20 * time.Millisecond
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.ServeConn(far, new(msg.Conn))
	}()
	return nc.(*net.TCPConn), ended
}

func TestSessionIsToldThatItsVisitorLeft(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn) error{
		"reset": func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() },
		"close": func(c *net.TCPConn) error { return c.Close() },
		"half":  func(c *net.TCPConn) error { return c.CloseWrite() },
		"close behind more requests": func(c *net.TCPConn) error {
			_, _ = io.WriteString(c, get+get)
			return c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := make(chan struct{}, 3)
			s := &leaver{left: make(chan struct{})}
			s.Answer = func(_ *msg.Request, res *msg.Response) {
				in <- struct{}{}
				<-s.left
				res.Status, res.EndConn = 499, true
			}
			visitor, done := tcpPair(t, s)
			if _, err := io.WriteString(visitor, get); err != nil {
				t.Fatal(err)
			}
			<-in
			if err := leave(visitor); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			select {
			case <-s.left:
			case <-ctx.Done():
				s.Left()
				t.Error("the session was not told")
			}
			<-done
		})
	}
}

func TestWhoIsThereIsNotTakenForGone(t *testing.T) {
	s := &leaver{left: make(chan struct{})}
	s.Answer = func(_ *msg.Request, res *msg.Response) {
		select {
		case <-s.left:
		case <-time.After(300 * time.Millisecond):
		}
		res.Status, res.Bytes = 200, []byte("ok")
	}
	visitor, _ := tcpPair(t, s)
	for range 2 {
		if _, err := io.WriteString(visitor, get); err != nil {
			t.Fatal(err)
		}
		var b [4096]byte
		if n, err := visitor.Read(b[:]); err != nil || string(b[:15]) != "HTTP/1.1 200 OK" {
			t.Fatalf("%q, %v", b[:n], err)
		}
	}
	select {
	case <-s.left:
		t.Error("a visitor who waits was taken for one who has left")
	default:
	}
}

// Who has ended its side after the request may still be listening: as long as
// it takes what comes it has not left.
func TestWhoTakesTheAnswerHasNotLeft(t *testing.T) {
	s := &leaver{left: make(chan struct{})}
	r, w := io.Pipe()
	s.Answer = func(_ *msg.Request, res *msg.Response) {
		res.Status, res.Length, res.Body = 200, msg.LengthUnknown, r
	}
	visitor, done := tcpPair(t, s)
	if _, err := io.WriteString(visitor, get); err != nil {
		t.Fatal(err)
	}
	if err := visitor.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range 4 * endedRounds {
			<-tick.C
			_, _ = w.Write([]byte("piece"))
		}
		_ = w.Close()
	}()
	out, err := io.ReadAll(visitor)
	if n := bytes.Count(out, []byte("piece")); err != nil || n != 4*endedRounds {
		t.Errorf("%d pieces, %v", n, err)
	}
	<-done
	select {
	case <-s.left:
		t.Error("a visitor who takes the answer was taken for one who has left")
	default:
	}
}

// The watch must not outlive the connections, nor need a descriptor.
func TestWatchEndsWithTheLastConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &msgtest.Site{}
		s.Answer = func(_ *msg.Request, res *msg.Response) {
			time.Sleep(time.Minute)
			res.Status, res.Bytes = 200, []byte("ok")
		}
		srv := NewServer(s, Limits{})
		watch, looks := srv.conns.Look, 0
		srv.conns.Look = func() { looks++; watch() }
		visitor, done := start(t, srv, 1<<20)
		_, _ = visitor.Write([]byte(get))
		_ = visitor.CloseWrite()
		if out, err := io.ReadAll(visitor); err != nil || len(out) == 0 {
			t.Errorf("%q, %v", out, err)
		}
		<-done
		synctest.Wait()
		before := looks
		time.Sleep(5 * watchEvery)
		synctest.Wait()
		if looks != before {
			t.Error("the watch runs on without connections")
		}
	})
}
