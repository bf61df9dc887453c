package tlsterm

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/zone"
)

// Limits on one certificate, checked before it is parsed.
const (
	maxChainBytes = 64 << 10
	maxChainCerts = 10
	maxKeyBytes   = 16 << 10
	minRSABits    = 2048
)

// Plan is a zone's certificates and its terms, ready for handshakes. It is
// immutable; nil means that the zone has no certificate.
type Plan struct {
	// Missing are the certificates whose private key this node has not got: they
	// are judged like the others and not served.
	Missing []Lack

	zoneID     string
	minVersion uint16
	protocols  []string                   // offered in ALPN over TCP, best first
	http3      bool                       // offered over QUIC
	early      bool                       // TLS early data is taken
	exact      map[string][]*certificate  // by host
	wildcard   map[string][]*certificate  // by what follows "*."
	config     atomic.Pointer[tls.Config] // made from the above by Engine.config
	quic       atomic.Pointer[tls.Config] // likewise by Engine.quicConfigFor
}

// Lack is a certificate whose private key is not here.
type Lack struct {
	ID    string
	Pair  string   // zone.Certificate's
	Hosts []string // from its leaf, lower-case
}

type certificate struct {
	id      string
	tls     tls.Certificate
	managed bool
	rank    int // by kind of key: lower is preferred
	expires time.Time
}

// Compile checks a zone's certificates and their keys. A certificate without
// PrivateKey is checked as far as that goes and listed in Plan.Missing. Errors
// name the certificate and the field at fault.
func Compile(spec *zone.Spec) (*Plan, error) {
	if len(spec.Certificates) == 0 {
		return nil, nil
	}
	if len(spec.Certificates) > zone.MaxCertificates {
		return nil, fmt.Errorf("certificates: %d are more than the limit of %d", len(spec.Certificates), zone.MaxCertificates)
	}
	p := &Plan{
		zoneID: spec.ID, minVersion: tls.VersionTLS12, protocols: []string{"h2", "http/1.1"},
		exact: make(map[string][]*certificate), wildcard: make(map[string][]*certificate),
	}
	switch v := spec.Settings.Text("min_tls_version"); v {
	case "1.2":
	case "1.3":
		p.minVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("settings: min_tls_version: %q is not 1.2 or 1.3", v)
	}
	p.http3, p.early = spec.Settings.On("http3"), spec.Settings.On("0rtt")
	if !spec.Settings.On("http2") {
		p.protocols = p.protocols[1:]
	}
	for i := range spec.Certificates {
		if err := p.add(&spec.Certificates[i], spec.Name); err != nil {
			return nil, fmt.Errorf("certificate %s: %w", spec.Certificates[i].ID, err)
		}
	}
	for _, byHost := range []map[string][]*certificate{p.exact, p.wildcard} {
		for _, list := range byHost {
			slices.SortStableFunc(list, preference)
		}
	}
	return p, nil
}

// preference puts what the customer sent before what we made ourselves, then
// the cheaper key, then the certificate that is good for longer.
func preference(a, b *certificate) int {
	if a.managed != b.managed {
		if b.managed {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.rank, b.rank), b.expires.Compare(a.expires))
}

func (p *Plan) add(c *zone.Certificate, zoneName string) error {
	chain, leaf, err := parseChain(c.Chain)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	hosts, err := hostsOf(leaf, zoneName)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	rank, err := rankOf(leaf.PublicKey)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if len(c.PrivateKey) == 0 {
		p.Missing = append(p.Missing, Lack{ID: c.ID, Pair: c.Pair, Hosts: hosts})
		return nil
	}
	key, err := parseKey(c.PrivateKey, leaf)
	if err != nil {
		return fmt.Errorf("private_key: %w", err)
	}
	entry := &certificate{
		id: c.ID, managed: c.Managed, rank: rank, expires: leaf.NotAfter,
		tls: tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf},
	}
	for _, host := range hosts {
		if rest, ok := strings.CutPrefix(host, "*."); ok {
			p.wildcard[rest] = append(p.wildcard[rest], entry)
			continue
		}
		p.exact[host] = append(p.exact[host], entry)
	}
	return nil
}

