package rings

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/selvage-edge/selvage/feed"
)

// Reader reads a copy.
type Reader interface {
	Cursor() feed.Cursor
	Get(key string) (value []byte, seq uint64, ok bool, err error)
	Scan(prefix string, row func(key string, value []byte, seq uint64) error) error
}

// View is a copy as the nodes of one data center see it: with the changes of the
// stages laid over it that are released to their ring. It is a Reader; reading is
// safe for concurrent use, Refresh is called by one goroutine.
type View struct {
	copy Reader
	colo string
	over atomic.Pointer[overlay] // replaced, never changed
}

// overlay is what differs from the copy.
type overlay struct {
	rows map[string]overRow
	keys []string // of rows, ascending
}

type overRow struct {
	value   []byte
	deleted bool
	seq     uint64 // of the entry that released it
}

// NewView makes a View that lays nothing over the copy yet: call Refresh.
func NewView(copied Reader, colo string) *View {
	v := &View{copy: copied, colo: colo}
	v.over.Store(&overlay{})
	return v
}

// Refresh reads the copy's stages and returns the keys under which the View now
// shows something else than before, apart from what the copy itself has changed.
// A stage that cannot be used is left out and named in the error.
func (v *View) Refresh() (changed []string, err error) {
	type numbered struct {
		n, seq uint64
		stage  *Stage
	}
	var stages []numbered
	var failed []error
	if err := v.copy.Scan(Prefix, func(key string, value []byte, seq uint64) error {
		n, ok := Number(key)
		if !ok {
			failed = append(failed, fmt.Errorf("%s: not the key of a stage", key))
			return nil
		}
		s, err := Decode(value)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", key, err))
			return nil
		}
		stages = append(stages, numbered{n, seq, s})
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list stages of the copy: %w", err)
	}
	slices.SortFunc(stages, func(a, b numbered) int { return cmp.Compare(a.n, b.n) })
	next := &overlay{rows: map[string]overRow{}}
	for _, s := range stages {
		if s.stage.Of(v.colo) > s.stage.Ring {
			continue
		}
		for _, c := range s.stage.Changes {
			if c.Value == nil {
				c.Value = []byte{}
			}
			next.rows[c.Key] = overRow{c.Value, c.Delete, s.seq}
		}
	}
	next.keys = slices.Sorted(maps.Keys(next.rows))
	was := v.over.Swap(next)
	return was.differs(next), errors.Join(failed...)
}

// differs lists the keys that are not the same in both.
func (o *overlay) differs(next *overlay) []string {
	var keys []string
	for _, key := range o.keys {
		now, ok := next.rows[key]
		if old := o.rows[key]; !ok || now.seq != old.seq || now.deleted != old.deleted || string(now.value) != string(old.value) {
			keys = append(keys, key)
		}
	}
	for _, key := range next.keys {
		if _, ok := o.rows[key]; !ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// Staged is under how many keys the View differs from the copy.
func (v *View) Staged() int { return len(v.over.Load().keys) }

// Cursor implements Reader.
func (v *View) Cursor() feed.Cursor { return v.copy.Cursor() }

// Get implements Reader.
func (v *View) Get(key string) (value []byte, seq uint64, ok bool, err error) {
	if row, over := v.over.Load().rows[key]; over {
		return row.value, row.seq, !row.deleted, nil
	}
	return v.copy.Get(key)
}

// Scan implements Reader: keys ascend.
func (v *View) Scan(prefix string, row func(key string, value []byte, seq uint64) error) error {
	o := v.over.Load()
	from, _ := slices.BinarySearch(o.keys, prefix)
	rest := o.keys[from:]
	// laid passes what is laid over before a key; all that is left without one.
	laid := func(before string, last bool) error {
		for len(rest) > 0 && strings.HasPrefix(rest[0], prefix) && (last || rest[0] < before) {
			key := rest[0]
			rest = rest[1:]
			if r := o.rows[key]; !r.deleted {
				if err := row(key, r.value, r.seq); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := v.copy.Scan(prefix, func(key string, value []byte, seq uint64) error {
		if err := laid(key, false); err != nil {
			return err
		}
		if _, over := o.rows[key]; over {
			return nil // comes with what is laid over, before the next key
		}
		return row(key, value, seq)
	}); err != nil {
		return err
	}
	return laid("", true)
}
