package pair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

const (
	// maxAsked bounds the pairs that are asked for in the background and have
	// not come; a handshake's goes beyond.
	maxAsked = 64
	// maxWants bounds all that is known to be missing; what does not fit is
	// found by the next walk over the copy.
	maxWants = 8192
	// maxStaged bounds what a parent says is staged.
	maxStaged = 8192
	// deliveries wait to be checked and written.
	deliveries = 64
	// A pair that did not come is asked for again after retryFirst, then each
	// time twice as long, up to retryLast.
	retryFirst = 500 * time.Millisecond
	retryLast  = 10 * time.Second
	// goneFor is how long a pair that is there no more is not asked for again.
	goneFor = 5 * time.Second
	// awaitFor bounds how long a handshake waits.
	awaitFor = 3 * time.Second
)

// Copy is what a Keeper needs of the edge's copy. Safe for concurrent use.
type Copy interface {
	Get(key string) (value []byte, seq uint64, ok bool, err error)
	Scan(prefix string, row func(key string, value []byte, seq uint64) error) error
}

// Config is what a Keeper is made from.
type Config struct {
	Dir  string // its own
	Node string
	// Open opens data keys that were sealed to this node.
	Open func(certID string, sealed []byte) ([]byte, error)
	// Up sends a frame to the parent; false where there is no room.
	Up func(kind byte, payload []byte) bool
	// Copy is where entries stand that name pairs.
	Copy Copy
	// Arrived is called when a pair came that a zone waits for; no other call
	// is made until it returns.
	Arrived func(zoneID string)
	Log     *slog.Logger
}

// Keeper keeps pairs and fetches missing ones. Safe for concurrent use.
type Keeper struct {
	Config
	counters
	files files
	wake  chan struct{} // capacity 1: something is to be asked for
	came  chan feed.Delivery
	walk  chan struct{} // capacity 1: the copy is to be compared with what is here
	ended chan struct{} // closed when Run ends

	mu     sync.Mutex
	wants  map[feed.PairRef]*want  // guarded by mu
	staged map[string]feed.PairSum // by certificate; guarded by mu
	held   []feed.PairRef          // to be told to the parent; guarded by mu
	room   chan struct{}           // guarded by mu; replaced when a want ended
}

// want is a pair that is missing.
type want struct {
	zone   string // that waits for it; "" while it is only staged
	urgent bool   // a handshake waits
	asked  time.Time
	tries  int
	gone   time.Time     // when it was heard that there is none; zero: it was not
	done   chan struct{} // closed when it came or is gone
}

// New makes a Keeper; Run runs it.
func New(c Config) *Keeper {
	return &Keeper{
		Config: c, counters: newCounters(), files: files{c.Dir}, wake: make(chan struct{}, 1), came: make(chan feed.Delivery, deliveries),
		walk: make(chan struct{}, 1), ended: make(chan struct{}),
		wants: map[feed.PairRef]*want{}, staged: map[string]feed.PairSum{}, room: make(chan struct{}),
	}
}

// RefOf names the pair that a certificate's entry names.
func RefOf(c *zone.Certificate) (feed.PairRef, error) {
	sum, err := feed.ParsePairSum(c.Pair)
	if err == nil && !feed.ValidPairID(c.ID) {
		err = fmt.Errorf("%.80q is no id", c.ID)
	}
	if err != nil {
		return feed.PairRef{}, fmt.Errorf("certificate %.80s: %w", c.ID, err)
	}
	return feed.PairRef{ID: c.ID, Sum: sum}, nil
}

