package tier

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts is what a Table counts.
type counts struct {
	probes, misses, starved, losses, returns, unheard, moves atomic.Uint64
}

var (
	descNodes   = prometheus.NewDesc("selvage_tier_nodes", "Other edges by whether they can be asked: up, gone, or closed (without a listener for edges).", []string{"state"}, nil)
	descProbes  = prometheus.NewDesc("selvage_tier_probes_total", "Probes of other edges.", nil, nil)
	descMisses  = prometheus.NewDesc("selvage_tier_probe_misses_total", "Probes that were not answered in time.", nil, nil)
	descStarved = prometheus.NewDesc("selvage_tier_probes_starved_total", "Probes that tell nothing since this machine was too busy to time them.", nil, nil)
	descLosses  = prometheus.NewDesc("selvage_tier_losses_total", "Times another edge was taken out because it did not answer.", nil, nil)
	descReturns = prometheus.NewDesc("selvage_tier_returns_total", "Times another edge came back.", nil, nil)
	descUnheard = prometheus.NewDesc("selvage_tier_unheard_total", "Reports of distances that the edge which chooses upper tiers did not answer.", nil, nil)
	descMoves   = prometheus.NewDesc("selvage_tier_moves_total", "Times this edge chose another upper tier for a zone.", nil, nil)
	descDecided = prometheus.NewDesc("selvage_tier_zones_decided", "Zones whose upper tier this edge chooses.", nil, nil)
	descSlowest = prometheus.NewDesc("selvage_tier_probe_seconds_max", "Way to the farthest edge of the own data center and back.", nil, nil)
)

// Describe implements prometheus.Collector.
func (t *Table) Describe(to chan<- *prometheus.Desc) { prometheus.DescribeByCollect(t, to) }

// Collect implements prometheus.Collector.
func (t *Table) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v *atomic.Uint64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v.Load()))
	}
	v := t.view.Load()
	up, gone, closed, slowest := 0, 0, 0, int64(0)
	for _, p := range v.byID {
		switch {
		case len(p.Addrs) == 0:
			closed++
		case p.up.Load():
			up++
		default:
			gone++
		}
		if p.near {
			slowest = max(slowest, p.rtt.Load())
		}
	}
	gauge(descNodes, float64(up), "up")
	gauge(descNodes, float64(gone), "gone")
	gauge(descNodes, float64(closed), "closed")
	gauge(descSlowest, float64(slowest)/1e9)
	count(descProbes, &t.counts.probes)
	count(descMisses, &t.counts.misses)
	count(descStarved, &t.counts.starved)
	count(descLosses, &t.counts.losses)
	count(descReturns, &t.counts.returns)
	count(descUnheard, &t.counts.unheard)
	count(descMoves, &t.counts.moves)
	t.smart.mu.Lock()
	decided := len(t.smart.decided)
	t.smart.mu.Unlock()
	gauge(descDecided, float64(decided))
}
