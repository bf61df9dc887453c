package ssd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Record is a stored record that was found. Its methods belong to one
// goroutine, but for the Section's, which may be any. Close gives it back.
type Record struct {
	s    *Store
	seg  *segment
	key  Key
	at   place
	head header

	Meta []byte // the caller's to keep
	Size int64  // of the body, in bytes

	body    []byte // of a record that was read whole
	checked bool   // the whole body is as it was written
	table   []byte // checksums of the blocks, once they were needed
	passed  int64  // blocks from the first that were compared
	block   []byte // one block as it is on the disk
	blockAt int64  // its number
}

// readFirst is what is read of a record that is not read whole: as a rule its
// head and meta.
const readFirst = 4 << 10

// Find returns a key's record. A record of at most whole bytes is read at once,
// and Whole has its body. It is nil when there is none, when it is damaged,
// and when the disk fails or too many read it already.
func (s *Store) Find(k Key, whole int64) *Record {
	if s.sick.off(s.cfg.Now()) {
		return nil
	}
	at, ok := s.index.get(k)
	if !ok {
		return nil
	}
	g := s.segs.get(at.seg)
	if g == nil {
		s.index.delAt(k, at)
		return nil
	}
	select {
	case s.reads <- struct{}{}:
	default:
		s.counts.busy.Add(1)
		g.release()
		return nil
	}
	r := &Record{s: s, seg: g, key: k, at: at, blockAt: -1, checked: at.bits&verified != 0}
	err := r.open(whole)
	<-s.reads
	if err != nil {
		s.lost(r, err)
		g.release()
		return nil
	}
	s.sick.worked()
	g.asked.Store(true)
	return r
}

// lost is told of a record that cannot be read. One that is damaged is
// forgotten; it is as damaged after a restart. One that the disk does not give
// stays known, or else a Delete of it would not be written.
func (s *Store) lost(r *Record, err error) {
	switch {
	case errors.Is(err, errOther):
		return // another key's: what is there is in order
	case errors.Is(err, errDamaged), errors.Is(err, errFormat), errors.Is(err, io.EOF):
		s.counts.damaged.Add(1)
		s.cfg.Log.Warn("a record of the disk cache is damaged and forgotten", "file", r.seg.name(), "offset", int64(r.at.off)*unit)
	default:
		s.counts.failed.Add(1)
		if s.sick.failed(s.cfg.Now()) {
			s.cfg.Log.Error("the disk cache cannot be read and is not asked for a while", "err", err, "pause", sickFor)
		}
		return
	}
	if s.index.delAt(r.key, r.at) {
		s.removeSingle(r.at.seg)
	}
}

var errOther = errors.New("the record of another key")

func (r *Record) start() int64  { return int64(r.at.off) * unit }
func (r *Record) bodyAt() int64 { return r.start() + recordHead + int64(r.head.meta) }

// open reads the head, and all where that is little.
func (r *Record) open(whole int64) error {
	n := int64(r.at.n) * unit
	all := n <= whole
	if !all {
		n = min(n, readFirst)
	}
	b := make([]byte, n)
	if err := readFull(r.seg.file, b, r.start()); err != nil {
		return err
	}
	var err error
	if r.head, err = decodeHeader(b); err != nil {
		return err
	}
	h := &r.head
	if h.length() != int64(r.at.n)*unit || h.deleted {
		return errFormat
	}
	if h.key != r.key {
		return errOther
	}
	end := recordHead + int64(h.meta)
	if end > n {
		rest := make([]byte, end)
		copy(rest, b)
		if err := readFull(r.seg.file, rest[n:], r.start()+n); err != nil {
			return err
		}
		b = rest
	}
	if err := checkHead(b[:end]); err != nil {
		return err
	}
	r.Meta, r.Size = b[recordHead:end:end], h.body
	if !all {
		return nil
	}
	r.body = b[end : end+h.body : end+h.body]
	if r.checked {
		return nil
	}
	if total, _ := bodySum(r.body); total != h.sum {
		return errDamaged
	}
	r.pass()
	return nil
}

// pass notes that the whole body is as it was written.
func (r *Record) pass() {
	r.checked = true
	r.s.index.checked(r.key, r.at)
}

