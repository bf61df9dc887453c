package ssd

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
)

// Writer takes a record whose body comes in pieces. Write and the one Commit
// or Abort that ends it belong to one goroutine, and none of them waits for the
// disk: when that does not keep up the record is given up. See Wait.
type Writer struct {
	s    *Store
	key  Key
	meta []byte
	size int64 // of the body, -1 = not known
	turn uint64
	sent int64 // bytes taken
	wait bool  // for the disk, where it does not keep up

	held    []byte      // while it may be small, and the piece that fills
	pieces  chan []byte // to the goroutine that writes; nil = not begun
	verdict chan bool   // whether to keep what was written; closed by none
	broken  atomic.Bool // the disk is too slow or fails, or the key was deleted
}

const (
	maxStreams  = 64
	pieceBytes  = blockBytes // written at a time, and what has one checksum
	pieceQueue  = 32         // pieces that wait for the disk
	claimAtOnce = 8 << 20    // bytes of the budget, where the size is not known
)

// streams are the Writers that are not ended.
type streams struct {
	mu   sync.Mutex
	open map[*Writer]struct{}
}

func (l *streams) add(w *Writer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= maxStreams {
		return false
	}
	l.open[w] = struct{}{}
	return true
}

func (l *streams) remove(w *Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, w)
}

// void gives up the Writers of a key.
func (l *streams) void(k Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.open {
		if w.key == k {
			w.broken.Store(true)
		}
	}
}

// ErrGivenUp says that a streamed record will not be stored.
var ErrGivenUp = errors.New("the disk cache does not take this record")

// Begin starts a record whose body comes in pieces; size is that of the body in
// bytes, -1 when it is not known. It is nil when the record cannot be stored:
// too many are being written, the disk fails, or it is too large.
func (s *Store) Begin(k Key, meta []byte, size int64) *Writer {
	h := header{meta: uint32(len(meta)), body: max(size, 0)}
	w := &Writer{s: s, key: k, meta: meta, size: size}
	if len(meta) > MaxMeta || h.length() > s.maxRecord() || s.wsick.off(s.cfg.Now()) || !s.streams.add(w) {
		s.counts.dropped.Add(1)
		return nil
	}
	s.queue.hold(k)
	w.turn = s.queue.now()
	return w
}

// Wait makes Write and Commit wait for the disk, for who has a goroutine of its own
// for that.
func (w *Writer) Wait() { w.wait = true }

// Write takes a piece; p may be used again when it returns. An error means that
// the record is given up; Abort is due then as well.
func (w *Writer) Write(p []byte) (int, error) {
	if w.broken.Load() || w.size >= 0 && w.sent+int64(len(p)) > w.size {
		return 0, ErrGivenUp
	}
	h := header{meta: uint32(len(w.meta)), body: w.sent + int64(len(p))}
	if h.length() > w.s.maxRecord() {
		return 0, ErrGivenUp
	}
	w.sent += int64(len(p))
	n := len(p)
	if w.pieces == nil && max(h.length(), w.size) <= w.s.cfg.Single {
		w.held = append(w.held, p...)
		return n, nil
	}
	if w.pieces == nil && !w.spill() {
		return 0, ErrGivenUp
	}
	for len(p) > 0 {
		if w.held == nil {
			w.held = make([]byte, 0, pieceBytes)
		}
		room := min(pieceBytes-len(w.held), len(p))
		w.held = append(w.held, p[:room]...)
		p = p[room:]
		if len(w.held) == pieceBytes && !w.send() {
			return 0, ErrGivenUp
		}
	}
	return n, nil
}

// send hands a piece to the goroutine.
func (w *Writer) send() bool {
	if w.wait {
		w.pieces <- w.held // run takes all until they end
		w.held = nil
		return true
	}
	select {
	case w.pieces <- w.held:
		w.held = nil
		return true
	default:
		w.broken.Store(true) // the disk does not keep up
		return false
	}
}

// spill begins the file.
func (w *Writer) spill() bool {
	if !w.s.start() {
		w.broken.Store(true)
		return false
	}
	w.pieces = make(chan []byte, pieceQueue+int(w.s.cfg.Single/pieceBytes))
	w.verdict = make(chan bool, 1)
	go w.run() // Close waits for it
	early := w.held
	w.held = nil
	for len(early) >= pieceBytes {
		w.pieces <- early[:pieceBytes:pieceBytes] // there is room for them
		early = early[pieceBytes:]
	}
	if len(early) > 0 {
		w.held = append(make([]byte, 0, pieceBytes), early...)
	}
	return true
}

