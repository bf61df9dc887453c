package feed

import (
	"bytes"
	"crypto/hpke"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/internal/atomicfile"
)

// Protocol names (ALPN) on the feed's listener.
const (
	ALPNFeed  = "selvage-feed/2"
	ALPNJoin  = "selvage-join/1"
	ALPNFetch = "selvage-fetch/1"
	alpnFeed1 = "selvage-feed/1" // taken to be told that it is not spoken any more
)

// Files of an identity's folder. node.json is written last: where it stands,
// the others do.
const (
	fileNode = "node.json" // id, colo
	filePair = "node.pem"  // private key and chain in one file, so that a renewal is one rename; 0600
	fileCA   = "ca.pem"
	fileHPKE = "hpke.key" // raw, 0600
)

// Identity is what makes a process a node: its certificate of the private CA,
// and the key that customers' data keys are sealed to. Its certificate may be
// replaced while it is in use.
type Identity struct {
	NodeID string // 32 hex digits; "control" for the control plane
	Colo   string // data center code; "" for the control plane

	relay atomic.Bool
	roots *x509.CertPool
	caPEM []byte
	hpke  hpke.PrivateKey // nil for the control plane
	pair  atomic.Pointer[tls.Certificate]
	dir   string // "" when it lives in memory only
}

// ErrNoIdentity means that the folder holds none yet: join first.
var ErrNoIdentity = errors.New("feed: no identity here; join first")

// NewIdentity makes an identity of its parts: the certificate with its chain
// (leaf first) and key, the CA in PEM, and the raw HPKE private key, nil when
// nothing is sealed to it. Name and colo are read from the certificate.
func NewIdentity(pair tls.Certificate, caPEM, hpkeKey []byte) (*Identity, error) {
	id := &Identity{roots: x509.NewCertPool(), caPEM: caPEM}
	if !id.roots.AppendCertsFromPEM(caPEM) {
		return nil, fmt.Errorf("identity: the CA file holds no certificate")
	}
	if hpkeKey != nil {
		key, err := hpkeKEM().NewPrivateKey(hpkeKey)
		if err != nil {
			return nil, fmt.Errorf("identity: sealing key: %w", err)
		}
		id.hpke = key
	}
	peer, err := id.setPair(pair)
	if err != nil {
		return nil, err
	}
	id.NodeID, id.Colo = peer.Node, peer.Colo
	return id, nil
}

// setPair checks that the certificate is a node's of our CA before it is used:
// a node that loads a damaged file must say so, not fail in each handshake.
func (id *Identity) setPair(pair tls.Certificate) (Peer, error) {
	if len(pair.Certificate) == 0 {
		return Peer{}, fmt.Errorf("identity: no certificate")
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return Peer{}, fmt.Errorf("identity: certificate: %w", err)
	}
	peer, err := peerOf(leaf)
	if err != nil {
		return Peer{}, fmt.Errorf("identity: %w", err)
	}
	if id.NodeID != "" && id.NodeID != peer.Node {
		return Peer{}, fmt.Errorf("identity: certificate is of %s, this is %s", peer.Node, id.NodeID)
	}
	opts := x509.VerifyOptions{Roots: id.roots, CurrentTime: leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := leaf.Verify(opts); err != nil {
		return Peer{}, fmt.Errorf("identity: certificate is not of our CA: %w", err)
	}
	pair.Leaf = leaf
	id.relay.Store(peer.Relay)
	id.pair.Store(&pair)
	return peer, nil
}

// Replace puts a renewed certificate of the same node in use: new handshakes
// have it, connections that stand are left alone.
func (id *Identity) Replace(pair tls.Certificate) error {
	_, err := id.setPair(pair)
	return err
}

// LoadIdentity reads what Join wrote. ErrNoIdentity when there is nothing.
func LoadIdentity(dir string) (*Identity, error) {
	text, err := os.ReadFile(filepath.Join(dir, fileNode))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w (%s)", ErrNoIdentity, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	var node nodeFile
	if err := json.Unmarshal(text, &node); err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", fileNode, err)
	}
	var files [3][]byte
	for i, name := range []string{filePair, fileCA, fileHPKE} {
		if files[i], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("load identity: %w", err)
		}
	}
	pair, err := tls.X509KeyPair(files[0], files[0])
	if err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", filePair, err)
	}
	id, err := NewIdentity(pair, files[1], files[2])
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	if id.NodeID != node.ID {
		return nil, fmt.Errorf("load identity: certificate is of %s, %s names %s", id.NodeID, fileNode, node.ID)
	}
	id.dir = dir
	return id, nil
}

type nodeFile struct {
	ID   string `json:"id"`
	Colo string `json:"colo"`
}

// save writes a new identity; see the order of the files above.
func (id *Identity) save(dir string, hpkeKey []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	node, err := json.Marshal(nodeFile{ID: id.NodeID, Colo: id.Colo})
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(dir, fileHPKE), hpkeKey, 0o600); err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, fileCA), id.caPEM, 0o644); err != nil {
		return err
	}
	if err := id.savePair(dir); err != nil {
		return err
	}
	id.dir = dir
	return atomicfile.Write(filepath.Join(dir, fileNode), append(node, '\n'), 0o644)
}

