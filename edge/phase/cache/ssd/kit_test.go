package ssd

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"
	"testing"
	"time"
)

// memFS is a disk in memory. before, if set, is asked ahead of each write and
// may shorten or refuse it; it may change between operations.
type memFS struct {
	mu     sync.Mutex
	files  map[string]*memFile
	locked bool
	before func(op string, n int) (int, error)
	reads  func() error
	log    []step // what was done, if logged
	logged bool
}

// step is one change of a disk.
type step struct {
	op, name string
	at       int64
	data     []byte
}

func (m *memFS) note(s step) {
	if m.logged {
		m.log = append(m.log, s)
	}
}

// apply does a step again.
func (m *memFS) apply(s step) {
	f := m.files[s.name]
	switch s.op {
	case "create":
		m.files[s.name] = &memFile{fs: m, name: s.name}
	case "remove":
		delete(m.files, s.name)
	case "truncate":
		if f != nil {
			f.data = append(f.data[:min(int64(len(f.data)), s.at)], make([]byte, max(0, s.at-int64(len(f.data))))...)
		}
	case "write":
		if f != nil {
			if end := int(s.at) + len(s.data); end > len(f.data) && len(s.data) > 0 {
				f.data = append(f.data, make([]byte, end-len(f.data))...)
			}
			copy(f.data[min(len(f.data), int(s.at)):], s.data)
		}
	}
}

type memFile struct {
	fs   *memFS
	name string
	data []byte
}

func newMemFS() *memFS { return &memFS{files: map[string]*memFile{}} }

func (m *memFS) ask(op string, n int) (int, error) {
	if m.before == nil {
		return n, nil
	}
	return m.before(op, n)
}

func (m *memFS) List() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for n := range m.files {
		names = append(names, n)
	}
	return names, nil
}

func (m *memFS) Open(name string, create bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !create {
		f := m.files[name]
		if f == nil {
			return nil, fs.ErrNotExist
		}
		return f, nil
	}
	if _, err := m.ask("create", 0); err != nil {
		return nil, err
	}
	m.note(step{op: "create", name: name})
	f := &memFile{fs: m, name: name}
	m.files[name] = f
	return f, nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.ask("remove", 0); err != nil {
		return err
	}
	m.note(step{op: "remove", name: name})
	delete(m.files, name)
	return nil
}

func (m *memFS) Lock(string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return nil, ErrLocked
	}
	m.locked = true
	return memLock{m}, nil
}

type memLock struct{ m *memFS }

func (l memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	l.m.locked = false
	return nil
}

// clone is the disk as another process would find it now.
func (m *memFS) clone() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newMemFS()
	for n, f := range m.files {
		c.files[n] = &memFile{fs: c, name: n, data: bytes.Clone(f.data)}
	}
	return c
}

func (m *memFS) bytes() (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.files {
		n += int64(len(f.data))
	}
	return n
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.reads != nil {
		if err := f.fs.reads(); err != nil {
			return 0, err
		}
	}
	if off >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n, err := f.fs.ask("write", len(p))
	f.fs.note(step{"write", f.name, off, bytes.Clone(p[:n])})
	if end := int(off) + n; end > len(f.data) && n > 0 {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	if n > 0 {
		copy(f.data[off:], p[:n])
	}
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if _, err := f.fs.ask("truncate", 0); err != nil {
		return err
	}
	f.fs.note(step{op: "truncate", name: f.name, at: size})
	if size < int64(len(f.data)) {
		f.data = f.data[:size]
	} else {
		f.data = append(f.data, make([]byte, size-int64(len(f.data)))...)
	}
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.data)), nil
}

func (f *memFile) Close() error { return nil }

// open opens a store that the test closes.
func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Bytes == 0 {
		cfg.Bytes = 64 << 20
	}
	if cfg.Dir == "" && cfg.FS == nil {
		cfg.Dir = t.TempDir()
	}
	if cfg.Scrub == 0 {
		cfg.Scrub = -1
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func key(n int) Key {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	return Key{crc64(b[:], 1), crc64(b[:], 2)}
}

// crc64 spreads bytes over 64 bits, as a hash would.
func crc64(b []byte, seed uint64) uint64 {
	z := seed*0x9e3779b97f4a7c15 + uint64(crc32.ChecksumIEEE(b))<<32 + binary.LittleEndian.Uint64(b)
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// body is a body of n bytes that tells which record it is of.
func body(id, n int) []byte {
	b := make([]byte, n)
	z := uint64(id)*0x9e3779b97f4a7c15 + 1
	for i := range b {
		z ^= z << 13
		z ^= z >> 7
		z ^= z << 17
		b[i] = byte(z)
	}
	return b
}

func meta(id int) []byte { return body(id+1<<20, 40+id%50) }

// settle waits until all that was queued is written.
func settle(t testing.TB, s *Store) {
	t.Helper()
	done := make(chan struct{})
	if !s.queue.makeRoom(0, func() { close(done) }) {
		t.Fatal("the queue is closed")
	}
	<-done
	until(t, func() bool { return s.quiet() })
}

// quiet reports whether the writer waits, and has flushed what it held.
func (s *Store) quiet() bool {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	return len(s.queue.items) == 0 && s.queue.bytes == 0 && len(s.streams.open) == 0 && s.queue.idle
}

func until(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 20 s")
		}
		<-time.After(time.Millisecond)
	}
}

// check finds a record and compares it; it reports whether it is there.
func check(t testing.TB, s *Store, id, size int) bool {
	t.Helper()
	r := s.Find(key(id), 0)
	if r == nil {
		return false
	}
	defer r.Close()
	if !bytes.Equal(r.Meta, meta(id)) {
		t.Fatalf("record %d has another's meta", id)
	}
	if r.Size != int64(size) {
		t.Fatalf("record %d has %d bytes, want %d", id, r.Size, size)
	}
	got := make([]byte, size)
	if size > 0 {
		if n, err := r.ReadAt(got, 0); err != nil || n != size {
			if n == size && err == io.EOF {
				err = nil
			}
			if err != nil {
				return false
			}
		}
	}
	if !bytes.Equal(got, body(id, size)) {
		t.Fatalf("record %d has another body", id)
	}
	return true
}
