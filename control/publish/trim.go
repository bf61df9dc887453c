package publish

import (
	"context"
	"time"

	"github.com/selvage-edge/selvage/control/store"
)

// trimEach is how often bytes and age of the log are looked at; the count is
// kept with each numbering.
const trimEach = time.Minute

// trim drops what is too old, of the log also what is too much in bytes, when it is
// time to look.
func (p *Publisher) trim(ctx context.Context) error {
	if time.Since(p.trimmed) < trimEach {
		return nil
	}
	p.trimmed = time.Now()
	if err := p.trimHistory(ctx); err != nil || p.RetainBytes == 0 && p.RetainFor == 0 {
		return err
	}
	var old time.Time
	if p.RetainFor > 0 {
		old = p.Now().Add(-p.RetainFor)
	}
	head, floor := p.position()
	var through uint64
	// The walk over the log holds up no writer.
	if err := p.Store.Read(ctx, func(tx *store.Tx) (err error) {
		through, err = tx.LogBefore(ctx, p.RetainBytes, old)
		return err
	}); err != nil || through <= floor {
		return err
	}
	if err := p.Store.Write(ctx, func(tx *store.Tx) error {
		if err := p.lease.hold(ctx, tx); err != nil {
			return err
		}
		return tx.TrimLog(ctx, through)
	}); err != nil {
		return err
	}
	p.announce(head, through, nil)
	return nil
}

// trimHistory drops outbox rows that are too old, a few in each transaction.
func (p *Publisher) trimHistory(ctx context.Context) error {
	for more := true; more; {
		if err := p.Store.Write(ctx, func(tx *store.Tx) error {
			if err := p.lease.hold(ctx, tx); err != nil {
				return err
			}
			var err error
			more, err = tx.ForgetEvents(ctx, p.trimmed.Add(-p.RetainHistory))
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
