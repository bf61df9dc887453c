package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

const (
	// lockKills is held by whoever writes a kill switch.
	lockKills = "kills"
	// MaxKills is how many switches may be set: edges read all of them at each change.
	MaxKills = 10_000
)

// errSame ends a transaction that would change nothing.
var errSame = errors.New("nothing is changed")

// Kills returns the kill switches that are set, by name.
func (p *Publisher) Kills(ctx context.Context) (all []store.Kill, err error) {
	err = p.Store.Read(ctx, func(tx *store.Tx) error {
		all, err = tx.Kills(ctx)
		return err
	})
	return all, err
}

// SetKill sets a switch and publishes it. One that is set for the same reason
// and time stays as it is, without an entry; a zone's needs the zone.
func (p *Publisher) SetKill(ctx context.Context, a Action, name string, k zone.Killed) (stored zone.Killed, seq uint64, err error) {
	k.Since = store.Now()
	seq, err = p.writeKill(ctx, a, name, func(tx *store.Tx, set []store.Kill) (Written, error) {
		stored = k
		i := slices.IndexFunc(set, func(s store.Kill) bool { return s.Name == name })
		switch {
		case i >= 0 && set[i].Reason == k.Reason && sameTime(set[i].Expires, k.Expires):
			stored = set[i].Killed
			return Written{}, errSame
		case i < 0 && len(set) >= MaxKills:
			return Written{}, &fault.Error{Op: "publish.kill", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf("at most %d switches may be set", MaxKills)}
		}
		if id, ok := zone.KilledZone(name); ok {
			if _, err := tx.ZoneMeta(ctx, id); err != nil {
				return Written{}, err
			}
		}
		value, err := json.Marshal(k)
		if err != nil {
			return Written{}, fmt.Errorf("publish: encode kill switch: %w", err)
		}
		return Written{Changes: []feed.Change{{Op: feed.Set, Key: zone.KillKey(name), Value: value}}, After: string(value)}, tx.PutKill(ctx, name, string(value))
	})
	return stored, seq, err
}

func sameTime(a, b *time.Time) bool { return a == b || a != nil && b != nil && a.Equal(*b) }

// ClearKill clears a switch; fault.NotFound when it is not set.
func (p *Publisher) ClearKill(ctx context.Context, a Action, name string) (uint64, error) {
	return p.clearKill(ctx, a, name, func(*store.Kill) bool { return true })
}

func (p *Publisher) clearKill(ctx context.Context, a Action, name string, still func(*store.Kill) bool) (uint64, error) {
	return p.writeKill(ctx, a, name, func(tx *store.Tx, set []store.Kill) (Written, error) {
		i := slices.IndexFunc(set, func(s store.Kill) bool { return s.Name == name })
		if i < 0 {
			return Written{}, &fault.Error{Op: "publish.kill", Side: fault.Visitor, Kind: fault.NotFound, Err: fmt.Errorf("the switch %.64s is not set", name)}
		}
		if !still(&set[i]) {
			return Written{}, errSame
		}
		return Written{Changes: []feed.Change{{Op: feed.Delete, Key: zone.KillKey(name)}}}, tx.DropKill(ctx, name)
	})
}

// writeKill runs fn with the switches that are set, which nobody else writes
// meanwhile.
func (p *Publisher) writeKill(ctx context.Context, a Action, name string, fn func(*store.Tx, []store.Kill) (Written, error)) (uint64, error) {
	a.Object = name
	seq, err := p.Write(ctx, a, func(tx *store.Tx) (Written, error) {
		if err := tx.Lock(ctx, lockKills); err != nil {
			return Written{}, err
		}
		set, err := tx.Kills(ctx)
		if err != nil {
			return Written{}, err
		}
		return fn(tx, set)
	})
	if errors.Is(err, errSame) {
		head, _ := p.position()
		return head.Seq, nil
	}
	return seq, err
}

// ExpireKills clears the switches whose time is over and returns when the next
// one's is; zero for none.
func (p *Publisher) ExpireKills(ctx context.Context, now time.Time) (next time.Time, err error) {
	all, err := p.Kills(ctx)
	for i := range all {
		k := &all[i]
		if k.Expires == nil {
			continue
		}
		if k.Expires.After(now) {
			if next.IsZero() || k.Expires.Before(next) {
				next = *k.Expires
			}
			continue
		}
		// Somebody may have set it anew, or cleared it, meanwhile.
		_, err := p.clearKill(ctx, Action{Actor: "control", Name: "kill.expire"}, k.Name, func(s *store.Kill) bool { return sameTime(s.Expires, k.Expires) })
		if err != nil && !fault.Is(err, fault.NotFound) {
			return time.Time{}, err
		}
	}
	return next, err
}
