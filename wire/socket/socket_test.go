package socket

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

func pair(t testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err = new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ours = Wrap(nc)
	t.Cleanup(func() {
		_ = ours.Close()
		_ = theirs.Close()
	})
	if _, ok := ours.(*Conn); !ok {
		t.Fatal("a TCP connection is not wrapped")
	}
	return ours, theirs
}

func TestBytesGoBothWays(t *testing.T) {
	ours, theirs := pair(t)
	sent := make([]byte, 8<<20) // more than the kernel takes at once
	_, _ = rand.Read(sent)
	go func() {
		_, _ = io.Copy(theirs, theirs)
		_ = theirs.Close()
	}()
	wrote := make(chan error, 1)
	go func() {
		_, err := ours.Write(sent)
		wrote <- errors.Join(err, ours.(*Conn).CloseWrite())
	}()
	got, err := io.ReadAll(ours)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(sent), err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if n, err := ours.Read(nil); n != 0 || err != nil {
		t.Errorf("empty read: %d, %v", n, err)
	}
}

func TestDeadlinesAndErrors(t *testing.T) {
	ours, theirs := pair(t)
	if err := ours.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read past its deadline: %v", err)
	}
	if ne, ok := errors.AsType[net.Error](func() error { _, err := ours.Read(make([]byte, 1)); return err }()); !ok || !ne.Timeout() {
		t.Error("a time-out is not one to crypto/tls")
	}
	_ = ours.SetReadDeadline(time.Time{})
	_, _ = theirs.Write([]byte("x"))
	if n, err := ours.Read(make([]byte, 5)); n != 1 || err != nil {
		t.Errorf("after the deadline was lifted: %d, %v", n, err)
	}
	much := make([]byte, 64<<20)
	if err := ours.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := ours.Write(much); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Errorf("write to nobody: %d, %v", n, err)
	}
	_ = theirs.(*net.TCPConn).SetLinger(0)
	_ = theirs.Close()
	_ = ours.SetDeadline(time.Time{})
	if _, err := io.Copy(io.Discard, ours); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read after a reset: %v", err)
	}
	if _, err := ours.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("write after a reset: %v", err)
	}
	_ = ours.Close()
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
}

func TestOthersAreLeftAlone(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if Wrap(a) != a {
		t.Error("a pipe is wrapped")
	}
}

func BenchmarkEcho(b *testing.B) {
	ours, theirs := pair(b)
	go func() { _, _ = io.Copy(theirs, theirs) }()
	p := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ours.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(ours, p); err != nil {
			b.Fatal(err)
		}
	}
}
