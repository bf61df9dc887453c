package h1

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

// ask makes a request value for the client.
func ask(method, target string) *msg.Request {
	return &msg.Request{
		MethodText: []byte(method), Method: msg.MethodOf([]byte(method)), Target: []byte(target),
		Authority: []byte("o.test"), Proto: msg.HTTP11,
	}
}

func TestClientAgainstServer(t *testing.T) {
	s := &site{serve: describe}
	visitor, _ := start(t, NewServer(s, Limits{}), 1<<20)
	c := NewClient(visitor, ClientLimits{})
	for i := range 3 {
		req := ask("POST", "/x")
		req.Fields.Add([]byte("X-A"), []byte("1"))
		req.Length = msg.LengthUnknown
		var res msg.Response
		if err := c.Do(t.Context(), req, strings.NewReader("hello"), &res); err != nil {
			t.Fatal(i, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(i, err)
		}
		want := "POST /x @o.test|Host=o.test|X-A=1|Transfer-Encoding=chunked|body=hello"
		if got := string(body); got != want {
			t.Errorf("%d: body = %q, want %q", i, got, want)
		}
		res.Close()
		if !c.Reusable() {
			t.Fatalf("%d: not reusable", i)
		}
	}
}

// origin plays the other side of a client: it reads one head, says raw, and
// ends its side.
func origin(t *testing.T, raw string) *Client {
	t.Helper()
	a, b := memConns(1 << 20)
	if _, err := b.Write([]byte(raw)); err != nil {
		t.Fatal(err)
	}
	_ = b.CloseWrite()
	c := NewClient(a, ClientLimits{})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func kindOf(err error) string {
	if err == nil {
		return "ok"
	}
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return "no fault"
	}
	return f.Side.String() + " " + f.Kind.String()
}