// Commit ends the record: it will be found a little later. It is an error when
// it is given up, or has not the size that was announced.
func (w *Writer) Commit() error {
	whole := !w.broken.Load() && (w.size < 0 || w.sent == w.size)
	if w.pieces == nil {
		defer w.forget()
		if !whole || !w.s.putAt(w.key, w.meta, w.held, w.turn) {
			return ErrGivenUp
		}
		return nil
	}
	if whole && len(w.held) > 0 {
		whole = w.send()
	}
	close(w.pieces)
	w.verdict <- whole
	if !whole {
		return ErrGivenUp
	}
	return nil
}

// Abort ends the record without storing it.
func (w *Writer) Abort() {
	if w.pieces == nil {
		w.forget()
		return
	}
	w.broken.Store(true)
	close(w.pieces)
	w.verdict <- false
}

// forget says that the Writer has ended.
func (w *Writer) forget() {
	w.s.streams.remove(w)
	w.s.queue.written(w.key)
}

// putAt is Put for a record that counts as written at an earlier turn.
func (s *Store) putAt(k Key, meta, body []byte, turn uint64) bool {
	if s.wsick.off(s.cfg.Now()) || !s.queue.push(item{key: k, meta: meta, body: body, turn: turn}) {
		s.counts.dropped.Add(1)
		return false
	}
	return true
}

// single is a file that is being written.
type single struct {
	s       *Store
	seg     *segment
	claimed int64
	table   []byte
	at      int64 // bytes of the body that are written
	bodyAt  int64
}

// run writes the pieces, then keeps or deletes the file.
func (w *Writer) run() {
	s := w.s
	defer s.work.Done()
	defer w.forget()
	f := &single{s: s, bodyAt: fileHead + recordHead + int64(len(w.meta))}
	err := f.begin(w)
	for piece := range w.pieces {
		if err == nil && !w.broken.Load() {
			err = f.write(piece)
		}
		if err != nil {
			w.broken.Store(true)
		}
	}
	keep := <-w.verdict
	if err == nil && keep && !w.broken.Load() {
		err = f.end(w)
		if err == nil {
			return
		}
	}
	if err != nil && err != errEnded {
		s.counts.failed.Add(1)
		if s.wsick.failed(s.cfg.Now()) {
			s.cfg.Log.Error("the disk cache cannot be written and is not for a while", "err", err, "pause", sickFor)
		}
	}
	s.counts.dropped.Add(1)
	f.discard()
}

var errEnded = errors.New("the store is closed")

func (f *single) begin(w *Writer) error {
	h := header{meta: uint32(len(w.meta)), body: max(w.size, 0)}
	if err := f.claim(fileHead + h.length()); err != nil {
		return err
	}
	g, err := f.s.create(f.s.segs.next(), true)
	if err != nil {
		return err
	}
	f.seg = g
	return nil
}

// claim takes bytes of the budget and waits until others have made room.
func (f *single) claim(n int64) error {
	done := make(chan struct{})
	if !f.s.queue.makeRoom(n, func() { close(done) }) {
		return errEnded
	}
	<-done
	f.claimed += n
	return nil
}

func (f *single) write(piece []byte) error {
	h := header{meta: uint32(f.bodyAt - fileHead - recordHead), body: f.at + int64(len(piece))}
	if need := fileHead + h.length() - f.claimed; need > 0 {
		if err := f.claim(max(need, claimAtOnce)); err != nil {
			return err
		}
	}
	if _, err := f.seg.file.WriteAt(piece, f.bodyAt+f.at); err != nil {
		return err
	}
	if d, ok := f.seg.file.(diskFile); ok && f.at/pushBytes != (f.at+int64(len(piece)))/pushBytes {
		if err := d.pushOut(max(0, f.bodyAt+f.at-pushBytes), pushBytes); err != nil {
			return err
		}
	}
	f.at += int64(len(piece))
	f.table = appendSum(f.table, piece)
	return nil
}

// end writes the head and makes the record found.
func (f *single) end(w *Writer) error {
	h := header{key: w.key, meta: uint32(len(w.meta)), body: f.at}
	if h.sum = sum(f.table); blocks(h.body) == 1 {
		h.sum, f.table = binary.LittleEndian.Uint32(f.table), nil
	}
	if err := f.seg.finish(&h, w.meta, f.table); err != nil {
		return err
	}
	f.s.used.Add(fileHead + h.length() - f.claimed)
	f.s.wsick.worked()
	f.s.listSingle(f.seg, &h, &item{key: w.key, turn: w.turn, stream: w})
	return nil
}

func (f *single) discard() {
	f.s.used.Add(-f.claimed)
	if f.seg == nil {
		return
	}
	_ = f.seg.file.Close() // its bytes are not wanted
	if err := f.s.fs.Remove(f.seg.name()); err != nil {
		f.s.counts.failed.Add(1)
	}
}
