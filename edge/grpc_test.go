package edge

import (
	"io"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
)

// call is a request of gRPC whose caller waits for timeout, "" = for ever.
func call(timeout string) *msg.Request {
	in := ask("/pkg.Service/Method")
	in.Method, in.MethodText, in.Proto = msg.POST, []byte("POST"), msg.HTTP2
	in.Fields.AddID(msg.ContentType, []byte("application/grpc+proto"))
	if timeout != "" {
		in.Fields.Add([]byte("grpc-timeout"), []byte(timeout))
	}
	return in
}

func TestGRPCStatusSaysWhatACallerMayDo(t *testing.T) {
	for _, c := range []struct {
		side    fault.Side
		kind    fault.Kind
		timeout string
		want    int
	}{
		{fault.Origin, fault.Refused, "", 14}, {fault.Origin, fault.Timeout, "", 14}, {fault.Origin, fault.Closed, "1H", 14},
		{fault.Origin, fault.Limit, "", 14}, {fault.Origin, fault.Malformed, "", 13}, {fault.Origin, fault.Loop, "", 13}, {fault.Origin, fault.Version, "", 13},
		{fault.Origin, fault.Closed, "1n", 4}, {fault.Origin, fault.Timeout, "1n", 4}, {fault.Origin, fault.Closed, "1x", 14},
		{fault.Visitor, fault.NotFound, "", 12}, {fault.Visitor, fault.Forbidden, "", 7}, {fault.Visitor, fault.TooLarge, "", 8},
		{fault.Visitor, fault.TooEarly, "", 14}, {fault.Visitor, fault.Timeout, "", 4}, {fault.Visitor, fault.Closed, "", 1},
		{fault.Visitor, fault.Malformed, "", 13}, {fault.Edge, fault.Other, "1n", 13}, {fault.Edge, fault.Draining, "", 14},
		{fault.Edge, fault.Limit, "", 14}, {fault.Control, fault.Other, "", 13},
	} {
		r := &Request{In: call(c.timeout), Start: time.Now().Add(-time.Second), Fault: &fault.Error{Side: c.side, Kind: c.kind}}
		if got := grpcStatusOf(r); got != c.want {
			t.Errorf("%s, %s, %q: %d, want %d", c.side, c.kind, c.timeout, got, c.want)
		}
	}
	for code, want := range map[frame.Code]int{
		frame.NoError: 13, frame.InternalError: 13, frame.RefusedStream: 14, frame.Cancel: 1, frame.EnhanceYourCalm: 8, frame.InadequateSecurity: 7, 99: 13,
	} {
		if got := grpcResetStatus(code); got != want {
			t.Errorf("%s: %d, want %d", code, got, want)
		}
	}
}

// A server whose clock runs a little fast still ends by the deadline.
func TestADeadlineIsOverALittleEarly(t *testing.T) {
	for timeout, want := range map[string]bool{"10000001m": true, "9999999m": true, "11000000m": false, "": false} {
		r := &Request{In: call(timeout), Start: time.Now().Add(-10_000 * time.Second)}
		if got := expired(r); got != want {
			t.Errorf("%q: %v", timeout, got)
		}
	}
}

func TestCallsOfGRPCGetNoPages(t *testing.T) {
	e := inMemory(t, site(), func(*Request) error { return io.EOF })
	s := e.Open(conn())
	defer s.Close()
	in, out := call(""), new(msg.Response)
	in.Authority = []byte("unknown.example")
	if status, body, err := turn(s, in, out); status != 200 || body != 0 || err != nil {
		t.Fatalf("%d, %d bytes, %v", status, body, err)
	}
	in = call("")
	in.Authority = []byte("unknown.example")
	out.Reset()
	s.Serve(in, out)
	if got := string(out.Fields.Lookup("grpc-status")); got != "12" {
		t.Errorf("grpc-status %q", got)
	}
	if kind := string(out.Fields.Get(msg.ContentType)); kind != "application/grpc" || out.Fields.Get(msg.CFRay) == nil {
		t.Errorf("content-type %q, ray %q", kind, out.Fields.Get(msg.CFRay))
	}
	s.Done(in, out, 0, nil)
}
