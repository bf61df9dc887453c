package ssd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FS is the folder that a store lives in: what the store needs of a disk and
// no more, so that tests can make each step of it fail. Names have no slashes.
type FS interface {
	// List names the files of the folder.
	List() ([]string, error)
	// Open opens a file to read and write; create makes it, empty.
	Open(name string, create bool) (File, error)
	Remove(name string) error
	// Lock makes the caller the folder's one user until the Closer is closed,
	// or returns ErrLocked.
	Lock(name string) (io.Closer, error)
}

// File is one file of a FS. WriteAt and ReadAt may be called from any
// goroutine.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Size() (int64, error)
}

// ErrLocked says that another process uses the folder.
var ErrLocked = errors.New("another process uses this folder")

// dirFS is a folder of the operating system.
type dirFS struct{ root string }

// openDir makes the folder where it is missing, for its owner alone.
func openDir(root string) (FS, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	return dirFS{root}, nil
}

func (d dirFS) List() ([]string, error) {
	entries, err := os.ReadDir(d.root)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (d dirFS) Open(name string, create bool) (File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(filepath.Join(d.root, name), flags, 0o600)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (d dirFS) Remove(name string) error { return os.Remove(filepath.Join(d.root, name)) }

// Lock uses flock, which ends with the process however that ends.
func (d dirFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(d.root, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// diskFile is a file of the operating system.
type diskFile struct{ *os.File }

func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// pushOut starts writing to the device what was written to the file, and does
// not wait: else the kernel gathers it and writes it in bursts that reads wait
// behind.
func (f diskFile) pushOut(from, n int64) error {
	return unix.SyncFileRange(int(f.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
}