// Fill puts the private keys into a zone's certificates. Where the pair that is
// named is not here yet it is fetched; until it comes the certificate's pair
// before it is used, chain and key, or it stays without a key.
func (k *Keeper) Fill(spec *zone.Spec) error {
	for i := range spec.Certificates {
		c := &spec.Certificates[i]
		if c.Pair == "" {
			if ok, err := k.adopt(spec.ID, c); err != nil {
				return fmt.Errorf("zone %s: %w", spec.Name, err)
			} else if !ok {
				k.Log.Warn("certificate waits for its key", "zone", spec.Name, "certificate", c.ID)
				continue
			}
		}
		ref, err := RefOf(c)
		if err != nil {
			return fmt.Errorf("zone %s: %w", spec.Name, err)
		}
		if err := k.fill(spec, c, ref); err != nil {
			return fmt.Errorf("zone %s: certificate %s: %w", spec.Name, c.ID, err)
		}
	}
	return nil
}

func (k *Keeper) fill(spec *zone.Spec, c *zone.Certificate, ref feed.PairRef) error {
	p, key, err := k.open(ref)
	if err != nil && !k.want(ref, spec.ID, false) {
		p, key, err = k.open(ref) // it came in between
	}
	if err == nil {
		if p.Chain != c.Chain {
			return errors.New("the entry's chain is not that of the pair it names")
		}
		c.PrivateKey = key
		k.prune(ref)
		return nil
	}
	older := k.files.older(ref)
	if older == nil {
		k.Log.Warn("certificate waits for its pair", "zone", spec.Name, "certificate", c.ID)
		return nil
	}
	if key, err = older.Key(k.Open); err != nil {
		return nil //nolint:nilerr // sealed for what this node was before: as good as none
	}
	k.Log.Warn("certificate waits for its pair; the one before is served", "zone", spec.Name, "certificate", c.ID)
	c.Chain, c.PrivateKey = older.Chain, key
	return nil
}

// open reads a pair and its key. One that this node cannot open is removed.
func (k *Keeper) open(ref feed.PairRef) (*feed.Pair, []byte, error) {
	p, err := k.files.get(ref)
	if err != nil {
		return nil, nil, err
	}
	key, err := p.Key(k.Open)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w: %w", fs.ErrNotExist, err), k.files.prune(ref.ID))
	}
	return p, key, nil
}

// prune removes the pairs of a certificate that are over.
func (k *Keeper) prune(ref feed.PairRef) {
	k.mu.Lock()
	next, staged := k.staged[ref.ID]
	k.mu.Unlock()
	keep := []feed.PairRef{ref}
	if staged {
		keep = append(keep, feed.PairRef{ID: ref.ID, Sum: next})
	}
	if err := k.files.prune(ref.ID, keep...); err != nil {
		k.Log.Warn("a pair that is over is not removed", "certificate", ref.ID, "error", err)
	}
}

// Drop removes all pairs of a certificate that is gone.
func (k *Keeper) Drop(certID string) {
	k.mu.Lock()
	delete(k.staged, certID)
	k.mu.Unlock()
	if err := k.files.prune(certID); err != nil {
		k.Log.Warn("a certificate's pair is not removed", "certificate", certID, "error", err)
	}
}

// adopt makes a pair of what an earlier version's entries carried, and names it
// in c. It is false where the data key has not come.
func (k *Keeper) adopt(zoneID string, c *zone.Certificate) (bool, error) {
	dataKey, _, ok, err := k.Copy.Get(zone.SealedKey(c.ID, k.Node))
	if err != nil || !ok {
		return false, err
	}
	p := &feed.Pair{Zone: zoneID, ID: c.ID, Chain: c.Chain, Sealed: c.Sealed, DataKey: dataKey}
	ref := p.Ref()
	c.Pair = ref.Sum.String()
	if k.files.has(ref) {
		return true, nil
	}
	if _, err := p.Key(k.Open); err != nil {
		return false, fmt.Errorf("certificate %s: %w", c.ID, err)
	}
	return true, k.files.put(p)
}

// Want has a pair fetched that an entry names, if it is not here. It is staged no
// more.
func (k *Keeper) Want(zoneID string, ref feed.PairRef) {
	k.mu.Lock()
	if k.staged[ref.ID] == ref.Sum {
		delete(k.staged, ref.ID)
	}
	k.mu.Unlock()
	k.want(ref, zoneID, false)
}

