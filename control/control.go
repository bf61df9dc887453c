// Package control is the control plane put together: it accepts changes through
// the API, keeps them, and publishes them on the feed. It promises that one
// state folder has one control plane, that a change it answered is durable, and
// that it comes back from a crash with nothing lost and nothing twice.
package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/api/selvage"
	"github.com/selvage-edge/selvage/control/api/v4"
	"github.com/selvage-edge/selvage/control/audit"
	"github.com/selvage-edge/selvage/control/health"
	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/pair"
	"github.com/selvage-edge/selvage/control/progress"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/rollout"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/edge/snapshot"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Config is what a Control is made from.
type Config struct {
	State string // folder of its own
	// Database is a PostgreSQL's address, postgres://…, which several control
	// planes may share; empty for SQLite in the state folder.
	Database string
	API      string // address of the API's listener, host:port
	Feed     string // address of the feed's listener, host:port
	// AutoCertificate gives each zone a certificate of the site CA for its
	// apex and everything one label below, and renews it: for laptops and
	// development, where no public CA is to be had.
	AutoCertificate bool
	// CertificateWait is how long a certificate waits, before it is published,
	// for connected nodes that do not hold it; 0 for 30 s.
	CertificateWait time.Duration
	// NameServers are given to new zones; empty for ns1 and ns2.selvage.invalid.
	NameServers []string
	// Retain is how many feed entries the log keeps; 0 for 100,000.
	Retain int
	// Quota is how many changes an account may make through this control plane.
	Quota api.Quota
	// HistoryChanges and HistoryFor bound zones' history and the audit trail; 0 for
	// 1,000,000 changes and 90 days.
	HistoryChanges int
	HistoryFor     time.Duration
	// RetainBytes and RetainFor bound the log as well; 0 for no bound.
	RetainBytes int64
	RetainFor   time.Duration
	// Gather is the least time between two batches of the feed; 0 for 40 ms.
	// GatherNumbers is how long a change waits for others that are numbered in the
	// same transaction; 0 for 2 ms. Purges wait for neither.
	Gather        time.Duration
	GatherNumbers time.Duration
	// Drain bounds the end of calls in flight; 0 for 30 s.
	Drain time.Duration
	// Listen opens a listener by name ("api", "feed"); nil for net.Listen.
	Listen func(ctx context.Context, name, network, addr string) (net.Listener, error)
}

// maxCertificateWait: a pair that is lost is told again each few seconds, so
// longer helps nobody.
const maxCertificateWait = 10 * time.Minute

// Control is the control plane of one state folder.
type Control struct {
	cfg       Config
	log       *slog.Logger
	lock      *lock
	store     *store.Store
	nodes     *nodes
	members   *members
	authority *identity.Authority
	publish   *publish.Publisher
	feed      *feed.Server
	progress  *progress.Book
	health    *health.Book
	audit     *audit.Trail
	rollouts  *rollout.Driver
	pairs     *pair.Service
	api       http.Handler
	timer     chan struct{} // capacity 1: an expiry changed
}

// DefaultGather is the feed's window at the root: each batch costs a frame and an
// acknowledgement of every subscriber.
const DefaultGather = 40 * time.Millisecond

// The control plane has no colo and no addresses of its own: it judges with
// none, as every edge has its own.
var judgedWith = &zone.Shared{}

func judge(spec *zone.Spec) error {
	_, err := snapshot.Compile(spec, judgedWith)
	return err
}

// New opens the state folder, making what is missing at the first start: an
// account, a token in the file token, the authorities. A damaged file is an
// error that names it.
func New(ctx context.Context, cfg Config, log *slog.Logger) (*Control, error) {
	cfg.Drain = cmp.Or(cfg.Drain, 30*time.Second)
	cfg.CertificateWait = cmp.Or(cfg.CertificateWait, pair.DefaultWait)
	if cfg.CertificateWait < 0 || cfg.CertificateWait > maxCertificateWait {
		return nil, fmt.Errorf("certificate_wait: up to %s, got %s", maxCertificateWait, cfg.CertificateWait)
	}
	if len(cfg.NameServers) == 0 {
		cfg.NameServers = []string{"ns1.selvage.invalid", "ns2.selvage.invalid"}
	}
	if cfg.Listen == nil {
		cfg.Listen = func(ctx context.Context, _, network, addr string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(ctx, network, addr)
		}
	}
	c := &Control{cfg: cfg, log: log, timer: make(chan struct{}, 1)}
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("control: %w", err), c.Close())
	}
	return c, nil
}

