// Package ssd keeps records, 128-bit key → meta and body, in files of one
// folder. It knows nothing of what they mean. It promises that
//
//   - a lookup costs one step in memory and one read of the disk, and the index
//     at most 64 bytes a record;
//   - nobody who serves waits for a write: writes go through a bounded queue,
//     and what finds it full is dropped and counted; reads at a time are
//     bounded too, and one too many finds nothing;
//   - no byte is given out that does not match its checksum: the head's is
//     compared at each read, the body's at the first after each start, and a
//     scrubber goes through what nobody reads;
//   - the process may end at any moment: what is found at the next start is
//     what had been written, whole records only, the newest of each key, and
//     none that was deleted by a Delete that had been written;
//   - the budget in bytes is kept, and a disk that is full or fails switches
//     the tier off for a while and nothing else.
//
// Records are appended to segments. When room is needed the oldest segment
// goes, and takes with it what it holds; records that were asked for since they
// were written are written again, as long as they fill no more than half a
// segment. A deleted or replaced record's room comes back with its segment. A
// record over Config.Single bytes has a file of its own, and is not copied to
// be kept.
//
// A write is done when the kernel has it: the end of the process loses nothing
// of it, a power cut may, and what it tears is found by its checksum. A Delete
// that a power cut takes back has to be known from elsewhere.
package ssd

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Store is made of. Zero fields have the defaults named.
type Config struct {
	Dir   string // folder, made where it is missing
	Bytes int64  // what the files may take together; at least MinBytes

	Segment int64 // bytes of a segment; default Bytes/64, at least 1 MiB; at most 256 MiB and Bytes/8
	Single  int64 // records over this have a file of their own; default Segment/8
	Queue   int64 // bytes that may wait to be written; default 32 MiB, at most Bytes/8
	Reads   int   // reads of the disk at a time; default 256
	Scrub   int64 // bytes a second that the scrubber reads; default 4 MiB, negative = no scrubber

	FS  FS // instead of Dir
	Log *slog.Logger
	Now func() time.Time // nil = time.Now
}

// Defaults and bounds of Config.
const (
	MinBytes     = 8 << 20
	DefaultQueue = 32 << 20
	DefaultReads = 256
	DefaultScrub = 4 << 20

	minSegment = 1 << 20
	maxSegment = 256 << 20
	perBudget  = 64 // segments in a budget
)

func (c *Config) check() error {
	if c.Bytes < MinBytes {
		return fmt.Errorf("at least %d bytes are needed, got %d", MinBytes, c.Bytes)
	}
	if c.Dir == "" && c.FS == nil {
		return errors.New("a folder is needed")
	}
	if c.Segment <= 0 {
		c.Segment = max(c.Bytes/perBudget, minSegment)
	}
	c.Segment = min(c.Segment, maxSegment, c.Bytes/8)
	c.Single = min(cmp.Or(max(c.Single, 0), c.Segment/8), c.Segment/4)
	c.Queue = min(cmp.Or(max(c.Queue, 0), DefaultQueue), c.Bytes/8)
	c.Reads = cmp.Or(max(c.Reads, 0), DefaultReads)
	c.Scrub = cmp.Or(c.Scrub, DefaultScrub)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// Store is one folder of records. Its methods may be called from any
// goroutine; none but Open and Close waits for a write.
type Store struct {
	cfg   Config
	fs    FS
	lock  interface{ Close() error }
	index index
	segs  segments
	queue queue
	used  atomic.Int64 // bytes of all files, the open segment counted whole
	reads chan struct{}
	sent  chan struct{} // a place for each body that the kernel sends by itself
	sick  health        // of reads
	wsick health        // of writes

	streams streams
	w       writer
	ended   chan struct{} // closed by Close
	closing sync.Once
	work    sync.WaitGroup // writer, scrubber, and open Writers
	life    sync.Mutex     // guards closed against work.Add
	closed  bool           // guarded by life
	counts  counts
}

// Open locks the folder and finds what is in it. An error means that the
// folder cannot be used; files that cannot be read are deleted and counted.
func Open(cfg Config) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.FS == nil {
		dir, err := openDir(cfg.Dir)
		if err != nil {
			return nil, err
		}
		cfg.FS = dir
	}
	s := &Store{cfg: cfg, fs: cfg.FS, ended: make(chan struct{}), reads: make(chan struct{}, cfg.Reads), sent: make(chan struct{}, cfg.Reads)}
	s.segs.open()
	s.queue.open(cfg.Queue)
	s.streams.open = make(map[*Writer]struct{})
	lock, err := s.fs.Lock("lock")
	if err != nil {
		return nil, err
	}
	s.lock = lock
	began := time.Now()
	if err := s.recover(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	records, _ := s.index.size()
	s.counts.recovered.Store(int64(time.Since(began)))
	cfg.Log.Info("disk cache opened", "records", records, "bytes", s.used.Load(), "took", time.Since(began))
	s.w.open(s)
	s.work.Go(s.write)
	if cfg.Scrub > 0 {
		s.work.Go(s.scrub)
	}
	return s, nil
}

// Close writes what waits, ends the open segment with its footer and gives the
// folder free. Records that are being read stay readable.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		s.life.Lock()
		s.closed = true
		s.life.Unlock()
		close(s.ended)
		s.queue.close()
		s.work.Wait()
		err = s.w.seal()
		s.segs.close()
		err = errors.Join(err, s.lock.Close())
	})
	return err
}

