package feed

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Token is a join token: it lets one process become a node, once, and says by
// which CA the control plane must be signed.
type Token struct {
	Pin    [32]byte // SHA-256 of the CA's SubjectPublicKeyInfo
	Secret [32]byte
}

const tokenPrefix = "SJ1"

// String is the form that people copy: SJ1.<pin>.<secret>, both base64url.
func (t Token) String() string {
	return tokenPrefix + "." + base64.RawURLEncoding.EncodeToString(t.Pin[:]) + "." + base64.RawURLEncoding.EncodeToString(t.Secret[:])
}

// NewToken returns a token with a fresh secret for the CA.
func NewToken(ca *x509.Certificate) Token {
	t := Token{Pin: Pin(ca)}
	_, _ = rand.Read(t.Secret[:]) // never fails (crypto/rand)
	return t
}

// Pin is the fingerprint of a CA in a join token.
func Pin(ca *x509.Certificate) [32]byte { return sha256.Sum256(ca.RawSubjectPublicKeyInfo) }

// ParseToken reads the form that String writes, saying which part is wrong.
func ParseToken(text string) (Token, error) {
	var t Token
	parts := strings.Split(strings.TrimSpace(text), ".")
	if parts[0] != tokenPrefix {
		return t, fmt.Errorf("join token: must start with %q; make one with \"selvage control token --join\"", tokenPrefix+".")
	}
	if len(parts) != 3 {
		return t, fmt.Errorf("join token: has %d parts, want 3; was it copied whole?", len(parts))
	}
	for i, dst := range [][]byte{t.Pin[:], t.Secret[:]} {
		name := [...]string{"CA fingerprint", "secret"}[i]
		p, err := base64.RawURLEncoding.Strict().DecodeString(parts[i+1])
		if err != nil {
			return t, fmt.Errorf("join token: %s is not base64url; was it copied whole?", name)
		}
		if len(p) != len(dst) {
			return t, fmt.Errorf("join token: %s has %d bytes, want %d; was it copied whole?", name, len(p), len(dst))
		}
		copy(dst, p)
	}
	if t.String() != strings.TrimSpace(text) {
		return t, fmt.Errorf("join token: has characters that do not belong; was it copied whole?")
	}
	return t, nil
}

// JoinRequest asks for a node's certificate.
type JoinRequest struct {
	// Secret is the join token's; empty when a node renews.
	Secret []byte `json:"secret,omitempty"`
	CSR    []byte `json:"csr"`  // PKCS#10 DER, ECDSA P-256
	HPKE   []byte `json:"hpke"` // public key that data keys are sealed to
	Colo   string `json:"colo"`
	Name   string `json:"name"` // free text for lists, the host's name; ≤ 255 bytes
	// Renew is the node that asks again, by the certificate it showed; set by
	// the server, never read from the network.
	Renew string `json:"-"`
}

// JoinReply is a node's certificate.
type JoinReply struct {
	NodeID string `json:"node_id"`
	Chain  string `json:"chain"` // PEM, leaf first
	CA     string `json:"ca"`    // PEM
}

const (
	maxJoinBytes = 16 << 10
	joinTimeout  = 10 * time.Second
)

// DialFunc connects to a parent. The zero value means TCP with a 5 s limit.
type DialFunc func(ctx context.Context, addr string) (net.Conn, error)

func (d DialFunc) dial(ctx context.Context, addr string) (net.Conn, error) {
	if d != nil {
		return d(ctx, addr)
	}
	dialer := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return dialer.DialContext(ctx, "tcp", addr)
}

// Join makes this process a node: it spends the token at the control plane's
// feed address and writes key, certificate, CA and sealing key into dir.
func Join(ctx context.Context, addr, token, dir, colo, name string) (*Identity, error) {
	return JoinVia(ctx, nil, addr, token, dir, colo, name)
}