func (c *Control) open(ctx context.Context) (err error) {
	if c.lock, err = lockState(c.cfg.State); err != nil {
		return err
	}
	if c.store, err = store.Open(ctx, cmp.Or(c.cfg.Database, c.cfg.State)); err != nil {
		return err
	}
	c.nodes = &nodes{store: c.store}
	if c.authority, err = identity.Open(filepath.Join(c.cfg.State, "identity"), c.nodes); err != nil {
		return err
	}
	if err := c.sameAuthority(ctx); err != nil {
		return err
	}
	if c.publish, err = publish.New(ctx, publish.Config{
		Store: c.store, Judge: judge, Colos: colos, Vault: c.authority,
		Log: c.log.With("part", "publish"), Retain: c.cfg.Retain,
		RetainBytes: c.cfg.RetainBytes, RetainFor: c.cfg.RetainFor, RetainAudit: c.cfg.HistoryChanges, RetainHistory: c.cfg.HistoryFor,
		Gather: c.cfg.GatherNumbers,
	}); err != nil {
		return err
	}
	c.nodes.publish = c.publish
	head := func() uint64 { seq, _ := c.publish.Head(); return seq }
	if c.progress, err = progress.New(ctx, progress.Config{
		Store: c.store, Control: c.publish.Name(), Nodes: c.authority.Nodes, Head: head,
		Times: c.publish.Times, Time: c.publish.Time, Log: c.log.With("part", "progress"),
	}); err != nil {
		return err
	}
	if c.health, err = health.New(ctx, health.Config{Store: c.store, Control: c.publish.Name(), Log: c.log.With("part", "health")}); err != nil {
		return err
	}
	c.rollouts = rollout.New(rollout.Config{
		Rollouts: c.publish, Leads: c.publish.Leads, Nodes: c.progress.At, Health: c.health.Since, Log: c.log.With("part", "rollouts"),
	})
	c.audit = audit.New(audit.Config{
		Store: c.store, Log: c.log.With("part", "audit"),
		Taken: func(node string, ids []feed.AuditID) bool { return c.feed.Taken(node, ids) },
	})
	c.members = newMembers(c.nodes, c.log.With("part", "members"))
	c.pairs = pair.New(pair.Config{
		Store: c.store, Publish: c.publish, Node: c.nodes.Node, Nodes: c.authority.Nodes,
		Feed: func() pair.Server { return c.feed }, Wait: c.cfg.CertificateWait, Log: c.log.With("part", "pairs"),
	})
	c.feed = feed.NewServer(feed.ServerConfig{
		Log: c.publish, Identity: c.authority.Control(), Known: c.authority.Known, Enroll: c.authority.Enroll, Gather: cmp.Or(c.cfg.Gather, DefaultGather),
		OnAck: func(n feed.NodeInfo, seq uint64, rejected string) {
			c.progress.Note(n, seq, rejected, time.Now().UTC())
		},
		OnAnnounce: c.members.note,
		Readers:    c.readers(),
		// A node that comes back tells its cursor: it has everything up to it.
		Connected: func(n feed.NodeInfo) {
			c.progress.Connected(n, time.Now().UTC())
			c.pairs.Connected(n)
		},
		Disconnected: func(n feed.NodeInfo) {
			c.progress.Disconnected(n, time.Now().UTC())
			c.pairs.Disconnected(n)
		},
		OnFrame: c.onFrame,
		Logger:  c.log.With("part", "feed"),
	})
	if err := c.firstStart(ctx); err != nil {
		return err
	}
	c.api = c.handler()
	return nil
}

// onFrame takes in what nodes send up beside acknowledgements.
func (c *Control) onFrame(kind byte, from feed.NodeInfo, payload []byte) error {
	if kind == feed.KindCertificateWanted {
		return c.pairs.OnFrame(from, payload)
	}
	return fmt.Errorf("frame of type %d, which nobody here listens for", kind)
}

// Close frees what New opened; after Run there is nothing left to do.
func (c *Control) Close() error {
	var errs []error
	if c.store != nil {
		errs = append(errs, c.store.Close())
		c.store = nil
	}
	if c.lock != nil {
		errs = append(errs, c.lock.release())
		c.lock = nil
	}
	return errors.Join(errs...)
}

