package slab

import (
	"os"
	"unsafe"
)

// memory is where a slab's addresses come from. Its pages begin zeroed.
type memory interface {
	base() unsafe.Pointer
	// discard gives whole pages back; they read as zero, or as before.
	discard(off, n uintptr)
	// file is what holds the memory, at the same offsets; nil = none.
	file() *os.File
	drop()
}

// heapBytes is memory on the Go heap, free of pointers.
type heapBytes struct{ b []byte }

func heapMemory(n uintptr) memory {
	b := make([]byte, n+page)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % page
	return &heapBytes{b[skip : skip+n]}
}

func (m *heapBytes) base() unsafe.Pointer     { return unsafe.Pointer(unsafe.SliceData(m.b)) }
func (m *heapBytes) file() *os.File           { return nil }
func (m *heapBytes) discard(uintptr, uintptr) {}
func (m *heapBytes) drop()                    {}
