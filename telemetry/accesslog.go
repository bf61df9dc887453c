package telemetry

import (
	"encoding/binary"
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
	phases []string
	shards []shard
	stamp  stamp

	wake chan struct{} // one slot: a ring has a portion, or no room
	done chan struct{} // closed by Close
	work sync.WaitGroup

	dropped atomic.Uint64
	failed  atomic.Uint64
	written atomic.Uint64
}

// shard is one ring: records are appended to fill, the writer swaps it for an
// empty one. Padded so that two shards never share a cache line.
type shard struct {
	mu    sync.Mutex
	fill  []byte // guarded by mu
	spare []byte // owned by the writer
	_     [64]byte
}

const (
	ringBytes    = 1 << 20 // per shard
	flushEvery   = 100 * time.Millisecond
	renderBuffer = 64 << 10
	// portion is how many bytes of records are rendered at a time: about a hundred
	// records, a tenth of a millisecond. Requests on the writer's processor wait for
	// it, and what is rendered soon is still in the processor's cache.
	portion = 16 << 10
)

// NewAccessLog starts the writer. phases names the rows of Record.Phases;
// shards is how many rings there are, usually GOMAXPROCS. out is closed by
// Close.
func NewAccessLog(out io.WriteCloser, colo string, phases []string, shards int, log *slog.Logger) *AccessLog {
	l := &AccessLog{
		out: out, log: log, colo: colo, phases: phases, shards: make([]shard, max(shards, 1)),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	for i := range l.shards {
		l.shards[i].fill = make([]byte, 0, ringBytes)
		l.shards[i].spare = make([]byte, 0, ringBytes)
	}
	l.work.Go(l.run)
	return l
}

// Append stores a record in ring number n modulo the number of rings. It
// never waits for the disk.
func (l *AccessLog) Append(n uint32, r *Record) {
	s := &l.shards[n%uint32(len(l.shards))]
	s.mu.Lock()
	at := len(s.fill)
	if cap(s.fill)-at < maxRecord {
		s.mu.Unlock()
		l.dropped.Add(1)
		l.poke()
		return
	}
	p := append(s.fill, 0, 0)
	p = r.appendTo(p)
	binary.LittleEndian.PutUint16(p[at:], uint16(len(p)-at-2))
	s.fill = p
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

// Written returns how many lines were rendered.
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
	buf := make([]byte, 0, renderBuffer+maxRecord)
	for {
		select {
		case <-l.wake:
			buf = l.renderAll(buf)
		case <-tick.C:
			buf = l.write(l.renderAll(buf))
		case <-l.done:
			l.write(l.renderAll(buf))
			return
		}
	}
}

// renderAll renders all rings and writes what fills the buffer. Lines of one ring
// stay in order.
func (l *AccessLog) renderAll(buf []byte) []byte {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		full := s.fill
		s.fill = s.spare[:0]
		s.mu.Unlock()
		for p := full; len(p) > 0; {
			n := int(binary.LittleEndian.Uint16(p))
			buf = l.render(buf, p[2:2+n])
			l.written.Add(1)
			p = p[2+n:]
			if len(buf) >= renderBuffer {
				buf = l.write(buf)
			}
		}
		s.spare = full[:0]
	}
	return buf
}

func (l *AccessLog) write(buf []byte) []byte {
	if len(buf) == 0 {
		return buf
	}
	if _, err := l.out.Write(buf); err != nil {
		if l.failed.Add(1) == 1 {
			l.log.Error("access log cannot be written; lines are lost until it can", "err", err)
		}
	}
	return buf[:0]
}
