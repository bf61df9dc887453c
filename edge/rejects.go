package edge

import (
	"cmp"
	"slices"
	"sync"

	"github.com/selvage-edge/selvage/feed"
)

// rejects are the parts of the configuration whose newest form this edge cannot
// use, by what they are: "zone/ID", "nodes". They are told to each new parent, for
// what an earlier one was told may have been lost with it. The zero value is
// ready.
type rejects struct {
	mu    sync.Mutex
	of    map[string]feed.Rejection // guarded by mu
	total uint64                    // how often; guarded by mu
	// The reason before the first change since news was asked, "" for none; guarded
	// by mu.
	changed map[string]string
}

// note takes in how it went, and returns that.
func (r *rejects) note(about string, seq uint64, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, seen := r.changed[about]; !seen {
		was, bad := r.of[about]
		if err == nil && !bad || err != nil && bad && was.Reason == err.Error() {
			// nothing new of it
		} else if r.changed == nil {
			r.changed = map[string]string{about: was.Reason}
		} else {
			r.changed[about] = was.Reason
		}
	}
	if err == nil {
		delete(r.of, about)
		return nil
	}
	r.total++
	if r.of == nil {
		r.of = map[string]feed.Rejection{}
	}
	r.of[about] = feed.Rejection{Seq: seq, Reason: err.Error()}
	return err
}

// standing are those that hold now, by number.
func (r *rejects) standing() []feed.Rejection {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]feed.Rejection, 0, len(r.of))
	for _, one := range r.of {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b feed.Rejection) int { return cmp.Compare(a.Seq, b.Seq) })
	return all
}

func (r *rejects) count() (now int, total uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.of), r.total
}

// load builds one zone as the entry seq, or one before, left it.
func (a *applier) load(id string, seq uint64) error {
	return a.edge.rejects.note("zone/"+id, seq, a.build(id))
}
