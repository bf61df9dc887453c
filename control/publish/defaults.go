package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Defaults is what the operator gives for settings that zones have not set.
type Defaults struct {
	Settings zone.Settings // as all data centers have them
	Seq      uint64        // of the entry that said so; 0: nothing is said
	// Staged is what is on its way through the rings, as Stage; nil: nothing.
	Staged zone.Settings
	Stage  uint64
}

// Defaults returns them as they are now.
func (p *Publisher) Defaults(ctx context.Context) (d Defaults, err error) {
	err = p.Store.Read(ctx, func(tx *store.Tx) error {
		if d.Settings, d.Seq, err = tx.Defaults(ctx); err != nil {
			return err
		}
		r, err := pendingOf(ctx, tx, "")
		if err != nil || r == nil {
			return err
		}
		for _, c := range r.Stage.Changes {
			if c.Key != zone.KeyDefaults {
				continue
			}
			d.Stage, d.Staged = r.N, zone.Settings{}
			if !c.Delete {
				d.Staged, err = zone.DecodeDefaults(c.Value)
			}
		}
		return err
	})
	return d, err
}

// actionDefaults is the audit trail's word for a change of the defaults.
const actionDefaults = "defaults.put"

// SetDefaults replaces the defaults, by rings unless the action says otherwise.
// They are judged with a zone that has nothing of its own: what a setting may be
// does not depend on another one, nor on a zone's other parts. since, where it is
// not nil, is the number of the defaults that were changed: fault.Conflict when it
// is another. Defaults that are so already make no entry.
func (p *Publisher) SetDefaults(ctx context.Context, a Action, s zone.Settings, since *uint64) (uint64, error) {
	change, err := p.defaults(s)
	if err != nil {
		return 0, err
	}
	a.Name, a.Object = actionDefaults, zone.KeyDefaults
	seq, err := p.Operate(ctx, a, []feed.Change{change}, func(tx *store.Tx) error {
		// What is not numbered yet does not stand where it is read.
		if waits, err := tx.Waits(ctx, actionDefaults, actionRelease); err != nil || waits {
			return errors.Join(err, store.ErrStale)
		}
		value, seq, ok, err := tx.Key(ctx, zone.KeyDefaults)
		switch {
		case err != nil:
			return err
		case since != nil && *since != seq:
			return conflict("seq: the defaults have changed meanwhile: they are of %d, not of %d; read them again", seq, *since)
		case ok && change.Op == feed.Set && string(value) == string(change.Value), !ok && change.Op == feed.Delete:
			return errSame
		}
		return nil
	})
	switch {
	case errors.Is(err, errSame):
		head, _ := p.position()
		return head.Seq, nil
	case errors.Is(err, store.ErrStale):
		return 0, conflict("an earlier change has no number yet; try again")
	}
	return seq, err
}

func conflict(format string, args ...any) error {
	return &fault.Error{Op: "publish.defaults", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf(format, args...)}
}

// defaults makes the change that says s, if it can be.
func (p *Publisher) defaults(s zone.Settings) (feed.Change, error) {
	if err := s.CheckDefaults(); err != nil {
		return feed.Change{}, &Refusal{err}
	}
	empty := &zone.Spec{Meta: zone.Meta{ID: "00000000000000000000000000000000", Name: "defaults.invalid", NameServers: []string{"ns.invalid"}}, Settings: s}
	if err := p.Judge(empty); err != nil {
		return feed.Change{}, &Refusal{err}
	}
	if len(s) == 0 {
		return feed.Change{Op: feed.Delete, Key: zone.KeyDefaults}, nil
	}
	value, err := json.Marshal(s)
	if err != nil {
		return feed.Change{}, fmt.Errorf("encode %s: %w", zone.KeyDefaults, err)
	}
	return feed.Change{Op: feed.Set, Key: zone.KeyDefaults, Value: value}, nil
}
