package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Refusal says that the edges' own compile refuses the zone as it would be
// after the change. Its text begins with the API field's name.
type Refusal struct{ Err error }

func (r *Refusal) Error() string { return r.Err.Error() }

func (r *Refusal) Unwrap() error { return r.Err }

// Edit changes one zone: fn gets a copy to edit, the judge judges the result,
// and the difference is stored and published as one entry. Edits of one zone
// are serial; when another control plane wrote the zone meanwhile, fn is called
// again with what it has become. Where the action asks for rings it becomes a
// stage; a key that a stage on its way changes too is fault.Conflict. fn's error comes back as it is, with nothing
// changed; a zone that does not exist is fault.NotFound.
func (p *Publisher) Edit(ctx context.Context, zoneID string, a Action, fn func(*store.Zone) error) (uint64, error) {
	return p.onZone(ctx, zoneID, func(before *store.Zone, pending *Rollout) (uint64, error) {
		after := before.Clone()
		if err := fn(after); err != nil {
			return 0, err
		}
		if reflect.DeepEqual(before, after) {
			head, _ := p.position()
			return head.Seq, nil
		}
		if err := p.judgeBoth(after, pending); err != nil {
			return 0, err
		}
		if a.ByRings != nil {
			return p.stage(ctx, a, before, after, pending)
		}
		if pending != nil {
			parts, err := differ(before, after)
			if err == nil {
				err = pending.clash(parts.changes())
			}
			if err != nil {
				return 0, err
			}
		}
		return p.save(ctx, a, before, after)
	})
}

// onZone reads a zone, and the rollout that it has on its way (nil: none), and
// passes them to write, again for as long as that finds the zone changed by
// another control plane.
func (p *Publisher) onZone(ctx context.Context, zoneID string, write func(before *store.Zone, pending *Rollout) (uint64, error)) (uint64, error) {
	unlock, err := p.zones.lock(ctx, zoneID)
	if err != nil {
		return 0, err
	}
	defer unlock()
	for {
		var before *store.Zone
		var pending *Rollout
		if err := p.Store.Read(ctx, func(tx *store.Tx) (err error) {
			if before, err = tx.Zone(ctx, zoneID); err == nil {
				pending, err = pendingOf(ctx, tx, zoneID)
			}
			return err
		}); err != nil {
			return 0, err
		}
		seq, err := write(before, pending)
		if !errors.Is(err, store.ErrStale) || ctx.Err() != nil {
			return seq, err
		}
	}
}

// Create stores and publishes a new zone; a name that is taken is
// fault.Conflict.
func (p *Publisher) Create(ctx context.Context, a Action, z *store.Zone) (uint64, error) {
	if err := p.Store.Read(ctx, func(tx *store.Tx) (err error) {
		z.Defaults, _, err = tx.Defaults(ctx)
		return err
	}); err != nil {
		return 0, err
	}
	if err := p.judge(z); err != nil {
		return 0, err
	}
	return p.save(ctx, a, nil, z)
}

// Remove drops a zone with all its parts, and what is on its way to it.
func (p *Publisher) Remove(ctx context.Context, zoneID string, a Action) (uint64, error) {
	return p.onZone(ctx, zoneID, func(before *store.Zone, _ *Rollout) (uint64, error) { return p.save(ctx, a, before, nil) })
}

// Purge publishes a purge of a zone's cached objects.
func (p *Publisher) Purge(ctx context.Context, zoneID string, a Action, what zone.Purge) (uint64, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // six bytes for one would not fit into a value
	if err := enc.Encode(what); err != nil {
		return 0, fmt.Errorf("publish: encode purge: %w", err)
	}
	value := bytes.TrimSpace(b.Bytes())
	return p.Write(ctx, a, func(tx *store.Tx) (Written, error) {
		if _, err := tx.ZoneMeta(ctx, zoneID); err != nil {
			return Written{}, err
		}
		return Written{Changes: []feed.Change{{Op: feed.Signal, Key: zone.PurgeKey(zoneID), Value: value}}, After: string(value)}, nil
	})
}

func (p *Publisher) judge(z *store.Zone) error {
	if err := p.Judge(z.Spec()); err != nil {
		return &Refusal{err}
	}
	return nil
}

// save writes the difference of two states; before or after may be nil. What is
// staged is stored and not published.
func (p *Publisher) save(ctx context.Context, a Action, before, after *store.Zone) (uint64, error) {
	parts, err := differ(before, after)
	if err != nil {
		return 0, err
	}
	return p.Write(ctx, a, func(tx *store.Tx) (Written, error) {
		if before == nil {
			_, err := tx.ZoneNamed(ctx, after.Name)
			if err == nil {
				return Written{}, &fault.Error{Op: "publish.create", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf("%s already exists", after.Name)}
			}
			if !fault.Is(err, fault.NotFound) {
				return Written{}, err
			}
		}
		if err := tx.SaveZone(ctx, before, after); err != nil {
			return Written{}, err
		}
		w := Written{Changes: parts.changes(), Step: store.StepOf(before, after)}
		if after == nil {
			staged, err := dropPending(ctx, tx, a, before.ID)
			if err != nil {
				return Written{}, err
			}
			w.Changes = append(w.Changes, staged...)
		}
		return w, nil
	})
}

// locks serialises work by name. The zero value is ready.
type locks struct {
	mu   sync.Mutex
	held map[string]*held // guarded by mu
}

type held struct {
	turn  chan struct{} // capacity 1: full while taken
	users int           // guarded by locks.mu
}

// lock waits for the name's turn, or for ctx, and returns what ends it.
func (l *locks) lock(ctx context.Context, name string) (func(), error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*held{}
	}
	h := l.held[name]
	if h == nil {
		h = &held{turn: make(chan struct{}, 1)}
		l.held[name] = h
	}
	h.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(l.held, name)
		}
	}
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("publish: wait for earlier changes: %w", context.Cause(ctx))
	}
}
