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
	"time"
)

// Dir is a Store in a folder of this machine. It takes no more than its budget:
// what has no room is refused, beside what it replaces. The time of a file is when it was used.
type Dir struct {
	root   *os.Root
	budget budget
	// names is held while a name gets or loses its file, so that what is counted
	// is what was there: writers and the one who makes room may be at the same name.
	names sync.Mutex
}

// ErrFull says that a folder has no room for an object.
var ErrFull = errors.New("the folder of the reserve is full")

const (
	partSuffix = ".part"
	spoolName  = "spool"
)

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
	d := &Dir{root: root, budget: budget{most: bytes}}
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if filepath.Ext(name) == partSuffix {
			return root.Remove(name) // of a write that was cut off
		}
		info, err := e.Info()
		if err == nil {
			d.budget.used += info.Size()
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("go through the reserve: %w", err), root.Close())
	}
	return d, nil
}

// Close gives the folder back.
func (d *Dir) Close() error { return d.root.Close() }

// Spool makes a spool of the folder: of its budget, and without a copy when an
// object is whole. It is closed with d.
func (d *Dir) Spool() (*Spool, error) {
	if err := d.root.MkdirAll(spoolName, 0o700); err != nil {
		return nil, err
	}
	return &Spool{root: d.root, budget: &d.budget, within: spoolName + "/"}, nil
}

func (d *Dir) room() (used, most int64) { return d.budget.room() }

// Get implements Store.
func (d *Dir) Get(_ context.Context, name string, from, n int64) (io.ReadCloser, time.Time, error) {
	f, err := d.root.Open(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, ErrNone
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	info, err := f.Stat()
	if err == nil && from > 0 {
		_, err = f.Seek(from, io.SeekStart)
	}
	if err != nil {
		return nil, time.Time{}, errors.Join(err, f.Close())
	}
	if n < 0 {
		return f, info.ModTime(), nil
	}
	return &fewer{io.LimitReader(f, n), f}, info.ModTime(), nil
}

// fewer is the first bytes of a file.
type fewer struct {
	io.Reader
	io.Closer
}

// Put implements Store: a file under another name until it is whole.
func (d *Dir) Put(_ context.Context, name string, body io.Reader, size int64) error {
	name = filepath.FromSlash(name)
	if err := d.root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	if f, ok := body.(*spooled); ok && f.s.root == d.root {
		if err := d.replace(f.name, name); err != nil {
			return err
		}
		f.adopted = true
		return nil
	}
	if !d.budget.claim(size, 0) {
		return ErrFull
	}
	if err := d.put(name, body); err != nil {
		d.budget.claim(0, size)
		return err
	}
	return nil
}

// replace gives a file a name, in place of what had it.
func (d *Dir) replace(file, name string) error {
	d.names.Lock()
	defer d.names.Unlock()
	old := d.sizeOf(name)
	err := d.root.Rename(file, name)
	if err == nil {
		d.budget.claim(0, old)
	}
	return err
}

func (d *Dir) put(name string, body io.Reader) error {
	f, err := d.root.OpenFile(name+partSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.replace(name+partSuffix, name)
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

// Delete implements Store.
func (d *Dir) Delete(_ context.Context, name string) error {
	d.names.Lock()
	defer d.names.Unlock()
	size := d.sizeOf(name)
	err := d.root.Remove(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		d.budget.claim(0, size)
	}
	return err
}

// Use implements Store.
func (d *Dir) Use(_ context.Context, name string) error {
	now := time.Now()
	err := d.root.Chtimes(filepath.FromSlash(name), now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// List implements Store.
func (d *Dir) List(ctx context.Context, prefix string, each func(string, int64, time.Time) error) error {
	err := fs.WalkDir(d.root.FS(), filepath.Clean(filepath.FromSlash(prefix)), func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // deleted meanwhile
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case !e.Type().IsRegular() || filepath.Ext(name) == partSuffix:
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return each(filepath.ToSlash(name), info.Size(), info.ModTime())
	})
	return err
}

// Tops implements Store.
func (d *Dir) Tops(context.Context) ([]string, error) {
	list, err := fs.ReadDir(d.root.FS(), ".")
	var tops []string
	for _, e := range list {
		if e.IsDir() && e.Name() != spoolName {
			tops = append(tops, e.Name())
		}
	}
	return tops, err
}
