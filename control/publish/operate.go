package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Operate publishes what the operator says for all zones, keys below
// zone.PrefixOperator: by rings, since it meets every customer, unless atOnce says
// otherwise. A key that a stage on its way changes too is fault.Conflict.
func (p *Publisher) Operate(ctx context.Context, a Action, changes []feed.Change, atOnce bool) (seq uint64, err error) {
	for _, c := range changes {
		if !strings.HasPrefix(c.Key, zone.PrefixOperator) {
			return 0, fmt.Errorf("publish: %s is not the operator's", c.Key)
		}
	}
	if a.ByRings == nil {
		a.ByRings = &ByRings{}
	}
	err = store.ErrStale
	for errors.Is(err, store.ErrStale) && ctx.Err() == nil {
		seq, err = p.operate(ctx, a, changes, atOnce)
	}
	return seq, err
}

func (p *Publisher) operate(ctx context.Context, a Action, changes []feed.Change, atOnce bool) (uint64, error) {
	if !atOnce {
		return p.begin(ctx, &Rollout{Action: a.Name, Actor: a.Actor}, a, changes, func(tx *store.Tx) (Written, error) {
			pending, err := pendingOf(ctx, tx, "")
			if err == nil && pending != nil {
				err = oneAtATime(pending, "what is said for all zones")
			}
			return Written{}, err
		})
	}
	return p.Write(ctx, a, func(tx *store.Tx) (Written, error) {
		// No stage may begin until this is committed.
		if err := tx.Lock(ctx, "rollouts"); err != nil {
			return Written{}, err
		}
		pending, err := pendingOf(ctx, tx, "")
		if err == nil && pending != nil {
			err = pending.clash(changes)
		}
		return Written{Changes: changes}, err
	})
}

// oneAtATime refuses a second stage of one zone, or of all.
func oneAtATime(pending *Rollout, whose string) error {
	return &fault.Error{Op: "publish.rollout", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf(
		"stage %d of %s is on its way through the rings; there is one at a time: release or halt it first (selvage rollout show %[1]d)", pending.N, whose)}
}
