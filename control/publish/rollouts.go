package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/rings"
)

// State is how a Rollout stands.
type State string

const (
	Pending  State = "pending"  // some rings have it
	Released State = "released" // all have it
	Halted   State = "halted"   // taken back
	Dropped  State = "dropped"  // its zone was deleted
)

// Rollout is a change that goes by rings, or went. The control store has the
// zone as it is with the change, as its user reads it; Undo is the way back.
type Rollout struct {
	N        uint64           `json:"stage"`
	Zone     string           `json:"zone_id"` // "" for one of the operator's, of all zones
	ZoneName string           `json:"zone_name"`
	Action   string           `json:"action"` // "setting.patch"
	Actor    string           `json:"actor"`  // token id
	Keys     []string         `json:"keys"`   // that the change gives other values
	Rings    rings.Definition `json:"rings"`  // as of its beginning
	Ring     rings.Ring       `json:"ring"`   // released to
	State    State            `json:"state"`
	// Live is since when the connected nodes of Ring have it; zero: not yet.
	Live  time.Time `json:"live"`
	Steps []Step    `json:"steps"`
	// What a pending one needs.
	Stage  *rings.Stage    `json:"value,omitempty"`
	Undo   *undo           `json:"undo,omitempty"`
	Memory json.RawMessage `json:"memory,omitempty"` // of who watches it
	// Version counts its writes, from 1.
	Version int64 `json:"-"`
	// Account is whose it is; "" for one of the operator's.
	Account string `json:"-"`
}

// Step is something that happened to a Rollout.
type Step struct {
	At   time.Time  `json:"at"`
	What string     `json:"what"` // staged | released | halted | dropped
	Ring rings.Ring `json:"ring"` // after it
	By   string     `json:"by"`   // token id, or "control"
	Why  string     `json:"why"`
}

// actionRelease is the audit trail's word for a release.
const actionRelease = "rollout.release"

// MaxWhy bounds a step's reason, in bytes; what is longer is cut.
const MaxWhy = 512

func (r *Rollout) step(what, by, why string) {
	r.Steps = append(r.Steps, Step{store.Now(), what, r.Ring, by, strings.ToValidUTF8(why[:min(len(why), MaxWhy)], "")})
}

// told is the newest step in the audit trail.
func (r *Rollout) told() (string, error) {
	b, err := json.Marshal(r.Steps[len(r.Steps)-1])
	if err != nil {
		return "", fmt.Errorf("encode a step of rollout %d: %w", r.N, err)
	}
	return string(b), nil
}

// over ends a rollout.
func (r *Rollout) over(s State, by, why string) {
	r.State, r.Stage, r.Undo, r.Memory = s, nil, nil, nil
	r.step(string(s), by, why)
}

func (r *Rollout) row() (store.Rollout, error) {
	document, err := json.Marshal(r)
	if err != nil {
		return store.Rollout{}, fmt.Errorf("encode rollout %d: %w", r.N, err)
	}
	return store.Rollout{N: r.N, Zone: r.Zone, Account: r.Account, Pending: r.State == Pending, Version: r.Version, Document: string(document)}, nil
}

func readRollout(row store.Rollout) (*Rollout, error) {
	r := &Rollout{Version: row.Version, Account: row.Account}
	if err := json.Unmarshal([]byte(row.Document), r); err != nil {
		return nil, fmt.Errorf("read rollout %d: %w", row.N, err)
	}
	return r, nil
}

