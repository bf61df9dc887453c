// Package pair brings certificates to the nodes: each pair of chain and private
// key is sealed to the node that gets it, staged at all of them, and named by
// an entry of the log when the nodes that are connected hold it, or after a
// bounded wait. It promises that what is staged outlives this process, and that
// no node waits for another one for longer than that.
package pair

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
)

// DefaultWait is how long an entry waits for nodes that are connected and do
// not hold the pair that it names.
const DefaultWait = 30 * time.Second

const (
	// lookEach is how often stages are looked at while there are some, or
	// others may have made some.
	lookEach = 250 * time.Millisecond
	// tellEach is how often nodes are told again of what is staged, since what
	// is sent may be lost with its connection.
	tellEach = 5 * time.Second
	// settle is how long after the start nodes that are not here yet may come,
	// before who is here is all.
	settle = 5 * time.Second
	// deployWait bounds Deploy.
	deployWait = 2 * time.Second
	// queue bounds the pairs that nodes wait for; a node asks again for what
	// was dropped.
	queue = 4096
	// senders seal and send pairs at a time.
	senders = 2
	// A node whose connection has no room is waited for so often and long.
	sendTries = 20
	sendPause = 10 * time.Millisecond
)

// Server is what a Service needs of the feed's.
type Server interface {
	Send(node string, kind byte, payload []byte) bool
	Broadcast(kind byte, payload []byte) int
	Speaks(subscriber, node string) bool
}

// Config is what a Service is made from.
type Config struct {
	Store   *store.Store
	Publish *publish.Publisher
	// Node finds a node, Nodes lists those that may connect.
	Node  func(ctx context.Context, id string) (identity.Node, bool, error)
	Nodes func(ctx context.Context) ([]identity.Node, error)
	Feed  func() Server
	Wait  time.Duration // more than 0
	Log   *slog.Logger
}

// Service stages and sends pairs. Safe for concurrent use.
type Service struct {
	Config
	counters
	wake  chan struct{} // capacity 1: something may be to do
	asked chan request

	mu        sync.Mutex
	started   time.Time            // guarded by mu
	nodes     map[string]*node     // connected to this process; guarded by mu
	stages    map[string]*stage    // by certificate; guarded by mu
	waiting   map[request]struct{} // what asked holds, or is being sent; guarded by mu
	published chan struct{}        // guarded by mu; replaced when something was published
}

type node struct {
	since time.Time // of its connection: tells two of them apart
	holds map[string]feed.PairSum
}

type stage struct {
	store.Stage
	told time.Time // when all nodes were told last
}

type request struct {
	node string
	feed.PairRef
}

// New makes a Service; Run runs it.
func New(c Config) *Service {
	return &Service{
		Config: c, counters: newCounters(), wake: make(chan struct{}, 1), asked: make(chan request, queue),
		nodes: map[string]*node{}, stages: map[string]*stage{}, waiting: map[request]struct{}{}, published: make(chan struct{}),
	}
}

// Wake says that something was staged.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Connected notes a node that is connected to this process, and tells it what
// is staged.
func (s *Service) Connected(n feed.NodeInfo) {
	s.mu.Lock()
	s.nodes[n.Node] = &node{since: n.Since, holds: map[string]feed.PairSum{}}
	var refs []feed.PairRef
	for _, x := range s.stages {
		refs = append(refs, x.PairRef)
	}
	s.mu.Unlock()
	s.tell(n.Node, refs)
	s.Wake()
}

// Disconnected notes the end of a connection.
func (s *Service) Disconnected(n feed.NodeInfo) {
	s.mu.Lock()
	if x := s.nodes[n.Node]; x != nil && !n.Since.Before(x.since) { // else it has come back since
		delete(s.nodes, n.Node)
	}
	s.mu.Unlock()
	s.Wake()
}

// OnFrame takes in what a node wants and holds. It does not wait: what there is
// no room for is dropped and asked for again.
func (s *Service) OnFrame(from feed.NodeInfo, payload []byte) error {
	w, err := feed.DecodeWanted(payload)
	if err != nil {
		return err
	}
	if !s.Feed().Speaks(from.Node, w.Node) {
		s.foreign.Inc() // or a relay that has not told of the node yet
		return nil
	}
	for _, ref := range w.Asked {
		s.ask(request{w.Node, ref})
	}
	if len(w.Held) == 0 {
		return nil
	}
	s.mu.Lock()
	if n := s.nodes[w.Node]; n != nil {
		for _, ref := range w.Held {
			if s.stages[ref.ID] != nil {
				n.holds[ref.ID] = ref.Sum
			}
		}
	}
	s.mu.Unlock()
	s.Wake()
	return nil
}

