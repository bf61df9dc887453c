package feed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"fmt"
)

// A customer's private key is encrypted once, under a data key of its own, and
// the data key is sealed to each node. Rolling a node in or out touches 100
// bytes per certificate and never the private key.
//
// The sealing is HPKE (RFC 9180) base mode with DHKEM(X25519, HKDF-SHA256),
// HKDF-SHA256, AES-256-GCM. A hybrid with ML-KEM would make each sealed key 1.2
// KB, times nodes, times certificates; sealed keys travel inside TLS 1.3, whose
// key exchange is already hybrid. The first byte says which, so that both can
// stand side by side when that is decided otherwise.

const (
	// DataKeyBytes is the size of a data key.
	DataKeyBytes = 32

	sealedX25519 = 1
	aesGCM       = 1
	sealInfo     = "selvage data key v1\x00"
)

// NewDataKey returns a fresh data key.
func NewDataKey() []byte {
	key := make([]byte, DataKeyBytes)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key
}

// EncryptKey encrypts der under dataKey with AES-256-GCM and binds aad, the
// certificate's id, to it.
func EncryptKey(dataKey []byte, aad string, der []byte) ([]byte, error) {
	gcm, err := newGCM(dataKey)
	if err != nil {
		return nil, fmt.Errorf("encrypt key: %w", err)
	}
	return gcm.Seal([]byte{aesGCM}, nil, der, []byte(aad)), nil
}

// DecryptKey undoes EncryptKey; it fails on another key, aad or any change.
func DecryptKey(dataKey []byte, aad string, sealed []byte) ([]byte, error) {
	if len(sealed) < 1 || sealed[0] != aesGCM {
		return nil, fmt.Errorf("decrypt key: unknown form")
	}
	gcm, err := newGCM(dataKey)
	if err != nil {
		return nil, fmt.Errorf("decrypt key: %w", err)
	}
	der, err := gcm.Open(nil, nil, sealed[1:], []byte(aad))
	if err != nil {
		return nil, fmt.Errorf("decrypt key for %s: %w", aad, err)
	}
	return der, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != DataKeyBytes {
		return nil, fmt.Errorf("key of %d bytes, want %d", len(key), DataKeyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// SealFor seals a data key to the node whose HPKE public key is pub, bound to
// the certificate it is for.
func SealFor(pub []byte, certID string, dataKey []byte) ([]byte, error) {
	key, err := hpkeKEM().NewPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("seal data key of %s: node's public key: %w", certID, err)
	}
	sealed, err := hpke.Seal(key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(sealInfo+certID), dataKey)
	if err != nil {
		return nil, fmt.Errorf("seal data key of %s: %w", certID, err)
	}
	return append([]byte{sealedX25519}, sealed...), nil
}

func openFor(key hpke.PrivateKey, certID string, sealed []byte) ([]byte, error) {
	if len(sealed) < 1 || sealed[0] != sealedX25519 {
		return nil, fmt.Errorf("open data key of %s: unknown form", certID)
	}
	dataKey, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(sealInfo+certID), sealed[1:])
	if err != nil {
		return nil, fmt.Errorf("open data key of %s: %w", certID, err)
	}
	return dataKey, nil
}

func hpkeKEM() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }
