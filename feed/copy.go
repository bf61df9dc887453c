package feed

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// CopyOptions of a Copy. Zero values mean the default in brackets.
type CopyOptions struct {
	Log        *slog.Logger
	CacheBytes int64 // of blocks in memory [16 MiB]
	Versions   int   // kept of each key [KeptVersions]
	// NoSync leaves a batch to the operating system's leisure: a crash may lose
	// the newest entries, which come again; for tests.
	NoSync bool
	// Retain keeps entries for those who follow this copy, see RelayLog [none].
	Retain Retention
	// Thin makes the copy a partial replica: of keys with this prefix it holds
	// the values that are used, see Replica, and one version of each. A copy that
	// was one and is opened without has a snapshot sent [none].
	Thin string
	// Replaced hears that the copy was damaged, moved aside and begun anew.
	Replaced func(moved string, cause error)
	// Now is the clock by which kept entries grow old [time.Now].
	Now func() time.Time
	// FS is where the files are [the disk]; tests inject faults.
	FS vfs.FS
}

// KeptVersions is how many versions of each key a copy keeps, the newest among
// them, where CopyOptions does not say.
const KeptVersions = 4

// Copy is an edge's own copy of the feed's state, on disk: the newest versions
// of each key, and the cursor that they are the state at. One process has it
// open at a time; all methods may be called from many goroutines.
type Copy struct {
	dir  string
	opts CopyOptions
	log  *slog.Logger
	held *holdings // of a partial replica; nil: all values are

	write   sync.Mutex // one writer at a time
	erasing *erasing   // guarded by write; nil for none

	mu     sync.RWMutex    // readers hold it while they pin a view; a leaf
	db     *pebble.DB      // guarded by mu; replaced by Recover
	lock   *pebble.Lock    // guarded by mu
	meta   meta            // what the store holds; guarded by mu, changed with write held as well
	health *health         // of db; guarded by mu
	refill bool            // it has stubs and is to be whole; guarded by mu
	store  *pebble.Options // of db, for tables that are made beside it; guarded by mu

	changed chan struct{}  // closed when a subscriber has moved the cursor; guarded by mu
	readers sync.WaitGroup // of db; added to under mu, while db is there
}

// OpenCopy opens or makes the copy at dir. Each value is compared with its checksum
// when it is read; that none is gone without a trace is what Verify looks for. A
// copy that cannot be opened for its damage is named in the log, moved aside to
// dir.bad-<time> (only the newest is kept) and replaced by an empty one, whose
// cursor is zero: the feed brings a snapshot. A copy on a disk that takes no writes (full, failing) is opened to be read: writing to it
// is ErrBroken. Another process's lock, a disk mounted read-only, on which no lock
// can be had, and missing permission are errors.
func OpenCopy(dir string, opts CopyOptions) (*Copy, error) {
	opts.Log = cmp.Or(opts.Log, slog.New(slog.DiscardHandler))
	opts.CacheBytes = cmp.Or(opts.CacheBytes, 16<<20)
	opts.Versions = cmp.Or(opts.Versions, KeptVersions)
	if opts.Thin != "" {
		opts.Versions = 1
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.FS == nil {
		opts.FS = vfs.Default
	}
	c := &Copy{dir: dir, opts: opts, log: opts.Log, changed: make(chan struct{})}
	if opts.Thin != "" {
		c.held = newHoldings()
	}
	full := c.probe()
	if unwritable(full) && c.open(true) == nil {
		c.log.Error("copy cannot be written; what it holds is served, and nothing newer until a restart", "dir", dir, "error", full)
		return c, nil
	}
	err := c.open(false)
	if err == nil {
		return c, nil
	}
	if !damaged(err) {
		return nil, fmt.Errorf("open copy %s: %w", dir, err)
	}
	if err := c.replace(err); err != nil {
		return nil, fmt.Errorf("open copy %s: %w", dir, err)
	}
	return c, nil
}

// damaged tells bytes that cannot be trusted from circumstances that a new copy
// would not mend. Pebble names many kinds of damage in many ways (a missing
// table is a missing file, a torn manifest a bad record), so it is whatever is
// not the operating system's refusal.
func damaged(err error) bool {
	if errors.Is(err, ErrCorrupt) || pebble.IsCorruptionError(err) {
		return true
	}
	if errors.Is(err, ErrBroken) || errors.Is(err, fs.ErrPermission) || errors.Is(err, errLocked) {
		return false
	}
	errno, ok := errors.AsType[syscall.Errno](err)
	return !ok || errno == syscall.ENOENT
}

// unwritable tells a disk that can still be read from other failures.
func unwritable(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && (errno == syscall.ENOSPC || errno == syscall.EDQUOT || errno == syscall.EROFS || errno == syscall.EIO)
}

const probeBytes = 1 << 20 // what opening a store writes, and some room

// probe reports whether an existing copy's folder takes a write. It is asked
// first because Pebble neither opens nor returns when a write fails meanwhile.
func (c *Copy) probe() (err error) {
	fsys, path := c.opts.FS, c.opts.FS.PathJoin(c.dir, "probe")
	if _, err := fsys.Stat(c.dir); err != nil {
		return nil // a new copy has nothing to be read
	}
	f, err := fsys.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeBytes))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), fsys.Remove(path))
}

var errLocked = errors.New("another process has it open")

// open opens the store. With readOnly nothing on the disk is touched, and the
// copy counts as broken from the start.
func (c *Copy) open(readOnly bool) error {
	if err := c.opts.FS.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	lock, err := pebble.LockDirectory(c.dir, c.opts.FS)
	if unwritable(err) {
		return fmt.Errorf("lock: %w", err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errLocked, err)
	}
	cache := pebble.NewCache(c.opts.CacheBytes)
	defer cache.Unref()
	h := newHealth(c.log)
	o := &pebble.Options{
		Cache:              cache,
		FS:                 c.opts.FS,
		Lock:               lock,
		Cleaner:            cleaner{},
		Logger:             h,
		EventListener:      &pebble.EventListener{DataCorruption: h.damage},
		MemTableSize:       4 << 20,
		MaxOpenFiles:       256,
		FormatMajorVersion: pebble.FormatNewest,
		ReadOnly:           readOnly,
	}
	o.EnsureDefaults()
	db, err := openStore(c.dir, h, o)
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	m, err := readMeta(db)
	if err == nil {
		m.kept, err = readKept(db, m.cursor, c.opts.Retain.on())
	}
	if err == nil {
		err = c.openThin(db, h, m, readOnly)
	}
	var erased uint32
	if err == nil {
		erased, err = erasedBefore(db)
	}
	if err != nil {
		return errors.Join(err, db.Close(), lock.Close())
	}
	if readOnly {
		h.broken.Store(true)
	}
	c.mu.Lock()
	c.db, c.meta = db, m
	c.lock, c.health, c.store = lock, h, o
	c.mu.Unlock()
	if erased < m.gen && !readOnly {
		c.eraseOlder(db, h, m.gen)
	}
	return nil
}

// openStore is pebble.Open, which never returns once a write in it failed for
// good: the goroutine that is left waiting in it ends with the process.
func openStore(dir string, h *health, o *pebble.Options) (*pebble.DB, error) {
	type opened struct {
		db  *pebble.DB
		err error
	}
	result := make(chan opened, 1)
	go func() {
		db, err := pebble.Open(dir, o)
		result <- opened{db, err}
	}()
	select {
	case r := <-result:
		return r.db, r.err
	case <-h.failed:
		return nil, ErrBroken
	}
}

// Cursor is the position that the copy is the state at; zero when it is empty.
func (c *Copy) Cursor() Cursor {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.meta.cursor
}

// resumes is the cursor to go on from: none where values are missing that a
// snapshot has to bring.
func (c *Copy) resumes() Cursor {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.refill {
		return Cursor{}
	}
	return c.meta.cursor
}

// Changed returns a channel that is closed when what came from a parent at once
// has been stored. Taking the channel before reading Cursor misses nothing.
func (c *Copy) Changed() <-chan struct{} {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changed
}

func (c *Copy) moved() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// Generation grows with each snapshot that replaces the copy's state, over
// restarts too; 0 = none has.
func (c *Copy) Generation() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return uint64(c.meta.gen)
}

// Get returns a key's newest value and the number of the entry that wrote it.
// The value is the caller's. Damage is ErrCorrupt.
func (c *Copy) Get(key string) (value []byte, seq uint64, ok bool, err error) {
	return c.GetAt(key, math.MaxUint64)
}

// GetAt is Get at an earlier number, as far back as versions are kept: where
// the version that held then is gone, ok is false.
func (c *Copy) GetAt(key string, at uint64) (value []byte, seq uint64, ok bool, err error) {
	it, gen, err := c.iterator(func(gen uint32) ([]byte, []byte) {
		return appendDataKey(nil, gen, key, at), append(appendDataKey(nil, gen, key, 0), 0)
	})
	if err != nil {
		return nil, 0, false, fmt.Errorf("get %s: %w", key, err)
	}
	defer func() { err = c.release(it, err) }()
	if !it.First() {
		return nil, 0, false, it.Error()
	}
	v, err := decodeVersion(it, gen)
	if err == nil && v.kind == kindStub {
		err = fmt.Errorf("get %s: %w", key, ErrElsewhere)
	}
	if err != nil || v.kind == kindDeleted {
		return nil, 0, false, err
	}
	return append([]byte(nil), v.value...), v.seq, true, nil
}

// Scan passes the newest value of each key with the prefix, in key order, of
// one moment. The value is valid until f returns. An error of f ends it and
// comes back; damage is ErrCorrupt.
func (c *Copy) Scan(prefix string, f func(key string, value []byte, seq uint64) error) (err error) {
	it, gen, err := c.iterator(func(gen uint32) ([]byte, []byte) { return prefixBounds(gen, prefix) })
	if err != nil {
		return fmt.Errorf("scan %s: %w", prefix, err)
	}
	defer func() { err = c.release(it, err) }()
	last := ""
	for it.First(); it.Valid(); it.Next() {
		v, err := decodeVersion(it, gen)
		if err != nil {
			return fmt.Errorf("scan %s: %w", prefix, err)
		}
		if v.key == last {
			continue
		}
		last = v.key
		if v.kind == kindStub {
			return fmt.Errorf("scan %s: %s: %w", prefix, v.key, ErrElsewhere)
		}
		if v.kind == kindDeleted {
			continue
		}
		if err := f(v.key, v.value, v.seq); err != nil {
			return err
		}
	}
	return it.Error()
}

