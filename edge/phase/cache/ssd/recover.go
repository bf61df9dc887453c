package ssd

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// recover finds what the folder holds: footers are believed, segments without
// one are gone through up to the first record that is not whole.
func (s *Store) recover() error {
	names, err := s.fs.List()
	if err != nil {
		return fmt.Errorf("list the files of the disk cache: %w", err)
	}
	type found struct {
		no     uint32
		single bool
	}
	var files []found
	for _, name := range names {
		if no, single, ok := parseName(name); ok {
			files = append(files, found{no, single})
		}
	}
	slices.SortFunc(files, func(a, b found) int { return cmp.Compare(a.no, b.no) })
	for _, f := range files {
		if err := s.recoverFile(f.no, f.single); err != nil {
			s.counts.damaged.Add(1)
			s.cfg.Log.Warn("a file of the disk cache is of no use and deleted", "file", fileName(f.no, f.single), "err", err)
			if err := s.fs.Remove(fileName(f.no, f.single)); err != nil {
				return fmt.Errorf("delete a file of the disk cache: %w", err)
			}
		}
		s.segs.last = max(s.segs.last, f.no)
	}
	for s.used.Load() > s.cfg.Bytes {
		g := s.segs.oldest(nil)
		if g == nil {
			break
		}
		s.discard(g)
		s.index.dropSegment(g.no)
		g.release()
	}
	return nil
}

var errEmpty = errors.New("no whole record is in it")

func (s *Store) recoverFile(no uint32, isSingle bool) (err error) {
	f, err := s.fs.Open(fileName(no, isSingle), false)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	size, err := f.Size()
	if err != nil {
		return err
	}
	var head [fileHead]byte
	if err := readFull(f, head[:], 0); err != nil {
		return err
	}
	if err := checkFileHead(head[:], no, isSingle); err != nil {
		return err
	}
	if !isSingle && size > 2*maxSegment {
		return errFormat // nothing of ours, and too large to be gone through
	}
	g := &segment{no: no, single: isSingle, file: f, size: size}
	if isSingle {
		return s.recoverSingle(g)
	}
	lines, err := readLines(f)
	if err != nil {
		if lines, err = s.salvage(g); err != nil {
			return err
		}
	}
	s.adopt(g, lines)
	return nil
}

// adopt lists a segment and its records, which are newer than all so far.
func (s *Store) adopt(g *segment, lines []line) {
	s.used.Add(g.size)
	s.segs.add(g)
	for i := range lines {
		l := &lines[i]
		var old place
		var was bool
		if l.deleted {
			old, was = s.index.del(l.key)
		} else {
			old, was = s.index.put(l.key, place{seg: g.no, off: l.off, n: l.n})
		}
		if was && old.seg != g.no {
			s.removeSingle(old.seg)
		}
	}
}

// recoverSingle takes a file with one record, which has a header if it is
// whole.
func (s *Store) recoverSingle(g *segment) error {
	var b [recordHead]byte
	if err := readFull(g.file, b[:], fileHead); err != nil {
		return err
	}
	h, err := decodeHeader(b[:])
	if err != nil {
		return err
	}
	if h.length() != g.size-fileHead || h.deleted {
		return errFormat
	}
	g.key = h.key
	s.adopt(g, []line{{key: h.key, off: fileHead / unit, n: uint32(h.length() / unit)}})
	return nil
}

// salvage goes through a segment without a footer and gives it one.
func (s *Store) salvage(g *segment) ([]line, error) {
	lines, end := scanRecords(g.file, g.size)
	if len(lines) == 0 {
		return nil, errEmpty
	}
	footer := encodeFooter(lines, end)
	if err := g.file.Truncate(end); err != nil {
		return nil, fmt.Errorf("cut off what is not whole: %w", err)
	}
	g.size = end
	if _, err := g.file.WriteAt(footer, end); err != nil {
		s.counts.failed.Add(1)
		return lines, nil // the next start goes through it again
	}
	g.size += int64(len(footer))
	return lines, nil
}

// scanWindow is how much of a file is read at a time when it is gone through.
const scanWindow = 1 << 20

// scanRecords lists the records from the first on, up to one that is not
// whole. Bodies are not compared with their checksums here but when they are
// read.
func scanRecords(f File, size int64) (lines []line, end int64) {
	window := make([]byte, 0, scanWindow)
	var from int64 // of window in the file
	at := int64(fileHead)
	view := func(n int64) []byte {
		if at < from || at+n > from+int64(len(window)) {
			want := min(max(n, scanWindow), size-at)
			if want < n {
				return nil
			}
			window = slices.Grow(window[:0], int(want))[:want]
			from = at
			if readFull(f, window, at) != nil {
				window = window[:0]
				return nil
			}
		}
		return window[at-from : at-from+n]
	}
	for {
		b := view(recordHead)
		if b == nil {
			return lines, at
		}
		h, err := decodeHeader(b)
		if err != nil || at+h.length() > size {
			return lines, at
		}
		if b = view(recordHead + int64(h.meta)); b == nil || checkHead(b) != nil {
			return lines, at
		}
		lines = append(lines, line{key: h.key, off: uint32(at / unit), n: uint32(h.length() / unit), deleted: h.deleted})
		at += h.length()
	}
}
