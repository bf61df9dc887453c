package feed

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Spool keeps a node's audit signals on disk until the root has stored them. It
// promises that what Add took survives the process and the machine, goes up as
// often as it takes, and is forgotten only when the root said that it has it. It
// is bounded: when it is full, Add says so.
//
// Each start is a run with files of its own, and nothing is ever written to an
// earlier run's: a signal's name (run, number) is never given to another one,
// also where the state folder came back from a backup.
type Spool struct {
	dir     string
	fs      vfs.FS
	limit   int64
	run     uint64 // of this start
	damage  []string
	refused atomic.Uint64
	wake    func() // set once, by NewUp

	mu     sync.Mutex
	last   uint64     // the newest signal's number; guarded by mu
	opened int        // files of this run; guarded by mu
	bytes  int64      // of all files; guarded by mu
	write  *spoolFile // nil: the next Add opens one; guarded by mu
	// What waits, and what was taken in between, oldest first; guarded by mu.
	list []*spooled
	by   map[AuditID]*spooled // what waits; guarded by mu
	sent int                  // how many of list are on their way; guarded by mu
	when time.Time            // something of those was last sent or taken; guarded by mu
}

// AuditID names an audit signal of a node, for good.
type AuditID struct{ Run, Number uint64 }

type spoolFile struct {
	path  string
	file  vfs.File // of one that is written to; nil: opened where it is read
	size  int64
	waits int // of its signals
}

// disk is what a file costs, about.
func (f *spoolFile) disk() int64 { return max(f.size, 4<<10) }

type spooled struct {
	id     AuditID
	at     uint64 // Unix nanoseconds
	in     *spoolFile
	offset int64 // of the text
	size   int
	taken  bool
}

const (
	// DefaultSpoolBytes is how much of the disk a Spool may have.
	DefaultSpoolBytes = 16 << 20
	// MinSpoolBytes is the least that it may be given.
	MinSpoolBytes = 1 << 20
	// MaxAuditBytes is the most that one audit signal says.
	MaxAuditBytes = MaxSignalBytes - auditHead

	spoolSuffix = ".audit"
	spoolHead   = 4 + 4 + 8 + 8
	spoolPart   = 256 << 10 // a file of this size is followed by another
	auditHead   = 8 + 8 + 8
	// inFlight is how many go without being taken, and overdue how long that may
	// last before all of them are sent again.
	inFlight = 512
	overdue  = 30 * time.Second
)

// ErrSpoolFull is in the chain of Add's error when there is no room.
var ErrSpoolFull = errors.New("feed: the audit spool is full")

// SpoolOptions are of OpenSpool.
type SpoolOptions struct {
	FS    vfs.FS // nil: the disk
	Bytes int64  // of disk at most; 0: DefaultSpoolBytes
}

// OpenSpool opens the spool in a folder, which it makes.
func OpenSpool(dir string, o SpoolOptions) (*Spool, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	fsys := o.FS
	s := &Spool{
		dir: dir, fs: fsys, limit: cmp.Or(o.Bytes, DefaultSpoolBytes), wake: func() {}, by: map[AuditID]*spooled{},
		run: uint64(time.Now().UnixMilli())<<16 | uint64(rand.N[uint32](1<<16)), //nolint:gosec // a name, no secret
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the audit spool: %w", err)
	}
	if err := syncFolder(fsys, fsys.PathDir(dir)); err != nil {
		return nil, fmt.Errorf("open the audit spool: %w", err)
	}
	names, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("open the audit spool: %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := s.load(name); err != nil {
			return nil, errors.Join(fmt.Errorf("open the audit spool: %s: %w", name, err), s.Close())
		}
	}
	return s, nil
}

// Damage says what could not be read when the spool was opened, a sentence each:
// audit signals that are lost, unless the root has them already.
func (s *Spool) Damage() []string { return s.damage }

// Close leaves what waits to the next start.
func (s *Spool) Close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.write != nil {
		err = s.write.file.Close()
	}
	s.list, s.write, s.by = nil, nil, nil
	return err
}

// Add stores signals, all or none, and returns when they are on the disk. What it
// refuses is counted.
func (s *Spool) Add(texts ...[]byte) error {
	err := s.add(texts, uint64(time.Now().UnixNano()))
	if err != nil {
		s.refused.Add(uint64(len(texts)))
		return fmt.Errorf("spool audit: %w", err)
	}
	s.wake()
	return nil
}

