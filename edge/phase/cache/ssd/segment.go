package ssd

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// segment is a file of records. The store and each open Record hold it; the
// last one closes it.
type segment struct {
	no     uint32
	single bool
	file   File
	key    Key   // of a single's record
	size   int64 // what it counts in used; guarded by segments.mu once it is listed
	refs   atomic.Int32
	asked  atomic.Bool // a single: looked up since it came up for eviction
	gone   atomic.Bool // taken out of the list
}

// release gives back a reference.
func (g *segment) release() {
	if g.refs.Add(-1) == 0 {
		_ = g.file.Close() // read from only, or deleted: nothing is lost
	}
}

func (g *segment) name() string { return fileName(g.no, g.single) }

const (
	logSuffix    = ".log"
	singleSuffix = ".one"
)

func fileName(no uint32, single bool) string {
	if single {
		return fmt.Sprintf("%08x%s", no, singleSuffix)
	}
	return fmt.Sprintf("%08x%s", no, logSuffix)
}

// parseName reads what fileName wrote.
func parseName(name string) (no uint32, single, ok bool) {
	base, isLog := strings.CutSuffix(name, logSuffix)
	if !isLog {
		if base, single = strings.CutSuffix(name, singleSuffix); !single {
			return 0, false, false
		}
	}
	n, err := strconv.ParseUint(base, 16, 32)
	if err != nil || fileName(uint32(n), single) != name {
		return 0, false, false
	}
	return uint32(n), single, true
}

// segments lists the files, the oldest first.
type segments struct {
	mu    sync.RWMutex
	byNo  map[uint32]*segment
	order []*segment
	last  uint32 // highest number given
}

func (l *segments) open() { l.byNo = make(map[uint32]*segment) }

// next gives a number that no file has had since the folder was cleared.
func (l *segments) next() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	return l.last
}

// add lists a segment as the newest; the list holds one reference.
func (l *segments) add(g *segment) {
	g.refs.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byNo[g.no] = g
	l.order = append(l.order, g)
	l.last = max(l.last, g.no)
}

// get returns a segment with a reference, nil when it is gone.
func (l *segments) get(no uint32) *segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.byNo[no]
	if g != nil {
		g.refs.Add(1)
	}
	return g
}

// take removes a segment from the list and returns its size; not ok when
// another was first.
func (l *segments) take(g *segment) (size int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byNo[g.no] != g {
		return 0, false
	}
	delete(l.byNo, g.no)
	l.order = slices.DeleteFunc(l.order, func(o *segment) bool { return o == g })
	g.gone.Store(true)
	return g.size, true
}

// resize sets what a listed segment counts and returns the difference.
func (l *segments) resize(g *segment, size int64) (more int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byNo[g.no] != g {
		return 0
	}
	more = size - g.size
	g.size = size
	return more
}

// requeue makes a segment the newest.
func (l *segments) requeue(g *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.order, g); i >= 0 {
		l.order = append(slices.Delete(l.order, i, i+1), g)
	}
}

// oldest returns the first segment that is not `but`, with a reference.
func (l *segments) oldest(but *segment) *segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, g := range l.order {
		if g != but {
			g.refs.Add(1)
			return g
		}
	}
	return nil
}

// after returns the segment with the next higher number, with a reference: the
// scrubber's way round.
func (l *segments) after(no uint32) *segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var found *segment
	for _, g := range l.order {
		if g.no > no && (found == nil || g.no < found.no) {
			found = g
		}
	}
	if found != nil {
		found.refs.Add(1)
	}
	return found
}

func (l *segments) count() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.order)
}

// close gives back the list's references.
func (l *segments) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.order {
		g.release()
	}
	l.order, l.byNo = nil, map[uint32]*segment{}
}

// create makes a file with its head and does not list it.
func (s *Store) create(no uint32, single bool) (*segment, error) {
	f, err := s.fs.Open(fileName(no, single), true)
	if err != nil {
		return nil, err
	}
	g := &segment{no: no, single: single, file: f}
	if _, err := f.WriteAt(encodeFileHead(no, single), 0); err != nil {
		return nil, errors.Join(err, f.Close(), s.fs.Remove(g.name()))
	}
	return g, nil
}

// discard deletes a listed segment's file and gives its bytes free. Who reads
// it still can; its writer finds that it is gone.
func (s *Store) discard(g *segment) bool {
	size, ok := s.segs.take(g)
	if !ok {
		return false
	}
	if err := s.fs.Remove(g.name()); err != nil {
		s.counts.failed.Add(1)
		s.cfg.Log.Warn("a file of the disk cache cannot be deleted", "file", g.name(), "err", err)
	}
	s.used.Add(-size)
	g.release()
	return true
}

// removeSingle deletes a segment if its one record has it alone.
func (s *Store) removeSingle(no uint32) {
	g := s.segs.get(no)
	if g == nil {
		return
	}
	if g.single {
		s.discard(g)
	}
	g.release()
}

// dropSegment deletes a segment with all it holds.
func (s *Store) dropSegment(no uint32) {
	g := s.segs.get(no)
	if g == nil {
		return
	}
	s.discard(g)
	g.release()
	s.index.dropSegment(no)
}

// readLines reads a sealed segment's footer.
func readLines(f File) ([]line, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size < fileHead+tailBytes {
		return nil, errFormat
	}
	var tail [tailBytes]byte
	if _, err := f.ReadAt(tail[:], size-tailBytes); err != nil {
		return nil, err
	}
	from, count, want, err := decodeTail(tail[:], size)
	if err != nil {
		return nil, err
	}
	b := make([]byte, count*lineBytes)
	if _, err := f.ReadAt(b, from); err != nil {
		return nil, err
	}
	if sum(b) != want {
		return nil, errDamaged
	}
	lines := make([]line, count)
	for i := range lines {
		l := decodeLine(b[i*lineBytes:])
		if l.n < recordHead/unit || (int64(l.off)+int64(l.n))*unit > from || l.off < fileHead/unit {
			return nil, errFormat
		}
		lines[i] = l
	}
	return lines, nil
}
