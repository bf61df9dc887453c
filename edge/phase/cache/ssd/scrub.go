package ssd

import (
	"errors"
	"time"
)

const (
	scrubPiece = 256 << 10   // read between two rests
	scrubRest  = time.Minute // after each round
)

// scrub is the goroutine that reads what nobody asks for, so that damage is
// found while the origin can still be asked. It reads Config.Scrub bytes a
// second at most.
func (s *Store) scrub() {
	pace := &pace{s: s, perSecond: s.cfg.Scrub}
	no := uint32(0)
	for {
		g := s.segs.after(no)
		if g == nil {
			no = 0
			s.counts.rounds.Add(1)
			if !s.rest(scrubRest) {
				return
			}
			continue
		}
		no = g.no
		err := s.scrubSegment(g, pace)
		g.release()
		if errors.Is(err, errEnded) {
			return
		}
	}
}

// rest waits; false when the store is closed.
func (s *Store) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ended:
		return false
	}
}

// pace spreads reads over time.
type pace struct {
	s         *Store
	perSecond int64
	owed      int64
}

// read counts n bytes and waits for as long as they take.
func (p *pace) read(n int64) error {
	p.s.counts.scrubbed.Add(uint64(n))
	if p.owed += n; p.owed < scrubPiece {
		select {
		case <-p.s.ended:
			return errEnded
		default:
			return nil
		}
	}
	d := time.Duration(float64(p.owed) / float64(p.perSecond) * float64(time.Second))
	p.owed = 0
	if !p.s.rest(d) {
		return errEnded
	}
	return nil
}

// scrubSegment compares the records of a sealed segment that have not been
// since the start.
func (s *Store) scrubSegment(g *segment, pace *pace) error {
	if g.single {
		at, ok := s.index.peek(g.key)
		if !ok || at.seg != g.no {
			return nil
		}
		return s.scrubRecord(g, g.key, at, pace)
	}
	lines, err := readLines(g.file)
	if err != nil {
		return nil // the open segment, or one that a failure ended
	}
	if err := pace.read(int64(len(lines)) * lineBytes); err != nil {
		return err
	}
	for i := range lines {
		l := &lines[i]
		at, live := s.index.live(l.key, place{seg: g.no, off: l.off})
		if !live || at.bits&verified != 0 {
			continue
		}
		if err := s.scrubRecord(g, l.key, at, pace); err != nil {
			return err
		}
		if g.gone.Load() {
			return nil
		}
	}
	return nil
}

// scrubRecord compares one record block by block. Damage is noted by lost; the
// error says only that the store is closed.
func (s *Store) scrubRecord(g *segment, k Key, at place, pace *pace) error {
	r := &Record{s: s, seg: g, key: k, at: at, blockAt: -1}
	if err := r.open(0); err != nil {
		s.lost(r, err)
		return nil
	}
	for !r.checked {
		var err error
		if r.Size == 0 {
			err = r.verifyAll()
		} else {
			err = r.load(r.passed)
		}
		if err != nil {
			s.lost(r, err)
			return nil
		}
		if err := pace.read(min(blockBytes, max(r.Size, unit))); err != nil {
			return err
		}
	}
	return nil
}
