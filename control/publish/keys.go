package publish

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

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

// PairFor is the pair of a certificate, sealed to a node's HPKE public key
// (X25519).
func (p *Publisher) PairFor(public []byte, zoneID string, c *store.Certificate) (*feed.Pair, error) {
	key, err := p.Vault.Unwrap(c.ID, c.DataKey)
	if err != nil {
		return nil, fmt.Errorf("unwrap data key of certificate %s: %w", c.ID, err)
	}
	defer clear(key)
	sealed, err := feed.SealFor(public, c.ID, key)
	if err != nil {
		return nil, err
	}
	return &feed.Pair{Zone: zoneID, ID: c.ID, Chain: c.Chain, Sealed: c.Sealed, DataKey: sealed}, nil
}

// Switch publishes a staged certificate: from the entry of the number it
// returns, edges serve it. One that is not staged any more, replaced or
// switched by somebody else, changes nothing and has the number 0.
func (p *Publisher) Switch(ctx context.Context, zoneID string, ref feed.PairRef) (seq uint64, err error) {
	found := false
	seq, err = p.Edit(ctx, zoneID, Action{Actor: "control", Name: "certificate.publish", Object: ref.ID}, func(z *store.Zone) error {
		found = z.Publish(ref)
		return nil
	})
	if fault.Is(err, fault.NotFound) {
		return 0, nil // the zone is gone
	}
	if !found {
		seq = 0
	}
	return seq, err
}

// Published returns the number of the entry that names a pair; 0 while the feed's
// state does not name it.
func (p *Publisher) Published(ctx context.Context, zoneID string, ref feed.PairRef) (seq uint64, err error) {
	err = p.Store.Read(ctx, func(tx *store.Tx) error {
		value, at, ok, err := tx.Key(ctx, zone.CertKey(zoneID, ref.ID))
		if err != nil || !ok {
			return err
		}
		var c zone.Certificate
		if err := json.Unmarshal(value, &c); err != nil {
			return fmt.Errorf("read certificate %s of the feed's state: %w", ref.ID, err)
		}
		if c.Pair == ref.Sum.String() {
			seq = at
		}
		return nil
	})
	return seq, err
}

// pointer is what the feed tells of a certificate: all but its key.
func pointer(c *store.Certificate) zone.Certificate {
	told := c.Certificate
	told.Pair, told.Sealed = c.Ref().Sum.String(), nil
	return told
}
