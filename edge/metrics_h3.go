package edge

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/wire/h3"
)

// h3Metrics shows what the HTTP/3 server counted.
type h3Metrics struct{ s *h3.Server }

var (
	descH3Connections = prometheus.NewDesc("selvage_h3_connections_total", "HTTP/3 connections taken.", nil, nil)
	descH3Open        = prometheus.NewDesc("selvage_h3_connections", "HTTP/3 connections open.", nil, nil)
	descH3Requests    = prometheus.NewDesc("selvage_h3_requests_total", "HTTP/3 requests that were well-formed and taken.", nil, nil)
	descH3Inline      = prometheus.NewDesc("selvage_h3_requests_inline_total", "HTTP/3 requests answered without waiting for anybody.", nil, nil)
	descH3Early       = prometheus.NewDesc("selvage_h3_requests_early_total", "HTTP/3 requests taken from early data.", nil, nil)
	descH3Ended       = prometheus.NewDesc("selvage_h3_ended_total", "HTTP/3 connections and streams ended by the edge, by reason.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (m h3Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m h3Metrics) Collect(ch chan<- prometheus.Metric) {
	s := m.s.Stats()
	ch <- prometheus.MustNewConstMetric(descH3Connections, prometheus.CounterValue, float64(s.Connections))
	ch <- prometheus.MustNewConstMetric(descH3Open, prometheus.GaugeValue, float64(s.Open))
	ch <- prometheus.MustNewConstMetric(descH3Requests, prometheus.CounterValue, float64(s.Requests))
	ch <- prometheus.MustNewConstMetric(descH3Inline, prometheus.CounterValue, float64(s.Inline))
	ch <- prometheus.MustNewConstMetric(descH3Early, prometheus.CounterValue, float64(s.Early))
	s.Each(func(r h3.Reason, n uint64) {
		ch <- prometheus.MustNewConstMetric(descH3Ended, prometheus.CounterValue, float64(n), r.String())
	})
}
