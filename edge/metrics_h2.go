package edge

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/wire/h2"
)

// h2Metrics shows what the HTTP/2 server counted.
type h2Metrics struct{ s *h2.Server }

var (
	descH2Connections = prometheus.NewDesc("selvage_h2_connections_total", "HTTP/2 connections taken.", nil, nil)
	descH2Open        = prometheus.NewDesc("selvage_h2_connections", "HTTP/2 connections open.", nil, nil)
	descH2Requests    = prometheus.NewDesc("selvage_h2_requests_total", "HTTP/2 requests that were well-formed and taken.", nil, nil)
	descH2Ended       = prometheus.NewDesc("selvage_h2_ended_total", "HTTP/2 connections and streams ended by the edge, by reason.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (m h2Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m h2Metrics) Collect(ch chan<- prometheus.Metric) {
	s := m.s.Stats()
	ch <- prometheus.MustNewConstMetric(descH2Connections, prometheus.CounterValue, float64(s.Connections))
	ch <- prometheus.MustNewConstMetric(descH2Open, prometheus.GaugeValue, float64(s.Open))
	ch <- prometheus.MustNewConstMetric(descH2Requests, prometheus.CounterValue, float64(s.Requests))
	s.Each(func(r h2.Reason, n uint64) {
		ch <- prometheus.MustNewConstMetric(descH2Ended, prometheus.CounterValue, float64(n), r.String())
	})
}
