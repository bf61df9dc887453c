package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/dns"
	"github.com/selvage-edge/selvage/edge/geo"
	"github.com/selvage-edge/selvage/edge/kill"
	"github.com/selvage-edge/selvage/edge/pair"
	"github.com/selvage-edge/selvage/edge/peer"
	"github.com/selvage-edge/selvage/edge/phase/cache"
	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/phase/cache/reserve"
	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
	pages "github.com/selvage-edge/selvage/edge/phase/errors"
	"github.com/selvage-edge/selvage/edge/phase/normalize"
	"github.com/selvage-edge/selvage/edge/phase/origin"
	"github.com/selvage-edge/selvage/edge/phase/settings"
	"github.com/selvage-edge/selvage/edge/shelf"
	"github.com/selvage-edge/selvage/edge/tier"
	"github.com/selvage-edge/selvage/edge/tlsterm"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/internal/crew"
	"github.com/selvage-edge/selvage/telemetry"
	"github.com/selvage-edge/selvage/wire/guard"
	"github.com/selvage-edge/selvage/wire/h1"
	"github.com/selvage-edge/selvage/wire/h2"
	"github.com/selvage-edge/selvage/wire/h3"
)

// Edge is one server of the data plane.
type Edge struct {
	cfg Config
	log *slog.Logger

	identity *feed.Identity
	copy     *feed.Copy
	replica  *feed.Replica // fetches what the copy does not hold; nil = it holds all
	feed     *feed.Subscriber
	up       *feed.Up
	spool    *feed.Spool  // of audit events; nil where there is no place for it
	relay    *feed.Server // of the edges below this one; nil without a listener
	applier  *applier
	delays   *delays
	pairs    *pair.Keeper // nil without a disk

	zones *shelf.Shelf
	kills kill.Switches
	geo   *geo.DB
	dns   *dns.Server
	tls   *tlsterm.Engine
	h1    *h1.Server
	h2    *h2.Server
	h3    *h3.Server
	quic  *quicDoor

	tiers  *tier.Table  // nil = this edge asks no other
	peers  *peer.Client // of requests
	probes *peer.Client
	peer   *peer.Server // nil without a listener
	stand  stand
	asks   asks

	rejects rejects
	stuck   atomic.Bool // the copy cannot be written any more
	started time.Time

	normalize  *normalize.Engine
	settings   *settings.Engine
	origin     *origin.Engine
	cache      *cache.Engine
	disk       *ssd.Store       // below the cache; nil = none
	reserve    *reserve.Reserve // behind it; nil = none
	reserveDir io.Closer        // of the reserve, or of the spool of a bucket
	marks      *mark.Ledger
	errors     *pages.Engine

	altSvc   []byte               // what tells visitors of HTTP/3
	access   *telemetry.AccessLog // nil = off
	clock    *clock.Clock
	counters *counters
	registry *prometheus.Registry

	sockets   *sockets
	state     stateBox
	nextShard atomic.Uint32
	// requests ends when what is in flight has to stop: it outlives the signal
	// to drain by DrainTimeout.
	requests    context.Context
	cutRequests context.CancelFunc
	accepting   sync.WaitGroup // accept loops; they end before visitors is waited for
	visitors    sync.WaitGroup
	crew        *crew.Crew // serves visitors' connections
	connections atomic.Int64
	overflow    atomic.Uint64
}

// New checks the configuration. Nothing is opened before Run.
func New(cfg Config, log *slog.Logger) (*Edge, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	return &Edge{cfg: cfg, log: log, started: time.Now(), crew: crew.New(), clock: clock.New(nil), counters: newCounters(), registry: prometheus.NewRegistry()}, nil
}

// Run opens everything, serves until ctx ends, drains for at most
// Config.DrainTimeout and returns. It returns early when something that it
// cannot serve without fails.
func (e *Edge) Run(ctx context.Context) (err error) {
	e.requests, e.cutRequests = context.WithCancel(context.WithoutCancel(ctx))
	defer e.cutRequests()
	if err := os.MkdirAll(e.cfg.State, 0o700); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	if e.sockets, err = openSockets(ctx, &e.cfg); err != nil {
		return err
	}
	defer e.sockets.close()
	admin := e.serveAdmin(ctx)
	defer func() { err = errors.Join(err, admin()) }()
	if e.identity, err = e.enrol(ctx); err != nil {
		return err
	}
	if err := e.build(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.release()) }()
	return e.serve(ctx)
}

// joinPause is how long an edge rests between two attempts to enrol.
const joinPause = time.Second

