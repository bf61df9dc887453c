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
func (p *Publisher) Snapshot(ctx context.Context, after string, begin func(feed.Cursor) error, yield func(key string, value []byte, seq uint64) error) error {
	return p.Store.Read(ctx, func(tx *store.Tx) error {
		_, last, err := tx.LogBounds(ctx)
		if err != nil {
			return err
		}
		var at feed.Cursor
		if last > 0 {
			if at, err = positionOf(ctx, tx, last); err != nil {
				return err
			}
		}
		if err := begin(at); err != nil || last == 0 {
			return err
		}
		return tx.Keys(ctx, after, yield)
	})
}

// positionOf reads the position after one entry.
func positionOf(ctx context.Context, tx *store.Tx, seq uint64) (at feed.Cursor, err error) {
	err = tx.Log(ctx, seq-1, func(r store.LogRow) (bool, error) {
		e, err := decode(r)
		if err != nil {
			return false, damaged(r.Seq, err)
		}
		at = feed.Cursor{Seq: e.Seq, Hash: e.Hash}
		return false, nil
	})
	return at, err
}
