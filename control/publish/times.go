package publish

import (
	"context"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/control/store"
)

// keptTimes is how many entries' times are at hand: of minutes at 300 changes a
// second, in 512 KiB.
const keptTimes = 1 << 16

// times has the times of the newest entries. The zero value is ready.
type times struct {
	mu             sync.Mutex
	oldest, newest uint64  // held; 0: none; guarded by mu
	ring           []int64 // by seq % keptTimes, ns since 1970; guarded by mu
}

// add takes in an entry's time. An entry that was never committed is followed by
// another one of its number.
func (t *times) add(seq uint64, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ring == nil {
		t.ring = make([]int64, keptTimes)
	}
	if t.oldest == 0 || seq > t.newest+1 || seq < t.oldest {
		t.oldest = seq
	}
	t.newest = seq
	if seq-t.oldest >= keptTimes {
		t.oldest = seq - keptTimes + 1
	}
	t.ring[seq%keptTimes] = at.UnixNano()
}

// Times appends the times of the entries after one number up to another to dst,
// in order, as far as they are at hand.
func (p *Publisher) Times(dst []time.Time, after, through uint64) []time.Time {
	t := &p.times
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.oldest == 0 {
		return dst
	}
	for seq := max(after+1, t.oldest); seq <= min(through, t.newest); seq++ {
		dst = append(dst, time.Unix(0, t.ring[seq%keptTimes]).UTC())
	}
	return dst
}

// Time is an entry's time or, where that is not at hand, that of the oldest one
// after it that is; zero for none.
func (p *Publisher) Time(seq uint64) time.Time {
	t := &p.times
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq = max(seq, t.oldest); seq == 0 || seq > t.newest {
		return time.Time{}
	}
	return time.Unix(0, t.ring[seq%keptTimes]).UTC()
}

// Name is this process's among those of one database.
func (p *Publisher) Name() string { return p.name }

// Leader names the process that numbers changes; "" while there is none.
func (p *Publisher) Leader(ctx context.Context) (name string, err error) {
	if p.lease == nil {
		return p.name, nil
	}
	err = p.Store.Read(ctx, func(tx *store.Tx) (err error) {
		name, err = tx.LeaseHolder(ctx, leaseName)
		return err
	})
	return name, err
}

// Floor is the newest number that the log no longer holds.
func (p *Publisher) Floor() uint64 {
	_, floor := p.position()
	return floor
}

// sizeEach is how often the log's size is read from the database at most: it
// looks at every entry.
const sizeEach = 10 * time.Second

// Size is how many entries the log holds, of how many bytes as they are encoded:
// now, or up to 10 s ago.
func (p *Publisher) Size(ctx context.Context) (entries, bytes int64, err error) {
	p.size.Lock()
	defer p.size.Unlock()
	if time.Since(p.size.at) < sizeEach {
		return p.size.entries, p.size.bytes, nil
	}
	if err := p.Store.Read(ctx, func(tx *store.Tx) (err error) {
		p.size.entries, p.size.bytes, err = tx.LogSize(ctx)
		return err
	}); err != nil {
		return 0, 0, err
	}
	p.size.at = time.Now()
	return p.size.entries, p.size.bytes, nil
}

// size is what the log was measured to be, and when.
type size struct {
	sync.Mutex
	at             time.Time
	entries, bytes int64
}
