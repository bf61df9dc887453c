package ssd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// FS is the folder that a store lives in: what the store needs of a disk and
// no more, so that tests can make each step of it fail. Names have no slashes.
type FS interface {
	// List names the files of the folder.
	List() ([]string, error)
	// Open opens a file to read and write; create makes it, empty.
	Open(name string, create bool) (File, error)
	// Remove is no error where there is no such file.
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

// dirFS is a folder of the operating system. It is made again when somebody
// deletes it meanwhile.
type dirFS struct {
	root string
	lock dirLock
}

// openDir makes the folder where it is missing, for its owner alone.
func openDir(root string) (FS, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	return &dirFS{root: root}, nil
}

func (d *dirFS) List() ([]string, error) {
	entries, err := os.ReadDir(d.root)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (d *dirFS) Open(name string, create bool) (File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE | os.O_TRUNC
	}
	path := filepath.Join(d.root, name)
	f, err := os.OpenFile(path, flags, 0o600)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err := d.remake(); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, flags, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

// remake makes a folder that was deleted, and locks it as it was locked.
func (d *dirFS) remake() error {
	if err := os.MkdirAll(d.root, 0o700); err != nil {
		return err
	}
	return d.lock.renew()
}

func (d *dirFS) Remove(name string) error {
	err := os.Remove(filepath.Join(d.root, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Lock uses flock, which ends with the process however that ends.
func (d *dirFS) Lock(name string) (io.Closer, error) {
	d.lock.mu.Lock()
	defer d.lock.mu.Unlock()
	f, err := lockFile(filepath.Join(d.root, name))
	if err != nil {
		return nil, err
	}
	d.lock.file = f
	return &d.lock, nil
}

// dirLock is a folder's lock while it is held.
type dirLock struct {
	mu   sync.Mutex
	file *os.File // nil = not held; guarded by mu
}

// renew locks the file anew where the one that is held is there no longer.
func (l *dirLock) renew() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	held, err := l.file.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(l.file.Name()); err == nil && os.SameFile(there, held) {
		return nil
	}
	f, err := lockFile(l.file.Name())
	if err != nil {
		return err
	}
	old := l.file
	l.file = f
	return old.Close()
}

// Close gives the folder free.
func (l *dirLock) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.file
	l.file = nil
	return f.Close()
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
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
