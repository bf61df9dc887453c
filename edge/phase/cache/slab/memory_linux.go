package slab

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped is memory that the kernel gives page by page, at the first touch. It is
// that of a file without a name where there can be one, so that the kernel can be
// told to send pages of it.
type mapped struct {
	b []byte
	f *os.File // nil = none
}

func systemMemory(n uintptr) (memory, error) {
	m, err := mapFile(n)
	if err != nil {
		var anonErr error
		if m, anonErr = mapPages(-1, n, unix.MAP_ANON|unix.MAP_PRIVATE); anonErr != nil {
			return nil, errors.Join(err, anonErr)
		}
	}
	// Huge pages would be there as a whole after the touch of one byte, and count
	// as many times what the budget thinks. A kernel without them refuses.
	_ = unix.Madvise(m.b, unix.MADV_NOHUGEPAGE)
	return m, nil
}

func mapPages(fd int, n uintptr, flags int) (*mapped, error) {
	b, err := unix.Mmap(fd, 0, int(n), unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_NORESERVE) //nolint:gosec // G115: New bounds it
	if err != nil {
		return nil, fmt.Errorf("mmap %d bytes: %w", n, err)
	}
	return &mapped{b: b}, nil
}

// mapFile fails where the system has no such files, or limits their size.
func mapFile(n uintptr) (*mapped, error) {
	fd, err := unix.MemfdCreate("selvage-cache", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "memory of the cache")
	if err = f.Truncate(int64(n)); err == nil { //nolint:gosec // G115: as above
		err = punch(fd, 0, page)
	}
	var m *mapped
	if err == nil {
		m, err = mapPages(fd, n, unix.MAP_SHARED)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	m.f = f
	return m, nil
}

// punch takes whole pages out of a file. Who still refers to one, as a socket
// that is sending it does, keeps it as it was: what is written there later goes to
// another page.
func punch(fd int, off, n uintptr) error {
	return os.NewSyscallError("fallocate", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(off), int64(n))) //nolint:gosec // G115: as above
}

func (m *mapped) base() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(m.b)) }
func (m *mapped) file() *os.File       { return m.f }

func (m *mapped) discard(off, n uintptr) {
	var err error
	if m.f != nil {
		err = punch(int(m.f.Fd()), off, n) //nolint:gosec // G115: descriptors are small
	} else {
		err = unix.Madvise(m.b[off:off+n], unix.MADV_DONTNEED)
	}
	if err != nil {
		panic(fmt.Sprintf("slab: give back our own pages: %v", err)) // not ours, or not pages: a broken invariant
	}
}

func (m *mapped) drop() {
	err := unix.Munmap(m.b)
	if m.f != nil {
		err = errors.Join(err, m.f.Close())
	}
	if err != nil {
		panic(fmt.Sprintf("slab: munmap of our own pages: %v", err))
	}
}