// JoinVia is Join over a dialer of the caller's.
func JoinVia(ctx context.Context, dial DialFunc, addr, token, dir, colo, name string) (*Identity, error) {
	t, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	if !ValidColo(colo) {
		return nil, fmt.Errorf("join: colo %q: want three capital letters", colo)
	}
	sealing, err := hpkeKEM().GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("join: sealing key: %w", err)
	}
	sealingBytes, err := sealing.Bytes()
	if err != nil {
		return nil, fmt.Errorf("join: sealing key: %w", err)
	}
	config := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{ALPNJoin},
		InsecureSkipVerify: true, // the CA is known by its pin only; see VerifyConnection
		VerifyConnection:   func(cs tls.ConnectionState) error { return verifyPinned(cs, t.Pin) },
	}
	req := JoinRequest{Secret: t.Secret[:], HPKE: sealing.PublicKey().Bytes(), Colo: colo, Name: name}
	pair, caPEM, err := request(ctx, dial, addr, config, req)
	if err != nil {
		return nil, fmt.Errorf("join at %s: %w", addr, err)
	}
	if err := checkPin(caPEM, t.Pin); err != nil {
		return nil, fmt.Errorf("join at %s: %w", addr, err)
	}
	id, err := NewIdentity(pair, caPEM, sealingBytes)
	if err != nil {
		return nil, fmt.Errorf("join at %s: %w", addr, err)
	}
	if err := id.save(dir, sealingBytes); err != nil {
		return nil, fmt.Errorf("join at %s: %w", addr, err)
	}
	return id, nil
}

// Renew asks the control plane at addr for a new certificate, with a new key,
// by the one in use, and puts it in use and on disk.
func (id *Identity) Renew(ctx context.Context, dial DialFunc, addr string) error {
	req := JoinRequest{HPKE: id.HPKEPublic(), Colo: id.Colo}
	config := id.ClientTLS(ALPNJoin)
	ours := config.VerifyConnection
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := ours(cs); err != nil {
			return err
		}
		return mustControl(cs)
	}
	pair, _, err := request(ctx, dial, addr, config, req)
	if err != nil {
		return fmt.Errorf("renew certificate at %s: %w", addr, err)
	}
	if err := id.Replace(pair); err != nil {
		return fmt.Errorf("renew certificate at %s: %w", addr, err)
	}
	if id.dir == "" {
		return nil
	}
	return id.savePair(id.dir)
}

// request makes a key, sends req with its certificate request and reads the
// answer.
func request(ctx context.Context, dial DialFunc, addr string, config *tls.Config, req JoinRequest) (tls.Certificate, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	if req.CSR, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key); err != nil {
		return tls.Certificate{}, nil, err
	}
	raw, err := dial.dial(ctx, addr)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	defer func() { _ = raw.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return tls.Certificate{}, nil, err
	}
	body, err := json.Marshal(req)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	if err := writeFrame(conn, frameJoin, body); err != nil {
		return tls.Certificate{}, nil, err
	}
	kind, answer, err := readFrame(conn, nil, maxJoinBytes*4)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	if kind == frameError {
		return tls.Certificate{}, nil, decodeRefusal(answer)
	}
	var reply JoinReply
	if err := json.Unmarshal(answer, &reply); err != nil || kind != frameJoined {
		return tls.Certificate{}, nil, fmt.Errorf("answer is no certificate: %w", errors.Join(err, errFrame))
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pair, err := tls.X509KeyPair([]byte(reply.Chain), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return pair, []byte(reply.CA), err
}

func verifyPinned(cs tls.ConnectionState, pin [32]byte) error {
	roots := x509.NewCertPool()
	found := false
	for _, c := range cs.PeerCertificates {
		if got := Pin(c); c.IsCA && bytes.Equal(got[:], pin[:]) {
			roots.AddCert(c)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("feed: the other side is not signed by the CA that the join token names")
	}
	if err := verifyServer(cs, roots); err != nil {
		return err
	}
	return mustControl(cs)
}

// ErrNotControl means that who answers is a node: it certifies nobody.
var ErrNotControl = errors.New("feed: the other side is a node, not the control plane")

func mustControl(cs tls.ConnectionState) error {
	p, err := PeerOf(cs)
	if err != nil {
		return err
	}
	if !p.Control {
		return fmt.Errorf("%w: %s", ErrNotControl, p.Node)
	}
	return nil
}

func checkPin(caPEM []byte, pin [32]byte) error {
	block, _ := pem.Decode(caPEM)
	if block == nil {
		return fmt.Errorf("answer holds no CA")
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("CA in the answer: %w", err)
	}
	if Pin(ca) != pin {
		return fmt.Errorf("CA in the answer is not the one that the join token names")
	}
	return nil
}
