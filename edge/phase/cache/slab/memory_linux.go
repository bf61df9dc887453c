package slab

import (
	"fmt"
	"syscall"
	"unsafe"
)

// mapped is memory that the kernel gives page by page, at the first touch.
type mapped struct{ b []byte }

func systemMemory(n uintptr) (memory, error) {
	b, err := syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap %d bytes: %w", n, err)
	}
	// Huge pages would be there as a whole after the touch of one byte, and count
	// as many times what the budget thinks. A kernel without them refuses.
	_ = syscall.Madvise(b, madvNoHugePage)
	return &mapped{b}, nil
}

const madvNoHugePage = 15 // linux/mman.h

func (m *mapped) base() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(m.b)) }

func (m *mapped) discard(off, n uintptr) {
	if err := syscall.Madvise(m.b[off:off+n], syscall.MADV_DONTNEED); err != nil {
		panic(fmt.Sprintf("slab: madvise of our own pages: %v", err)) // not ours, or not pages: a broken invariant
	}
}

func (m *mapped) drop() {
	if err := syscall.Munmap(m.b); err != nil {
		panic(fmt.Sprintf("slab: munmap of our own pages: %v", err))
	}
}
