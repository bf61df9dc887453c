package feed

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/selvage-edge/selvage/internal/pipes"
)

// testCA signs nodes as control/identity does.
type testCA struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	ca := &testCA{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(1000 * time.Hour * 24),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return ca
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// relaySuffix behind a colo asks for a certificate with the relay's role.
const relaySuffix = " relay"

// sign issues a certificate: for "control", or a node with that id.
func (ca *testCA) sign(name, colo string, pub any) []byte {
	ca.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if name == "control" {
		template.URIs = append(template.URIs, ControlURI())
	} else {
		template.URIs = append(template.URIs, NodeURI(name))
		template.Subject.OrganizationalUnit = []string{strings.TrimSuffix(colo, relaySuffix)}
		if strings.HasSuffix(colo, relaySuffix) {
			template.Subject.Organization = []string{RoleRelay}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, pub, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return der
}

func (ca *testCA) identity(name, colo string) *Identity {
	ca.t.Helper()
	key := newKey(ca.t)
	sealing, err := hpkeKEM().GenerateKey()
	if err != nil {
		ca.t.Fatal(err)
	}
	raw, err := sealing.Bytes()
	if err != nil {
		ca.t.Fatal(err)
	}
	pair := tls.Certificate{Certificate: [][]byte{ca.sign(name, colo, key.Public()), ca.cert.Raw}, PrivateKey: key}
	id, err := NewIdentity(pair, ca.pem, raw)
	if err != nil {
		ca.t.Fatal(err)
	}
	return id
}

func nodeID(n int) string { return hex.EncodeToString([]byte(fmt.Sprintf("node-%011d", n))) }

// memLog is a Log in memory, with faults to order.
type memLog struct {
	mu      sync.Mutex
	entries []Entry // guarded by mu
	floor   uint64  // entries up to it are gone; guarded by mu
	changed chan struct{}
	reads   int
	broken  error // of the next reads; guarded by mu
}

func newMemLog() *memLog { return &memLog{changed: make(chan struct{})} }

func (l *memLog) put(changes ...Change) Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.tell()
	return l.append(changes)
}

// setTogether appends entries of which a reader sees all or none.
func (l *memLog) setTogether(n int, key, value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.tell()
	for range n {
		l.append([]Change{{Op: Set, Key: key, Value: []byte(value)}})
	}
}

// tell is called with mu held.
func (l *memLog) tell() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// append is called with mu held.
func (l *memLog) append(changes []Change) Entry {
	var prev [32]byte
	if n := len(l.entries); n > 0 {
		prev = l.entries[n-1].Hash
	}
	e := Seal(prev, uint64(len(l.entries))+1, time.Now(), changes)
	l.entries = append(l.entries, e)
	return e
}

func (l *memLog) set(key, value string) Entry {
	return l.put(Change{Op: Set, Key: key, Value: []byte(value)})
}

func (l *memLog) compact(floor uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.floor = floor
}

func (l *memLog) Head() (uint64, [32]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) == 0 {
		return 0, [32]byte{}
	}
	e := l.entries[len(l.entries)-1]
	return e.Seq, e.Hash
}

func (l *memLog) Read(_ context.Context, after uint64, maxBytes int) ([]Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if l.broken != nil {
		return nil, l.broken
	}
	if after < l.floor {
		return nil, ErrCompacted
	}
	var out []Entry
	for size := 0; after < uint64(len(l.entries)) && (len(out) == 0 || size < maxBytes); after++ {
		out = append(out, l.entries[after])
		size += l.entries[after].Size()
	}
	return out, nil
}

func (l *memLog) Snapshot(_ context.Context, after string, begin func(Cursor) error, yield func(string, []byte, uint64) error) error {
	l.mu.Lock()
	entries := slices.Clone(l.entries)
	l.mu.Unlock()
	rows := map[string]row{}
	for _, e := range entries {
		for _, c := range e.Changes {
			switch c.Op {
			case Set:
				rows[c.Key] = row{key: c.Key, value: c.Value, seq: e.Seq}
			case Delete:
				delete(rows, c.Key)
			}
		}
	}
	last := entries[len(entries)-1]
	if err := begin(Cursor{last.Seq, last.Hash}); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if key <= after {
			continue
		}
		if err := yield(key, rows[key].value, rows[key].seq); err != nil {
			return err
		}
	}
	return nil
}

