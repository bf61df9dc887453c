package tools

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// text is the one message of the service below.
type text = wrapperspb.StringValue

// service has one method of each kind that gRPC knows.
func service(left chan<- struct{}) *grpc.ServiceDesc {
	stream := func(name string, client, server bool, f func(grpc.ServerStream) error) grpc.StreamDesc {
		return grpc.StreamDesc{StreamName: name, ClientStreams: client, ServerStreams: server, Handler: func(_ any, s grpc.ServerStream) error { return f(s) }}
	}
	next := func(s grpc.ServerStream) (string, error) {
		m := new(text)
		err := s.RecvMsg(m)
		return m.GetValue(), err
	}
	return &grpc.ServiceDesc{ServiceName: "lab.Words", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		stream("One", false, false, func(s grpc.ServerStream) error {
			word, err := next(s)
			if err != nil {
				return err
			}
			in, _ := metadata.FromIncomingContext(s.Context())
			s.SetTrailer(metadata.Pairs("seen-by", strings.Join(in.Get("cdn-loop"), ",")))
			if word == "missing" {
				return status.Error(codes.NotFound, "no such word: é")
			}
			return s.SendMsg(wrapperspb.String(strings.ToUpper(word)))
		}),
		stream("Join", true, false, func(s grpc.ServerStream) error {
			all := ""
			for {
				word, err := next(s)
				if errors.Is(err, io.EOF) {
					return s.SendMsg(wrapperspb.String(all))
				}
				if err != nil {
					return err
				}
				all += word
			}
		}),
		stream("Split", false, true, func(s grpc.ServerStream) error {
			words, err := next(s)
			if err != nil {
				return err
			}
			for word := range strings.FieldsSeq(words) {
				if err := s.SendMsg(wrapperspb.String(word)); err != nil {
					return err
				}
			}
			return nil
		}),
		stream("Talk", true, true, func(s grpc.ServerStream) error {
			for {
				word, err := next(s)
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				if err := s.SendMsg(wrapperspb.String(strings.ToUpper(word))); err != nil {
					return err
				}
			}
		}),
		stream("Wait", false, false, func(s grpc.ServerStream) error {
			<-s.Context().Done()
			left <- struct{}{}
			return s.Context().Err()
		}),
	}}
}

// TestGRPC calls a grpc-go server through an edge with a grpc-go client.
func TestGRPC(t *testing.T) {
	chain, key := selfSigned(t, "rpc.test")
	cert, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("origin of https", func(t *testing.T) { callService(t, "https", grpc.Creds(credentials.NewServerTLSFromCert(&cert))) })
	t.Run("origin of http", func(t *testing.T) { callService(t, "http") })
}

func callService(t *testing.T, scheme string, options ...grpc.ServerOption) {
	left := make(chan struct{}, 10)
	server := grpc.NewServer(options...)
	server.RegisterService(service(left), struct{}{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	e := startDev(t)
	e.run(t, "zone", "add", "rpc.test", "--origin", scheme+"://"+l.Addr().String())
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(e.CA)
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s: %v", e.CA, err)
	}
	conn, err := grpc.NewClient("passthrough:///rpc.test", grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "rpc.test"})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", e.Edges[0].HTTPS)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	t.Run("one answer", func(t *testing.T) {
		var trailer metadata.MD
		out := new(text)
		if err := conn.Invoke(t.Context(), "/lab.Words/One", wrapperspb.String("word"), out, grpc.Trailer(&trailer)); err != nil || out.GetValue() != "WORD" {
			t.Errorf("%q, %v", out.GetValue(), err)
		}
		if got := strings.Join(trailer.Get("seen-by"), ""); !strings.HasPrefix(got, "selvage") {
			t.Errorf("it did not come through an edge: %v", trailer)
		}
	})
	t.Run("a failure and its text", func(t *testing.T) {
		err := conn.Invoke(t.Context(), "/lab.Words/One", wrapperspb.String("missing"), new(text))
		if status.Code(err) != codes.NotFound || status.Convert(err).Message() != "no such word: é" {
			t.Errorf("%v", err)
		}
	})
	t.Run("a method that does not exist", func(t *testing.T) {
		if err := conn.Invoke(t.Context(), "/lab.Words/None", wrapperspb.String("x"), new(text)); status.Code(err) != codes.Unimplemented {
			t.Errorf("%v", err)
		}
	})
	t.Run("many words, one answer", func(t *testing.T) {
		s := open(t, t.Context(), conn, "Join", true, false)
		want := ""
		for range 50 {
			word := strings.Repeat("0123456789", 5000) // more than a window in all
			want += word
			say(t, s, word)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if got := hear(t, s); got != want {
			t.Errorf("%d bytes, want %d", len(got), len(want))
		}
	})
	t.Run("one word, many answers", func(t *testing.T) {
		s := open(t, t.Context(), conn, "Split", false, true)
		say(t, s, strings.Repeat("word ", 1000))
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			if got := hear(t, s); got != "word" {
				t.Fatalf("%d: %q", i, got)
			}
		}
		if err := s.RecvMsg(new(text)); !errors.Is(err, io.EOF) {
			t.Errorf("end: %v", err)
		}
	})
	t.Run("both ways in turn", func(t *testing.T) {
		s := open(t, t.Context(), conn, "Talk", true, true)
		for _, word := range []string{"one", "two", "three"} {
			say(t, s, word)
			if got := hear(t, s); got != strings.ToUpper(word) {
				t.Errorf("%q", got)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(new(text)); !errors.Is(err, io.EOF) {
			t.Errorf("end: %v", err)
		}
	})
	t.Run("a caller who leaves is known at the origin", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := conn.Invoke(ctx, "/lab.Words/Wait", wrapperspb.String("x"), new(text)); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		select {
		case <-left:
		case <-time.After(10 * time.Second):
			t.Error("the origin still works for a caller who has left")
		}
	})
}

func open(t *testing.T, ctx context.Context, conn *grpc.ClientConn, name string, client, server bool) grpc.ClientStream {
	t.Helper()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{StreamName: name, ClientStreams: client, ServerStreams: server}, "/lab.Words/"+name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func say(t *testing.T, s grpc.ClientStream, word string) {
	t.Helper()
	if err := s.SendMsg(wrapperspb.String(word)); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, s grpc.ClientStream) string {
	t.Helper()
	m := new(text)
	if err := s.RecvMsg(m); err != nil {
		t.Fatal(err)
	}
	return m.GetValue()
}

// devNetwork is a running selvage dev with one edge.
type devNetwork struct {
	bin, state string
	CA         string `json:"ca"`
	Ready      bool   `json:"ready"`
	Edges      []struct {
		HTTPS string `json:"https"`
		DNS   string `json:"dns"`
	} `json:"edges"`
}

// run runs a subcommand against the network.
func (d *devNetwork) run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), d.bin, append(args, "--state", d.state)...).CombinedOutput(); err != nil {
		t.Fatalf("selvage %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// startDev runs selvage dev until the test ends, and checks that it ends cleanly.
func startDev(t *testing.T) *devNetwork {
	t.Helper()
	d := &devNetwork{bin: binary(t), state: t.TempDir()}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), d.bin, "dev", "--state", d.state, "--no-demo", "--edges", "1",
		"--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0")
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			said, _ := os.ReadFile(log.Name())
			t.Errorf("selvage dev: %v\n%s", err, said)
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for {
		said, err := os.ReadFile(filepath.Join(d.state, "dev.json"))
		if err == nil && json.Unmarshal(said, d) == nil && d.Ready {
			return d
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("selvage dev did not become ready within 30 s")
		}
	}
}