// Put queues a record to be written, in place of any of that key. done, if not
// nil, is called once when meta and body are needed no longer; they must not
// change before. Where it is not queued, the record of that key stays what it was. It reports whether the record was queued: not when the queue
// is full, the disk fails, or the record is larger than an eighth of the
// budget.
func (s *Store) Put(k Key, meta, body []byte, done func()) bool {
	h := header{key: k, meta: uint32(len(meta)), body: int64(len(body))}
	if len(meta) > MaxMeta || h.length() > s.maxRecord() || s.wsick.off(s.cfg.Now()) ||
		!s.queue.push(item{key: k, meta: meta, body: body, done: done}) {
		s.counts.dropped.Add(1)
		if done != nil {
			done()
		}
		return false
	}
	return true
}

// Flush returns when what was put before it is found, or lost. Streamed records
// may take longer.
func (s *Store) Flush() {
	done := make(chan struct{})
	if s.queue.makeRoom(0, func() { close(done) }) {
		<-done
	}
}

// maxRecord is the largest record that is stored.
func (s *Store) maxRecord() int64 { return min(s.cfg.Bytes/8, maxRecord) }

// Delete forgets a key's record: no later Find has it. That is written soon,
// for the next start.
func (s *Store) Delete(k Key) {
	s.streams.void(k)
	queued := s.queue.kill(k, s.index.peek)
	old, was := s.index.del(k)
	if queued && !s.wsick.off(s.cfg.Now()) {
		if was {
			s.removeSingle(old.seg)
		}
		return
	}
	// It cannot be written that the record is gone, so its segment goes.
	s.queue.killAll()
	if was {
		s.dropSegment(old.seg)
	}
}

// Has reports whether a key has a record, without reading it or counting it as
// asked for.
func (s *Store) Has(k Key) bool {
	_, ok := s.index.peek(k)
	return ok
}

// start counts a goroutine or a Writer that Close waits for; false after Close.
func (s *Store) start() bool {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return false
	}
	s.work.Add(1)
	return true
}

// health switches a direction of the disk off when it fails repeatedly.
type health struct {
	failures atomic.Int32
	until    atomic.Int64 // unix nanoseconds
}

const (
	sickAfter = 8 // failures without a success between
	sickFor   = 10 * time.Second
)

// failed counts; true when this failure switched it off.
func (h *health) failed(now time.Time) bool {
	if h.failures.Add(1) < sickAfter {
		return false
	}
	h.failures.Store(0)
	h.until.Store(now.Add(sickFor).UnixNano())
	return true
}

func (h *health) worked() {
	if h.failures.Load() != 0 {
		h.failures.Store(0)
	}
}

func (h *health) off(now time.Time) bool {
	until := h.until.Load()
	return until != 0 && now.UnixNano() < until
}

// Room reports whether the queue would take a record of about n bytes now.
func (s *Store) Room(n int64) bool {
	_, waiting := s.queue.load()
	return waiting+n <= s.cfg.Queue || waiting == 0
}
