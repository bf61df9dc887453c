package identity

import (
	"errors"
	"fmt"
	"os"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/atomicfile"
)

func openMaster(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		key = feed.NewDataKey()
		err = atomicfile.Write(path, key, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	if len(key) != feed.DataKeyBytes {
		return nil, fmt.Errorf("master key: %s has %d bytes, want %d", path, len(key), feed.DataKeyBytes)
	}
	return key, nil
}

// Wrap encrypts a secret for the store under the master key (AES-256-GCM). aad
// says what it is ("data key of <certificate id>") and must be given again.
func (a *Authority) Wrap(aad string, secret []byte) ([]byte, error) {
	return feed.EncryptKey(a.master, masterContext+aad, secret)
}

// Unwrap undoes Wrap; it fails on another aad, another master key or any change.
func (a *Authority) Unwrap(aad string, wrapped []byte) ([]byte, error) {
	return feed.DecryptKey(a.master, masterContext+aad, wrapped)
}

const masterContext = "selvage at rest v1\x00"
