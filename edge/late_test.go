package edge

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/wire/h1"
	"github.com/selvage-edge/selvage/wire/h2"
	"github.com/selvage-edge/selvage/wire/h3"
	"github.com/selvage-edge/selvage/wire/msg"
)

// endless answers with a body that has no end.
type endless struct{}

func (endless) Open(*msg.Conn) msg.Session { return endless{} }

func (endless) Serve(_ *msg.Request, res *msg.Response) {
	res.Status, res.Length, res.Body = 200, msg.LengthUnknown, zeros{}
}

func (endless) Done(*msg.Request, *msg.Response, int64, error) {}
func (endless) Refused(int, error)                             {}
func (endless) Close()                                         {}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
func (zeros) Close() error               { return nil }

// A visitor whose handshake ends behind Drain, and who reads an answer slowly,
// does not keep an edge from ending.
func TestVisitorsBehindDrainAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var handler endless
		ctx, cut := context.WithCancel(t.Context())
		e := &Edge{h1: h1.NewServer(handler, h1.Limits{}), h2: h2.NewServer(handler, h2.Limits{}), h3: h3.NewServer(handler, h3.Limits{}), requests: ctx, cutRequests: cut}
		if err := e.h1.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		far, near := net.Pipe()
		e.visitors.Go(func() { e.h1.ServeConn(near, &msg.Conn{}) })
		reading := make(chan struct{})
		go func() {
			defer close(reading)
			_, _ = io.WriteString(far, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			for p := make([]byte, 1); ; time.Sleep(time.Second) {
				if _, err := far.Read(p); err != nil {
					return
				}
			}
		}()
		time.Sleep(10 * time.Second)
		cut()
		began := time.Now()
		e.cutVisitors()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		<-reading
	})
}