// Publisher is what publishes changes, for programs that are a control plane and
// have changes of their own: these are judged by nobody.
func (c *Control) Publisher() *publish.Publisher { return c.publish }

func (c *Control) handler() http.Handler {
	gate := &api.Gate{Store: c.store, Log: c.log.With("part", "api"), Quotas: api.NewQuotas(c.cfg.Quota, nil)}
	public := v4.Config{Gate: gate, Store: c.store, Publish: c.publish, NameServers: c.cfg.NameServers, Reached: c.reached, Timer: c.wakeTimer, Deploy: c.pairs.Deploy}
	if c.cfg.AutoCertificate {
		public.Certify = c.certify
	}
	registry := prometheus.NewRegistry()
	meter := newMeter(registry, c.publish)
	registry.MustRegister(c.feed.Collector(), c.progress, c.health, c.rollouts, c.pairs)
	mux := http.NewServeMux()
	v4API := v4.New(public)
	mux.Handle(v4.Prefix+"/", meter.count("v4", v4API))
	mux.Handle(selvage.Prefix+"/", meter.count("selvage", selvage.New(selvage.Config{
		Gate: gate, Log: c.publish, Progress: c.progress.At, Health: c.health.Newest, Audit: c.audit.Page, Revoke: c.revoke, Join: c.authority.NewJoinToken,
		Zones: v4API.Ours(), Kill: c.publish, Timer: c.wakeTimer, Rollouts: c.publish, Default: c.publish,
	})))
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", c.ready)
	mux.HandleFunc("/", gate.NoRoute)
	return mux
}

// ready says whether changes can be accepted: the database answers.
func (c *Control) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	if err := c.store.Read(ctx, func(tx *store.Tx) error { _, _, err := tx.LogBounds(ctx); return err }); err != nil {
		http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// Run serves until ctx ends, lets calls in flight finish, and closes everything.
func (c *Control) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, c.Close()) }()
	apiListener, err := c.cfg.Listen(ctx, "api", "tcp", c.cfg.API)
	if err != nil {
		return fmt.Errorf("control: listen for the API: %w", err)
	}
	feedListener, err := c.cfg.Listen(ctx, "feed", "tcp", c.cfg.Feed)
	if err != nil {
		return errors.Join(fmt.Errorf("control: listen for the feed: %w", err), apiListener.Close())
	}
	ready := c.readyFile(apiListener.Addr(), feedListener.Addr())
	if err := ready.write(); err != nil {
		return errors.Join(fmt.Errorf("control: %w", err), apiListener.Close(), feedListener.Close())
	}
	c.log.Info("control plane ready", "api", ready.API, "feed", ready.Feed)
	err = c.serve(ctx, apiListener, feedListener)
	return errors.Join(err, ready.remove())
}

// serve runs all parts until ctx ends or one fails. The leader and the feed
// outlive the API, so that calls in flight still get their numbers.
func (c *Control) serve(ctx context.Context, apiListener, feedListener net.Listener) error {
	// Parts end when told to, after the API has drained, not with ctx.
	run, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var parts sync.WaitGroup
	failed := make(chan error, 9) // one for each part: none blocks
	part := func(name string, fn func(context.Context) error) {
		parts.Go(func() {
			if err := fn(run); err != nil {
				failed <- fmt.Errorf("control: %s: %w", name, err)
			}
		})
	}
	server := &http.Server{
		Handler: c.api, ErrorLog: slog.NewLogLogger(c.log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
	part("publish", c.publish.Run)
	part("feed", func(ctx context.Context) error { return c.feed.Serve(ctx, feedListener) })
	part("upkeep", c.upkeep)
	part("members", c.members.run)
	part("progress", c.progress.Run)
	part("health", c.health.Run)
	part("audit", c.audit.Run)
	part("rollouts", c.rollouts.Run)
	part("pairs", c.pairs.Run)
	part("api", func(context.Context) error {
		if err := server.Serve(apiListener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	drain, cancel := context.WithTimeout(run, c.cfg.Drain)
	defer cancel()
	if derr := server.Shutdown(drain); derr != nil {
		err = errors.Join(err, server.Close())
	}
	stop(nil)
	parts.Wait()
	return err
}
