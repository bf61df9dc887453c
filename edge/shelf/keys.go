package shelf

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Keys are the private keys of certificates, as the copy has them for one node.
// Safe for concurrent use.
type Keys struct {
	Copy Reader
	Node string
	// Unseal opens a data key that was sealed to the node.
	Unseal func(certID string, sealed []byte) ([]byte, error)
	Log    *slog.Logger

	mu      sync.Mutex
	waiting map[string]string // certificate → zone that was compiled without its key; guarded by mu
}

// maxWaiting bounds the certificates whose keys are waited for; zones of others
// have them when they are compiled the next time.
const maxWaiting = 65_536

// Fill puts the private keys into a zone's certificates that were sealed to this
// node. A certificate whose key is not here yet is served when the key arrives.
func (k *Keys) Fill(spec *zone.Spec) error {
	for i := range spec.Certificates {
		c := &spec.Certificates[i]
		k.wait(c.ID, spec.ID) // before looking, so that none is missed that comes now
		sealed, _, ok, err := k.Copy.Get(zone.SealedKey(c.ID, k.Node))
		if err != nil {
			return fmt.Errorf("zone %s: read data key of certificate %s: %w", spec.Name, c.ID, err)
		}
		if !ok {
			k.Log.Warn("certificate waits for its key", "zone", spec.Name, "certificate", c.ID)
			continue
		}
		k.Came(c.ID)
		dataKey, err := k.Unseal(c.ID, sealed)
		if err != nil {
			return fmt.Errorf("zone %s: certificate %s: %w", spec.Name, c.ID, err)
		}
		if c.PrivateKey, err = feed.DecryptKey(dataKey, c.ID, c.Sealed); err != nil {
			return fmt.Errorf("zone %s: certificate %s: %w", spec.Name, c.ID, err)
		}
	}
	return nil
}

func (k *Keys) wait(cert, zoneID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waiting == nil {
		k.waiting = map[string]string{}
	}
	if len(k.waiting) < maxWaiting {
		k.waiting[cert] = zoneID
	}
}

// Came returns the zone that waits for a certificate's key, "" for none, and
// forgets it.
func (k *Keys) Came(cert string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := k.waiting[cert]
	delete(k.waiting, cert)
	return id
}
