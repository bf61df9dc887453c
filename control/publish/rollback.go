package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
)

// Rollback says to which state a zone goes back.
type Rollback struct {
	To uint64 // the number of an entry: the zone's state after it
	// From, when not 0, is the number of the zone's newest change that the caller
	// knows: a newer one is a conflict.
	From uint64
	// Keep leaves the zone's certificates as they are.
	Keep bool
	// Dry changes nothing.
	Dry bool
	// Own is asked with the account that the zone belongs to.
	Own func(account string) error
}

// Rolled is what a rollback did, or would do.
type Rolled struct {
	Seq  uint64 // of the new entry; the head where there was nothing to do, 0 when dry
	From uint64 // the zone's newest change before it
	Diff *store.Difference
}

// ErrNotThen is in the chain when a zone did not exist at the entry that it is to
// go back to.
var ErrNotThen = errors.New("the zone did not exist then")

// Erased says that certificates cannot come back.
type Erased struct{ Names []string }

func (e *Erased) Error() string {
	return "the keys of these certificates have been erased since: " + strings.Join(e.Names, ", ") +
		"; upload them again, or roll the rest back and keep the zone's certificates as they are"
}

// Rollback gives a zone its rows as of an earlier entry back, in one new entry,
// if the judge still takes them. It is made of what the zone is when it is written:
// when somebody changes it meanwhile, again, or with From not at all.
func (p *Publisher) Rollback(ctx context.Context, zoneID string, a Action, r Rollback) (*Rolled, error) {
	head, _ := p.position()
	if r.To > head.Seq {
		return nil, &fault.Error{Op: "publish.rollback", Side: fault.Visitor, Kind: fault.Malformed, Err: fmt.Errorf(
			"%d is not given out yet, the newest change is %d", r.To, head.Seq)}
	}
	unlock, err := p.zones.lock(ctx, zoneID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	for {
		done, err := p.rollback(ctx, zoneID, a, &r)
		if !errors.Is(err, store.ErrStale) || ctx.Err() != nil {
			return done, err
		}
	}
}

func (p *Publisher) rollback(ctx context.Context, zoneID string, a Action, r *Rollback) (*Rolled, error) {
	then, pending, err := p.zoneAt(ctx, zoneID, r)
	if err != nil {
		return nil, err
	}
	now, was := then.Now, then.Was
	if r.From > 0 && then.Newest != r.From {
		return nil, &fault.Error{Op: "publish.rollback", Side: fault.Visitor, Kind: fault.Conflict, Err: fmt.Errorf(
			"the zone has changed since %d: its newest change is %d", r.From, then.Newest)}
	}
	if was == nil {
		return nil, fmt.Errorf("%w: at %d", ErrNotThen, r.To)
	}
	if err := rekey(was, now, r.Keep); err != nil {
		return nil, err
	}
	done := &Rolled{From: then.Newest, Diff: store.Differ(now, was)}
	if done.Diff.Empty() {
		head, _ := p.position()
		done.Seq = head.Seq
		return done, nil
	}
	if err := p.judgeBoth(was, pending); err != nil {
		return nil, err
	}
	if pending != nil {
		parts, err := differ(now, was)
		if err == nil {
			err = pending.clash(parts.changes())
		}
		if err != nil {
			return nil, err
		}
	}
	if r.Dry {
		return done, nil
	}
	if now == nil {
		was.Version = then.Version + 1
	}
	done.Seq, err = p.save(ctx, a, now, was)
	return done, err
}

// zoneAt reads the zone's states for who may see them, and what is on its way to it.
func (p *Publisher) zoneAt(ctx context.Context, zoneID string, r *Rollback) (then *store.Then, pending *Rollout, err error) {
	err = p.Store.Read(ctx, func(tx *store.Tx) error {
		then, err = tx.ZoneAt(ctx, zoneID, r.To)
		if then != nil && then.Account != "" && r.Own != nil {
			if err := r.Own(then.Account); err != nil {
				return err
			}
		}
		if err == nil && then.Now != nil {
			pending, err = pendingOf(ctx, tx, zoneID)
		}
		if err == nil && then.Was != nil {
			then.Was.Defaults, _, err = tx.Defaults(ctx)
		}
		return err
	})
	return then, pending, err
}

// rekey gives certificates out of the history their keys, which are there while
// the zone has the same certificate.
func rekey(was, now *store.Zone, keep bool) error {
	if keep || now == nil && len(was.Certificates) == 0 {
		was.Certificates = nil
		if now != nil {
			was.Certificates, was.Staged = now.Certificates, now.Staged
		}
		return nil
	}
	gone := &Erased{}
	for i := range was.Certificates {
		c := &was.Certificates[i]
		has := find(orEmpty(now), c.ID)
		if has == nil || has.Chain != c.Chain {
			gone.Names = append(gone.Names, fmt.Sprintf("%s (%s)", c.ID, strings.Join(c.Hosts, " ")))
			continue
		}
		c.Sealed, c.DataKey = has.Sealed, has.DataKey
	}
	if len(gone.Names) > 0 {
		return gone
	}
	return nil
}
