// Package identity is who is who: the private CA that makes a process a node,
// the tokens that let one join, the CA of development certificates for sites,
// and the master key under which secrets rest in the control store. Private
// keys stay in its folder, readable by its owner only.
package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/atomicfile"
)

// Node is a process that joined.
type Node struct {
	ID      string // 32 hex digits
	Colo    string
	Name    string
	HPKE    []byte // public key that data keys are sealed to
	Created time.Time
	Relay   bool `json:",omitempty"` // it may serve the feed to others
	Revoked bool
	Serial  string // of the newest certificate, hex
	// Member is its entry on the feed (feed.Member, JSON); nil before it first
	// announced itself.
	Member json.RawMessage `json:",omitempty"`
}

// Tokens keeps join tokens and nodes.
type Tokens interface {
	// PutJoin notes a token by the hash of its secret.
	PutJoin(ctx context.Context, hash []byte, expires time.Time) error
	// TakeJoin removes a token and reports whether it was there and had not
	// expired; of two takers one is told so.
	TakeJoin(ctx context.Context, hash []byte) (bool, error)
	// PutNode adds or replaces a node.
	PutNode(ctx context.Context, n Node) error
	// Node finds a node, revoked ones too.
	Node(ctx context.Context, id string) (Node, bool, error)
	// Nodes lists all nodes, revoked ones too.
	Nodes(ctx context.Context) ([]Node, error)
}

const (
	caLife   = 10 * 365 * 24 * time.Hour
	nodeLife = 90 * 24 * time.Hour
	// backdate allows for clocks that are behind.
	backdate = 5 * time.Minute
)

const (
	fileNodeCA  = "node-ca.pem" // certificate, public
	fileNodeKey = "node-ca.key" // key and certificate, 0600
	fileSiteCA  = "site-ca.pem" // certificate, public: curl --cacert
	fileSiteKey = "site-ca.key" // key and certificate, 0600
	fileControl = "control.pem" // the control plane's own, 0600
	fileMaster  = "master.key"  // 32 bytes, 0600
)

// Authority holds the keys. All methods may be called from many goroutines.
type Authority struct {
	dir     string
	tokens  Tokens
	node    *ca
	site    *ca
	master  []byte
	control *feed.Identity

	issuing sync.Mutex // one renewal of the control plane's own certificate at a time
}

// Open loads the authority in dir, making what is missing at the first start. A
// file that is there and damaged is an error, never replaced: the nodes out
// there trust it.
func Open(dir string, tokens Tokens) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	a := &Authority{dir: dir, tokens: tokens}
	var err error
	if a.node, err = openCA(dir, fileNodeKey, fileNodeCA, "Selvage node CA"); err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	if a.site, err = openCA(dir, fileSiteKey, fileSiteCA, "Selvage site CA (development)"); err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	if a.master, err = openMaster(filepath.Join(dir, fileMaster)); err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	if err := a.openControl(); err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	return a, nil
}

// Fingerprint is the same for all control planes that have the same
// authorities and master key, and tells nothing of them.
func (a *Authority) Fingerprint() string {
	h := sha256.New()
	for _, part := range [][]byte{a.node.cert.Raw, a.site.cert.Raw, a.master} {
		sum := sha256.Sum256(part)
		_, _ = h.Write(sum[:]) // never fails (hash.Hash)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// NodeCAPath and SiteCAPath are the CA certificates' files.
func (a *Authority) NodeCAPath() string { return filepath.Join(a.dir, fileNodeCA) }

// SiteCAPath is what visitors of development sites are to trust.
func (a *Authority) SiteCAPath() string { return filepath.Join(a.dir, fileSiteCA) }

// Control is the control plane's own identity, for the feed's listener.
func (a *Authority) Control() *feed.Identity { return a.control }

// openControl loads the control plane's certificate or issues one when it is
// missing, unreadable or of another CA: unlike a CA's it can be had again.
func (a *Authority) openControl() error {
	text, err := os.ReadFile(filepath.Join(a.dir, fileControl))
	if err == nil {
		if pair, err := tls.X509KeyPair(text, text); err == nil {
			if id, err := feed.NewIdentity(pair, a.node.pem, nil); err == nil {
				a.control = id
				_, err := a.RenewControl(time.Now())
				return err
			}
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	pair, err := a.issueControl(time.Now())
	if err != nil {
		return err
	}
	a.control, err = feed.NewIdentity(pair, a.node.pem, nil)
	return err
}

// RenewControl issues a new certificate for the control plane when two thirds
// of the present one's life have passed, and puts it in use; it reports whether
// it did. Call it about once an hour, or use Run.
func (a *Authority) RenewControl(now time.Time) (bool, error) {
	a.issuing.Lock()
	defer a.issuing.Unlock()
	if now.Before(a.control.RenewAt()) {
		return false, nil
	}
	pair, err := a.issueControl(now)
	if err != nil {
		return false, fmt.Errorf("renew control certificate: %w", err)
	}
	return true, a.control.Replace(pair)
}

// Run renews the control plane's certificate until ctx ends; report hears of
// failures, which are tried again after an hour.
func (a *Authority) Run(ctx context.Context, report func(error)) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := a.RenewControl(time.Now()); err != nil {
				report(err)
			}
		}
	}
}

func (a *Authority) issueControl(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := nodeTemplate(now, pkix.Name{CommonName: "selvage control"})
	template.URIs = append(template.URIs, feed.ControlURI())
	der, err := a.node.sign(template, key.Public())
	if err != nil {
		return tls.Certificate{}, err
	}
	// The CA goes along in the chain: who joins knows it by its pin only.
	pair := tls.Certificate{Certificate: [][]byte{der, a.node.cert.Raw}, PrivateKey: key}
	text, err := feed.EncodePair(pair)
	if err != nil {
		return tls.Certificate{}, err
	}
	return pair, atomicfile.Write(filepath.Join(a.dir, fileControl), text, 0o600)
}

// nodeTemplate is a certificate for both sides of node-to-node TLS.
func nodeTemplate(now time.Time, name pkix.Name) *x509.Certificate {
	return &x509.Certificate{
		Subject:     name,
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(nodeLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// newSerial is 127 random bits: positive, and within RFC 5280's 20 octets.
func newSerial() *big.Int {
	var p [16]byte
	_, _ = rand.Read(p[:]) // never fails (crypto/rand)
	p[0] &= 0x7f
	return new(big.Int).SetBytes(p[:])
}
