package tier

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/zone"
)

// How a zone's upper tier is chosen (docs/adr/0009-tiers.md). For each zone one
// node decides, whom all know by hashing. Every node that serves the zone tells
// it each window how far the origin is from its colo, and hears the choice. It
// moves only for what was better by betterBy for betterFor windows.
const (
	betterShare = 10                   // a tenth of the present upper tier's distance
	betterLeast = 5 * time.Millisecond // and at least
	betterFor   = 3                    // windows in a row

	activeFor    = time.Minute      // a zone is reported for so long after it was asked for
	measureEvery = 30 * time.Second // by one server of each colo
	measureTime  = 3 * time.Second
	measureLife  = 3 * time.Minute // what a colo has not repeated is forgotten

	maxActive  = 1024 // zones that this node reports; of more, those asked for last
	maxDecided = 8192 // zones that this node decides for
	maxReport  = 256  // zones in one report
	maxHeard   = 16   // reports under way

	// MaxReportBytes bounds a report and its answer.
	MaxReportBytes = 64 << 10
)

// smart is what is known of zones' distances.
type smart struct {
	mu      sync.Mutex
	active  map[string]*active  // by zone; guarded by mu
	decided map[string]*decided // by zone; guarded by mu
}

// active is a zone that this node serves.
type active struct {
	used     time.Time
	measured time.Time     // when it was tried last
	distance time.Duration // 0 = unknown
	upper    string        // as its decider said; "" = not heard yet
}

// decided is a zone whose upper tier this node chooses.
type decided struct {
	heard   time.Time
	from    map[string]distance // by colo
	upper   string
	better  string // what was better in the latest windows
	windows int    // so many
}

type distance struct {
	at time.Time
	d  time.Duration
}

func (s *smart) open() {
	s.active, s.decided = map[string]*active{}, map[string]*decided{}
}

// upper is the colo that is upper tier of a zone now.
func (t *Table) upper(v *view, zoneID string, topology *zone.Topology) string {
	if topology.Mode == zone.TopologyCustom {
		for _, colo := range topology.Parents {
			if t.has(v, colo) {
				return colo
			}
		}
		return t.cfg.Self.Colo // none of them is there: the origin is asked
	}
	if chosen := t.smart.touch(zoneID); chosen != "" && t.has(v, chosen) {
		return chosen
	}
	return t.nearest(v, zoneID, "")
}

// touch notes that a zone is served here and returns its upper tier as far as
// it was heard.
func (s *smart) touch(zoneID string) string {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.active[zoneID]
	if a == nil {
		if len(s.active) >= maxActive {
			s.forgetOldest()
		}
		a = &active{}
		s.active[zoneID] = a
	}
	a.used = now
	return a.upper
}

// forgetOldest makes room among active; called under mu.
func (s *smart) forgetOldest() {
	oldest, at := "", time.Time{}
	for id, a := range s.active {
		if oldest == "" || a.used.Before(at) {
			oldest, at = id, a.used
		}
	}
	delete(s.active, oldest)
}

// report is what one node tells another each window, in JSON.
type report struct {
	Zones []zoneDistance `json:"zones"`
}

type zoneDistance struct {
	Zone string `json:"zone"`
	// Micros is the way to the origin and back; 0 = not known here, -1 = it
	// cannot be reached from here.
	Micros int64 `json:"us,omitempty"`
}

// choices answers a report.
type choices struct {
	Upper map[string]string `json:"upper"` // zone → colo
}

// decide is one window: measure, tell the deciders, hear their choices, and
// choose for those zones that this node decides for.
func (t *Table) decide(ctx context.Context) {
	t.choose(time.Now())
	if t.cfg.Consult == nil {
		return
	}
	t.measure(ctx)
	v := t.view.Load()
	reports := map[*Peer]*report{} // nil: to this node
	now := time.Now()
	t.smart.mu.Lock()
	for id, a := range t.smart.active {
		if now.Sub(a.used) > activeFor {
			delete(t.smart.active, id)
			continue
		}
		to := t.decider(v, id)
		if reports[to] == nil {
			reports[to] = &report{}
		}
		if r := reports[to]; len(r.Zones) < maxReport {
			r.Zones = append(r.Zones, zoneDistance{id, a.distance.Microseconds()})
		}
	}
	t.smart.mu.Unlock()
	var work sync.WaitGroup
	slots := make(chan struct{}, maxHeard)
	for to, r := range reports {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			t.consult(ctx, to, r)
		})
	}
	work.Wait()
}

// decider is the node that chooses a zone's upper tier; nil = this one.
func (t *Table) decider(v *view, zoneID string) *Peer {
	var best *Peer
	key := hashText(zoneID)
	most := score(t.self, key)
	for _, peers := range v.colos {
		for _, p := range peers {
			if s := score(p.hash, key); s > most && p.up.Load() {
				best, most = p, s
			}
		}
	}
	return best
}

