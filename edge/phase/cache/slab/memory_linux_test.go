package slab

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

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