func (l *memLog) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// world is a CA, a log and a server of it, running until the test ends.
type world struct {
	t      *testing.T
	ca     *testCA
	log    *memLog
	server *Server
	ln     *pipes.Listener
	stop   func()

	mu    sync.Mutex
	acks  []string       // guarded by mu
	nodes map[string]int // connections of each node; guarded by mu
}

func (w *world) dial(ctx context.Context, _ string) (net.Conn, error) { return w.ln.Dial(ctx) }

func newWorld(t *testing.T, change func(*ServerConfig)) *world {
	w := &world{t: t, ca: newTestCA(t), log: newMemLog(), nodes: map[string]int{}}
	w.start(change)
	return w
}

func (w *world) start(change func(*ServerConfig)) {
	cfg := ServerConfig{Log: w.log, Identity: w.ca.identity("control", ""),
		OnAck: func(n NodeInfo, seq uint64, rejected string) {
			if rejected == "" {
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.acks = append(w.acks, fmt.Sprintf("%s %d %s", n.Colo, seq, rejected))
		},
		Connected: func(n NodeInfo) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.nodes[n.Node]++
		},
	}
	if change != nil {
		change(&cfg)
	}
	w.server, w.ln = NewServer(cfg), pipes.New()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(ctx, w.ln) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
}

// edge is a subscriber with what it heard.
type edge struct {
	*Subscriber
	t    *testing.T
	copy *Copy
	stop func()

	mu        sync.Mutex
	seqs      []uint64 // guarded by mu
	snapshots []uint64 // guarded by mu
}

func memCopy(t testing.TB, fs vfs.FS) *Copy {
	t.Helper()
	c, err := OpenCopy("copy", CopyOptions{FS: fs, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *world) edge(n int, change func(*SubscriberConfig)) *edge {
	return w.edgeOn(n, memCopy(w.t, vfs.NewMem()), change)
}

// edgeOn runs a subscriber on a copy, which it closes at the end.
func (w *world) edgeOn(n int, c *Copy, change func(*SubscriberConfig)) *edge {
	w.t.Helper()
	e := &edge{t: w.t, copy: c}
	cfg := SubscriberConfig{
		Parents: []string{"parent"}, Dial: w.dial, Identity: w.ca.identity(nodeID(n), "FRA"), Copy: c,
		OnEntry: func(x *Entry) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.seqs = append(e.seqs, x.Seq)
			return nil
		},
		OnSnapshot: func(seq uint64) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.snapshots = append(e.snapshots, seq)
			return nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	e.Subscriber = NewSubscriber(cfg)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
		if err := c.Close(); err != nil {
			w.t.Errorf("close copy: %v", err)
		}
	})
	w.t.Cleanup(e.stop)
	return e
}

func (e *edge) heard() (seqs, snapshots []uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.seqs), slices.Clone(e.snapshots)
}

// reaches waits in the bubble until the copy stands at seq.
func (e *edge) reaches(seq uint64) {
	e.t.Helper()
	for range 2000 {
		synctest.Wait()
		if e.copy.Cursor().Seq == seq && e.Status().Applied == seq {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	e.t.Fatalf("copy stands at %d (%+v), want %d", e.copy.Cursor().Seq, e.Status(), seq)
}

func (e *edge) has(key, want string) {
	e.t.Helper()
	got, _, ok, err := e.copy.Get(key)
	if err != nil || string(got) != want || ok != (want != "") {
		e.t.Errorf("copy has %s = %q, %t, %v; want %q", key, got, ok, err, want)
	}
}
