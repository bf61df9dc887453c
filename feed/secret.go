package feed

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// Secret derives 32 bytes that only this node knows and that outlive a restart;
// label says what for. An identity without a sealing key gets others each time.
func (id *Identity) Secret(label string) (secret [32]byte, err error) {
	if id.hpke == nil {
		_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
		return secret, nil
	}
	key, err := id.hpke.Bytes()
	if err != nil {
		return secret, fmt.Errorf("secret for %s: %w", label, err)
	}
	derived, err := hkdf.Key(sha256.New, key, nil, "selvage1 "+label, len(secret))
	if err != nil {
		return secret, fmt.Errorf("secret for %s: %w", label, err)
	}
	return [32]byte(derived), nil
}
