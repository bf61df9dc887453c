package reserve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Dir is a Store in a folder of this machine. It takes no more than its budget:
// what has no room is refused.
type Dir struct {
	root *os.Root
	most int64

	mu   sync.Mutex
	used int64 // bytes of all files; guarded by mu
}

// ErrFull says that a folder has no room for an object.
var ErrFull = errors.New("the folder of the reserve is full")

// OpenDir opens a folder for at most bytes of objects, and makes it where it is
// missing.
func OpenDir(path string, bytes int64) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{root: root, most: bytes}
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if filepath.Ext(name) == partSuffix {
			return root.Remove(name) // of a write that was cut off
		}
		info, err := e.Info()
		if err == nil {
			d.used += info.Size()
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("go through the reserve: %w", err), root.Close())
	}
	return d, nil
}

const partSuffix = ".part"

// Close gives the folder back.
func (d *Dir) Close() error { return d.root.Close() }

// Get implements Store.
func (d *Dir) Get(_ context.Context, name string) (io.ReadCloser, error) {
	f, err := d.root.Open(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Put implements Store: a file under another name until it is whole.
func (d *Dir) Put(_ context.Context, name string, body io.Reader, size int64) error {
	old := d.sizeOf(name)
	if !d.claim(size, old) {
		return ErrFull
	}
	if err := d.put(filepath.FromSlash(name), body); err != nil {
		d.claim(old, size)
		return err
	}
	return nil
}

func (d *Dir) put(name string, body io.Reader) error {
	if err := d.root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name+partSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.root.Rename(name+partSuffix, name)
	}
	if err != nil {
		return errors.Join(err, d.root.Remove(name+partSuffix))
	}
	return nil
}

func (d *Dir) sizeOf(name string) int64 {
	if info, err := d.root.Stat(filepath.FromSlash(name)); err == nil {
		return info.Size()
	}
	return 0
}

// claim counts size bytes in place of old ones.
func (d *Dir) claim(size, old int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if size > old && d.used+size-old > d.most {
		return false
	}
	d.used += size - old
	return true
}

// Delete implements Store.
func (d *Dir) Delete(_ context.Context, name string) error {
	size := d.sizeOf(name)
	err := d.root.Remove(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		d.claim(0, size)
	}
	return err
}
