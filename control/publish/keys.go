package publish

import (
	"bytes"
	"context"
	"fmt"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Recipient is a node that data keys are sealed to.
type Recipient struct {
	ID     string
	Public []byte // HPKE public key, X25519
}

// Vault wraps keys at rest under the master key and binds a name to each.
type Vault interface {
	Wrap(name string, key []byte) ([]byte, error)
	Unwrap(name string, wrapped []byte) ([]byte, error)
}

// Lock encrypts a private key (PKCS#8 DER) under a fresh data key, and that
// under the master key: what a certificate's row holds.
func (p *Publisher) Lock(certID string, der []byte) (sealed, dataKey []byte, err error) {
	key := feed.NewDataKey()
	defer clear(key)
	if sealed, err = feed.EncryptKey(key, certID, der); err != nil {
		return nil, nil, err
	}
	dataKey, err = p.Vault.Wrap(certID, key)
	if err != nil {
		return nil, nil, fmt.Errorf("wrap data key of certificate %s: %w", certID, err)
	}
	return sealed, dataKey, nil
}

// keyChanges seals the data keys of new and replaced certificates to each node
// and drops those of certificates that go.
func (p *Publisher) keyChanges(ctx context.Context, tx *store.Tx, before, after *store.Zone) ([]feed.Change, error) {
	old, now := orEmpty(before), orEmpty(after)
	ids := certificateIDs(old, now)
	if len(ids) == 0 {
		return nil, nil
	}
	nodes, err := p.Recipients(ctx, tx)
	if err != nil {
		return nil, err
	}
	var all []feed.Change
	for _, id := range ids {
		was, is := find(old, id), find(now, id)
		switch {
		case is == nil:
			for _, n := range nodes {
				all = append(all, feed.Change{Op: feed.Delete, Key: zone.SealedKey(id, n.ID)})
			}
		case was == nil || !bytes.Equal(was.DataKey, is.DataKey):
			for _, n := range nodes {
				c, err := p.seal(is, n)
				if err != nil {
					return nil, err
				}
				all = append(all, c)
			}
		}
	}
	return all, nil
}

func (p *Publisher) seal(c *store.Certificate, to Recipient) (feed.Change, error) {
	key, err := p.Vault.Unwrap(c.ID, c.DataKey)
	if err != nil {
		return feed.Change{}, fmt.Errorf("unwrap data key of certificate %s: %w", c.ID, err)
	}
	defer clear(key)
	sealed, err := feed.SealFor(to.Public, c.ID, key)
	if err != nil {
		return feed.Change{}, fmt.Errorf("seal to node %s: %w", to.ID, err)
	}
	return feed.Change{Op: feed.Set, Key: zone.SealedKey(c.ID, to.ID), Value: sealed}, nil
}

// Enrol stores a node by put and publishes every certificate's data key sealed
// to it, before it first connects: all in one transaction.
func (p *Publisher) Enrol(ctx context.Context, a Action, to Recipient, put func(*store.Tx) error) (uint64, error) {
	return p.Write(ctx, a, func(tx *store.Tx) (Written, error) {
		if err := put(tx); err != nil {
			return Written{}, err
		}
		w := Written{Split: true, After: fmt.Sprintf(`{"node":%q}`, to.ID)}
		err := tx.AllCertificates(ctx, func(_ string, c store.Certificate) error {
			change, err := p.seal(&c, to)
			w.Changes = append(w.Changes, change)
			return err
		})
		return w, err
	})
}
