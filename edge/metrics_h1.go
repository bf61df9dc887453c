package edge

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/wire/h1"
)

// h1Metrics shows what the HTTP/1.1 server counted.
type h1Metrics struct{ s *h1.Server }

var descH1Ended = prometheus.NewDesc("selvage_h1_ended_total", "HTTP/1.1 connections ended by the edge because of a slow visitor, by reason.", []string{"reason"}, nil)

// Describe implements prometheus.Collector.
func (m h1Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m h1Metrics) Collect(ch chan<- prometheus.Metric) {
	m.s.Each(func(r h1.Reason, n uint64) {
		ch <- prometheus.MustNewConstMetric(descH1Ended, prometheus.CounterValue, float64(n), r.String())
	})
}
