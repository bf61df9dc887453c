package edge

import (
	"context"
	"log/slog"
	"net"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/geo"
	"github.com/selvage-edge/selvage/edge/phase/cache"
	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	pages "github.com/selvage-edge/selvage/edge/phase/errors"
	"github.com/selvage-edge/selvage/edge/phase/normalize"
	"github.com/selvage-edge/selvage/edge/phase/origin"
	"github.com/selvage-edge/selvage/edge/phase/settings"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/clock"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Kit is an edge without sockets, other edges and a disk of its own, for
// simulations of many in one process: the applier, the rows of a request and the
// cache in memory are an Edge's. It ends with the context given to NewKit.
type Kit struct{ e *Edge }

// KitConfig is what a Kit is made of; all is needed.
type KitConfig struct {
	Identity   *feed.Identity
	Copy       *feed.Copy
	CacheBytes int64
	Origin     func(ctx context.Context, host string, port uint16) (net.Conn, error)
	Log        *slog.Logger
}

// NewKit makes an edge that serves what the copy holds.
func NewKit(ctx context.Context, cfg KitConfig) (*Kit, error) {
	e := &Edge{
		cfg: Config{Colo: cfg.Identity.Colo, Advertise: []netip.Addr{netip.IPv6Loopback()}}, log: cfg.Log,
		identity: cfg.Identity, copy: cfg.Copy, clock: clock.New(nil), counters: newCounters(),
		registry: prometheus.NewRegistry(), normalize: normalize.New(),
		settings: settings.New(443), errors: pages.New(), marks: mark.NewLasting(), delays: newDelays(),
	}
	var err error
	if e.geo, err = geo.Open(); err != nil {
		return nil, err
	}
	e.requests, e.cutRequests = context.WithCancel(ctx)
	e.origin = origin.New(origin.Config{Dial: cfg.Origin})
	e.cache = cache.New(cache.Config{Bytes: cfg.CacheBytes, Shards: 4, Ctx: e.requests, Marks: e.marks, Fetch: e.fetch, Off: e.kills.Now})
	if err := e.openZones(); err != nil {
		return nil, err
	}
	return &Kit{e}, e.resume()
}

// Follow makes a subscriber's entries take effect.
func (k *Kit) Follow(cfg *feed.SubscriberConfig) {
	cfg.OnEntry, cfg.OnBatch, cfg.OnSnapshot = k.e.delays.note(k.e.applier.note), k.e.delays.settle(k.e.applier.settle), k.e.onSnapshot
}

// Open is msg.Handler's: a visitor's connection.
func (k *Kit) Open(c *msg.Conn) msg.Session { return k.e.Open(c) }

// Close ends the edge, after its subscriber and its visitors.
func (k *Kit) Close() {
	k.e.cutRequests()
	k.e.cache.Close()
	k.e.origin.Close()
}
