// Package reserve keeps objects, name → meta and body, in an object store that
// is far, large and cheap: an S3 bucket, or a folder. It knows nothing of what
// they mean. It promises that nobody waits for it longer than Config.Patience
// before the first byte, that one that fails is left alone for a while, that
// writes happen in the background from a bounded queue which drops what it has
// no room for, that an object is seen whole or not at all, that no byte is given
// out that does not match its checksum, and that what nobody asked for within
// Config.Retain goes: meta and body are one object, and what is damaged is deleted.
package reserve

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Store is where objects are: a bucket or a folder. Names have letters, digits
// and slashes. Its methods may be called by several goroutines.
type Store interface {
	// Get opens n bytes of an object that begin at byte from, all the rest where n
	// is negative, fewer where it ends before. used is when it was put, or Use was
	// told of it. It returns ErrNone where there is no such object. The body is to
	// be closed, and ends with ctx.
	Get(ctx context.Context, name string, from, n int64) (body io.ReadCloser, used time.Time, err error)
	// Put writes an object whole or not at all.
	Put(ctx context.Context, name string, body io.Reader, size int64) error
	// Delete is no error where there is no such object.
	Delete(ctx context.Context, name string) error
	// Use makes an object as new as if it had been put now.
	Use(ctx context.Context, name string) error
	// List tells of all objects whose names begin with prefix, which ends with a
	// slash, until each returns an error.
	List(ctx context.Context, prefix string, each func(name string, size int64, used time.Time) error) error
	// Tops are what names have before their first slash.
	Tops(ctx context.Context) ([]string, error)
}

// ErrNone says that there is no such object.
var ErrNone = errors.New("no such object in the reserve")

// Config is what a Reserve is made of. Zero fields have the defaults named.
type Config struct {
	Store    Store
	Ctx      context.Context // parent of what happens in the background
	Patience time.Duration   // until the first byte of an object; default 1 s
	Queue    int64           // bytes that wait to be written; default 64 MiB
	Writers  int             // writes at a time, beside one of what Begin began; default 4
	// Spool holds what Begin begins until it is in the store; nil = Begin takes nothing.
	Spool *Spool
	// Retain is how long an object stays after its last use; 0 = for ever. Own is
	// what the names of this reserve's objects begin with, up to the first slash:
	// those are looked at each round, those of others now and then.
	Retain time.Duration
	Own    string
	Log    *slog.Logger
}

// Defaults of Config.
const (
	DefaultPatience = time.Second
	DefaultQueue    = 64 << 20
	DefaultWriters  = 4

	stallTime = 10 * time.Second // for 64 KiB of a body
	sickAfter = 5                // failures without a success between
	sickFor   = 10 * time.Second
)

// Reserve is one object store as a tier. Its methods may be called by several
// goroutines.
type Reserve struct {
	cfg   Config
	ctx   context.Context // of what happens in the background
	stop  context.CancelFunc
	work  sync.WaitGroup
	queue queue
	sweep sweeper

	failures atomic.Int32
	until    atomic.Int64 // Unix nanoseconds: not asked before
	counts   struct {
		hits, misses, failed, damaged, written, bytes, dropped, deleted, expired, used atomic.Uint64
	}
}

// New starts the writers. Store and Ctx are required.
func New(c Config) *Reserve {
	c.Patience = cmp.Or(c.Patience, DefaultPatience)
	c.Queue = cmp.Or(c.Queue, DefaultQueue)
	c.Writers = cmp.Or(c.Writers, DefaultWriters)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Reserve{cfg: c}
	r.ctx, r.stop = context.WithCancel(c.Ctx)
	r.queue.open(c.Queue, c.Writers+1)
	for i := range r.queue.lanes {
		r.work.Go(func() { r.write(i) })
	}
	sweeping := r.sweep.open(r.ctx)
	r.work.Go(func() { r.expire(sweeping) })
	return r
}

// closeTime is how long Close writes what is queued.
const closeTime = 10 * time.Second

// Close writes what is queued, for 10 s at most and until Config.Ctx ends, and
// waits. What is not written by then is not kept.
func (r *Reserve) Close() {
	late := time.AfterFunc(closeTime, r.stop)
	defer late.Stop()
	defer r.stop()
	r.sweep.stop()
	r.queue.close()
	r.work.Wait()
}

// Object is one that was found.
type Object struct {
	Meta []byte
	Size int64 // of the body, in bytes
	Body io.ReadCloser

	r    *Reserve
	name string
	head head
}

// Close closes the body, where there is one.
func (o *Object) Close() {
	if o.Body != nil {
		_ = o.Body.Close() // nothing was read of it
	}
}

// Get finds an object with its body, which is to be closed. It is nil when there
// is none, when the store fails or is slow, when it did lately, and when the object
// is damaged as far as its first 64 KiB tell. A body that is damaged further on
// ends with an error there.
func (r *Reserve) Get(ctx context.Context, name string) *Object {
	return r.find(ctx, name, -1, func(o *Object, src *ending) error {
		b, err := newBody(o, src, ctx.Err, 0, o.Size)
		if err == nil {
			o.Body = b
		}
		return err
	})
}

