package ssd

import "bytes"

// makeRoom deletes the oldest segments until n bytes more fit the budget.
// Records of theirs that were asked for are written again into the open
// segment; a single that was asked for since it came up last is passed over.
func (w *writer) makeRoom(n int64) {
	s := w.s
	for spared := 0; s.used.Load()+n > w.most; {
		g := s.segs.oldest(w.seg)
		if g == nil {
			return
		}
		if g.single && g.asked.Swap(false) && spared < s.segs.count() {
			spared++
			s.segs.requeue(g)
		} else {
			w.evict(g)
		}
		g.release()
	}
}

// evict deletes a segment.
func (w *writer) evict(g *segment) {
	s := w.s
	if g.single {
		if s.index.delAt(g.key, place{seg: g.no, off: fileHead / unit}) {
			s.counts.evicted.Add(1)
		}
		s.discard(g)
		return
	}
	lines, err := readLines(g.file)
	if err != nil {
		// Left by a failure, or damaged since: nothing of it is kept.
		s.discard(g)
		s.index.dropSegment(g.no)
		return
	}
	w.flush()
	turn := s.queue.now()
	for i := range lines {
		l := &lines[i]
		at := place{seg: g.no, off: l.off, n: l.n}
		now, live := s.index.live(l.key, at)
		if !live {
			continue
		}
		if now.bits&freqMask > 0 && w.keep(g, l, turn) {
			continue
		}
		if s.index.delAt(l.key, at) {
			s.counts.evicted.Add(1)
		}
	}
	w.flush()
	s.discard(g)
	for i := range lines {
		s.index.delAt(lines[i].key, place{seg: g.no, off: lines[i].off})
	}
}

// keep writes a record of g again, if the open segment has room for it and is
// not half full of such already.
func (w *writer) keep(g *segment, l *line, turn uint64) bool {
	n := int64(l.n) * unit
	if w.kept+n > w.s.cfg.Segment/2 || !w.fits(n) {
		return false
	}
	b := make([]byte, n)
	if err := readFull(g.file, b, int64(l.off)*unit); err != nil {
		w.s.counts.failed.Add(1)
		return false
	}
	h, err := wholeRecord(b)
	if err != nil || h.key != l.key || h.deleted {
		w.s.counts.damaged.Add(1)
		return false
	}
	body := recordHead + int64(h.meta)
	it := item{turn: turn, key: h.key, meta: b[recordHead:body], body: b[body : body+h.body], from: place{seg: g.no, off: l.off, n: l.n}}
	if err := w.append(&it, &h); err != nil {
		w.failed(err)
		return false
	}
	w.kept += n
	return true
}

// wholeRecord reads a record and compares all of it.
func wholeRecord(b []byte) (h header, err error) {
	if h, err = decodeHeader(b); err != nil {
		return h, err
	}
	if h.length() != int64(len(b)) {
		return h, errFormat
	}
	body := recordHead + int64(h.meta)
	if err := checkHead(b[:body]); err != nil {
		return h, err
	}
	total, table := bodySum(b[body : body+h.body])
	if total != h.sum || !bytes.Equal(table, b[body+h.body:body+h.body+int64(len(table))]) {
		return h, errDamaged
	}
	return h, nil
}
