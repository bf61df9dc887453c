package publish

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
)

const (
	leaseName = "log"
	// leaseTTL is how long the log is without a leader after one dies: within
	// what a writer waits for its number.
	leaseTTL = 3 * time.Second
	// leaseEach is how often the lease is prolonged, or asked for.
	leaseEach = leaseTTL / 6
	// pollEach is how often the database is asked what other control planes
	// wrote. They do not tell: PostgreSQL's NOTIFY makes commits wait for each
	// other.
	pollEach = 20 * time.Millisecond
)

// errNotLeading is number's when another control plane has taken the lease.
var errNotLeading = errors.New("publish: this control plane does not lead the log")

// lease is the right to number, among the control planes of one database. A nil
// lease is held for good. Used by one goroutine, but for leads.
type lease struct {
	store  *store.Store
	holder string
	epoch  int64
	asked  time.Time // when it was last prolonged or asked for
	leads  atomic.Bool
}

// processName is unlike that of any other control plane.
func processName() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), hex.EncodeToString(b[:]))
}

// held reports whether this control plane leads, as far as it knows.
func (l *lease) held() bool { return l == nil || l.leads.Load() }

// take gets or prolongs the lease when it is time to and reports whether this
// control plane leads. Who finds that it has lost the lease asks for it again the
// next time at the earliest, having read what others wrote meanwhile.
func (l *lease) take(ctx context.Context) (bool, error) {
	if l == nil {
		return true, nil
	}
	if time.Since(l.asked) < leaseEach {
		return l.leads.Load(), nil
	}
	var epoch int64
	var taken bool
	err := l.store.Write(ctx, func(tx *store.Tx) (err error) {
		if l.leads.Load() {
			epoch = l.epoch
			taken, err = tx.HoldLease(ctx, leaseName, epoch, leaseTTL)
			return err
		}
		epoch, taken, err = tx.TakeLease(ctx, leaseName, l.holder, leaseTTL)
		return err
	})
	if err != nil {
		l.leads.Store(false) // who cannot ask may have lost it
		return false, err
	}
	l.asked, l.epoch = time.Now(), epoch
	l.leads.Store(taken)
	return taken, nil
}

// hold makes sure that tx is the one's who leads: from here to its end nobody
// else can take the lease.
func (l *lease) hold(ctx context.Context, tx *store.Tx) error {
	if l == nil {
		return nil
	}
	held, err := tx.HoldLease(ctx, leaseName, l.epoch, leaseTTL)
	if err != nil {
		return err
	}
	if !held {
		l.leads.Store(false)
		return errNotLeading
	}
	return nil
}

// leave lets another one lead at once.
func (l *lease) leave(ctx context.Context, log *slog.Logger) {
	if l == nil || !l.leads.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaseTTL)
	defer cancel()
	if err := l.store.Write(ctx, func(tx *store.Tx) error { return tx.LeaveLease(ctx, leaseName, l.epoch) }); err != nil {
		log.Warn("the lease of the log is not given back; another control plane waits for its end", "error", err)
	}
}

// timer fires when the database is to be asked again, or for a nil lease when it
// is time to trim the log.
func (l *lease) timer() (<-chan time.Time, func()) {
	each := pollEach
	if l == nil {
		each = trimEach
	}
	t := time.NewTimer(each)
	return t.C, func() { t.Stop() }
}

// Leads reports whether this control plane numbers changes: whoever does does
// also what only one control plane should.
func (p *Publisher) Leads() bool { return p.lease.held() }

// follow reads what the leader has added to the log.
func (p *Publisher) follow(ctx context.Context) error {
	head, floor := p.position()
	var numbers map[int64]uint64
	was := head.Seq
	err := p.Store.Read(ctx, func(tx *store.Tx) error {
		first, last, err := tx.LogBounds(ctx)
		if err != nil || last <= head.Seq {
			return err
		}
		floor = first - 1
		if floor > head.Seq { // trimmed past what was read
			head = feed.Cursor{}
		}
		if err := tx.Log(ctx, max(floor, head.Seq), func(r store.LogRow) (bool, error) {
			e, err := decode(r)
			if err == nil && head.Seq > 0 {
				err = e.Follows(head)
			}
			if err != nil {
				return false, damaged(r.Seq, err)
			}
			head = feed.Cursor{Seq: e.Seq, Hash: e.Hash}
			p.times.add(e.Seq, e.Time)
			return true, nil
		}); err != nil {
			return err
		}
		numbers, err = tx.NumberedAfter(ctx, was)
		return err
	})
	if err != nil || head.Seq == was {
		return err
	}
	p.announce(head, floor, numbers)
	return nil
}
