package slab

import (
	"bytes"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the kernel has taken to send stays as it was when its block is discarded
// and the memory is used again, though the visitor has not read it yet.
func TestWhatIsBeingSentStays(t *testing.T) {
	s := New(1<<20, Options{Poison: true})
	defer s.Close()
	block := s.Paged(64<<10, false)
	for i := range block {
		block[i] = byte(i % 251)
	}
	want := bytes.Clone(block)
	f, at, from, to := s.File(block)
	if f == nil || to != len(block) {
		t.Fatalf("of %d bytes those from %d to %d lie in a file %v", len(block), from, to, f)
	}
	ours, theirs := connection(t)
	raw, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sent int
	if err := raw.Control(func(fd uintptr) { sent, err = unix.Sendfile(int(fd), int(f.Fd()), &at, to-from) }); err != nil { //nolint:gosec // descriptors are small
		t.Fatal(err)
	}
	if err != nil || sent == 0 {
		t.Fatalf("sent %d: %v", sent, err)
	}
	s.Discard(block)
	for range 40 { // many times what there is
		b := s.Alloc(60 << 10)
		for i := range b {
			b[i] = 'x'
		}
		s.Free(b)
	}
	got := make([]byte, sent)
	if _, err := io.ReadFull(theirs, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want[from:from+sent]) {
		t.Error("the visitor reads what was written after the block was discarded")
	}
	s.verify(t)
}

// connection returns both ends of one over TCP.
func connection(t *testing.T) (ours, theirs *net.TCPConn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), c.Close() })
	return a.(*net.TCPConn), c.(*net.TCPConn)
}

// What is given back leaves the process.
func TestPagesGoBackToTheSystem(t *testing.T) {
	before := resident(t)
	s := New(128<<20, Options{})
	defer s.Close()
	var list [][]byte
	for range 100 {
		b := s.Alloc(1 << 20)
		for i := range b {
			b[i] = 1
		}
		list = append(list, b)
	}
	full := resident(t)
	for _, b := range list {
		s.Free(b)
	}
	s.Scavenge()
	if after := resident(t); full-before < 90<<20 || after-before > 20<<20 {
		t.Errorf("resident before %d, full %d, after %d", before, full, after)
	}
}

// resident is the process's resident memory in bytes.
func resident(t *testing.T) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * int64(os.Getpagesize())
}
