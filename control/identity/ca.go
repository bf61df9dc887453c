package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/atomicfile"
)

// ca is one certificate authority; never changed after openCA.
type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte // of cert
}

// openCA loads a CA, or makes it at the first start. The key's file holds the
// certificate too, so that the two cannot come apart; the public file is
// written from it.
func openCA(dir, keyFile, certFile, name string) (*ca, error) {
	path := filepath.Join(dir, keyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if text, err = newCA(name); err == nil {
			err = atomicfile.Write(path, text, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", name, path, err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%s: %s holds no CA", name, path)
	}
	c := &ca{cert: pair.Leaf, key: key}
	c.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
	if err := atomicfile.Write(filepath.Join(dir, certFile), c.pem, 0o644); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

func newCA(name string) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Selvage"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return feed.EncodePair(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
}

// sign issues a certificate under the CA, not longer than the CA lives.
func (c *ca) sign(template *x509.Certificate, pub crypto.PublicKey) ([]byte, error) {
	template.SerialNumber = newSerial()
	if template.NotAfter.After(c.cert.NotAfter) {
		template.NotAfter = c.cert.NotAfter
	}
	if !template.NotAfter.After(time.Now()) {
		return nil, fmt.Errorf("%s expired at %s", c.cert.Subject.CommonName, c.cert.NotAfter.Format(time.DateOnly))
	}
	return x509.CreateCertificate(rand.Reader, template, c.cert, pub, c.key)
}