func (s *Spool) add(texts [][]byte, at uint64) error {
	var p []byte
	var added []*spooled
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		return errors.New("the spool is closed")
	}
	if s.write == nil || s.write.size >= spoolPart {
		if err := errors.Join(s.shut(), s.open()); err != nil {
			return err
		}
	}
	f, number := s.write, s.last
	for _, text := range texts {
		if len(text) > MaxAuditBytes {
			return fmt.Errorf("signal of %d bytes, at most %d: %w", len(text), MaxAuditBytes, ErrLimit)
		}
		number++
		at++ // those of one moment keep their order
		start := len(p)
		p = binary.BigEndian.AppendUint32(p, uint32(len(text)))
		p = append(p, 0, 0, 0, 0)
		p = binary.BigEndian.AppendUint64(p, number)
		p = append(binary.BigEndian.AppendUint64(p, at), text...)
		binary.BigEndian.PutUint32(p[start+4:], crc32.Checksum(p[start+8:], castagnoli))
		added = append(added, &spooled{id: AuditID{s.run, number}, at: at, in: f, offset: f.size + int64(start+spoolHead), size: len(text)})
	}
	if len(p) > spoolPart {
		return fmt.Errorf("%d signals of %d bytes, at most %d: %w", len(texts), len(p), spoolPart, ErrLimit)
	}
	before := f.disk()
	if s.bytes+int64(len(p)) > s.limit {
		return fmt.Errorf("%w: %d of %d bytes used", ErrSpoolFull, s.bytes, s.limit)
	}
	if _, err := f.file.Write(p); err != nil {
		return errors.Join(err, s.shut())
	}
	if err := f.file.Sync(); err != nil {
		return errors.Join(err, s.shut())
	}
	s.last = number
	f.size, f.waits = f.size+int64(len(p)), f.waits+len(added)
	s.bytes += f.disk() - before
	for _, x := range added {
		s.by[x.id] = x
	}
	s.list = append(s.list, added...)
	return nil
}

// open begins a file of this run; with mu held.
func (s *Spool) open() error {
	path := s.fs.PathJoin(s.dir, fmt.Sprintf("%016x-%08x%s", s.run, s.opened, spoolSuffix))
	file, err := s.fs.OpenReadWrite(path, "audit")
	if err != nil {
		return err
	}
	if err := syncFolder(s.fs, s.dir); err != nil {
		return errors.Join(err, file.Close(), s.fs.Remove(path))
	}
	s.opened++
	s.write = &spoolFile{path: path, file: file}
	s.bytes += s.write.disk()
	return nil
}

// syncFolder makes what was made in a folder outlive the machine.
func syncFolder(fsys vfs.FS, path string) error {
	dir, err := fsys.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// shut ends the file that is written to: it is long enough, or its end may be
// torn, and what is appended behind that would not be read again. With mu held.
func (s *Spool) shut() error {
	f := s.write
	if f == nil {
		return nil
	}
	s.write = nil
	err := f.file.Close()
	f.file = nil
	return errors.Join(err, s.spare(f))
}

// spare removes a file that nothing waits in and nothing is written to; with mu
// held.
func (s *Spool) spare(f *spoolFile) error {
	if f.waits > 0 || f == s.write {
		return nil
	}
	s.bytes -= f.disk()
	return s.fs.Remove(f.path)
}

// read reads a part of a file.
func (s *Spool) read(f *spoolFile, p []byte, at int64) error {
	in := f.file
	if in == nil {
		opened, err := s.fs.Open(f.path)
		if err != nil {
			return err
		}
		defer func() { _ = opened.Close() }() // only read
		in = opened
	}
	_, err := in.ReadAt(p, at)
	if errors.Is(err, io.EOF) && len(p) == 0 {
		return nil
	}
	return err
}

// load reads a file of an earlier run.
func (s *Spool) load(name string) error {
	var run uint64
	var part uint32
	if _, err := fmt.Sscanf(name, "%016x-%08x"+spoolSuffix, &run, &part); err != nil || !strings.HasSuffix(name, spoolSuffix) {
		return nil // not ours
	}
	f := &spoolFile{path: s.fs.PathJoin(s.dir, name)}
	stat, err := s.fs.Stat(f.path)
	if err != nil {
		return err
	}
	p := make([]byte, min(stat.Size(), 4*spoolPart)) // add writes less
	if err := s.read(f, p, 0); err != nil {
		return err
	}
	f.size = stat.Size()
	s.bytes += f.disk()
	for at := 0; at < len(p); {
		size := cutSpooled(p[at:])
		if size == 0 {
			if !torn(p[at:]) {
				s.damage = append(s.damage, fmt.Sprintf("%s: nothing can be read from byte %d of %d on", name, at, len(p)))
			}
			break
		}
		head := p[at:]
		x := &spooled{id: AuditID{run, binary.BigEndian.Uint64(head[8:])}, at: binary.BigEndian.Uint64(head[16:]), in: f, offset: int64(at + spoolHead), size: size - spoolHead}
		s.list, s.by[x.id] = append(s.list, x), x
		f.waits++
		at += size
	}
	return s.spare(f)
}

// cutSpooled is how long the record at the start of p is; 0 for none.
func cutSpooled(p []byte) int {
	if len(p) < spoolHead {
		return 0
	}
	n := int(binary.BigEndian.Uint32(p))
	if n > MaxAuditBytes || len(p)-spoolHead < n || crc32.Checksum(p[8:spoolHead+n], castagnoli) != binary.BigEndian.Uint32(p[4:]) {
		return 0
	}
	return spoolHead + n
}

// torn reports whether p is what a crash leaves of the last write, which Add had
// not returned from: less than it says, or nothing but zeros.
func torn(p []byte) bool {
	if len(p) < spoolHead || len(bytes.Trim(p, "\x00")) == 0 {
		return true
	}
	n := int(binary.BigEndian.Uint32(p))
	return n <= MaxAuditBytes && len(p)-spoolHead <= n
}

// again makes all of them be sent once more: another parent knows nothing.
func (s *Spool) again() {
	s.mu.Lock()
	s.sent = 0
	s.mu.Unlock()
	s.wake()
}

// late does so where nothing of what was sent was taken for long.
func (s *Spool) late() {
	s.mu.Lock()
	late := s.sent > 0 && len(s.by) > 0 && time.Since(s.when) > overdue
	s.mu.Unlock()
	if late {
		s.again()
	}
}

// peek returns the signal that goes next, as it travels; nil for none. next says
// that it went. A signal that the disk does not give back is passed over until
// they are sent again.
func (s *Spool) peek() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; s.sent < min(len(s.list), inFlight); s.sent++ {
		x := s.list[s.sent]
		if x.taken {
			continue
		}
		p := make([]byte, auditHead+x.size)
		binary.BigEndian.PutUint64(p, x.id.Run)
		binary.BigEndian.PutUint64(p[8:], x.id.Number)
		binary.BigEndian.PutUint64(p[16:], x.at)
		if s.read(x.in, p[auditHead:], x.offset) == nil {
			return p
		}
	}
	return nil
}

