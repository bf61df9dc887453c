package shelf

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/selvage-edge/selvage/edge/snapshot"
	"github.com/selvage-edge/selvage/zone"
)

// base is what zones have that have not set it themselves: the operator's
// defaults. Replaced, never changed.
type base struct {
	text     []byte // nil: nothing is said
	seq      uint64 // of the entry that said it
	settings zone.Settings
	bad      error // why the newest cannot be used; settings are then the last that could
}

func (b *base) same(o *base) bool {
	return b.seq == o.seq && (b.text == nil) == (o.text == nil) && bytes.Equal(b.text, o.text)
}

// under lays a zone's own settings over the base.
func (b *base) under(spec *zone.Spec) {
	spec.Settings = spec.Settings.Over(b.settings)
	spec.Seq = max(spec.Seq, b.seq)
}

// base reads the defaults as of now.
func (s *Shelf) base() (*base, error) {
	text, seq, ok, err := s.Copy.Get(zone.KeyDefaults)
	if err != nil {
		return nil, fmt.Errorf("%w: defaults: %w", errRead, err)
	}
	next := &base{}
	if ok {
		next.text, next.seq = append([]byte{}, text...), seq
	}
	last := s.bases.Load()
	if last != nil && last.same(next) {
		return last, nil
	}
	if ok {
		next.settings, next.bad = zone.DecodeDefaults(next.text)
	}
	if next.bad != nil {
		if next.settings = nil; s.Older != nil {
			next.settings = s.oldDefaults()
		} else if last != nil {
			next.settings = last.settings
		}
	}
	s.bases.Store(next)
	return next, nil
}

// oldDefaults are the newest defaults that the copy still has and that can be
// used; none where it has none. A stage's are not among them, so that they follow
// from the copy alone.
func (s *Shelf) oldDefaults() (found zone.Settings) {
	over := false
	if err := s.Older.History(zone.KeyDefaults, func(key string, value []byte, _ uint64, deleted bool) error {
		if key != zone.KeyDefaults || over {
			return nil
		}
		if over = deleted; !deleted {
			settings, err := zone.DecodeDefaults(value)
			if over = err == nil; over {
				found = settings
			}
		}
		return nil
	}); err != nil {
		s.Log.Error("older defaults of zones' settings cannot be read; zones have none", "error", err)
	}
	return found
}

// Defaults says why the newest defaults cannot be used, nil when they are.
func (s *Shelf) Defaults() error {
	b, err := s.base()
	if err != nil {
		return err
	}
	return b.bad
}

// errHeld stands for a zone that was judged before, and not for the defaults.
var errHeld = errors.New("the zone is held at an older state")

// Recast makes true that the defaults changed: each zone in memory is compiled
// anew, several at a time on half of the processors, and found as it was until
// then. When it returns, no zone is found any more that was compiled over the
// defaults before; but one that is held at a state which the copy has no more
// stays as it is. done is told of each zone that was judged. The error says why
// the newest defaults are not used.
func (s *Shelf) Recast(done func(id string, err error)) error {
	under, err := s.base()
	if err != nil {
		return err
	}
	s.fronts.spoil(func(string, string) bool { return true })
	all := s.IDs()
	judged := make([]error, len(all))
	var next atomic.Int64
	var work sync.WaitGroup
	for range cmp.Or(s.AtOnce, max(1, runtime.GOMAXPROCS(0)/2)) {
		work.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				judged[i] = s.recast(all[i])
			}
		})
	}
	work.Wait()
	for i, err := range judged {
		if !errors.Is(err, errHeld) {
			done(all[i], err)
		}
	}
	return under.bad
}

func (s *Shelf) recast(id string) error {
	if s.Lacks != nil { // entries do not wait for a parent
		if lacks, err := s.Lacks(zone.Prefix(id)); lacks || err != nil {
			return errors.Join(err, s.Forget(id))
		}
	}
	if s.held.has(id) {
		if good, err := s.lastGood(id); err == nil {
			s.replace(good)
		}
		return errHeld
	}
	// DNS knows no settings.
	_, err := s.touch(id, func(prev *snapshot.Zone, spec *zone.Spec) (*snapshot.Zone, error) {
		return snapshot.Front(prev, spec)
	})
	return err
}