// History passes the kept versions of each key with the prefix, in key order and
// of a key the newest first, of one moment; a version may say that the key was
// deleted then. Of a key with KeptVersions versions older ones may be gone. What
// was before the last snapshot is not there. Otherwise it is like Scan.
func (c *Copy) History(prefix string, f func(key string, value []byte, seq uint64, deleted bool) error) (err error) {
	it, gen, err := c.iterator(func(gen uint32) ([]byte, []byte) { return prefixBounds(gen, prefix) })
	if err != nil {
		return fmt.Errorf("history of %s: %w", prefix, err)
	}
	defer func() { err = c.release(it, err) }()
	for it.First(); it.Valid(); it.Next() {
		v, err := decodeVersion(it, gen)
		if err != nil {
			return fmt.Errorf("history of %s: %w", prefix, err)
		}
		if v.kind == kindStub {
			return fmt.Errorf("history of %s: %s: %w", prefix, v.key, ErrElsewhere)
		}
		if err := f(v.key, v.value, v.seq, v.kind == kindDeleted); err != nil {
			return err
		}
	}
	return it.Error()
}

// iterator pins a consistent view; the lock is not held while it is used. It is
// to be given to release.
func (c *Copy) iterator(bounds func(gen uint32) (lower, upper []byte)) (*pebble.Iterator, uint32, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.db == nil {
		return nil, 0, ErrBroken
	}
	lower, upper := bounds(c.meta.gen)
	it, err := c.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err == nil {
		c.readers.Add(1)
	}
	return it, c.meta.gen, err
}

// release ends a reader's iterator. Damage that it met makes the copy one to be
// replaced.
func (c *Copy) release(it *pebble.Iterator, err error) error {
	err = closeIterator(it, err)
	c.readers.Done()
	if errors.Is(err, ErrCorrupt) {
		c.mu.RLock()
		c.health.condemn(err)
		c.mu.RUnlock()
	}
	return err
}

// Damage says why the copy has to be replaced; nil where nothing is known against
// it. What can still be read of it is right: each value has its own checksum.
func (c *Copy) Damage() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if why := c.health.corrupt.Load(); why != nil {
		return *why
	}
	return nil
}

func closeIterator(it *pebble.Iterator, err error) error {
	if closeErr := it.Close(); err == nil {
		err = closeErr
	}
	if err != nil && pebble.IsCorruptionError(err) && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// Close waits for readers, flushes and releases the copy.
func (c *Copy) Close() error {
	c.write.Lock()
	defer c.write.Unlock()
	return c.close()
}

// close is called with the write lock held.
func (c *Copy) close() error {
	c.mu.Lock()
	db, lock, h := c.db, c.lock, c.health
	c.db, c.lock = nil, nil
	c.mu.Unlock()
	if db == nil {
		return nil
	}
	h.leaving.Store(true)
	c.endErasing(h)
	c.readers.Wait()
	if h.broken.Load() {
		return ErrBroken // Pebble may hang in Close after it gave up
	}
	return errors.Join(c.health.guarded(db.Close), lock.Close())
}

// Recover replaces a copy that was found damaged while in use by an empty one;
// cause is why. The cursor is zero afterwards.
func (c *Copy) Recover(cause error) error {
	c.write.Lock()
	defer c.write.Unlock()
	err := c.close()
	if errors.Is(err, ErrBroken) {
		return err
	}
	if err != nil {
		c.log.Warn("damaged copy did not close cleanly", "dir", c.dir, "error", err)
	}
	return c.replace(cause)
}

func (c *Copy) replace(cause error) error {
	bad := c.dir + ".bad-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	c.log.Error("copy is damaged; moving it aside and starting an empty one", "dir", c.dir, "to", bad, "error", cause)
	if err := c.opts.FS.Rename(c.dir, bad); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("move damaged copy aside: %w", err)
	}
	c.forget(bad)
	if err := c.open(false); err != nil {
		return fmt.Errorf("start empty copy: %w", err)
	}
	if c.opts.Replaced != nil {
		c.opts.Replaced(bad, cause)
	}
	return nil
}

// forget removes damaged copies other than keep. Failing to costs only space.
func (c *Copy) forget(keep string) {
	fsys := c.opts.FS
	parent, name := fsys.PathDir(c.dir), fsys.PathBase(c.dir)+".bad-"
	list, err := fsys.List(parent)
	if err != nil {
		return
	}
	for _, entry := range list {
		path := fsys.PathJoin(parent, entry)
		if len(entry) > len(name) && entry[:len(name)] == name && path != keep {
			if err := fsys.RemoveAll(path); err != nil {
				c.log.Warn("old damaged copy was not removed", "dir", path, "error", err)
			}
		}
	}
}