func readFull(f File, p []byte, at int64) error {
	n, err := f.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Whole returns the body of a record that was read whole, the caller's to
// keep; nil, false for others.
func (r *Record) Whole() ([]byte, bool) { return r.body, r.body != nil }

// ReadAt implements io.ReaderAt for the body. What it gives has been compared
// with its checksum. It may wait for its turn at the disk.
func (r *Record) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= r.Size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.Size-off
	if short {
		p = p[:r.Size-off]
	}
	n, err := r.read(p, off)
	if err == nil && short {
		err = io.EOF
	}
	if err != nil && err != io.EOF {
		r.s.lost(r, err)
		err = fmt.Errorf("read a record of the disk cache: %w", err)
	}
	return n, err
}

func (r *Record) read(p []byte, off int64) (n int, err error) {
	if r.body != nil {
		return copy(p, r.body[off:]), nil
	}
	r.s.reads <- struct{}{}
	defer func() { <-r.s.reads }()
	if r.checked {
		if err := readFull(r.seg.file, p, r.bodyAt()+off); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	for n < len(p) {
		at := off + int64(n)
		if err := r.load(at / blockBytes); err != nil {
			return n, err
		}
		n += copy(p[n:], r.block[at%blockBytes:])
	}
	return n, nil
}

// load reads a block and compares it.
func (r *Record) load(no int64) error {
	if r.blockAt == no {
		return nil
	}
	if err := r.loadTable(); err != nil {
		return err
	}
	r.blockAt = -1
	if r.block == nil {
		r.block = make([]byte, min(blockBytes, r.Size))
	}
	r.block = r.block[:min(blockBytes, r.Size-no*blockBytes)]
	if err := readFull(r.seg.file, r.block, r.bodyAt()+no*blockBytes); err != nil {
		return err
	}
	want := r.head.sum
	if r.table != nil {
		want = binary.LittleEndian.Uint32(r.table[4*no:])
	}
	if sum(r.block) != want {
		return errDamaged
	}
	r.blockAt = no
	if no == r.passed {
		if r.passed++; r.passed == blocks(r.Size) {
			r.pass()
		}
	}
	return nil
}

func (r *Record) loadTable() error {
	n := tableBytes(r.Size)
	if n == 0 || r.table != nil {
		return nil
	}
	table := make([]byte, n)
	if err := readFull(r.seg.file, table, r.bodyAt()+r.Size); err != nil {
		return err
	}
	if sum(table) != r.head.sum {
		return errDamaged
	}
	r.table = table
	return nil
}

// verifyAll compares what was not compared yet.
func (r *Record) verifyAll() error {
	for !r.checked {
		if r.Size == 0 {
			if r.head.sum != 0 {
				return errDamaged
			}
			r.pass()
			break
		}
		if err := r.load(r.passed); err != nil {
			return err
		}
	}
	return nil
}

// checkNow is how much of a body is compared before its first byte leaves by
// File; larger ones are compared as they are read, and leave by File when they
// are asked for again.
const checkNow = 1 << 20

// File returns the file that has the body and where it begins there, for the
// kernel to send from; done is called when that is over. It is nil where there
// is no such file, where the body is not yet known to be in order, and where
// too many are sent so already. The file's own position is not to be used.
func (r *Record) File() (f *os.File, at int64, done func()) {
	disk, ok := r.seg.file.(diskFile)
	if !ok || r.body != nil || !r.checked && r.Size > checkNow {
		return nil, 0, nil
	}
	if !r.checked {
		r.s.reads <- struct{}{}
		err := r.verifyAll()
		<-r.s.reads
		if err != nil {
			r.s.lost(r, err)
			return nil, 0, nil
		}
		r.block, r.table = nil, nil
	}
	select {
	case r.s.sent <- struct{}{}:
		return disk.File, r.bodyAt(), func() { <-r.s.sent }
	default:
		return nil, 0, nil
	}
}

// Share returns another Record of the same, for another goroutine.
func (r *Record) Share() *Record {
	r.seg.refs.Add(1)
	at, live := r.s.index.live(r.key, r.at)
	c := *r
	c.checked, c.table, c.passed, c.block, c.blockAt = r.checked || live && at.bits&verified != 0, nil, 0, nil, -1
	return &c
}

// Forget deletes the record, for a caller that cannot use what it says.
func (r *Record) Forget() {
	if _, live := r.s.index.live(r.key, r.at); live {
		r.s.Delete(r.key)
	}
}

// Close gives the record back. The slices stay the caller's.
func (r *Record) Close() error {
	if r.seg != nil {
		r.seg.release()
		r.seg = nil
	}
	return nil
}
