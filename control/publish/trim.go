package publish

import (
	"context"
	"time"

	"github.com/selvage-edge/selvage/control/store"
)

// trimEach is how often bytes and age of the log are looked at; the count is
// kept with each numbering.
const trimEach = time.Minute

// trim drops entries that are too many in bytes or too old, when it is time to
// look.
func (p *Publisher) trim(ctx context.Context) error {
	if p.RetainBytes == 0 && p.RetainFor == 0 || time.Since(p.trimmed) < trimEach {
		return nil
	}
	p.trimmed = time.Now()
	var old time.Time
	if p.RetainFor > 0 {
		old = p.trimmed.Add(-p.RetainFor)
	}
	head, floor := p.position()
	err := p.Store.Write(ctx, func(tx *store.Tx) error {
		through, err := tx.LogBefore(ctx, p.RetainBytes, old)
		if err != nil || through <= floor {
			return err
		}
		if err := p.lease.hold(ctx, tx); err != nil {
			return err
		}
		floor = through
		return tx.TrimLog(ctx, through)
	})
	if err == nil {
		p.announce(head, floor, nil)
	}
	return err
}
