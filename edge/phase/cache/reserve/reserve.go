// Package reserve keeps objects, name → meta and body, in an object store that
// is far, large and cheap: an S3 bucket, or a folder. It knows nothing of what
// they mean. It promises that nobody waits for it longer than Config.Patience
// before the first byte, that one that fails is left alone for a while, that
// writes happen in the background from a bounded queue which drops what it has
// no room for, and that no byte is given out that does not match its checksum:
// meta and body are one object, and what is damaged is deleted.
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
	// Get opens an object. It returns ErrNone where there is no such object. The
	// body is to be closed, and ends with ctx.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
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
	counts   struct{ hits, misses, failed, damaged, written, bytes, dropped, deleted atomic.Uint64 }
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

// What an object begins with: magic, length of the meta, length of the body,
// checksum of all that goes before the body, four bytes of nothing, the meta, and
// the checksums of the body's blocks. Numbers are little-endian, checksums CRC-32C.
const (
	headBytes = 24
	magic     = 0x32565253 // "SRV2"
	// MaxMeta bounds a meta, in bytes.
	MaxMeta = 256 << 10
	// maxBody bounds a body, in bytes.
	maxBody = 1 << 36
	// blockBytes of a body have one checksum.
	blockBytes = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errDamaged = errors.New("not as it was written")

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// blocks counts the checksums of a body.
func blocks(body int64) int64 { return (body + blockBytes - 1) / blockBytes }

func appendHead(b, meta, body []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, magic)
	b = le.AppendUint32(b, uint32(len(meta)))
	b = le.AppendUint64(b, uint64(len(body)))
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, meta...)
	for len(body) > 0 {
		n := min(len(body), blockBytes)
		b = le.AppendUint32(b, sum(body[:n]))
		body = body[n:]
	}
	le.PutUint32(b[16:], headSum(b))
	return b
}

// headSum is the checksum of all that goes before a body.
func headSum(b []byte) uint32 { return crc32.Update(sum(b[:16]), castagnoli, b[headBytes:]) }

// Object is one that was found. Body is its body, and is to be closed.
type Object struct {
	Meta []byte
	Size int64 // of the body, in bytes
	Body io.ReadCloser
}

// Get finds an object. It is nil when there is none, when the store fails or is
// slow, when it did lately, and when the object is damaged as far as its first
// 64 KiB tell. A body that is damaged further on ends with an error there.
func (r *Reserve) Get(ctx context.Context, name string) *Object {
	if r.isGoing(name) || time.Now().UnixNano() < r.until.Load() {
		r.counts.misses.Add(1)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(r.cfg.Patience, cancel)
	o, err := r.get(ctx, name)
	if !late.Stop() && err == nil {
		_ = o.Body.Close() // cut off already
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		r.lost(name, err)
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

// lost counts why there is no object. The store does what it should when it gives
// what is damaged.
func (r *Reserve) lost(name string, err error) {
	switch {
	case errors.Is(err, ErrNone):
		r.failures.Store(0)
		r.counts.misses.Add(1)
		return
	case errors.Is(err, errDamaged):
		r.counts.damaged.Add(1)
		r.cfg.Log.Warn("an object of the cache reserve is damaged and deleted", "object", name)
		r.Delete(name)
		return
	}
	r.failed(err)
}

// failed counts what the store did not do.
func (r *Reserve) failed(err error) {
	r.counts.failed.Add(1)
	if r.failures.Add(1) >= sickAfter {
		r.failures.Store(0)
		r.until.Store(time.Now().Add(sickFor).UnixNano())
		r.cfg.Log.Error("the cache reserve fails and is not asked for a while", "err", err, "pause", sickFor)
	}
}

// get reads what goes before the body and the body's first block, then leaves the
// rest to be read.
func (r *Reserve) get(ctx context.Context, name string) (*Object, error) {
	src, err := r.cfg.Store.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	o, table, err := readHead(src)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	b := &body{ReadCloser: src, r: r, name: name, table: table, left: o.Size}
	if b.err = b.load(); b.err != nil && b.err != io.EOF {
		return nil, errors.Join(b.err, src.Close())
	}
	o.Body = b
	return o, nil
}

// readHead reads what goes before a body; table has the checksums of its blocks.
func readHead(src io.Reader) (o *Object, table []byte, err error) {
	b := make([]byte, headBytes)
	if err := readFull(src, b); err != nil {
		return nil, nil, err
	}
	le := binary.LittleEndian
	meta, size := int64(le.Uint32(b[4:])), le.Uint64(b[8:])
	if le.Uint32(b) != magic || meta > MaxMeta || size > maxBody {
		return nil, nil, errDamaged
	}
	// The numbers are not proven yet: what they say is not claimed but grows.
	rest, err := io.ReadAll(io.LimitReader(src, meta+4*blocks(int64(size))))
	if err != nil {
		return nil, nil, err
	}
	if b = append(b, rest...); int64(len(rest)) != meta+4*blocks(int64(size)) || headSum(b) != le.Uint32(b[16:]) {
		return nil, nil, errDamaged
	}
	return &Object{Meta: rest[:meta:meta], Size: int64(size)}, rest[meta:], nil
}

// readFull takes an end that comes too early for damage; a connection that breaks
// ends with another error.
func readFull(src io.Reader, p []byte) error {
	for n := 0; n < len(p); {
		more, err := src.Read(p[n:])
		n += more
		if err == io.EOF && n < len(p) {
			return errDamaged
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// body gives what was compared with its checksum, and an error for the rest.
type body struct {
	io.ReadCloser // of the store
	r             *Reserve
	name          string
	table         []byte // checksums of the blocks that are not loaded
	left          int64  // bytes that are not loaded
	block         []byte // loaded
	at            int    // in block: the next byte to give
	err           error  // comes after block
}

// load reads the next block; io.EOF when there is none.
func (b *body) load() error {
	b.at, b.block = 0, b.block[:0]
	if b.left == 0 {
		return io.EOF
	}
	n := min(b.left, blockBytes)
	if b.block == nil {
		b.block = make([]byte, 0, n)
	}
	block := b.block[:n]
	if err := readFull(b.ReadCloser, block); err != nil {
		return err
	}
	if sum(block) != binary.LittleEndian.Uint32(b.table) {
		return errDamaged
	}
	b.block, b.table, b.left = block, b.table[4:], b.left-n
	return nil
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.at == len(b.block) && b.err == nil {
		if b.err = b.load(); b.err != nil && b.err != io.EOF {
			b.r.lost(b.name, b.err)
			b.err = fmt.Errorf("read %s of the cache reserve: %w", b.name, b.err)
		}
	}
	if b.at == len(b.block) {
		return 0, b.err
	}
	n := copy(p, b.block[b.at:])
	b.at += n
	return n, nil
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
			r.failed(fmt.Errorf("write %s: %w", it.name, err))
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
	room := headBytes + len(it.meta) + 4*int(blocks(int64(len(it.body))))
	head := appendHead(make([]byte, 0, room), it.meta, it.body)
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
	Damaged               uint64 // objects that did not match their checksums
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
		Hits: c.hits.Load(), Misses: c.misses.Load(), Failed: c.failed.Load(), Damaged: c.damaged.Load(), Written: c.written.Load(), WrittenBytes: c.bytes.Load(),
		Dropped: c.dropped.Load(), Deleted: c.deleted.Load(), QueuedBytes: queued, Off: time.Now().UnixNano() < r.until.Load(),
	}
}