// lookBytes are read of an object whose head is looked at: most metas are there.
const lookBytes = 16 << 10

// Look is Get without the body; Range gets parts of it.
func (r *Reserve) Look(ctx context.Context, name string) *Object {
	return r.find(ctx, name, lookBytes, func(_ *Object, src *ending) error { return src.Close() })
}

// find opens an object's first n bytes, reads what goes before the body and leaves
// the rest to then.
func (r *Reserve) find(ctx context.Context, name string, n int64, then func(*Object, *ending) error) *Object {
	if r.queue.isGoing(name) || r.off() {
		r.counts.misses.Add(1)
		return nil
	}
	o := &Object{r: r, name: name}
	var used time.Time
	err := r.within(ctx, func(ctx context.Context, end func()) error {
		var src io.ReadCloser
		var err error
		if src, used, err = r.cfg.Store.Get(ctx, name, 0, n); err != nil {
			return err
		}
		if o.head, err = readHead(src); err == errDamaged && n > 0 {
			// Its meta may be longer than what was asked for.
			_ = src.Close() // it has ended
			if src, used, err = r.cfg.Store.Get(ctx, name, 0, -1); err != nil {
				return err
			}
			o.head, err = readHead(src)
		}
		if err != nil {
			return errors.Join(err, src.Close())
		}
		o.Meta, o.Size = o.head.meta, o.head.size
		return then(o, &ending{src, end})
	})
	if err != nil {
		o.Close() // what came too late
		r.lost(ctx.Err, name, err)
		return nil
	}
	r.failures.Store(0)
	r.counts.hits.Add(1)
	r.used(name, used)
	return o
}

// Range opens bytes from..to of the body of an object that Look found; nil where
// Get would be. It reads whole blocks and no others.
func (o *Object) Range(ctx context.Context, from, to int64) io.ReadCloser {
	var b *body
	err := o.r.within(ctx, func(inner context.Context, end func()) error {
		at, n := o.head.span(from, to)
		src, _, err := o.r.cfg.Store.Get(inner, o.name, at, n)
		if err != nil {
			return err
		}
		b, err = newBody(o, &ending{src, end}, ctx.Err, from, to)
		return err
	})
	if err != nil && b != nil {
		_ = b.Close() // it came too late
	}
	if errors.Is(err, errDamaged) && o.replaced(ctx) {
		o.r.counts.misses.Add(1)
		return nil
	}
	if err != nil {
		o.r.lost(ctx.Err, o.name, err)
		return nil
	}
	o.r.failures.Store(0)
	return b
}

// replaced reports whether the name has another object by now.
func (o *Object) replaced(ctx context.Context) bool {
	now := o.r.Look(ctx, o.name)
	return now == nil || now.head.stamp != o.head.stamp
}

// within runs open, which has Config.Patience until it returns. What it opens lives
// on its ctx until end is called.
func (r *Reserve) within(ctx context.Context, open func(ctx context.Context, end func()) error) error {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(r.cfg.Patience, cancel)
	err := open(ctx, cancel)
	if !late.Stop() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
	}
	return err
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

func (r *Reserve) off() bool { return time.Now().UnixNano() < r.until.Load() }

// lost counts why there is no object. The store does what it should when it gives
// what is damaged, and can do nothing for one who has left.
func (r *Reserve) lost(gone func() error, name string, err error) {
	switch {
	case gone() != nil:
		r.counts.misses.Add(1)
	case errors.Is(err, ErrNone):
		r.failures.Store(0)
		r.counts.misses.Add(1)
	case errors.Is(err, errDamaged):
		r.counts.damaged.Add(1)
		r.cfg.Log.Warn("an object of the cache reserve is damaged and deleted", "object", name)
		r.Delete(name)
	default:
		r.failed(err)
	}
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

// Stats is what a reserve counts, at one moment.
type Stats struct {
	Hits, Misses, Failed  uint64 // lookups
	Damaged               uint64 // objects that did not match their checksums
	Written, WrittenBytes uint64
	Dropped               uint64 // not written: queue or spool full, store failing
	Deleted, Expired      uint64 // asked to, and because nobody asked for them
	Used                  uint64 // told the store of their use
	QueuedBytes           int64
	Spooled               int64 // bytes of large objects on their way
	Off                   bool  // after failures
}

// Stats reads all counters.
func (r *Reserve) Stats() Stats {
	c := &r.counts
	return Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Failed: c.failed.Load(), Damaged: c.damaged.Load(),
		Written: c.written.Load(), WrittenBytes: c.bytes.Load(), Dropped: c.dropped.Load(),
		Deleted: c.deleted.Load(), Expired: c.expired.Load(), Used: c.used.Load(),
		QueuedBytes: r.queue.queued(), Spooled: r.cfg.Spool.held(), Off: r.off(),
	}
}
