package ssd

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

// writer appends to the open segment. All of it is owned by the goroutine in
// write, and by Close when that has ended.
type writer struct {
	s     *Store
	seg   *segment // nil = none is open
	end   int64    // where the next record goes
	buf   []byte   // the file from byte start on, as far as it is not written whole
	start int64    // a multiple of pageBytes, but for a while after a failure
	clean int      // bytes at the front of buf that are in the file
	lines []line
	wait  []pending // records in buf
	out   int64     // bytes of the segment that the kernel was told to push out
	kept  int64     // bytes written again into this segment
	most  int64     // the budget, less while the disk is full
}

// pending is a record whose last byte is not written.
type pending struct {
	item
	to place
}

const (
	writeBytes = 1 << 20 // at a time
	pageBytes  = 4 << 10
	pushBytes  = 4 << 20 // told to the kernel at a time
)

func (w *writer) open(s *Store) {
	w.s, w.most = s, s.cfg.Bytes
}

// write is the goroutine that writes.
func (s *Store) write() {
	var batch []item
	for {
		batch = s.queue.take(batch, s.w.flush)
		if batch == nil {
			return
		}
		for i := range batch {
			s.w.handle(&batch[i])
			s.queue.taken(&batch[i])
			batch[i] = item{}
		}
	}
}

func (w *writer) handle(it *item) {
	s := w.s
	switch {
	case it.claim:
		w.flush()
		w.makeRoom(it.room)
		s.used.Add(it.room)
	case s.wsick.off(s.cfg.Now()):
		w.lose(it)
	default:
		h := header{key: it.key, deleted: it.deleted, meta: uint32(len(it.meta)), body: int64(len(it.body))}
		if h.length() > s.cfg.Single {
			w.single(it)
		} else if err := w.append(it, &h); err != nil {
			w.failed(err)
			w.lose(it)
		}
	}
	it.finish()
}

// lose is told of an item that will not be written.
func (w *writer) lose(it *item) {
	w.s.counts.dropped.Add(1)
	if it.held {
		w.s.queue.written(it.key)
	}
	if it.deleted {
		w.s.queue.killed(it)
		if it.was != 0 {
			w.s.dropSegment(it.was)
		}
	}
}

// append puts a record into the open segment.
func (w *writer) append(it *item, h *header) error {
	n := h.length()
	if w.seg != nil && w.seg.gone.Load() {
		w.reset()
	}
	if !w.fits(n) {
		if err := w.rotate(); err != nil {
			return err
		}
		if !w.fits(n) {
			return errUnready
		}
	}
	// Asked with the segment open, so that a Clear either is seen here or
	// finds the segment. Deletes are written behind what they delete.
	if w.s.queue.cleared(it.turn) {
		w.lose(it)
		return nil
	}
	var head [recordHead]byte
	var table []byte
	h.sum, table = bodySum(it.body)
	h.encode(&head, it.meta)
	from := w.end
	for _, p := range [...][]byte{head[:], it.meta, it.body, table} {
		if err := w.add(p); err != nil {
			return err
		}
	}
	var zero [unit]byte
	if err := w.add(zero[:n-(w.end-from)]); err != nil {
		return err
	}
	to := place{seg: w.seg.no, off: uint32(from / unit), n: uint32(n / unit)}
	w.lines = append(w.lines, line{key: it.key, off: to.off, n: to.n, deleted: it.deleted})
	w.wait = append(w.wait, pending{item{key: it.key, turn: it.turn, deleted: it.deleted, from: it.from, was: it.was, held: it.held}, to})
	w.s.counts.written.Add(uint64(n))
	return nil
}

// errUnready says that a segment failed while records were kept in it.
var errUnready = errors.New("the new segment cannot be written")

// fits reports whether the open segment has room for n bytes and its footer.
func (w *writer) fits(n int64) bool {
	return w.seg != nil && w.end+n+int64(len(w.lines)+1)*lineBytes+tailBytes <= w.s.cfg.Segment
}

