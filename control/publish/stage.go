package publish

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/rings"
	"github.com/selvage-edge/selvage/zone"
)

// ByRings asks that a change goes by rings, and tells the stage that it became.
type ByRings struct {
	Stage uint64   // 0: the change changed nothing
	First []string // data centers that get it first
}

// undo is what the parts of a zone were that a rollout changed.
type undo struct {
	Meta     *zone.Meta                `json:"meta,omitempty"`
	Settings map[string]*store.Setting `json:"settings,omitempty"` // nil: not set
	Records  map[string][]zone.Record  `json:"records,omitempty"`  // by name
	Rulesets map[string]*store.Ruleset `json:"rulesets,omitempty"` // by phase; nil: none
}

// undoOf is the way back from after to before, in the parts that keys name.
func undoOf(before, after *store.Zone, keys []string) *undo {
	u := &undo{Settings: map[string]*store.Setting{}, Records: map[string][]zone.Record{}, Rulesets: map[string]*store.Ruleset{}}
	for _, key := range keys {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(key, zone.Prefix(before.ID)), "/")
		switch kind {
		case "meta":
			u.Meta = new(before.Meta)
		case "settings":
			u.settings(before, after)
		case "dns":
			u.Records[rest] = byName(before.Records)[rest]
		case "ruleset":
			u.Rulesets[rest] = before.Ruleset(rest)
		}
	}
	return u
}

func (u *undo) settings(before, after *store.Zone) {
	for i := range zone.SettingTable {
		name := zone.SettingTable[i].Name
		was, had := before.Settings[name]
		is, has := after.Settings[name]
		switch {
		case had && (!has || string(was.Value) != string(is.Value) || !was.Changed.Equal(is.Changed)):
			u.Settings[name] = &was
		case !had && has:
			u.Settings[name] = nil
		}
	}
}

// apply makes z what it was in those parts.
func (u *undo) apply(z *store.Zone) {
	if u.Meta != nil {
		z.Meta = *u.Meta
	}
	for name, s := range u.Settings {
		delete(z.Settings, name)
		if s != nil {
			z.Settings[name] = *s
		}
	}
	z.Records = slices.DeleteFunc(z.Records, func(r zone.Record) bool { _, ok := u.Records[r.Name]; return ok })
	for _, records := range u.Records {
		z.Records = append(z.Records, records...)
	}
	z.Rulesets = slices.DeleteFunc(z.Rulesets, func(r store.Ruleset) bool { _, ok := u.Rulesets[r.Phase]; return ok })
	for _, r := range u.Rulesets {
		if r != nil {
			z.Rulesets = append(z.Rulesets, *r)
		}
	}
}

// judgeBoth judges a zone as it will be, with what is on its way by rings and
// without it: nodes of each ring must be able to compile it.
func (p *Publisher) judgeBoth(after *store.Zone, pending *Rollout) error {
	if err := p.judge(after); err != nil || pending == nil {
		return err
	}
	without := after.Clone()
	pending.Undo.apply(without)
	if err := p.Judge(without.Spec()); err != nil {
		return &Refusal{fmt.Errorf("%w, without stage %d, which is on its way through the rings", err, pending.N)}
	}
	return nil
}

// stage stores a change of a zone and publishes it as a stage for the first ring.
func (p *Publisher) stage(ctx context.Context, a Action, before, after *store.Zone, pending *Rollout) (uint64, error) {
	if pending != nil {
		return 0, oneAtATime(pending, "this zone")
	}
	if e := endsByItself(before, after); e != "" {
		return 0, &Refusal{fmt.Errorf("%s: ends by itself, so it cannot go by rings, nor can the zone's other settings while it is on", e)}
	}
	parts, err := differ(before, after)
	if err != nil {
		return 0, err
	}
	if len(parts) == 0 { // nothing that edges see
		return p.save(ctx, a, before, after)
	}
	changes := parts.changes()
	for _, c := range changes {
		if !rings.Stageable(c.Key) {
			return 0, &Refusal{fmt.Errorf("this change cannot go by rings: %s is the same in all data centers", c.Key)}
		}
	}
	r := &Rollout{
		Zone: before.ID, ZoneName: before.Name, Account: before.Account, Action: a.Name, Actor: a.Actor,
		Undo: undoOf(before, after, keysOf(changes)),
	}
	return p.begin(ctx, r, a, changes, func(tx *store.Tx) (Written, error) {
		err := tx.SaveZone(ctx, before, after)
		return Written{Step: store.StepOf(before, after)}, err
	})
}

// endsByItself names a setting with an end of its own in either state, where the
// two differ in settings.
func endsByItself(before, after *store.Zone) string {
	u := undo{Settings: map[string]*store.Setting{}}
	if u.settings(before, after); len(u.Settings) == 0 {
		return ""
	}
	for _, z := range []*store.Zone{before, after} {
		for name, s := range z.Settings {
			if !s.Expires.IsZero() && zone.FindSetting(name) != nil {
				return name
			}
		}
	}
	return ""
}

// begin publishes changes as a stage, in one transaction with what write writes.
func (p *Publisher) begin(ctx context.Context, r *Rollout, a Action, changes []feed.Change, write func(*store.Tx) (Written, error)) (uint64, error) {
	r.Keys, r.State, r.Ring, r.Version = keysOf(changes), Pending, rings.Canary, 1
	fresh := *r
	seq, err := p.Write(ctx, Action{Actor: a.Actor, Name: "rollout.stage " + a.Name, Object: a.Object}, func(tx *store.Tx) (Written, error) {
		*r = fresh // the database may have undone it and begun again
		w, err := write(tx)
		if err != nil {
			return w, err
		}
		if r.N, err = tx.NextRollout(ctx); err != nil {
			return w, err
		}
		all, err := tx.PendingRollouts(ctx)
		if err != nil {
			return w, err
		}
		if len(all) >= rings.MaxPending {
			return w, &fault.Error{Op: "publish.rollout", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf(
				"%d changes are on their way through the rings, as many as there may be; release or halt one (selvage rollout list)", len(all))}
		}
		if slices.ContainsFunc(all, func(o store.Rollout) bool { return o.Zone == r.Zone }) {
			return w, store.ErrStale // another one was staged meanwhile
		}
		d, err := readRings(ctx, tx)
		if err != nil {
			return w, err
		}
		if len(d.Canaries) == 0 {
			colos, err := p.Colos(ctx, tx)
			if err != nil {
				return w, err
			}
			d = d.Resolve(colos)
		}
		r.Rings, r.Stage = d, rings.NewStage(d, a.Actor, store.Now(), changes)
		value, err := r.Stage.Encode()
		if err != nil {
			return w, &Refusal{err}
		}
		r.step("staged", a.Actor, "")
		w.Changes = []feed.Change{{Op: feed.Set, Key: rings.Key(r.N), Value: value}}
		row, err := r.row()
		if err != nil {
			return w, err
		}
		return w, tx.PutRollout(ctx, row)
	})
	if err == nil {
		a.ByRings.Stage, a.ByRings.First = r.N, r.Rings.Canaries
	}
	return seq, err
}

// dropPending ends the rollout of a zone that is deleted and returns the change
// that ends its stage.
func dropPending(ctx context.Context, tx *store.Tx, a Action, zoneID string) ([]feed.Change, error) {
	r, err := pendingOf(ctx, tx, zoneID)
	if err != nil || r == nil {
		return nil, err
	}
	r.over(Dropped, a.Actor, "the zone was deleted")
	return []feed.Change{{Op: feed.Delete, Key: rings.Key(r.N)}}, save(ctx, tx, r)
}