func (s *Spool) next() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	s.when = time.Now()
}

// taken forgets what the root has stored.
func (s *Spool) taken(ids []AuditID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	for _, id := range ids {
		x := s.by[id]
		if x == nil {
			continue // it was said before
		}
		delete(s.by, id)
		x.taken = true
		x.in.waits--
		failed = errors.Join(failed, s.spare(x.in))
	}
	if f := s.write; f != nil && f.waits == 0 && f.size >= spoolPart/4 {
		failed = errors.Join(failed, s.shut())
	}
	gone := 0
	for gone < len(s.list) && s.list[gone].taken {
		gone++
	}
	s.list = slices.Delete(s.list, 0, gone)
	s.sent = max(0, s.sent-gone)
	s.when = time.Now()
	return failed
}

// Waiting is how many signals the root has not stored yet, how many bytes of disk
// the spool has, and how many signals Add refused since it was opened.
func (s *Spool) Waiting() (signals int, bytes int64, refused uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.by), s.bytes, s.refused.Load()
}

// CutAudit reads the payload of an audit signal: its name, when it was made by its
// node's clock, and what it says, which aliases p.
func CutAudit(p []byte) (id AuditID, at time.Time, text []byte, err error) {
	if len(p) < auditHead {
		return id, at, nil, errFrame
	}
	id = AuditID{binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])}
	return id, time.Unix(0, int64(binary.BigEndian.Uint64(p[16:]))).UTC(), p[auditHead:], nil
}

// Taken tells a node that its audit signals are stored for good. It is false
// where it cannot be told now; the node sends them again.
func (s *Server) Taken(node string, ids []AuditID) bool {
	p := appendNodeID(beginFrame(nil, frameTaken), node)
	for _, id := range ids {
		p = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(p, id.Run), id.Number)
	}
	return len(p) <= MaxDownPayload && s.pass(node, endFrame(p, 0))
}

// taken hears that audit signals are stored: of this node, or of one below.
func (l *link) taken(p []byte) error {
	if len(p) < 16 || len(p)%16 != 0 {
		return fmt.Errorf("taken: %w", errFrame)
	}
	node, up := nodeText(p[:16]), l.s.cfg.Signals
	if relay := l.s.cfg.Relay; node != l.s.cfg.Identity.NodeID {
		if relay != nil {
			relay.pass(node, endFrame(append(beginFrame(nil, frameTaken), p...), 0)) // if not, it is sent again
		}
		return nil
	}
	if up == nil || up.spool == nil {
		return nil
	}
	var ids []AuditID
	for p = p[16:]; len(p) > 0; p = p[16:] {
		ids = append(ids, AuditID{binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])})
	}
	if err := up.spool.taken(ids); err != nil {
		l.s.log.Warn("files of the audit spool were not removed", "error", err)
	}
	up.poke()
	return nil
}
