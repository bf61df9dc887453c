package publish

import (
	"context"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
)

var _ feed.Log = (*Publisher)(nil)

// Head is feed.Log's.
func (p *Publisher) Head() (seq uint64, hash [32]byte) {
	head, _ := p.position()
	return head.Seq, head.Hash
}

// Changed is feed.Log's.
func (p *Publisher) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Read is feed.Log's.
func (p *Publisher) Read(ctx context.Context, after uint64, maxBytes int) ([]feed.Entry, error) {
	head, floor := p.position()
	if after >= head.Seq {
		return nil, nil
	}
	if after < floor {
		return nil, feed.ErrCompacted
	}
	var all []feed.Entry
	size := 0
	err := p.Store.Read(ctx, func(tx *store.Tx) error {
		return tx.Log(ctx, after, func(r store.LogRow) (bool, error) {
			e, err := decode(r)
			if err != nil {
				return false, damaged(r.Seq, err)
			}
			if len(all) == 0 && e.Seq != after+1 {
				return false, feed.ErrCompacted // trimmed since the position was read
			}
			all = append(all, e)
			size += len(r.Payload)
			return size < maxBytes, nil
		})
	})
	return all, err
}

// Snapshot is feed.Log's.
func (p *Publisher) Snapshot(ctx context.Context, yield func(key string, value []byte, seq uint64) error) (uint64, [32]byte, error) {
	var at feed.Cursor
	err := p.Store.Read(ctx, func(tx *store.Tx) error {
		_, last, err := tx.LogBounds(ctx)
		if err != nil || last == 0 {
			return err
		}
		if err := tx.Log(ctx, last-1, func(r store.LogRow) (bool, error) {
			e, err := decode(r)
			if err != nil {
				return false, damaged(r.Seq, err)
			}
			at = feed.Cursor{Seq: e.Seq, Hash: e.Hash}
			return false, nil
		}); err != nil {
			return err
		}
		return tx.Keys(ctx, yield)
	})
	return at.Seq, at.Hash, err
}