// enrol loads this node's identity, or gets one with the join token. Only an
// unreachable parent is asked again; a refusal is final.
func (e *Edge) enrol(ctx context.Context) (*feed.Identity, error) {
	dir := filepath.Join(e.cfg.State, "identity")
	id, err := feed.LoadIdentity(dir)
	if err == nil {
		if id.Colo != e.cfg.Colo {
			return nil, fmt.Errorf("colo: this state folder belongs to %s, not to %s; use another --state or --colo %s", id.Colo, e.cfg.Colo, id.Colo)
		}
		return id, nil
	}
	if !errors.Is(err, feed.ErrNoIdentity) {
		return nil, err
	}
	if e.cfg.Join == "" {
		return nil, errors.New("join: this edge has no identity yet; get a token with `selvage control token --join` and start it with --join TOKEN")
	}
	name, err := os.Hostname()
	if err != nil {
		name = e.cfg.Colo
	}
	relays := map[string]bool{} // of the parents: they certify nobody
	for n := 0; ; n++ {
		parent := e.cfg.Parents[n%len(e.cfg.Parents)]
		id, err := feed.Join(ctx, parent, e.cfg.Join, dir, e.cfg.Colo, name)
		if err == nil {
			e.log.Info("joined", "node", id.NodeID, "colo", id.Colo, "parent", parent)
			return id, nil
		}
		if errors.Is(err, feed.ErrNotControl) {
			if relays[parent] = true; len(relays) == len(e.cfg.Parents) {
				return nil, errors.New("join: all of parent are relays; the first start needs a control plane among them")
			}
			continue
		}
		var network net.Error
		if !errors.As(err, &network) {
			return nil, fmt.Errorf("join: %w", err)
		}
		e.log.Warn("parent cannot be reached to join; trying again", "parent", parent, "err", err)
		select {
		case <-time.After(joinPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// build constructs the engines, top of the pipeline to bottom.
func (e *Edge) build(ctx context.Context) (err error) {
	e.openTrail()
	if e.copy, err = feed.OpenCopy(filepath.Join(e.cfg.State, "copy"), e.copyOptions()); err != nil {
		return fmt.Errorf("open the copy: %w", err)
	}
	if e.geo, err = geo.Open(e.cfg.GeoIP...); err != nil {
		e.log.Warn("country and network of visitors stay unknown", "err", err)
	}
	if err := e.openAccessLog(); err != nil {
		return err
	}
	if err := e.openZones(); err != nil {
		return err
	}
	e.tls = tlsterm.New(e.certificatesOf, e.awaitPairs, e.log)
	e.normalize = normalize.New()
	e.settings = settings.New(portOf(e.sockets.https))
	own := e.ownAddresses(ctx)
	dialer := guard.New(guard.Config{Allow: e.cfg.AllowOrigins, Own: func() []netip.AddrPort { return own }})
	e.origin = origin.New(origin.Config{Dial: dialer.Dial})
	e.openMarks()
	e.cache = cache.New(cache.Config{Bytes: e.cfg.CacheBytes, Ctx: e.requests, Marks: e.marks, Fetch: e.fetch, Off: e.kills.Now})
	e.openDisk()
	e.openReserve()
	e.errors = pages.New()
	e.h1 = h1.NewServer(e, h1.Limits{MinRate: e.cfg.MinRate})
	e.h2 = h2.NewServer(e, h2.Limits{MinRate: e.cfg.MinRate})
	e.h3 = h3.NewServer(e, h3.Limits{MinRate: e.cfg.MinRate})
	if err := e.openQUIC(); err != nil {
		return err
	}
	e.delays = newDelays()
	if err := e.openRelay(); err != nil {
		return err
	}
	e.feed = feed.NewSubscriber(feed.SubscriberConfig{
		Announce: e.announcement(), Relay: e.relay, Signals: e.up, Standing: e.rejects.standing,
		Parents: e.cfg.Parents, Identity: e.identity, Copy: e.copy, Log: e.log,
		OnEntry: e.delays.note(e.applier.note), OnBatch: e.delays.settle(e.applier.settle), OnSnapshot: e.onSnapshot,
		OnFrame: e.onDown,
	})
	if err := e.openPeers(peering{}); err != nil {
		return err
	}
	e.registerEngines()
	return nil
}

// onSnapshot is told that the copy was replaced: purges of the time in between
// are not in it, so everything cached goes.
func (e *Edge) onSnapshot(seq uint64) error {
	e.stand.begin(seq) // who is asked from now on must have the same
	err := e.applier.reload()
	// After the new rules are in use, so that nothing is kept by the old ones.
	e.cache.PurgeAll(seq, e.copy.Generation())
	err = errors.Join(err, e.cache.Sync())
	e.comparePairs()
	e.dropRevoked(e.requests)
	e.stand.reach(seq)
	return err
}

func (e *Edge) openAccessLog() error {
	if e.cfg.AccessLog == "off" {
		return nil
	}
	out, err := telemetry.OpenLogFile(e.cfg.AccessLog, e.cfg.AccessLogMaxBytes)
	if err != nil {
		return fmt.Errorf("access_log: %w", err)
	}
	e.access = telemetry.NewAccessLog(out, e.cfg.Colo, rowNames(), runtime.GOMAXPROCS(0), e.log)
	return nil
}

// release closes what build opened, after nothing uses it any more.
func (e *Edge) release() error {
	e.cache.Close()
	e.cache.Drop()
	e.peers.Close()
	e.probes.Close()
	e.origin.Close()
	var failed []error
	if e.spool != nil {
		failed = append(failed, e.spool.Close())
	}
	if e.access != nil {
		failed = append(failed, e.access.Close())
	}
	return errors.Join(append(failed, e.closeDisk(), e.closeReserve(), e.marks.Close(), e.geo.Close(), e.copy.Close())...)
}
