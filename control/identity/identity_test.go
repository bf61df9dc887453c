package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/feed"
)

// memory keeps tokens and nodes as the store does.
type memory struct {
	mu    sync.Mutex
	joins map[string]time.Time
	nodes map[string]Node
}

func newMemory() *memory {
	return &memory{joins: map[string]time.Time{}, nodes: map[string]Node{}}
}

func (m *memory) PutJoin(_ context.Context, hash []byte, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.joins[string(hash)] = expires
	return nil
}

func (m *memory) TakeJoin(_ context.Context, hash []byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	expires, ok := m.joins[string(hash)]
	delete(m.joins, string(hash))
	return ok && time.Now().Before(expires), nil
}

func (m *memory) PutNode(_ context.Context, n Node) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes[n.ID] = n
	return nil
}

func (m *memory) Node(_ context.Context, id string) (Node, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.nodes[id]
	return n, ok, nil
}

func (m *memory) Nodes(context.Context) (list []Node, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		list = append(list, n)
	}
	return list, nil
}

func open(t *testing.T, dir string, m *memory) *Authority {
	t.Helper()
	a, err := Open(dir, m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// serve runs a feed server of the authority and returns a way to dial it.
func serve(t *testing.T, a *Authority) (*feed.Server, feed.DialFunc) {
	t.Helper()
	conns := make(listener)
	ctx, cancel := context.WithCancel(t.Context())
	server := feed.NewServer(feed.ServerConfig{Log: emptyLog{}, Identity: a.Control(), Known: a.Known, Enroll: a.Enroll})
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, conns) }()
	t.Cleanup(func() {
		cancel()
		close(conns)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return server, func(ctx context.Context, _ string) (net.Conn, error) {
		x, y := net.Pipe()
		select {
		case conns <- x:
			return y, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

type listener chan net.Conn

func (l listener) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

type emptyLog struct{}

func (emptyLog) Head() (uint64, [32]byte)                                { return 0, [32]byte{} }
func (emptyLog) Read(context.Context, uint64, int) ([]feed.Entry, error) { return nil, nil }
func (emptyLog) Changed() <-chan struct{}                                { return nil }
func (emptyLog) Snapshot(context.Context, string, func(feed.Cursor) error, func(string, []byte, uint64) error) error {
	return nil
}

func TestRelayTokenGivesTheRoleAndItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := open(t, t.TempDir(), m)
		_, dial := serve(t, a)
		for _, relay := range []bool{true, false} {
			token, err := a.NewJoinToken(t.Context(), 0, relay)
			if err != nil {
				t.Fatal(err)
			}
			id, err := feed.JoinVia(t.Context(), dial, "", token, t.TempDir(), "FRA", "edge-1")
			if err != nil {
				t.Fatal(err)
			}
			if id.Relay() != relay || m.nodes[id.NodeID].Relay != relay {
				t.Errorf("role relay %t, stored %t; want %t", id.Relay(), m.nodes[id.NodeID].Relay, relay)
			}
			if err := id.Renew(t.Context(), dial, ""); err != nil || id.Relay() != relay {
				t.Errorf("renewed: role relay %t, %v; want %t", id.Relay(), err, relay)
			}
			if _, err := feed.JoinVia(t.Context(), dial, "", token, t.TempDir(), "FRA", "x"); !feed.Refused(err, feed.ReasonToken) {
				t.Errorf("second use: %v, want the token refused", err)
			}
		}
	})
}

func TestJoinThroughTheFeedsListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := open(t, t.TempDir(), m)
		_, dial := serve(t, a)
		token, err := a.NewJoinToken(t.Context(), 0, false)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		id, err := feed.JoinVia(t.Context(), dial, "", token, dir, "FRA", "edge-1")
		if err != nil {
			t.Fatal(err)
		}
		node := m.nodes[id.NodeID]
		if node.Colo != "FRA" || node.Name != "edge-1" || !bytes.Equal(node.HPKE, id.HPKEPublic()) || node.Serial == "" {
			t.Errorf("stored %+v, want what joined", node)
		}
		if life := time.Until(id.Certificate().NotAfter); life != 90*24*time.Hour {
			t.Errorf("certificate for %s, want 90 days", life)
		}
		if _, err := feed.JoinVia(t.Context(), dial, "", token, t.TempDir(), "FRA", "x"); !feed.Refused(err, feed.ReasonToken) {
			t.Errorf("second use: %v, want the token refused", err)
		}
		old := node.Serial
		if err := id.Renew(t.Context(), dial, ""); err != nil {
			t.Fatal(err)
		}
		if got := m.nodes[id.NodeID]; got.Serial == old || got.Name != "edge-1" {
			t.Errorf("renewed %+v, want a new serial and the same name", got)
		}
		if err := a.Revoke(t.Context(), id.NodeID); err != nil {
			t.Fatal(err)
		}
		if err := id.Renew(t.Context(), dial, ""); !feed.Refused(err, feed.ReasonRevoked) {
			t.Errorf("renewal of a revoked node: %v", err)
		}
		if nodes, err := a.Nodes(t.Context()); err != nil || len(nodes) != 0 {
			t.Errorf("nodes %v, %v; want none left", nodes, err)
		}
	})
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, t.TempDir(), newMemory())
		_, dial := serve(t, a)
		token, err := a.NewJoinToken(t.Context(), time.Minute, false)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if _, err := feed.JoinVia(t.Context(), dial, "", token, t.TempDir(), "FRA", ""); !feed.Refused(err, feed.ReasonToken) {
			t.Errorf("%v, want the token refused", err)
		}
		if _, err := a.NewJoinToken(t.Context(), 365*24*time.Hour, false); err == nil {
			t.Error("a token for a year was made")
		}
	})
}

