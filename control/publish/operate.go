package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Operate publishes what the operator says for all zones, keys below
// zone.PrefixOperator: by rings where the action says so, which is the default of
// the API, since it meets every customer. A key that a stage on its way changes too is fault.Conflict. still
// is asked in the same transaction whether it is to be, while nobody else writes
// such keys; store.ErrStale has it asked again.
func (p *Publisher) Operate(ctx context.Context, a Action, changes []feed.Change, still func(*store.Tx) error) (seq uint64, err error) {
	for _, c := range changes {
		if !strings.HasPrefix(c.Key, zone.PrefixOperator) {
			return 0, fmt.Errorf("publish: %s is not the operator's", c.Key)
		}
	}
	until := time.Now().Add(waitSeq)
	for {
		seq, err = p.operate(ctx, a, changes, still)
		if !errors.Is(err, store.ErrStale) || time.Now().After(until) || !pause(ctx, retryStale) {
			return seq, err
		}
	}
}

// retryStale is the pause before what another writer was faster with is tried again.
const retryStale = 5 * time.Millisecond

func (p *Publisher) operate(ctx context.Context, a Action, changes []feed.Change, still func(*store.Tx) error) (uint64, error) {
	// guard passes while no other stage may begin, and nobody else writes at once.
	guard := func(tx *store.Tx, clash func(*Rollout) error) error {
		if err := tx.Lock(ctx, "rollouts"); err != nil {
			return err
		}
		pending, err := pendingOf(ctx, tx, "")
		if err == nil && pending != nil {
			err = clash(pending)
		}
		if err != nil {
			return err
		}
		return still(tx)
	}
	if a.ByRings != nil {
		return p.begin(ctx, &Rollout{Action: a.Name, Actor: a.Actor}, a, changes, func(tx *store.Tx) (Written, error) {
			return Written{}, guard(tx, func(r *Rollout) error { return oneAtATime(r, "what is said for all zones") })
		})
	}
	return p.Write(ctx, a, func(tx *store.Tx) (Written, error) {
		return Written{Changes: changes}, guard(tx, func(r *Rollout) error { return r.clash(changes) })
	})
}

// oneAtATime refuses a second stage of one zone, or of all.
func oneAtATime(pending *Rollout, whose string) error {
	return &fault.Error{Op: "publish.rollout", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf(
		"stage %d of %s is on its way through the rings; there is one at a time: release or halt it first (selvage rollout show %[1]d)", pending.N, whose)}
}