func readRollouts(rows []store.Rollout) ([]*Rollout, error) {
	all := make([]*Rollout, len(rows))
	for i := range rows {
		var err error
		if all[i], err = readRollout(rows[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// pendingOf is the rollout that a zone has on its way, nil for none; "" asks for
// the operator's.
func pendingOf(ctx context.Context, tx *store.Tx, zoneID string) (*Rollout, error) {
	row, err := tx.PendingOf(ctx, zoneID)
	if err != nil || row == nil {
		return nil, err
	}
	return readRollout(*row)
}

func save(ctx context.Context, tx *store.Tx, r *Rollout) error {
	row, err := r.row()
	if err != nil {
		return err
	}
	return tx.SaveRollout(ctx, row)
}

// Rollout returns one rollout; fault.NotFound when there is none.
func (p *Publisher) Rollout(ctx context.Context, n uint64) (r *Rollout, err error) {
	err = p.Store.Read(ctx, func(tx *store.Tx) error {
		row, err := tx.Rollout(ctx, n)
		if err == nil {
			r, err = readRollout(row)
		}
		return err
	})
	return r, err
}

// Rollouts returns up to limit rollouts of an account and of the operator's,
// newest first.
func (p *Publisher) Rollouts(ctx context.Context, account string, limit int) (all []*Rollout, err error) {
	err = p.Store.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.Rollouts(ctx, account, limit)
		if err == nil {
			all, err = readRollouts(rows)
		}
		return err
	})
	return all, err
}

// Watched is a pending rollout with the number of the entry that released it to
// its ring; 0 while that has none yet.
type Watched struct {
	*Rollout
	Seq uint64
}

// PendingRollouts returns all rollouts that are on their way.
func (p *Publisher) PendingRollouts(ctx context.Context) (all []Watched, err error) {
	err = p.Store.Read(ctx, func(tx *store.Tx) error {
		rows, err := tx.PendingRollouts(ctx)
		if err != nil {
			return err
		}
		read, err := readRollouts(rows)
		if err != nil {
			return err
		}
		all = make([]Watched, len(read))
		for i, r := range read {
			all[i].Rollout = r
			value, seq, ok, err := tx.Key(ctx, rings.Key(r.N))
			if err != nil {
				return err
			}
			if s, err := rings.Decode(value); ok && err == nil && s.Ring == r.Ring {
				all[i].Seq = seq
			}
		}
		return nil
	})
	return all, err
}

// Remember stores what is remembered about a rollout, its Live and Memory. It is
// store.ErrStale when somebody else wrote it meanwhile.
func (p *Publisher) Remember(ctx context.Context, r *Rollout) error {
	return p.Store.Write(ctx, func(tx *store.Tx) error { return save(ctx, tx, r) })
}

func isOver(r *Rollout) error {
	return &fault.Error{Op: "publish.rollout", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf("stage %d is not on its way any more: it was %s", r.N, r.State)}
}

// Order is what is to be done with a rollout.
type Order struct {
	N   uint64
	To  rings.Ring // to be released to; not for a halt
	By  string     // token id, or "control"
	Why string
	// Version makes it ErrMoved when the rollout has another one: somebody else was
	// faster. 0: whatever it is.
	Version int64
	Memory  json.RawMessage
}

// ErrMoved is of an order about a rollout that somebody else has written since
// it was read.
var ErrMoved = errors.New("publish: the rollout has moved on meanwhile")

// Release lets a later ring have a rollout. To all means that its changes are
// published as any, and its stage ends, in one entry. Whichever of two control
// planes comes first does it, and the other one's is ErrMoved.
func (p *Publisher) Release(ctx context.Context, o Order) (r *Rollout, seq uint64, err error) {
	err = store.ErrStale
	for errors.Is(err, store.ErrStale) && ctx.Err() == nil {
		r, seq, err = p.release(ctx, o)
	}
	return r, seq, err
}

// Halt takes a rollout back: its zone is what it was before, and the nodes that
// had the change serve that again.
func (p *Publisher) Halt(ctx context.Context, o Order) (r *Rollout, seq uint64, err error) {
	err = store.ErrStale
	for errors.Is(err, store.ErrStale) && ctx.Err() == nil {
		r, seq, err = p.halt(ctx, o)
	}
	return r, seq, err
}

func (p *Publisher) release(ctx context.Context, o Order) (r *Rollout, seq uint64, err error) {
	action := Action{Actor: o.By, Name: actionRelease, Object: rings.Key(o.N)}
	seq, err = p.Write(ctx, action, func(tx *store.Tx) (Written, error) {
		row, err := tx.Rollout(ctx, o.N)
		if err != nil {
			return Written{}, err
		}
		if r, err = readRollout(row); err != nil {
			return Written{}, err
		}
		switch {
		case o.Version != 0 && o.Version != r.Version:
			return Written{}, ErrMoved
		case r.State != Pending:
			return Written{}, isOver(r)
		case o.To <= r.Ring:
			return Written{}, &fault.Error{Op: "publish.rollout", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf("ring: stage %d is released to %s already", o.N, r.Ring)}
		}
		w := Written{Before: fmt.Sprintf(`{"ring":%q}`, r.Ring)}
		r.Ring, r.Live, r.Memory = o.To, time.Time{}, o.Memory
		if o.To == rings.All {
			w.Changes = append(r.Stage.Feed(), feed.Change{Op: feed.Delete, Key: rings.Key(o.N)})
			r.over(Released, o.By, o.Why)
		} else {
			r.Stage.Ring = o.To
			value, err := r.Stage.Encode()
			if err != nil {
				return Written{}, err
			}
			w.Changes = []feed.Change{{Op: feed.Set, Key: rings.Key(o.N), Value: value}}
			r.step(string(Released), o.By, o.Why)
		}
		if w.After, err = r.told(); err != nil {
			return Written{}, err
		}
		return w, save(ctx, tx, r)
	})
	return r, seq, err
}

func (p *Publisher) halt(ctx context.Context, o Order) (r *Rollout, seq uint64, err error) {
	if r, err = p.Rollout(ctx, o.N); err != nil {
		return nil, 0, err
	}
	if r.Zone == "" {
		seq, err = p.haltWith(ctx, o, &r, nil, nil)
		return r, seq, err
	}
	seq, err = p.onZone(ctx, r.Zone, func(before *store.Zone, _ *Rollout) (uint64, error) {
		return p.haltWith(ctx, o, &r, before, before.Clone())
	})
	if fault.Is(err, fault.NotFound) { // the zone has gone, and the rollout with it
		if now, rerr := p.Rollout(ctx, o.N); rerr == nil {
			err = isOver(now)
		}
	}
	return r, seq, err
}

// haltWith halts in one transaction. after is changed to what the zone was.
func (p *Publisher) haltWith(ctx context.Context, o Order, halted **Rollout, before, after *store.Zone) (uint64, error) {
	return p.Write(ctx, Action{Actor: o.By, Name: "rollout.halt", Object: rings.Key(o.N)}, func(tx *store.Tx) (Written, error) {
		row, err := tx.Rollout(ctx, o.N)
		if err != nil {
			return Written{}, err
		}
		r, err := readRollout(row)
		if err != nil {
			return Written{}, err
		}
		*halted = r
		if o.Version != 0 && o.Version != r.Version {
			return Written{}, ErrMoved
		}
		if r.State != Pending {
			return Written{}, isOver(r)
		}
		var w Written
		if after != nil {
			r.Undo.apply(after)
			if err := tx.SaveZone(ctx, before, after); err != nil {
				return Written{}, err
			}
			w.Step = store.StepOf(before, after)
		}
		w.Changes = []feed.Change{{Op: feed.Delete, Key: rings.Key(o.N)}}
		r.over(Halted, o.By, o.Why)
		if w.After, err = r.told(); err != nil {
			return Written{}, err
		}
		return w, save(ctx, tx, r)
	})
}

// Rings is who gets changes first, as the operator said, else by default.
func (p *Publisher) Rings(ctx context.Context) (d rings.Definition, err error) {
	err = p.Store.Read(ctx, func(tx *store.Tx) error {
		d, err = readRings(ctx, tx)
		return err
	})
	return d, err
}

func readRings(ctx context.Context, tx *store.Tx) (rings.Definition, error) {
	value, _, ok, err := tx.Key(ctx, rings.KeyDefinition)
	if err != nil || !ok {
		return rings.Default(), err
	}
	var d rings.Definition
	if err := json.Unmarshal(value, &d); err != nil {
		return d, fmt.Errorf("read %s: %w", rings.KeyDefinition, err)
	}
	return d, nil
}

// SetRings says who gets changes first, of those that begin from now on.
func (p *Publisher) SetRings(ctx context.Context, actor string, d rings.Definition) (uint64, error) {
	if err := d.Check(); err != nil {
		return 0, &Refusal{err}
	}
	value, err := json.Marshal(d)
	if err != nil {
		return 0, fmt.Errorf("encode %s: %w", rings.KeyDefinition, err)
	}
	return p.Write(ctx, Action{Actor: actor, Name: "rings.put", Object: rings.KeyDefinition}, func(tx *store.Tx) (Written, error) {
		before, _, _, err := tx.Key(ctx, rings.KeyDefinition)
		return Written{
			Changes: []feed.Change{{Op: feed.Set, Key: rings.KeyDefinition, Value: value}}, Before: string(before), After: string(value),
		}, err
	})
}

// keysOf lists the keys of changes.
func keysOf(changes []feed.Change) []string {
	keys := make([]string, len(changes))
	for i, c := range changes {
		keys[i] = c.Key
	}
	return keys
}

// clash refuses changes of keys that a rollout on its way changes too: nobody
// could say what they would be when it is halted.
func (r *Rollout) clash(changes []feed.Change) error {
	for _, c := range changes {
		if slices.Contains(r.Keys, c.Key) {
			return &fault.Error{Op: "publish.rollout", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf(
				"stage %d, which is on its way through the rings, changes %s too; release or halt it first (selvage rollout show %[1]d)", r.N, c.Key)}
		}
	}
	return nil
}
