package reserve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
)

// budget is how many bytes of files there may be.
type budget struct {
	most int64
	mu   sync.Mutex
	used int64 // guarded by mu
}

// claim counts size bytes in place of old ones; false where there is no room.
func (b *budget) claim(size, old int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if size > old && b.used+size-old > b.most {
		return false
	}
	b.used += size - old
	return true
}

func (b *budget) room() (used, most int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used, b.most
}

// Spool is a folder for objects that are too large to wait in memory, from their
// first byte until they are in the store. What is in it does not outlive the
// process.
type Spool struct {
	root   *os.Root
	budget *budget
	within string // where in root it is, with a slash; "" = it is root
	next   atomic.Uint64
	bytes  atomic.Int64
	open   atomic.Int32 // Writers
}

// maxWriters bounds the objects that come in pieces at a time.
const maxWriters = 64

// OpenSpool opens a folder for at most bytes of objects on their way, makes it
// where it is missing, and empties it. Closing it is for who opened it.
func OpenSpool(path string, bytes int64) (*Spool, error) {
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Spool{root: root, budget: &budget{most: bytes}}, nil
}

// Close gives the folder back.
func (s *Spool) Close() error { return s.root.Close() }

// held is how many bytes are in the spool, which may be nil.
func (s *Spool) held() int64 {
	if s == nil {
		return 0
	}
	return s.bytes.Load()
}

// spooled is an object in a spool. It reads as it is to be stored.
type spooled struct {
	s       *Spool
	name    string
	file    *os.File
	size    int64 // claimed, and of the file when it is whole
	at      int64 // next byte to be read
	adopted bool  // by the store: the file and what is claimed are its own
}

func (s *Spool) create() (*spooled, error) {
	name := s.within + strconv.FormatUint(s.next.Add(1), 10) + partSuffix
	f, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &spooled{s: s, name: name, file: f}, nil
}

// claimStep is how much is claimed at a time, in bytes.
const claimStep = 1 << 20

func (f *spooled) claim(size int64) bool {
	if !f.s.budget.claim(size, f.size) {
		return false
	}
	f.s.bytes.Add(size - f.size)
	f.size = size
	return true
}

// Read implements io.Reader.
func (f *spooled) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt.
func (f *spooled) ReadAt(p []byte, at int64) (int, error) {
	if at >= f.size {
		return 0, io.EOF
	}
	return f.file.ReadAt(p[:min(int64(len(p)), f.size-at)], at)
}

// drop gives the file and its bytes back, unless a store has taken it over.
func (f *spooled) drop() {
	_ = f.file.Close() // what was written of it is in the store, or not wanted
	f.s.bytes.Add(-f.size)
	if f.adopted {
		return
	}
	_ = f.s.root.Remove(f.name) // what stays goes at the next start
	f.s.budget.claim(0, f.size)
}

// Writer takes an object whose body comes in pieces. It belongs to one goroutine,
// which waits for the folder's disk. Commit or Abort ends it.
type Writer struct {
	r     *Reserve
	name  string
	file  *spooled
	meta  int
	stamp uint64
	block []byte // not full yet
	size  int64  // of the body so far
	end   int64  // of the file so far
}

// ErrGivenUp says that an object that comes in pieces will not be kept.
var ErrGivenUp = errors.New("the cache reserve does not take this object")

// Begin starts an object whose body comes in pieces, and whose meta will have a
// length. It is nil where nothing can be taken.
func (r *Reserve) Begin(name string, meta int) *Writer {
	if r.cfg.Spool == nil || meta > MaxMeta || r.off() {
		r.counts.dropped.Add(1)
		return nil
	}
	if r.cfg.Spool.open.Add(1) > maxWriters {
		r.cfg.Spool.open.Add(-1)
		r.counts.dropped.Add(1)
		return nil
	}
	f, err := r.cfg.Spool.create()
	if err != nil {
		r.cfg.Spool.open.Add(-1)
		r.counts.dropped.Add(1)
		r.cfg.Log.Warn("the spool of the cache reserve cannot be written", "err", err)
		return nil
	}
	return &Writer{r: r, name: name, file: f, meta: meta, stamp: newStamp(), end: headBytes + int64(meta), block: make([]byte, 0, blockBytes+sumBytes)}
}

// Write implements io.Writer. After an error Abort is due.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.size+int64(len(p)) > MaxBody {
		return 0, ErrGivenUp
	}
	for len(p) > 0 {
		part := p[:min(len(p), blockBytes-len(w.block))]
		w.block = append(w.block, part...)
		p = p[len(part):]
		n += len(part)
		w.size += int64(len(part))
		if len(w.block) == blockBytes {
			if err := w.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// flush writes the block.
func (w *Writer) flush() error {
	number := (w.size - int64(len(w.block))) / blockBytes
	b := binary.LittleEndian.AppendUint32(w.block, blockSum(w.stamp, number, w.block))
	if end := w.end + int64(len(b)); end > w.file.size && !w.file.claim(end+claimStep) {
		w.r.sweep.isFull()
		return fmt.Errorf("%w: %w", ErrGivenUp, ErrFull)
	}
	if _, err := w.file.file.WriteAt(b, w.end); err != nil {
		return err
	}
	w.end += int64(len(b))
	w.block = w.block[:0]
	return nil
}

// Commit queues the object under a meta of the length that was said. It reports
// whether it is on its way.
func (w *Writer) Commit(meta []byte) bool {
	var err error
	if len(w.block) > 0 {
		err = w.flush()
	}
	if err == nil && len(meta) == w.meta && w.file.claim(w.end) {
		_, err = w.file.file.WriteAt(appendHead(nil, meta, w.size, w.stamp), 0)
		if err == nil && w.r.queue.push(item{name: w.name, file: w.file}) {
			w.file.s.open.Add(-1)
			return true
		}
	}
	if err != nil {
		w.r.cfg.Log.Warn("an object was not spooled for the cache reserve", "err", err)
	}
	w.Abort()
	return false
}

// Abort ends the object without keeping it.
func (w *Writer) Abort() {
	w.r.counts.dropped.Add(1)
	w.file.s.open.Add(-1)
	w.file.drop()
}