func (s *Service) ask(r request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, is := s.waiting[r]; is {
		return
	}
	select {
	case s.asked <- r:
		s.waiting[r] = struct{}{}
	default:
		s.dropped.Inc()
	}
}

// Deploy has a staged certificate published and waits up to two seconds for
// that: the number of its entry, or 0 where it takes longer.
func (s *Service) Deploy(ctx context.Context, zoneID string, ref feed.PairRef) (uint64, error) {
	s.Wake()
	end := time.NewTimer(deployWait)
	defer end.Stop()
	look := time.NewTicker(lookEach) // another process may publish it
	defer look.Stop()
	for {
		s.mu.Lock()
		published := s.published
		s.mu.Unlock()
		seq, err := s.Publish.Published(ctx, zoneID, ref)
		if seq > 0 || err != nil {
			return seq, err
		}
		select {
		case <-published:
		case <-look.C:
		case <-end.C:
			return 0, nil
		case <-ctx.Done():
			return 0, nil // it is stored; nobody hears of the rest
		}
	}
}

// Run stages, publishes and sends until ctx ends. What fails is tried again.
func (s *Service) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	for range senders {
		parts.Go(func() { s.send(ctx) })
	}
	s.mu.Lock()
	s.started = time.Now()
	s.mu.Unlock()
	look := time.NewTicker(lookEach)
	defer look.Stop()
	s.Wake()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-look.C:
			if !s.Store.Shared() && !s.some() {
				continue
			}
		}
		err := s.step(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.Log.Warn("certificates are not brought to nodes, trying again", "error", err)
		}
		failing = err != nil
	}
}

func (s *Service) some() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.stages) > 0
}

// step reads what is staged, tells nodes, and publishes what is due.
func (s *Service) step(ctx context.Context) error {
	var all []store.Stage
	var live []string
	if err := s.Store.Read(ctx, func(tx *store.Tx) (err error) {
		if all, err = tx.Staged(ctx); err == nil && len(all) > 0 && s.Store.Shared() {
			live, err = tx.LiveControls(ctx)
		}
		return err
	}); err != nil {
		return err
	}
	s.tell("", s.take(all))
	for i := range all {
		x := &all[i]
		here, err := s.held(ctx, x)
		if err != nil {
			return err
		}
		if here && s.Store.Shared() && !x.Held[s.Publish.Name()] {
			if err := s.Store.Write(ctx, func(tx *store.Tx) error { return tx.PutHeld(ctx, x.PairRef, s.Publish.Name()) }); err != nil {
				return err
			}
		}
		everywhere := here && !slices.ContainsFunc(live, func(name string) bool { return name != s.Publish.Name() && !x.Held[name] })
		if !s.Publish.Leads() || !everywhere && time.Since(x.Since) < s.Wait {
			continue
		}
		if err := s.release(ctx, x, everywhere); err != nil {
			return err
		}
	}
	return nil
}

// release publishes a staged certificate.
func (s *Service) release(ctx context.Context, x *store.Stage, everywhere bool) error {
	seq, err := s.Publish.Switch(ctx, x.Zone, x.PairRef)
	if err != nil {
		return fmt.Errorf("publish certificate %s: %w", x.ID, err)
	}
	s.mu.Lock()
	delete(s.stages, x.ID)
	s.staged.Set(float64(len(s.stages)))
	close(s.published)
	s.published = make(chan struct{})
	s.mu.Unlock()
	if seq == 0 {
		return nil
	}
	after := "acknowledged"
	if !everywhere {
		after = "waited"
		s.Log.Warn("certificate published before all connected nodes hold it; the others fetch it when they need it",
			"certificate", x.ID, "zone", x.Zone, "seq", seq, "lack", s.lacking(x.PairRef))
	}
	s.releases.WithLabelValues(after).Inc()
	return nil
}

