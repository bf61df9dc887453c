package edge

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
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/geo"
	"github.com/selvage-edge/selvage/edge/phase/cache"
	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	pages "github.com/selvage-edge/selvage/edge/phase/errors"
	"github.com/selvage-edge/selvage/edge/phase/normalize"
	"github.com/selvage-edge/selvage/edge/phase/origin"
	"github.com/selvage-edge/selvage/edge/phase/settings"
	"github.com/selvage-edge/selvage/edge/shelf"
	"github.com/selvage-edge/selvage/edge/snapshot"
	"github.com/selvage-edge/selvage/edge/tier"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/internal/pipes"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// cluster is edges without disk, feed and sockets that reach each other and
// one origin by pipes. Everything between their engines is real.
type cluster struct {
	t     *testing.T
	ca    *nodeCA
	edges []*clusterEdge

	origin *pipes.Listener
	mu     sync.Mutex
	at     map[string]*pipes.Listener // by peer address; guarded by mu
}

// clusterEdge is one of them.
type clusterEdge struct {
	*Edge
	node  tier.Node
	pipes *pipes.Listener
}

// nodeCA signs nodes as the control plane does.
type nodeCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newNodeCA(t *testing.T) *nodeCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &nodeCA{key, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (ca *nodeCA) identity(t *testing.T, node, colo string) *feed.Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		Subject: pkix.Name{OrganizationalUnit: []string{colo}},
	}
	template.URIs = append(template.URIs, feed.NodeURI(node))
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := feed.NewIdentity(tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key}, ca.pem, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// newCluster starts an edge for each node in front of an origin.
func newCluster(t *testing.T, spec *zone.Spec, nodes []tier.Node, handler http.Handler) *cluster {
	t.Helper()
	c := &cluster{t: t, ca: newNodeCA(t), origin: pipes.New(), at: map[string]*pipes.Listener{}}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	var work sync.WaitGroup
	work.Go(func() { _ = server.Serve(c.origin) })
	t.Cleanup(func() { _ = server.Close(); work.Wait() })
	z, err := snapshot.Compile(spec, &zone.Shared{Advertise: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Colo: "FRA"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		n := &nodes[i]
		n.ID = hex.EncodeToString(fmt.Appendf(nil, "node-%011d", i))
		n.Addrs = []string{fmt.Sprintf("edge-%d:1", i)}
		c.start(*n, z)
	}
	for _, e := range c.edges {
		e.tiers.Set(nodes)
		e.stand.reach(1)
	}
	return c
}

func (c *cluster) start(n tier.Node, z *Zone) {
	t := c.t
	t.Helper()
	e := &Edge{
		cfg: Config{Colo: n.Colo, Region: n.Region, Hub: n.Hub}, log: slog.New(slog.DiscardHandler), zones: shelf.New(shelf.Config{}),
		clock: clock.New(nil), counters: newCounters(), registry: prometheus.NewRegistry(), normalize: normalize.New(), settings: settings.New(443), errors: pages.New(), marks: mark.NewLasting(),
	}
	ce := &clusterEdge{Edge: e, node: n, pipes: pipes.New()}
	var err error
	if e.geo, err = geo.Open(); err != nil {
		t.Fatal(err)
	}
	e.requests, e.cutRequests = context.WithCancel(t.Context())
	e.origin = origin.New(origin.Config{Dial: func(ctx context.Context, _ string, _ uint16) (net.Conn, error) { return c.origin.Dial(ctx) }})
	e.newCache()
	e.zones.Publish(z)
	e.identity = c.ca.identity(t, n.ID, n.Colo)
	e.sockets = &sockets{peer: ce.pipes}
	if err := e.openPeers(peering{connectTime: 5 * time.Minute, handshakeTime: 5 * time.Minute, probeEvery: 5 * time.Second, dial: func(ctx context.Context, addr string) (net.Conn, error) {
		c.mu.Lock()
		p := c.at[addr]
		c.mu.Unlock()
		return p.Dial(ctx)
	}}); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.at[n.Addrs[0]] = ce.pipes
	c.mu.Unlock()
	c.edges = append(c.edges, ce)
	var work sync.WaitGroup
	work.Go(func() { e.tiers.Run(e.requests) })
	work.Go(func() {
		if err := e.peer.Serve(ce.pipes); err != nil {
			t.Errorf("serve peers: %v", err)
		}
	})
	t.Cleanup(func() {
		e.cutRequests()
		ce.pipes.Kill()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.peer.Drain(ctx); err != nil {
			t.Errorf("drain peers: %v", err)
		}
		work.Wait()
		e.cache.Close()
		e.peers.Close()
		e.probes.Close()
		e.origin.Close()
	})
}

// newCache gives the edge an empty memory.
func (e *Edge) newCache() {
	e.cache = cache.New(cache.Config{Bytes: 16 << 20, Shards: 4, Ctx: e.requests, Fetch: e.fetch, Marks: e.marks, Off: e.kills.Now})
}

// visit is one visitor's GET.
func (e *clusterEdge) visit(path string, lines ...string) visited {
	s := e.Open(conn())
	defer s.Close()
	in, out := ask(path), new(msg.Response)
	in.Fields.DelFunc(func(l *msg.Field) bool { return l.ID == msg.AcceptEncoding }) // bodies are compared
	for i := 0; i < len(lines); i += 2 {
		in.Fields.Add([]byte(lines[i]), []byte(lines[i+1]))
	}
	s.Serve(in, out)
	v := visited{status: out.Status, cache: string(out.Fields.Get(msg.CFCacheStatus)), tier: s.(*session).r.Cache.Tier.String(), body: string(out.Bytes)}
	if out.Prepared != nil {
		out.Prepared.Fields().CopyTo(&v.fields, func(b []byte) []byte { return append([]byte{}, b...) })
	}
	out.Fields.CopyTo(&v.fields, func(b []byte) []byte { return append([]byte{}, b...) })
	v.left = s.(*session).r.Left
	if f := s.(*session).r.Fault; f != nil {
		v.fault = f.Error()
	}
	if out.Body != nil {
		var text []byte
		text, v.err = io.ReadAll(out.Body)
		v.body = string(text)
	}
	out.Close()
	s.Done(in, out, int64(len(v.body)), v.err)
	return v
}

// visited is what a visitor saw, and which tier the log names.
type visited struct {
	status            int
	cache, tier, body string
	fault             string
	left              time.Duration // of freshness
	fields            msg.Fields
	err               error
}

// at finds the edges of a colo.
func (c *cluster) of(colo string) (all []*clusterEdge) {
	for _, e := range c.edges {
		if e.node.Colo == colo {
			all = append(all, e)
		}
	}
	return all
}

// settled waits until ok: what happens behind an answer takes a moment.
func settled(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}