// want notes that a pair is missing; it is false where it is here after all.
func (k *Keeper) want(ref feed.PairRef, zoneID string, urgent bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.files.has(ref) { // under mu, for it is written before its want ends
		return false
	}
	w := k.wants[ref]
	if w == nil || !w.gone.IsZero() && time.Since(w.gone) > goneFor {
		if w == nil && len(k.wants) >= maxWants && !urgent {
			k.Compare()
			return true
		}
		w = &want{done: make(chan struct{})}
		k.wants[ref] = w
	}
	if zoneID != "" {
		w.zone = zoneID
	}
	if urgent && !w.urgent {
		w.urgent, w.tries = true, 0
	}
	k.nudge()
	return true
}

func (k *Keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Await fetches the pair that a handshake needs, which waits for at most three
// seconds, with all others that need the same.
func (k *Keeper) Await(ctx context.Context, zoneID string, ref feed.PairRef) {
	if !k.want(ref, zoneID, true) {
		return
	}
	k.mu.Lock()
	w := k.wants[ref]
	k.mu.Unlock()
	if w == nil {
		return
	}
	k.awaited.Inc()
	t := time.NewTimer(awaitFor)
	defer t.Stop()
	select {
	case <-w.done:
	case <-t.C:
		k.late.Inc()
	case <-ctx.Done():
	case <-k.ended:
	}
}

// Staged takes in what the parent says is staged: what is not here is fetched,
// what is here is acknowledged.
func (k *Keeper) Staged(refs []feed.PairRef) {
	for _, ref := range refs {
		k.mu.Lock()
		if _, known := k.staged[ref.ID]; known || len(k.staged) < maxStaged {
			k.staged[ref.ID] = ref.Sum
		}
		k.mu.Unlock()
		if !k.want(ref, "", false) {
			k.hold(ref)
		}
	}
}

// hold tells the parent that a staged pair is here.
func (k *Keeper) hold(ref feed.PairRef) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.held) < maxStaged {
		k.held = append(k.held, ref)
	}
	k.nudge()
}

// Deliver takes in a pair that the parent sent to this node. One that there is
// no room for is asked for again.
func (k *Keeper) Deliver(d feed.Delivery) {
	d.Pair = append([]byte(nil), d.Pair...)
	select {
	case k.came <- d:
	default:
		k.refused.WithLabelValues(reasonRoom).Inc()
	}
}

// Run fetches what is missing until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	defer close(k.ended)
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { k.compare(ctx) })
	again := time.NewTicker(retryFirst)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-k.came:
			k.take(d)
		case <-again.C:
		case <-k.wake:
		}
		k.ask()
	}
}

// ask sends what is due to be asked for and acknowledged.
func (k *Keeper) ask() {
	now := time.Now()
	frame := feed.Wanted{Node: k.Node}
	k.mu.Lock()
	open := 0
	for ref, w := range k.wants {
		if !w.gone.IsZero() {
			if now.Sub(w.gone) > goneFor {
				k.end(ref)
			}
			continue
		}
		if !w.asked.IsZero() && !w.due(now) {
			open++
		}
	}
	for ref, w := range k.wants {
		if !w.gone.IsZero() || !w.due(now) || len(frame.Asked) == feed.MaxPairRefs/2 || open >= maxAsked && !w.urgent {
			continue
		}
		w.asked = now
		w.tries++
		open++
		frame.Asked = append(frame.Asked, ref)
	}
	n := min(len(k.held), feed.MaxPairRefs/2)
	frame.Held = k.held[:n:n]
	k.held = k.held[n:]
	if len(k.held) > 0 {
		k.nudge()
	}
	k.mu.Unlock()
	if len(frame.Asked)+len(frame.Held) > 0 {
		// What there is no room for is due again later, or is staged again.
		_ = k.Up(feed.KindCertificateWanted, frame.Encode())
	}
}