// parseChain reads PEM, leaf first.
func parseChain(text string) (chain [][]byte, leaf *x509.Certificate, err error) {
	if len(text) > maxChainBytes {
		return nil, nil, fmt.Errorf("longer than %d bytes", maxChainBytes)
	}
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if strings.TrimSpace(string(rest)) != "" {
				return nil, nil, errors.New("holds something that is not PEM")
			}
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, nil, fmt.Errorf("holds a PEM block %.40q where only CERTIFICATE may stand", block.Type)
		}
		if len(chain) == maxChainCerts {
			return nil, nil, fmt.Errorf("chain has more than %d certificates", maxChainCerts)
		}
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("entry %d of the chain: %w", len(chain)+1, err)
		}
		if leaf == nil {
			leaf = parsed
		}
		chain = append(chain, block.Bytes)
	}
	if leaf == nil {
		return nil, nil, errors.New("holds no PEM CERTIFICATE")
	}
	return chain, leaf, nil
}

// hostsOf returns the DNS names a leaf is for, lower-case. At least one has to
// be of use to the zone.
func hostsOf(leaf *x509.Certificate, zoneName string) ([]string, error) {
	hosts := make([]string, 0, len(leaf.DNSNames))
	useful := false
	for _, host := range leaf.DNSNames {
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
		bare := strings.TrimPrefix(host, "*.")
		useful = useful || bare == zoneName || strings.HasSuffix(bare, "."+zoneName) ||
			(bare != host && parentOf(zoneName) == bare)
	}
	if len(hosts) == 0 {
		return nil, errors.New("names no host (subjectAltName has no DNS name)")
	}
	if !useful {
		return nil, fmt.Errorf("is for %.200q, and no name in zone %s is among them", hosts, zoneName)
	}
	return hosts, nil
}

func parentOf(host string) string {
	_, rest, _ := strings.Cut(host, ".")
	return rest
}

// rankOf orders kinds of keys by what a signature costs us, among those that
// browsers take: ECDSA before RSA; Ed25519, which few take, last.
func rankOf(public crypto.PublicKey) (int, error) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return 0, nil
	case *rsa.PublicKey:
		if key.N.BitLen() < minRSABits {
			return 0, fmt.Errorf("RSA key has %d bits, fewer than %d", key.N.BitLen(), minRSABits)
		}
		return 1, nil
	case ed25519.PublicKey:
		return 2, nil
	}
	return 0, errors.New("key is neither ECDSA, RSA nor Ed25519")
}

// parseKey reads PKCS#8 and makes sure that the key is the leaf's.
func parseKey(der []byte, leaf *x509.Certificate) (crypto.Signer, error) {
	if len(der) > maxKeyBytes {
		return nil, fmt.Errorf("longer than %d bytes", maxKeyBytes)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The cause could quote key material; that it failed is enough.
		return nil, errors.New("is not a PKCS#8 key")
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("cannot sign")
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return nil, errors.New("does not belong to the certificate")
	}
	return signer, nil
}

// Covers reports whether the plan can end TLS for a host, given in lower case.
func (p *Plan) Covers(host string) bool {
	return p != nil && (len(p.exact[host]) > 0 || len(p.wildcard[parentOf(host)]) > 0)
}

// lacks lists the missing certificates that a host could be served with.
func (p *Plan) lacks(host string) (all []Lack) {
	if p == nil {
		return nil
	}
	for _, l := range p.Missing {
		if slices.Contains(l.Hosts, host) || slices.Contains(l.Hosts, "*."+parentOf(host)) {
			all = append(all, l)
		}
	}
	return all
}

// choose returns the certificate for a handshake: an exact name before a
// wildcard; what the client supports and what has not expired before what it
// does not and has; then by preference. Nil means that there is none at all.
func (p *Plan) choose(host string, hello *tls.ClientHelloInfo, now time.Time) *certificate {
	exact, wildcard := p.exact[host], p.wildcard[parentOf(host)]
	if len(exact) == 1 && len(wildcard) == 0 {
		return exact[0]
	}
	var best *certificate
	bestScore := -1
	for _, list := range [...][]*certificate{exact, wildcard} {
		for _, c := range list {
			score := 0
			if hello.SupportsCertificate(&c.tls) == nil {
				score += 2
			}
			if now.Before(c.expires) {
				score++
			}
			if score > bestScore {
				best, bestScore = c, score
			}
		}
	}
	return best
}