func TestEnrollNamesTheBadField(t *testing.T) {
	m := newMemory()
	a := open(t, t.TempDir(), m)
	for _, c := range []struct {
		req  feed.JoinRequest
		want string
	}{
		{feed.JoinRequest{Colo: "fra"}, "colo"},
		{feed.JoinRequest{Colo: "FRA", Name: strings.Repeat("n", 256)}, "name"},
		{feed.JoinRequest{Colo: "FRA", HPKE: []byte("x")}, "hpke"},
		{feed.JoinRequest{Colo: "FRA", HPKE: make([]byte, 32), CSR: []byte("x")}, "csr"},
	} {
		_, err := a.Enroll(t.Context(), c.req)
		if !feed.Refused(err, feed.ReasonRequest) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s named", c.req, err, c.want)
		}
	}
}

func TestAuthorityIsFoundAgain(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir, newMemory())
	wrapped, err := first.Wrap("data key of c1", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	second := open(t, dir, newMemory())
	if !first.node.cert.Equal(second.node.cert) || !first.site.cert.Equal(second.site.cert) {
		t.Error("another CA after a restart")
	}
	if !bytes.Equal(first.Control().Certificate().Raw, second.Control().Certificate().Raw) {
		t.Error("another control certificate after a restart")
	}
	if got, err := second.Unwrap("data key of c1", wrapped); err != nil || string(got) != "secret" {
		t.Errorf("%s, %v; want the secret", got, err)
	}
	if _, err := second.Unwrap("data key of c2", wrapped); err == nil {
		t.Error("unwraps as something else")
	}
	for _, name := range []string{fileNodeKey, fileSiteKey, fileControl, fileMaster} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want 0600", name, info, err)
		}
	}
}

// The keys that the world trusts are never made anew over damaged ones; the
// control plane's own certificate is.
func TestDamagedKeysAreNamed(t *testing.T) {
	for _, name := range []string{fileNodeKey, fileSiteKey, fileMaster, fileControl} {
		dir := t.TempDir()
		open(t, dir, newMemory())
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, text[:len(text)/2], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(dir, newMemory())
		if name == fileControl {
			if err != nil {
				t.Errorf("half of %s: %v, want a new one", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("half of %s: %v, want it named", name, err)
		}
	}
}

func TestControlCertificateIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := open(t, t.TempDir(), newMemory())
		before := a.Control().Certificate()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			a.Run(ctx, func(err error) { t.Error(err) })
			close(done)
		}()
		<-time.After(59 * 24 * time.Hour)
		if got := a.Control().Certificate(); got != before {
			t.Error("renewed too early")
		}
		<-time.After(2 * 24 * time.Hour)
		if got := a.Control().Certificate(); !got.NotAfter.After(before.NotAfter) {
			t.Errorf("until %s, want a newer one", got.NotAfter)
		}
		cancel()
		<-done
	})
}

func TestSiteCertificateIsTrustedByItsCA(t *testing.T) {
	a := open(t, t.TempDir(), newMemory())
	chain, der, err := a.IssueSite(SiteHosts("demo.test"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParsePKCS8PrivateKey(der); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(a.SiteCAPath())
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatalf("site CA: %v", err)
	}
	id, err := certificate(chain)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"demo.test": true, "www.demo.test": true, "a.b.demo.test": false, "other.test": false} {
		_, err := id.Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
		if (err == nil) != want {
			t.Errorf("%s: %v, want trusted %t", name, err, want)
		}
	}
	nodes := x509.NewCertPool()
	nodes.AddCert(a.node.cert)
	if _, err := id.Verify(x509.VerifyOptions{Roots: nodes}); err == nil {
		t.Error("a site's certificate is trusted as a node's")
	}
	for _, hosts := range [][]string{nil, {""}, {"UPPER.test"}, {"a..b"}, {"*.*.test"}, {"-a.test"}, {"a b"}, slices.Repeat([]string{"a.test"}, 101)} {
		if _, _, err := a.IssueSite(hosts); err == nil {
			t.Errorf("%q is issued", hosts)
		}
	}
}

func certificate(chain string) (*x509.Certificate, error) {
	var c tls.Certificate
	for block := range pemBlocks(chain) {
		c.Certificate = append(c.Certificate, block)
	}
	if len(c.Certificate) != 2 {
		return nil, errors.New("want leaf and CA in the chain")
	}
	return x509.ParseCertificate(c.Certificate[0])
}

func pemBlocks(text string) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for rest := []byte(text); ; {
			block, more := pem.Decode(rest)
			if block == nil || !yield(block.Bytes) {
				return
			}
			rest = more
		}
	}
}