func (id *Identity) savePair(dir string) error {
	text, err := EncodePair(*id.pair.Load())
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return atomicfile.Write(filepath.Join(dir, filePair), text, 0o600)
}

// EncodePair writes a key and its chain as one PEM text, which
// tls.X509KeyPair reads when given twice.
func EncodePair(pair tls.Certificate) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for _, c := range pair.Certificate {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c}))
	}
	return b.Bytes(), nil
}

// Certificate returns the leaf in use.
func (id *Identity) Certificate() *x509.Certificate { return id.pair.Load().Leaf }

// RenewAt is when two thirds of the certificate's life have passed.
func (id *Identity) RenewAt() time.Time { return RenewAt(id.Certificate()) }

// RenewAt is when two thirds of a certificate's life have passed.
func RenewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}

// Relay reports whether the certificate lets this node serve the feed to others.
func (id *Identity) Relay() bool { return id.relay.Load() }

// HPKEPublic is the key that SealFor takes; nil when nothing can be sealed to
// this identity.
func (id *Identity) HPKEPublic() []byte {
	if id.hpke == nil {
		return nil
	}
	return id.hpke.PublicKey().Bytes()
}

// OpenKey opens a data key that SealFor sealed to this node for the
// certificate.
func (id *Identity) OpenKey(certID string, sealed []byte) ([]byte, error) {
	if id.hpke == nil {
		return nil, fmt.Errorf("open data key of %s: %s has no sealing key", certID, id.NodeID)
	}
	return openFor(id.hpke, certID, sealed)
}

// ServerTLS is the configuration of a listener that admits nodes of our CA
// only (mutual, TLS 1.3, no resumption, so that each handshake is judged).
func (id *Identity) ServerTLS(alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             alpn,
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.pair.Load(), nil },
		ClientCAs:              id.roots,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := PeerOf(cs)
			return err
		},
	}
}

// ClientTLS is the configuration for calling a node of our CA. Nodes have no
// DNS names: who answers is judged by PeerOf, not by the address called.
func (id *Identity) ClientTLS(alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		NextProtos:           alpn,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.pair.Load(), nil },
		InsecureSkipVerify:   true, // the name only; VerifyConnection verifies the chain
		VerifyConnection: func(cs tls.ConnectionState) error {
			return verifyServer(cs, id.roots)
		},
	}
}

func verifyServer(cs tls.ConnectionState, roots *x509.CertPool) error {
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("feed: no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if _, err := cs.PeerCertificates[0].Verify(opts); err != nil {
		return fmt.Errorf("feed: certificate is not of our CA: %w", err)
	}
	_, err := PeerOf(cs)
	return err
}

// Peer is who is at the other end of a connection, by its certificate.
type Peer struct {
	Node    string // 32 hex digits, or "control"
	Colo    string
	Control bool
	Relay   bool // it may serve the feed to others
}

// RoleRelay, as an organization of a certificate's subject, lets a node serve
// the feed to others and speak for those that it serves.
const RoleRelay = "relay"

// PeerOf reads the other side's name from its certificate, which the handshake
// has verified already.
func PeerOf(cs tls.ConnectionState) (Peer, error) {
	if len(cs.PeerCertificates) == 0 {
		return Peer{}, fmt.Errorf("feed: the other side showed no certificate")
	}
	return peerOf(cs.PeerCertificates[0])
}

func peerOf(leaf *x509.Certificate) (Peer, error) {
	if len(leaf.URIs) != 1 {
		return Peer{}, fmt.Errorf("feed: certificate names %d nodes, want one", len(leaf.URIs))
	}
	name, ok := strings.CutPrefix(leaf.URIs[0].String(), "selvage://")
	if !ok {
		return Peer{}, fmt.Errorf("feed: certificate is of %q, not of a node", leaf.URIs[0])
	}
	if name == controlName {
		return Peer{Node: controlName, Control: true}, nil
	}
	node, ok := strings.CutPrefix(name, "node/")
	if !ok || !ValidNodeID(node) {
		return Peer{}, fmt.Errorf("feed: certificate is of %q, not of a node", leaf.URIs[0])
	}
	p := Peer{Node: node, Relay: slices.Contains(leaf.Subject.Organization, RoleRelay)}
	if units := leaf.Subject.OrganizationalUnit; len(units) == 1 {
		p.Colo = units[0]
	}
	return p, nil
}

const controlName = "control"

// ControlURI and NodeURI are the names (URI SAN) in certificates of our CA.
func ControlURI() *url.URL { return &url.URL{Scheme: "selvage", Host: controlName} }

// NodeURI is the name of a node's certificate.
func NodeURI(nodeID string) *url.URL {
	return &url.URL{Scheme: "selvage", Host: "node", Path: "/" + nodeID}
}

// ValidNodeID reports whether s is 32 lower-case hex digits.
func ValidNodeID(s string) bool {
	return len(s) == 32 && !slices.ContainsFunc([]byte(s), func(b byte) bool {
		return (b < '0' || b > '9') && (b < 'a' || b > 'f')
	})
}

// ValidColo reports whether s is a data center code: three capital letters.
func ValidColo(s string) bool {
	return len(s) == 3 && !slices.ContainsFunc([]byte(s), func(b byte) bool { return b < 'A' || b > 'Z' })
}
