package shelf

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/snapshot"
)

type metrics struct {
	seconds  *prometheus.HistogramVec
	failures *prometheus.CounterVec
}

func newMetrics() metrics {
	return metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "selvage_zones_load_seconds", Help: "Time to read a zone from the copy and compile it, because it was asked for, for requests (http) or queries (dns).",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}, []string{"side"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_zones_load_failed_total", Help: "Zones that could not be read or compiled when they were asked for."}, []string{"side"}),
	}
}

var (
	descZones   = prometheus.NewDesc("selvage_edge_zones", "Zones of the copy, when its names were last read.", nil, nil)
	descHot     = prometheus.NewDesc("selvage_zones_compiled", "Zones that are compiled and in memory.", nil, nil)
	descBytes   = prometheus.NewDesc("selvage_zones_compiled_bytes", "About what they have of memory, held against zones_cache_bytes.", nil, nil)
	descEvicted = prometheus.NewDesc("selvage_zones_evicted_total", "Zones that left memory for others.", nil, nil)
	descHeld    = prometheus.NewDesc("selvage_zones_held", "Zones served at their last good state, because the newest cannot be used.", nil, nil)
)

// Count is how many zones the copy had when its names were last read.
func (s *Shelf) Count() int { return int(s.count.Load()) }

// IDs are the ids of the zones that are in memory, in no order.
func (s *Shelf) IDs() []string {
	var ids []string
	s.zones.Each(func(_ string, z *snapshot.Zone) { ids = append(ids, z.ID) })
	return ids
}

// Hot is how many zones are compiled and in memory.
func (s *Shelf) Hot() int {
	n, _, _ := s.zones.Usage()
	return n
}

// Describe implements prometheus.Collector.
func (s *Shelf) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s *Shelf) Collect(ch chan<- prometheus.Metric) {
	count, bytes, evicted := s.zones.Usage()
	s.held.mu.Lock()
	held := len(s.held.zones)
	s.held.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(descZones, prometheus.GaugeValue, float64(s.count.Load()))
	ch <- prometheus.MustNewConstMetric(descHot, prometheus.GaugeValue, float64(count))
	ch <- prometheus.MustNewConstMetric(descBytes, prometheus.GaugeValue, float64(bytes))
	ch <- prometheus.MustNewConstMetric(descEvicted, prometheus.CounterValue, float64(evicted))
	ch <- prometheus.MustNewConstMetric(descHeld, prometheus.GaugeValue, float64(held))
	s.seconds.Collect(ch)
	s.failures.Collect(ch)
}