// take notes what is staged now and returns what nodes are to be told of.
func (s *Service) take(all []store.Stage) (tell []feed.PairRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.stages
	s.stages = make(map[string]*stage, len(all))
	for _, x := range all {
		now := &stage{Stage: x}
		if old := was[x.ID]; old != nil && old.Sum == x.Sum {
			now.told = old.told
		}
		if time.Since(now.told) >= tellEach {
			now.told = time.Now()
			tell = append(tell, x.PairRef)
		}
		s.stages[x.ID] = now
	}
	for _, n := range s.nodes {
		for id := range n.holds {
			if s.stages[id] == nil {
				delete(n.holds, id)
			}
		}
	}
	s.staged.Set(float64(len(all)))
	return tell
}

// tell tells one node, or "" for all, what is staged.
func (s *Service) tell(node string, refs []feed.PairRef) {
	for part := range slices.Chunk(refs, feed.MaxPairRefs) {
		frame := feed.Staged{Node: node, Pairs: part}
		if payload := frame.Encode(); node == "" {
			s.Feed().Broadcast(feed.KindCertificateStaged, payload)
		} else {
			s.Feed().Send(node, feed.KindCertificateStaged, payload)
		}
	}
}

// held reports whether all nodes of this process hold a pair. Soon after the
// start those count as well that may come back.
func (s *Service) held(ctx context.Context, x *store.Stage) (bool, error) {
	s.mu.Lock()
	young := time.Since(s.started) < settle
	s.mu.Unlock()
	if len(s.lacking(x.PairRef)) > 0 || !young {
		return len(s.lacking(x.PairRef)) == 0, nil
	}
	known, err := s.Nodes(ctx)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(known, func(n identity.Node) bool { return s.nodes[n.ID] == nil }), nil
}

// lacking lists the connected nodes that have not said that they hold a pair.
func (s *Service) lacking(ref feed.PairRef) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range s.nodes {
		if n.holds[ref.ID] != ref.Sum {
			all = append(all, id)
		}
	}
	return all
}

// send seals and sends what nodes ask for until ctx ends.
func (s *Service) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-s.asked:
			sent, err := s.deliver(ctx, r)
			s.mu.Lock()
			delete(s.waiting, r)
			s.mu.Unlock()
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				s.Log.Warn("a node's certificate is not sent; it asks again", "node", r.node, "certificate", r.ID, "error", err)
			case sent:
				s.sent.Inc()
			default:
				s.dropped.Inc()
			}
		}
	}
}

// deliver answers one request. A node that was shut out gets nothing.
func (s *Service) deliver(ctx context.Context, r request) (sent bool, err error) {
	to, known, err := s.Node(ctx, r.node)
	if err != nil || !known || to.Revoked {
		return false, err
	}
	d := feed.Delivery{Node: r.node, PairRef: r.PairRef}
	var found store.Certificate
	var zoneID string
	err = s.Store.Read(ctx, func(tx *store.Tx) (err error) {
		found, zoneID, err = tx.PairOf(ctx, r.PairRef)
		return err
	})
	if err == nil {
		var p *feed.Pair
		if p, err = s.Publish.PairFor(to.HPKE, zoneID, &found); err == nil {
			d.Pair = p.Append(nil)
		}
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return false, err
	}
	for range sendTries {
		if s.Feed().Send(r.node, feed.KindCertificate, d.Encode()) {
			return true, nil
		}
		t := time.NewTimer(sendPause)
		select {
		case <-ctx.Done():
			t.Stop()
			return false, nil
		case <-t.C:
		}
	}
	return false, nil
}

// counters of a Service; it is their prometheus.Collector.
type counters struct {
	sent, dropped, foreign prometheus.Counter
	staged                 prometheus.Gauge
	releases               *prometheus.CounterVec
}

func newCounters() counters {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return counters{
		sent:    counter("selvage_control_pairs_sent_total", "Certificates with their keys that were sealed and sent to a node."),
		dropped: counter("selvage_control_pairs_dropped_total", "Wishes of nodes for a certificate that there was no room for; they ask again."),
		foreign: counter("selvage_control_pairs_foreign_total", "Frames about certificates that spoke of a node which is not below the sender."),
		staged:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "selvage_control_certificates_staged", Help: "Certificates that are on their way to the nodes and not yet published."}),
		releases: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_control_certificates_published_total", Help: "Staged certificates that were published: when all connected nodes acknowledged, or had been waited for.",
		}, []string{"after"}),
	}
}

func (c *counters) all() []prometheus.Collector {
	return []prometheus.Collector{c.sent, c.dropped, c.foreign, c.staged, c.releases}
}

// Describe implements prometheus.Collector.
func (c *counters) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.all() {
		m.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c *counters) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c.all() {
		m.Collect(ch)
	}
}
