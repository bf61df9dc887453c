package telemetry

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// AccessLog takes records from request goroutines and writes them as JSON
// lines. When its rings are full it drops the record and counts it: a slow
// disk never slows a visitor.
type AccessLog struct {
	out    io.WriteCloser
	log    *slog.Logger
	colo   string
	phases []string // as phaseKeys makes them
	shards []shard

	wake chan struct{} // one slot: a ring has a portion, or no room
	done chan struct{} // closed by Close
	work sync.WaitGroup

	dropped atomic.Uint64
	failed  atomic.Uint64
	written atomic.Uint64
}

// shard is one ring: lines are appended to fill, the writer swaps it for an
// empty one. Padded so that two shards never share a cache line.
type shard struct {
	mu    sync.Mutex
	fill  []byte // guarded by mu, as what follows
	lines uint64 // in fill
	stamp stamp
	spare []byte // owned by the writer
	_     [64]byte
}

const (
	ringBytes  = 2 << 20 // per shard
	flushEvery = 100 * time.Millisecond
	// portion is how many bytes of lines are waited for. Waking the writer costs
	// as much as some lines; requests on its processor wait while it writes, about a
	// tenth of a millisecond, and what is written soon is still in the cache.
	portion = 256 << 10
	// maxWrite bounds a write: one of 1 MiB was seen to cost the kernel several
	// times as much a byte.
	maxWrite = 64 << 10
)

// NewAccessLog starts the writer. phases names the rows of Record.Phases; rows
// without a name are left out. shards is how many rings there are, usually
// GOMAXPROCS. out is closed by Close.
func NewAccessLog(out io.WriteCloser, colo string, phases []string, shards int, log *slog.Logger) *AccessLog {
	l := &AccessLog{
		out: out, log: log, colo: colo, phases: phaseKeys(phases), shards: make([]shard, max(shards, 1)),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	for i := range l.shards {
		l.shards[i].fill = make([]byte, 0, ringBytes)
		l.shards[i].spare = make([]byte, 0, ringBytes)
	}
	l.work.Go(l.run)
	return l
}

// Append stores a record's line in ring number n modulo the number of rings. It
// never waits for the disk.
func (l *AccessLog) Append(n uint32, r *Record) {
	s := &l.shards[n%uint32(len(l.shards))]
	s.mu.Lock()
	at := len(s.fill)
	if cap(s.fill)-at < maxLine {
		s.mu.Unlock()
		l.dropped.Add(1)
		l.poke()
		return
	}
	p := l.line(s.fill, &s.stamp, r)
	s.fill = p
	s.lines++
	due := len(p) >= portion && at < portion
	s.mu.Unlock()
	if due {
		l.poke()
	}
}

func (l *AccessLog) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Dropped returns how many records found their ring full.
func (l *AccessLog) Dropped() uint64 { return l.dropped.Load() }

// Failed returns how many writes of the file failed; their lines are lost.
func (l *AccessLog) Failed() uint64 { return l.failed.Load() }

// Written returns how many lines were given to the file.
func (l *AccessLog) Written() uint64 { return l.written.Load() }

// Close writes what is held and closes the output.
func (l *AccessLog) Close() error {
	close(l.done)
	l.work.Wait()
	return l.out.Close()
}

func (l *AccessLog) run() {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.wake:
		case <-l.done:
			l.flush()
			return
		}
		l.flush()
	}
}

// flush writes all rings. Lines of one ring stay in order.
func (l *AccessLog) flush() {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		full, lines := s.fill, s.lines
		s.fill, s.lines = s.spare[:0], 0
		s.mu.Unlock()
		l.written.Add(lines)
		for p := full; len(p) > 0; {
			n := len(p)
			if n > maxWrite {
				n = 1 + bytes.LastIndexByte(p[:maxWrite], '\n')
			}
			l.write(p[:n])
			p = p[n:]
		}
		s.spare = full[:0]
	}
}

func (l *AccessLog) write(lines []byte) {
	if _, err := l.out.Write(lines); err != nil {
		if l.failed.Add(1) == 1 {
			l.log.Error("access log cannot be written; lines are lost until it can", "err", err)
		}
	}
}
