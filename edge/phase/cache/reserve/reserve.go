// Package reserve keeps objects, name → meta and body, in an object store that
// is far, large and cheap: an S3 bucket, or a folder. It knows nothing of what
// they mean. It promises that nobody waits for it longer than Config.Patience
// before the first byte, that one that fails is left alone for a while, that
// writes happen in the background from a bounded queue which drops what it has
// no room for, and that what is given out was written as a whole: meta and body
// are one object, and the meta is compared with its checksum.
package reserve

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Store is where objects are: a bucket or a folder. Names have letters, digits
// and slashes. Its methods may be called by several goroutines.
type Store interface {
	// Get opens n bytes of an object from byte from on, n < 0 for all that
	// follow. It returns ErrNone where there is no such object. The body is to be
	// closed, and ends with ctx.
	Get(ctx context.Context, name string, from, n int64) (io.ReadCloser, error)
	// Put writes an object whole or not at all.
	Put(ctx context.Context, name string, body io.Reader, size int64) error
	// Delete is no error where there is no such object.
	Delete(ctx context.Context, name string) error
}

// ErrNone says that there is no such object.
var ErrNone = errors.New("no such object in the reserve")

// Config is what a Reserve is made of. Zero fields have the defaults named.
type Config struct {
	Store    Store
	Ctx      context.Context // parent of what happens in the background
	Patience time.Duration   // until the first byte of an object; default 1 s
	Queue    int64           // bytes that wait to be written; default 64 MiB
	Writers  int             // writes at a time; default 4
	Log      *slog.Logger
}

// Defaults of Config.
const (
	DefaultPatience = time.Second
	DefaultQueue    = 64 << 20
	DefaultWriters  = 4

	writeTime = 5 * time.Minute // for one object
	sickAfter = 5               // failures without a success between
	sickFor   = 10 * time.Second
)

// Reserve is one object store as a tier. Its methods may be called by several
// goroutines.
type Reserve struct {
	cfg  Config
	work sync.WaitGroup

	mu     sync.Mutex
	wake   sync.Cond
	items  [][]item          // of each writer: one name is one writer's; guarded by mu
	bytes  int64             // queued and being written; guarded by mu
	closed bool              // guarded by mu
	turn   uint64            // of the newest item; guarded by mu
	going  map[string]uint64 // names whose deletion is not carried out, and its turn; guarded by mu

	failures atomic.Int32
	until    atomic.Int64 // Unix nanoseconds: not asked before
	counts   struct{ hits, misses, failed, written, bytes, dropped, deleted atomic.Uint64 }
}

type item struct {
	name       string
	meta, body []byte
	done       func()
	deleted    bool
	turn       uint64
}

// New starts the writers. Store and Ctx are required.
func New(c Config) *Reserve {
	c.Patience = cmp.Or(c.Patience, DefaultPatience)
	c.Queue = cmp.Or(c.Queue, DefaultQueue)
	c.Writers = cmp.Or(c.Writers, DefaultWriters)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Reserve{cfg: c, going: make(map[string]uint64)}
	r.wake.L = &r.mu
	r.items = make([][]item, c.Writers)
	for i := range c.Writers {
		r.work.Go(func() { r.write(i) })
	}
	return r
}

// Close writes what is queued, until Config.Ctx ends, and waits.
func (r *Reserve) Close() {
	r.mu.Lock()
	r.closed = true
	r.wake.Broadcast()
	r.mu.Unlock()
	r.work.Wait()
}

// What an object begins with: magic, length of the meta, its checksum, length of
// the body.
const (
	headBytes = 24
	magic     = 0x31565253 // "SRV1"
	// MaxMeta bounds a meta, in bytes.
	MaxMeta = 256 << 10
	// first is what is read to have head and meta, as a rule.
	first = 16 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errFormat = errors.New("not an object that was written here")

func appendHead(b, meta []byte, body int64) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, magic)
	b = le.AppendUint32(b, uint32(len(meta)))
	b = le.AppendUint64(b, uint64(body))
	b = le.AppendUint32(b, crc32.Update(crc32.Checksum(b[:16], castagnoli), castagnoli, meta))
	return append(le.AppendUint32(b, 0), meta...)
}