// due reports whether a pair is to be asked for now.
func (w *want) due(now time.Time) bool {
	if w.tries == 0 {
		return true
	}
	return now.Sub(w.asked) >= min(retryFirst<<min(w.tries-1, 10), retryLast)
}

// take checks a pair that came, keeps it and tells who waits.
func (k *Keeper) take(d feed.Delivery) {
	k.mu.Lock()
	w := k.wants[d.PairRef]
	k.mu.Unlock()
	if w == nil || !w.gone.IsZero() {
		k.refuse(reasonUnasked, d.PairRef, nil)
		return
	}
	if len(d.Pair) == 0 {
		k.gone.Inc()
		k.mu.Lock()
		w.gone = time.Now()
		close(w.done)
		k.mu.Unlock()
		return
	}
	if reason, err := k.keep(&d); err != nil {
		k.refuse(reason, d.PairRef, err)
		return
	}
	k.kept.Inc()
	k.mu.Lock()
	k.end(d.PairRef)
	zoneID := w.zone
	staged := k.staged[d.ID] == d.Sum
	k.mu.Unlock()
	if staged {
		k.hold(d.PairRef)
	}
	if zoneID != "" {
		k.Arrived(zoneID)
	}
	close(w.done)
}

// end forgets a want and tells who waits for room; it runs under mu.
func (k *Keeper) end(ref feed.PairRef) {
	delete(k.wants, ref)
	close(k.room)
	k.room = make(chan struct{})
}

// keep writes a pair that is what was asked for and can be served.
func (k *Keeper) keep(d *feed.Delivery) (reason string, err error) {
	p, err := feed.DecodePair(d.Pair)
	if err != nil {
		return reasonMalformed, err
	}
	if p.Ref() != d.PairRef {
		return reasonSum, errors.New("it is not the pair that was asked for")
	}
	key, err := p.Key(k.Open)
	if err != nil {
		return reasonSealed, err
	}
	defer clear(key)
	if err := belongs(p.Chain, key); err != nil {
		return reasonHalf, err
	}
	if err := k.files.put(p); err != nil {
		return reasonDisk, err
	}
	return "", nil
}

func (k *Keeper) refuse(reason string, ref feed.PairRef, err error) {
	k.refused.WithLabelValues(reason).Inc()
	k.Log.Warn("certificate's pair refused", "reason", reason, "certificate", ref.ID, "pair", ref.Sum.String(), "error", err)
}

// Reasons for which a pair is refused, as the metric names them.
const (
	reasonUnasked   = "unasked"
	reasonMalformed = "malformed"
	reasonSum       = "sum"
	reasonSealed    = "sealed"
	reasonHalf      = "half"
	reasonDisk      = "disk"
	reasonRoom      = "room"
)

// counters of a Keeper; it is their prometheus.Collector.
type counters struct {
	kept, gone, awaited, late prometheus.Counter
	refused                   *prometheus.CounterVec
}

func newCounters() counters {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	c := counters{
		kept:    counter("selvage_edge_pairs_kept_total", "Certificates with their keys that came and were kept."),
		gone:    counter("selvage_edge_pairs_gone_total", "Certificates that were asked for and are there no more."),
		awaited: counter("selvage_edge_pairs_awaited_total", "Handshakes that waited for a certificate's key."),
		late:    counter("selvage_edge_pairs_late_total", "Handshakes for which it did not come within three seconds."),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_edge_pairs_refused_total",
			Help: "Certificates with their keys that came and were not kept: not asked for, malformed, another one than was named (sum), sealed for another node, a key that is not the chain's (half), a disk that failed, or no room.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{reasonUnasked, reasonMalformed, reasonSum, reasonSealed, reasonHalf, reasonDisk, reasonRoom} {
		c.refused.WithLabelValues(reason)
	}
	return c
}

func (c *counters) all() []prometheus.Collector {
	return []prometheus.Collector{c.kept, c.gone, c.awaited, c.late, c.refused}
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
