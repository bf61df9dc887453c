package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"strings"
	"time"
)

const (
	siteLife     = 90 * 24 * time.Hour
	maxSiteHosts = 100
)

// SiteHosts are the names of a zone's development certificate: the apex and
// everything one label below it.
func SiteHosts(apex string) []string { return []string{apex, "*." + apex} }

// IssueSite issues a certificate of the site CA for 90 days: for laptops and
// development, where no public CA is to be had. Hosts are lower-case names, "*."
// allowed in front. It returns the chain in PEM, leaf first, and the PKCS#8 key.
func (a *Authority) IssueSite(hosts []string) (chainPEM string, pkcs8DER []byte, err error) {
	if len(hosts) == 0 || len(hosts) > maxSiteHosts {
		return "", nil, fmt.Errorf("site certificate: %d hosts, want 1 to %d", len(hosts), maxSiteHosts)
	}
	for _, h := range hosts {
		if !validHost(h) {
			return "", nil, fmt.Errorf("site certificate: %q is no host name", h)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, fmt.Errorf("site certificate: %w", err)
	}
	now := time.Now()
	der, err := a.site.sign(&x509.Certificate{
		// No common name: it is limited to 64 bytes, a host is not.
		Subject:     pkix.Name{Organization: []string{"Selvage development"}},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(siteLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    hosts,
	}, key.Public())
	if err != nil {
		return "", nil, fmt.Errorf("site certificate: %w", err)
	}
	if pkcs8DER, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return "", nil, fmt.Errorf("site certificate: %w", err)
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return string(leaf) + string(a.site.pem), pkcs8DER, nil
}

// validHost is strict on purpose: what it lets through stands in a certificate.
func validHost(host string) bool {
	name := strings.TrimPrefix(host, "*.")
	if name == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, b := range []byte(label) {
			if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' && b != '_' {
				return false
			}
		}
	}
	return true
}