// Object is one that was found. Body is its body, or the part asked for, and is
// to be closed.
type Object struct {
	Meta []byte
	Size int64 // of the whole body, in bytes
	Body io.ReadCloser
}

// Get finds an object. It is nil when there is none, when the store fails or is
// slow, and when it did lately.
func (r *Reserve) Get(ctx context.Context, name string) *Object {
	return r.GetRange(ctx, name, 0, -1)
}

// GetRange is Get for n bytes of the body from byte from on; n < 0 means all
// that follow. What is beyond the end is left out.
func (r *Reserve) GetRange(ctx context.Context, name string, from, n int64) *Object {
	if r.isGoing(name) || time.Now().UnixNano() < r.until.Load() {
		r.counts.misses.Add(1)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(r.cfg.Patience, cancel)
	o, err := r.get(ctx, name, from, n)
	if !late.Stop() && err == nil {
		_ = o.Body.Close() // cut off already
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		r.lost(err)
		return nil
	}
	r.failures.Store(0)
	r.counts.hits.Add(1)
	o.Body = &ending{o.Body, cancel}
	return o
}

// ending is a body that gives its context back.
type ending struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (e *ending) Close() error {
	defer e.cancel()
	return e.ReadCloser.Close()
}

// lost counts why there is no object.
func (r *Reserve) lost(err error) {
	if errors.Is(err, ErrNone) {
		r.failures.Store(0)
		r.counts.misses.Add(1)
		return
	}
	r.counts.failed.Add(1)
	if r.failures.Add(1) >= sickAfter {
		r.failures.Store(0)
		r.until.Store(time.Now().Add(sickFor).UnixNano())
		r.cfg.Log.Error("the cache reserve fails and is not asked for a while", "err", err, "pause", sickFor)
	}
}

// get reads head and meta, then leaves the body to be read.
func (r *Reserve) get(ctx context.Context, name string, from, n int64) (*Object, error) {
	whole := from == 0 && n < 0
	want := int64(-1)
	if !whole {
		want = first
	}
	src, err := r.cfg.Store.Get(ctx, name, 0, want)
	if err != nil {
		return nil, err
	}
	o, read, err := readHead(src)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	if whole {
		o.Body = &exactly{src, o.Size}
		return o, nil
	}
	if err := src.Close(); err != nil {
		return nil, err
	}
	from = min(from, o.Size)
	if n < 0 || n > o.Size-from {
		n = o.Size - from
	}
	if n == 0 {
		o.Body = io.NopCloser(bytes.NewReader(nil))
		return o, nil
	}
	if src, err = r.cfg.Store.Get(ctx, name, read+from, n); err != nil {
		return nil, err
	}
	o.Body = &exactly{src, n}
	return o, nil
}

// readHead reads what goes before a body, of read bytes.
func readHead(src io.Reader) (o *Object, read int64, err error) {
	var head [headBytes]byte
	if _, err := io.ReadFull(src, head[:]); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errFormat, err)
	}
	le := binary.LittleEndian
	n, size := le.Uint32(head[4:]), int64(le.Uint64(head[8:]))
	if le.Uint32(head[:]) != magic || n > MaxMeta || size < 0 {
		return nil, 0, errFormat
	}
	meta := make([]byte, n)
	if _, err := io.ReadFull(src, meta); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errFormat, err)
	}
	if crc32.Update(crc32.Checksum(head[:16], castagnoli), castagnoli, meta) != le.Uint32(head[16:]) {
		return nil, 0, errFormat
	}
	return &Object{Meta: meta, Size: size}, headBytes + int64(n), nil
}

// exactly gives as many bytes as were announced, or an error.
type exactly struct {
	io.ReadCloser
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.ReadCloser.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Put queues an object to be written, in place of any of that name. done, if not
// nil, is called once when meta and body are needed no longer. It reports whether
// the object was queued.
func (r *Reserve) Put(name string, meta, body []byte, done func()) bool {
	ok := len(meta) <= MaxMeta && time.Now().UnixNano() >= r.until.Load() &&
		r.push(item{name: name, meta: meta, body: body, done: done})
	if !ok {
		r.counts.dropped.Add(1)
		if done != nil {
			done()
		}
	}
	return ok
}

// maxGoing is how many deletions may wait. With more, those in vain so far are
// forgotten, and what they were about is found again.
const maxGoing = 64 << 10

// Delete queues the deletion of an object. From now on it is not found, until it
// is put again.
func (r *Reserve) Delete(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.going) < maxGoing {
		r.going[name] = r.turn + 1
	}
	if !r.pushLocked(item{name: name, deleted: true}) {
		r.counts.dropped.Add(1)
	}
}

func (r *Reserve) isGoing(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, going := r.going[name]
	return going
}

// gone notes that what was deleted or put anew is as the store has it.
func (r *Reserve) gone(it *item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if it.turn >= r.going[it.name] { // not what a later deletion is about
		delete(r.going, it.name)
	}
}

func (it *item) cost() int64 { return int64(len(it.meta)+len(it.body)) + 256 }

func (r *Reserve) push(it item) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pushLocked(it)
}

func (r *Reserve) pushLocked(it item) bool {
	r.turn++
	it.turn = r.turn
	if r.closed || r.bytes+it.cost() > r.cfg.Queue {
		return false
	}
	r.bytes += it.cost()
	i := int(crc32.ChecksumIEEE([]byte(it.name))) % len(r.items)
	r.items[i] = append(r.items[i], it)
	r.wake.Broadcast()
	return true
}

// write is one writer.
func (r *Reserve) write(i int) {
	for {
		r.mu.Lock()
		for len(r.items[i]) == 0 && !r.closed {
			r.wake.Wait()
		}
		if len(r.items[i]) == 0 {
			r.mu.Unlock()
			return
		}
		it := r.items[i][0]
		r.items[i][0] = item{}
		r.items[i] = r.items[i][1:]
		r.mu.Unlock()
		if err := r.carryOut(&it); err != nil {
			r.counts.dropped.Add(1)
			r.lost(fmt.Errorf("write %s: %w", it.name, err))
		} else {
			r.gone(&it)
		}
		if it.done != nil {
			it.done()
		}
		r.mu.Lock()
		r.bytes -= it.cost()
		r.mu.Unlock()
	}
}

func (r *Reserve) carryOut(it *item) error {
	ctx, cancel := context.WithTimeout(r.cfg.Ctx, writeTime)
	defer cancel()
	if it.deleted {
		r.counts.deleted.Add(1)
		return r.cfg.Store.Delete(ctx, it.name)
	}
	head := appendHead(make([]byte, 0, headBytes+len(it.meta)), it.meta, int64(len(it.body)))
	size := int64(len(head) + len(it.body))
	err := r.cfg.Store.Put(ctx, it.name, io.MultiReader(bytes.NewReader(head), bytes.NewReader(it.body)), size)
	if err == nil {
		r.counts.written.Add(1)
		r.counts.bytes.Add(uint64(size))
	}
	return err
}

// Stats is what a reserve counts, at one moment.
type Stats struct {
	Hits, Misses, Failed  uint64 // lookups
	Written, WrittenBytes uint64
	Dropped               uint64 // not written: queue full, store failing
	Deleted               uint64
	QueuedBytes           int64
	Off                   bool // after failures
}

// Stats reads all counters.
func (r *Reserve) Stats() Stats {
	r.mu.Lock()
	queued := r.bytes
	r.mu.Unlock()
	c := &r.counts
	return Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Failed: c.failed.Load(), Written: c.written.Load(), WrittenBytes: c.bytes.Load(),
		Dropped: c.dropped.Load(), Deleted: c.deleted.Load(), QueuedBytes: queued, Off: time.Now().UnixNano() < r.until.Load(),
	}
}