// add appends bytes to the file by way of buf.
func (w *writer) add(p []byte) error {
	w.end += int64(len(p))
	for len(p) > 0 {
		n := copy(w.buf[len(w.buf):cap(w.buf)], p)
		w.buf, p = w.buf[:len(w.buf)+n], p[n:]
		if len(w.buf) == cap(w.buf) {
			if err := w.put(); err != nil {
				return err
			}
			w.show(w.start)
		}
	}
	return nil
}

// put writes buf and keeps its last, unfinished page, so that the next write
// begins at a page as well.
func (w *writer) put() error {
	if len(w.buf) == w.clean {
		return nil
	}
	if _, err := w.seg.file.WriteAt(w.buf, w.start); err != nil {
		return err
	}
	done := len(w.buf)
	if to := w.start + int64(done); to%pageBytes != 0 {
		done = max(0, done-int(to%pageBytes))
	}
	rest := copy(w.buf, w.buf[done:])
	w.buf, w.clean, w.start = w.buf[:rest], rest, w.start+int64(done)
	if d, ok := w.seg.file.(diskFile); ok && w.start-w.out >= pushBytes {
		if err := d.pushOut(w.out, w.start-w.out); err != nil {
			return err
		}
		w.out = w.start
	}
	return nil
}

// flush writes what is buffered and makes it found.
func (w *writer) flush() {
	if w.seg == nil {
		return
	}
	if w.seg.gone.Load() {
		w.reset()
		return
	}
	if err := w.put(); err != nil {
		w.failed(err)
		return
	}
	if len(w.wait) > 0 {
		w.s.wsick.worked()
	}
	w.show(w.end)
}

// show makes records found that end before byte to, which are written.
func (w *writer) show(to int64) {
	i := 0
	for ; i < len(w.wait); i++ {
		p := &w.wait[i]
		if int64(p.to.off+p.to.n)*unit > to {
			break
		}
		w.s.found(&p.item, p.to)
	}
	w.wait = append(w.wait[:0], w.wait[i:]...)
}

// found puts a written record into the index.
func (s *Store) found(it *item, to place) {
	switch {
	case it.deleted:
		s.queue.killed(it)
	case it.from.n > 0:
		s.index.move(it.key, it.from, to)
	default:
		var old place
		var replaced bool
		s.queue.unlessVoid(it.key, it.turn, func() {
			if it.stream == nil || !it.stream.broken.Load() {
				old, replaced = s.index.put(it.key, to)
			}
		})
		if it.held {
			s.queue.written(it.key)
		}
		if replaced {
			s.removeSingle(old.seg)
		}
	}
}

// rotate ends the open segment and opens the next, and evicts.
func (w *writer) rotate() error {
	if err := w.seal(); err != nil {
		return err
	}
	s := w.s
	no := s.segs.next()
	w.makeRoom(s.cfg.Segment)
	g, err := s.create(no, false)
	if err != nil {
		return err
	}
	g.size = s.cfg.Segment
	s.used.Add(g.size)
	s.segs.add(g)
	w.seg = g
	w.most = min(s.cfg.Bytes, w.most+s.cfg.Segment/4)
	if w.buf == nil {
		w.buf = make([]byte, 0, writeBytes)
	}
	w.buf = append(w.buf[:0], encodeFileHead(no, false)...)
	w.start, w.clean, w.end, w.out, w.kept = 0, fileHead, fileHead, 0, 0
	// Room for the segment after this one, so that what is kept of evicted
	// ones has a place to go before they are deleted.
	w.makeRoom(s.cfg.Segment)
	return nil
}

// seal writes the footer of the open segment, which then is open no more.
func (w *writer) seal() error {
	if w.seg == nil {
		return nil
	}
	w.flush()
	g := w.seg
	if g == nil || g.gone.Load() {
		w.reset()
		return nil
	}
	if len(w.lines) == 0 {
		w.reset()
		w.s.discard(g)
		return nil
	}
	footer := encodeFooter(w.lines, w.end)
	_, err := g.file.WriteAt(footer, w.end)
	size := w.end
	if err == nil {
		size += int64(len(footer))
	}
	w.s.used.Add(w.s.segs.resize(g, size))
	w.reset()
	if err != nil {
		w.failed(err) // its records are found by going through it
	}
	return nil
}