func (t *Table) consult(ctx context.Context, to *Peer, r *report) {
	said := choices{}
	if to == nil {
		said = t.hear(t.cfg.Self.Colo, r)
	} else if err := t.ask(ctx, to, r, &said); err != nil {
		t.counts.unheard.Add(1)
		t.log.Debug("upper tiers stay as they are: the edge that chooses them does not answer", "node", to.ID, "err", err)
		t.Failed(to)
		return
	}
	t.smart.mu.Lock()
	defer t.smart.mu.Unlock()
	for id, colo := range said.Upper {
		if a := t.smart.active[id]; a != nil {
			a.upper = colo
		}
	}
}

func (t *Table) ask(ctx context.Context, to *Peer, r *report, said *choices) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	ctx, done := to.Asking(ctx)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Window)
	defer cancel()
	answer, err := t.cfg.Consult(ctx, &to.Node, text)
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, said)
}

// Hear takes in the report of a node and answers with the choices.
func (t *Table) Hear(nodeID string, text []byte) ([]byte, error) {
	p := t.view.Load().byID[nodeID]
	if p == nil || len(text) > MaxReportBytes {
		return nil, fmt.Errorf("tier: a report of %d bytes from %.40q", len(text), nodeID)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("tier: report: %w", err)
	}
	if len(r.Zones) > maxReport {
		return nil, fmt.Errorf("tier: report of %d zones, at most %d", len(r.Zones), maxReport)
	}
	return json.Marshal(t.hear(p.Colo, &r))
}

func (t *Table) hear(colo string, r *report) choices {
	now := time.Now()
	v := t.view.Load()
	said := choices{Upper: make(map[string]string, len(r.Zones))}
	s := &t.smart
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, z := range r.Zones {
		d := s.decided[z.Zone]
		if d == nil {
			if len(s.decided) >= maxDecided || len(z.Zone) > maxZoneBytes {
				continue
			}
			d = &decided{from: map[string]distance{}, upper: t.nearest(v, z.Zone, "")}
			s.decided[z.Zone] = d
		}
		d.heard = now
		switch {
		case z.Micros > 0:
			d.note(colo, time.Duration(min(z.Micros, int64(time.Minute/time.Microsecond)))*time.Microsecond, now)
		case z.Micros < 0:
			delete(d.from, colo)
		}
		said.Upper[z.Zone] = d.upper
	}
	return said
}

const maxZoneBytes = 64

// note takes a colo's distance in, smoothed.
func (d *decided) note(colo string, far time.Duration, now time.Time) {
	if old, ok := d.from[colo]; ok && now.Sub(old.at) < measureLife {
		far = (old.d*7 + far*3) / 10
	}
	d.from[colo] = distance{now, far}
}

// choose ends a window for the zones that this node decides for.
func (t *Table) choose(now time.Time) {
	v := t.view.Load()
	s := &t.smart
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, d := range s.decided {
		if now.Sub(d.heard) > measureLife {
			delete(s.decided, id)
			continue
		}
		for colo, far := range d.from {
			if now.Sub(far.at) > measureLife {
				delete(d.from, colo)
			}
		}
		if !t.has(v, d.upper) {
			d.upper, d.better, d.windows = cmp.Or(d.best(t, v), t.nearest(v, id, "")), "", 0
			continue
		}
		if d.step(d.best(t, v)) {
			t.counts.moves.Add(1)
			t.log.Info("upper tier moves", "zone", id, "colo", d.upper, "ms", d.from[d.upper].d.Milliseconds())
		}
	}
}

// best is the colo nearest to the origin of those that can be asked; "" while
// none has measured.
func (d *decided) best(t *Table, v *view) string {
	found, least := "", time.Duration(math.MaxInt64)
	for colo, far := range d.from {
		if (far.d < least || far.d == least && colo < found) && t.has(v, colo) {
			found, least = colo, far.d
		}
	}
	return found
}

// step counts a window in which best was nearest, and moves when it was so
// clearly and often enough.
func (d *decided) step(best string) (moved bool) {
	present, known := d.from[d.upper]
	if best == "" || best == d.upper || known && d.from[best].d+max(present.d/betterShare, betterLeast) > present.d {
		d.better, d.windows = "", 0
		return false
	}
	if d.better != best {
		d.better, d.windows = best, 0
	}
	if d.windows++; d.windows < betterFor {
		return false
	}
	d.upper, d.better, d.windows = best, "", 0
	return true
}

// measure finds out how far origins are, of zones that this node is the one of
// its colo to measure for, a few at a time.
func (t *Table) measure(ctx context.Context) {
	if t.cfg.Measure == nil {
		return
	}
	v := t.view.Load()
	now := time.Now()
	var due []string
	t.smart.mu.Lock()
	for id, a := range t.smart.active {
		if now.Sub(a.measured) >= measureEvery && len(t.owners(nil, v, hashText(id))) == 0 {
			a.measured = now
			due = append(due, id)
		}
	}
	t.smart.mu.Unlock()
	slices.Sort(due)
	var work sync.WaitGroup
	slots := make(chan struct{}, maxHeard)
	for _, id := range due {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			limited, cancel := context.WithTimeout(ctx, min(measureTime, t.cfg.Window))
			defer cancel()
			far, err := t.cfg.Measure(limited, id)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				far = -time.Microsecond
			}
			t.smart.mu.Lock()
			defer t.smart.mu.Unlock()
			if a := t.smart.active[id]; a != nil {
				a.distance = far
			}
		})
	}
	work.Wait()
}
