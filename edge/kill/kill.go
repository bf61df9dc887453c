// Package kill is what the operator has switched off. It promises that asking
// costs a request one atomic load and no memory, and that a switch which is set
// in the same step as other changes is obeyed before them, one that is cleared
// after them: no entry of the feed overtakes another.
package kill

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/zone"
)

// someZone is set beside the switches while any zone is off.
const someZone zone.Kills = 1 << 63

// Switches are the kill switches as this edge knows them. The zero value has
// none set. Reading is safe for concurrent use; one goroutine writes.
type Switches struct {
	set   atomic.Uint64                   // zone.Kills
	zones atomic.Pointer[map[string]bool] // ids of zones that are off; replaced, never changed
	next  state                           // read by Begin, made true by End; owned by the writer
}

type state struct {
	set   zone.Kills
	zones map[string]bool
}

// Now returns what is switched off.
func (s *Switches) Now() zone.Kills { return zone.Kills(s.set.Load()) }

// Zone reports whether a zone is off, for who has what Now returned.
func (s *Switches) Zone(now zone.Kills, id string) bool {
	if now&someZone == 0 {
		return false
	}
	zones := s.zones.Load()
	return zones != nil && (*zones)[id]
}

// Begin reads all switches there are by scan, which hands over the rows below a
// prefix, and obeys those that are new. What is no more set is obeyed until End.
// The error names switches that this edge does not know or cannot read; the
// others count.
func (s *Switches) Begin(scan func(prefix string, row func(key string, value []byte, seq uint64) error) error) error {
	next := state{zones: map[string]bool{}}
	var failed error
	err := scan(zone.PrefixKill, func(key string, value []byte, _ uint64) error {
		name := strings.TrimPrefix(key, zone.PrefixKill)
		if _, err := zone.ReadKilled(value); err != nil {
			failed = fmt.Errorf("%s: %w", key, err)
		}
		if id, ok := zone.KilledZone(name); ok {
			next.zones[id] = true
			next.set |= someZone
		} else if k, ok := zone.FindKill(name); ok {
			next.set = next.set.With(k)
		} else {
			failed = fmt.Errorf("%s: this edge knows no such switch; is it of an older version?", key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list kill switches of the copy: %w", err)
	}
	s.next = next
	both := state{next.set | s.Now(), map[string]bool{}}
	if old := s.zones.Load(); old != nil {
		for id := range *old {
			both.zones[id] = true
		}
	}
	for id := range next.zones {
		both.zones[id] = true
	}
	s.store(both)
	return failed
}

// End makes true what Begin has read, whole.
func (s *Switches) End() { s.store(s.next) }

// store publishes the zones before the bit that leads to them.
func (s *Switches) store(now state) {
	s.zones.Store(&now.zones)
	s.set.Store(uint64(now.set))
}

var (
	descSet   = prometheus.NewDesc("selvage_edge_kill_switch", "1 while the kill switch is set on this edge.", []string{"name"}, nil)
	descZones = prometheus.NewDesc("selvage_edge_killed_zones", "Zones that are switched off on this edge.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s *Switches) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s *Switches) Collect(ch chan<- prometheus.Metric) {
	now := s.Now()
	for i := range zone.KillTable {
		v := 0.0
		if now.Has(zone.Kill(i)) {
			v = 1
		}
		ch <- prometheus.MustNewConstMetric(descSet, prometheus.GaugeValue, v, zone.KillTable[i].Name)
	}
	zones := 0
	if all := s.zones.Load(); all != nil {
		zones = len(*all)
	}
	ch <- prometheus.MustNewConstMetric(descZones, prometheus.GaugeValue, float64(zones))
}