// reset forgets the open segment; what waits in it is lost.
func (w *writer) reset() {
	wait := w.wait
	g := w.seg
	w.seg, w.wait, w.lines, w.buf, w.clean = nil, nil, nil, w.buf[:0], 0
	for i := range wait {
		w.lose(&wait[i].item)
	}
	if g != nil && g.gone.Load() {
		w.s.index.dropSegment(g.no)
	}
}

// failed is told of a write that failed: what was not shown is lost, the open
// segment ends where it is whole, and where the disk is full some room is
// made at once.
func (w *writer) failed(err error) {
	s := w.s
	s.counts.failed.Add(1)
	if g := w.seg; g != nil {
		end := int64(fileHead)
		if i := len(w.lines) - len(w.wait); i > 0 && i <= len(w.lines) {
			end = int64(w.lines[i-1].off+w.lines[i-1].n) * unit
		}
		s.used.Add(s.segs.resize(g, end))
		terr := g.file.Truncate(end)
		w.reset()
		if terr != nil || end == fileHead {
			// What failed may be found in it at the next start.
			s.discard(g)
			s.index.dropSegment(g.no)
		}
	}
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	if full {
		s.counts.full.Add(1)
		w.most = max(min(w.most, s.used.Load())-s.cfg.Segment, s.cfg.Segment)
		w.makeRoom(0)
	}
	if s.wsick.failed(s.cfg.Now()) {
		s.cfg.Log.Error("the disk cache cannot be written and is not for a while", "err", err, "full", full, "pause", sickFor)
	}
}

// single writes a record into a file of its own.
func (w *writer) single(it *item) {
	s := w.s
	h := header{key: it.key, meta: uint32(len(it.meta)), body: int64(len(it.body))}
	var table []byte
	h.sum, table = bodySum(it.body)
	w.makeRoom(fileHead + h.length())
	s.used.Add(fileHead + h.length())
	g, err := s.create(s.segs.next(), true)
	if err == nil {
		_, err = g.file.WriteAt(it.body, fileHead+recordHead+int64(h.meta))
		if err == nil {
			err = g.finish(&h, it.meta, table)
		}
		if err != nil {
			err = errors.Join(err, g.file.Close(), s.fs.Remove(g.name()))
		}
	}
	if err != nil {
		s.used.Add(-(fileHead + h.length()))
		w.failed(err)
		w.lose(it)
		return
	}
	s.wsick.worked()
	s.listSingle(g, &h, it)
}

// finish writes what is around the body of a single: the header last, since a
// file that has one is whole.
func (g *segment) finish(h *header, meta, table []byte) error {
	at := fileHead + recordHead + int64(h.meta) + h.body
	tail := make([]byte, fileHead+h.length()-at)
	copy(tail, table)
	if _, err := g.file.WriteAt(tail, at); err != nil {
		return err
	}
	var head [recordHead]byte
	h.encode(&head, meta)
	_, err := g.file.WriteAt(append(head[:], meta...), fileHead)
	return err
}

// listSingle makes a finished single found.
func (s *Store) listSingle(g *segment, h *header, it *item) {
	g.size, g.key = fileHead+h.length(), h.key
	s.counts.written.Add(uint64(h.length()))
	s.segs.add(g)
	to := place{seg: g.no, off: fileHead / unit, n: uint32(h.length() / unit)}
	s.found(it, to)
	if _, live := s.index.live(h.key, to); !live {
		s.discard(g) // deleted meanwhile
	}
}

// appendSum appends a block's checksum to a table.
func appendSum(table, block []byte) []byte {
	return binary.LittleEndian.AppendUint32(table, sum(block))
}
