package world

import (
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/lab/sim/wan"
	"github.com/selvage-edge/selvage/zone"
)

// mutations are faults of the product's own, which the invariants have to find.
type mutations struct {
	lie    bool // clients are told of changes that were not made
	twice  bool // changes are made twice
	halves bool // a state is published in two entries
	forget bool // edges do not hear of purges
	skip   bool // edges pass over entries
	early  bool // edges acknowledge what has not taken effect
	rewind bool // disks lose what was synced
	leave  bool // a node does not come back
}

// Each invariant finds what breaks it.
func TestInvariantsCanFail(t *testing.T) {
	places, err := wan.Places()
	if err != nil {
		t.Fatal(err)
	}
	empty := emptyDatabase(t)
	for name, c := range map[string]struct {
		wrong mutations
		finds string
	}{
		"what is acknowledged is not in the log":     {mutations{lie: true}, "lost"},
		"a change is published twice":                {mutations{twice: true}, "lost"},
		"a state is torn in two":                     {mutations{halves: true}, "state"},
		"purges are not obeyed":                      {mutations{forget: true}, "purge"},
		"entries are passed over":                    {mutations{skip: true}, "state"},
		"acknowledgements come before the effect":    {mutations{early: true}, "state"},
		"a disk forgets what it synced":              {mutations{rewind: true}, "back"},
		"a node never stands where the others stand": {mutations{leave: true}, "converge"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			const tries = 5
			for seed := range uint64(tries) {
				p := newPlan(seed+1, places, changes/4)
				p.wrong = c.wrong
				w := run(t, &p, newDatabase(t, empty))
				for _, text := range w.wrong {
					if strings.HasPrefix(text, c.finds+": ") {
						t.Logf("seed %d: %s", seed+1, text)
						return
					}
				}
			}
			t.Errorf("not found as %q in %d seeds", c.finds, tries)
		})
	}
}

// spoil makes an edge misbehave.
func (m mutations) spoil(l *life, cfg *feed.SubscriberConfig) {
	if l.kit == nil {
		return
	}
	entry, batch := cfg.OnEntry, cfg.OnBatch
	if m.forget || m.skip {
		cfg.OnEntry = func(e *feed.Entry) error {
			if m.skip && e.Seq%3 == 0 {
				return nil
			}
			kept := *e
			kept.Changes = nil
			for _, c := range e.Changes {
				if m.skip || !strings.HasPrefix(c.Key, zone.PrefixPurge) {
					kept.Changes = append(kept.Changes, c)
				}
			}
			return entry(&kept)
		}
	}
	if m.early {
		cfg.OnBatch = func(reject func(uint64, error)) {
			if batched := l.batches.Add(1); batched%20 == 0 { // the others wait
				batch(reject)
			}
		}
	}
}
