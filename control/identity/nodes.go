package identity

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/selvage-edge/selvage/feed"
)

const (
	// DefaultJoinLife is how long a join token may wait to be used.
	DefaultJoinLife = time.Hour
	maxJoinLife     = 30 * 24 * time.Hour
	maxNameBytes    = 255
)

// NewJoinToken returns the text of a token that lets one process join, once,
// within ttl (0: one hour; at most 30 days), as a relay as well where that is
// asked. Only its hash is stored.
func (a *Authority) NewJoinToken(ctx context.Context, ttl time.Duration, relay bool) (string, error) {
	if ttl == 0 {
		ttl = DefaultJoinLife
	}
	if ttl < 0 || ttl > maxJoinLife {
		return "", fmt.Errorf("join token: life of %s, want more than 0 and at most %s", ttl, maxJoinLife)
	}
	t := feed.NewToken(a.node.cert)
	if err := a.tokens.PutJoin(ctx, hashSecret(t.Secret[:], relay), time.Now().Add(ttl)); err != nil {
		return "", fmt.Errorf("join token: %w", err)
	}
	return t.String(), nil
}

// hashSecret is what is stored of a secret. What role it gives is part of it, so
// that a token is good for the role that it was made for and no other.
func hashSecret(secret []byte, relay bool) []byte {
	if relay {
		secret = append([]byte(feed.RoleRelay), secret...)
	}
	sum := sha256.Sum256(secret)
	return sum[:]
}

// Enroll issues a node's certificate against a join token, or anew against the
// node's present certificate. Its errors for the caller are feed.Refusals. The
// request is checked whole before the token is spent.
func (a *Authority) Enroll(ctx context.Context, req feed.JoinRequest) (feed.JoinReply, error) {
	pub, err := checkJoin(req)
	if err != nil {
		return feed.JoinReply{}, err
	}
	node, err := a.admit(ctx, req)
	if err != nil {
		return feed.JoinReply{}, err
	}
	name := pkix.Name{CommonName: "selvage node " + node.ID, OrganizationalUnit: []string{node.Colo}}
	if node.Relay {
		name.Organization = []string{feed.RoleRelay}
	}
	template := nodeTemplate(time.Now(), name)
	template.URIs = append(template.URIs, feed.NodeURI(node.ID))
	der, err := a.node.sign(template, pub)
	if err != nil {
		return feed.JoinReply{}, fmt.Errorf("enroll %s: %w", node.ID, err)
	}
	node.HPKE, node.Serial = req.HPKE, hex.EncodeToString(template.SerialNumber.Bytes())
	if err := a.tokens.PutNode(ctx, node); err != nil {
		return feed.JoinReply{}, fmt.Errorf("enroll %s: %w", node.ID, err)
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return feed.JoinReply{NodeID: node.ID, Chain: string(leaf) + string(a.node.pem), CA: string(a.node.pem)}, nil
}

// admit finds the node that renews, or spends the token for a new one.
func (a *Authority) admit(ctx context.Context, req feed.JoinRequest) (Node, error) {
	if req.Renew != "" {
		node, err := a.find(ctx, req.Renew)
		node.Colo = req.Colo
		return node, err
	}
	ok, err := a.tokens.TakeJoin(ctx, hashSecret(req.Secret, false))
	relay := false
	if err == nil && !ok && len(req.Secret) == len(feed.Token{}.Secret) {
		ok, err = a.tokens.TakeJoin(ctx, hashSecret(req.Secret, true))
		relay = ok
	}
	if err != nil {
		return Node{}, fmt.Errorf("enroll: %w", err)
	}
	if !ok {
		return Node{}, feed.Refuse(feed.ReasonToken, "make a new one with \"selvage control token --join\"")
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return Node{ID: hex.EncodeToString(id[:]), Colo: req.Colo, Name: req.Name, Relay: relay, Created: time.Now().UTC()}, nil
}

func checkJoin(req feed.JoinRequest) (*ecdsa.PublicKey, error) {
	if !feed.ValidColo(req.Colo) {
		return nil, feed.Refuse(feed.ReasonRequest, "colo: want three capital letters")
	}
	if len(req.Name) > maxNameBytes || !utf8.ValidString(req.Name) {
		return nil, feed.Refuse(feed.ReasonRequest, "name: want at most %d bytes of UTF-8", maxNameBytes)
	}
	if _, err := ecdh.X25519().NewPublicKey(req.HPKE); err != nil {
		return nil, feed.Refuse(feed.ReasonRequest, "hpke: not an X25519 public key")
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil || csr.CheckSignature() != nil {
		return nil, feed.Refuse(feed.ReasonRequest, "csr: not a signed PKCS#10 request")
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, feed.Refuse(feed.ReasonRequest, "csr: want an ECDSA P-256 key")
	}
	return pub, nil
}

// Known admits a node that joined and was not revoked; its errors are
// feed.Refusals where the node is at fault. It fits feed.ServerConfig.Known.
func (a *Authority) Known(ctx context.Context, nodeID string) error {
	_, err := a.find(ctx, nodeID)
	return err
}

func (a *Authority) find(ctx context.Context, nodeID string) (Node, error) {
	node, ok, err := a.tokens.Node(ctx, nodeID)
	if err != nil {
		return Node{}, fmt.Errorf("find node %s: %w", nodeID, err)
	}
	if !ok {
		return Node{}, feed.Refuse(feed.ReasonUnknown, "%s", nodeID)
	}
	if node.Revoked {
		return Node{}, feed.Refuse(feed.ReasonRevoked, "%s", nodeID)
	}
	return node, nil
}

// Revoke shuts a node out for good; the caller drops its connection
// (feed.Server.Drop) and stops sealing keys to it.
func (a *Authority) Revoke(ctx context.Context, nodeID string) error {
	node, err := a.find(ctx, nodeID)
	if feed.Refused(err, feed.ReasonRevoked) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	node.Revoked = true
	if err := a.tokens.PutNode(ctx, node); err != nil {
		return fmt.Errorf("revoke %s: %w", nodeID, err)
	}
	return nil
}

// Nodes lists the nodes that may connect: those that keys are sealed to.
func (a *Authority) Nodes(ctx context.Context) ([]Node, error) {
	nodes, err := a.tokens.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return slices.DeleteFunc(nodes, func(n Node) bool { return n.Revoked }), nil
}
