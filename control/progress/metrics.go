package progress

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxMissing is how many missing nodes are told by name: those that are missing
// longest. More of them are one and the same trouble.
const maxMissing = 32

type counters struct {
	delay         prometheus.Histogram
	rejectedTotal prometheus.Counter
}

func newCounters() counters {
	return counters{
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "selvage_control_delay_seconds", Help: "Time from an entry to its acknowledgement, for each entry and node that is connected here.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		rejectedTotal: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "selvage_control_rejected_total", Help: "Entries that a node stored and could not use.",
		}),
	}
}

var (
	descKnown     = prometheus.NewDesc("selvage_control_nodes_known", "Nodes that joined and were not shut out.", nil, nil)
	descConnected = prometheus.NewDesc("selvage_control_nodes_connected", "Nodes connected to this or another control process, or to a relay.", nil, nil)
	descLagging   = prometheus.NewDesc("selvage_control_nodes_lagging", "Connected nodes that have lacked an entry for more than 3 s.", nil, nil)
	descLeast     = prometheus.NewDesc("selvage_control_applied_min_seq", "Number of the slowest connected node.", nil, nil)
	descMost      = prometheus.NewDesc("selvage_control_applied_max_seq", "Number of the fastest connected node.", nil, nil)
	descLag       = prometheus.NewDesc("selvage_control_lag_seconds", "How long a connected node has lacked an entry, at most.", nil, nil)
	descMissing   = prometheus.NewDesc("selvage_control_node_missing_since_timestamp_seconds", "Since when a node is not connected, for those that are not: the 32 that are gone longest.", []string{"colo", "node"}, nil)
)

// Collect implements prometheus.Collector.
func (b *Book) Collect(ch chan<- prometheus.Metric) {
	b.delay.Collect(ch)
	b.rejectedTotal.Collect(ch)
	b.mu.Lock()
	known := b.known
	b.mu.Unlock()
	now := time.Now()
	var connected, lagging, least, most uint64
	var lag time.Duration
	var missing []Node
	for _, n := range b.view(known, 0) {
		if !n.Connected {
			missing = append(missing, n)
			continue
		}
		if connected++; connected == 1 {
			least = n.Applied
		}
		least, most = min(least, n.Applied), max(most, n.Applied)
		behind := n.Behind(now)
		if lag = max(lag, behind); behind > LagLimit {
			lagging++
		}
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descKnown, float64(len(known)))
	gauge(descConnected, float64(connected))
	gauge(descLagging, float64(lagging))
	gauge(descLeast, float64(least))
	gauge(descMost, float64(most))
	gauge(descLag, lag.Seconds())
	slices.SortFunc(missing, func(a, b Node) int {
		return cmp.Or(a.missingSince().Compare(b.missingSince()), cmp.Compare(a.ID, b.ID))
	})
	for _, n := range missing[:min(len(missing), maxMissing)] {
		gauge(descMissing, float64(n.missingSince().UnixMilli())/1000, n.Colo, n.ID)
	}
}

// missingSince is since when a node that is not connected is not: one that never
// was, since it joined.
func (n *Node) missingSince() time.Time {
	if n.Since.IsZero() {
		return n.Created
	}
	return n.Since
}
