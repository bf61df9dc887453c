package publish

import (
	"testing"
	"time"
)

func TestTimesOfTheNewestEntriesAreKept(t *testing.T) {
	p := &Publisher{}
	at := func(seq uint64) time.Time { return time.Unix(int64(seq), 0).UTC() }
	if got := p.Times(nil, 0, 10); len(got) != 0 || !p.Time(1).IsZero() {
		t.Errorf("of no entries: %v, %s", got, p.Time(1))
	}
	for seq := uint64(5); seq <= 7; seq++ {
		p.times.add(seq, at(seq))
	}
	p.times.add(7, at(70)) // in place of one that was not committed
	if got := p.Times(nil, 2, 9); len(got) != 3 || !got[0].Equal(at(5)) || !got[2].Equal(at(70)) {
		t.Errorf("after 2 up to 9: %v", got)
	}
	if got := p.Times(nil, 5, 6); len(got) != 1 || !got[0].Equal(at(6)) {
		t.Errorf("after 5 up to 6: %v", got)
	}
	if !p.Time(1).Equal(at(5)) || !p.Time(6).Equal(at(6)) || !p.Time(8).IsZero() {
		t.Errorf("times of 1, 6 and 8: %s, %s, %s", p.Time(1), p.Time(6), p.Time(8))
	}
	last := uint64(7 + 2*keptTimes)
	for seq := uint64(8); seq <= last; seq++ {
		p.times.add(seq, at(seq))
	}
	if got := p.Times(nil, 0, last); len(got) != keptTimes || !got[0].Equal(at(last-keptTimes+1)) || !got[keptTimes-1].Equal(at(last)) {
		t.Errorf("%d times are kept", len(got))
	}
	// A log that was cut goes on elsewhere.
	p.times.add(last+10, at(last+10))
	if got := p.Times(nil, 0, last+10); len(got) != 1 {
		t.Errorf("%d times behind a gap", len(got))
	}
}
