package edge

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/wire/h2"
	"github.com/selvage-edge/selvage/wire/h3"
)

// wireMetrics shows what the servers of HTTP/2 and HTTP/3 counted.
type wireMetrics struct {
	h2 *h2.Server
	h3 *h3.Server
}

// wireDescs is what both of them count.
type wireDescs struct{ connections, open, requests, ended *prometheus.Desc }

var (
	descH2 = wireDescs{
		prometheus.NewDesc("selvage_h2_connections_total", "HTTP/2 connections taken.", nil, nil),
		prometheus.NewDesc("selvage_h2_connections", "HTTP/2 connections open.", nil, nil),
		prometheus.NewDesc("selvage_h2_requests_total", "HTTP/2 requests that were well-formed and taken.", nil, nil),
		prometheus.NewDesc("selvage_h2_ended_total", "HTTP/2 connections and streams ended by the edge, by reason.", []string{"reason"}, nil),
	}
	descH3 = wireDescs{
		prometheus.NewDesc("selvage_h3_connections_total", "HTTP/3 connections taken.", nil, nil),
		prometheus.NewDesc("selvage_h3_connections", "HTTP/3 connections open.", nil, nil),
		prometheus.NewDesc("selvage_h3_requests_total", "HTTP/3 requests that were well-formed and taken.", nil, nil),
		prometheus.NewDesc("selvage_h3_ended_total", "HTTP/3 connections and streams ended by the edge, by reason.", []string{"reason"}, nil),
	}
	descH3Inline = prometheus.NewDesc("selvage_h3_requests_inline_total", "HTTP/3 requests answered without waiting for anybody.", nil, nil)
	descH3Early  = prometheus.NewDesc("selvage_h3_requests_early_total", "HTTP/3 requests taken from early data.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m wireMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m wireMetrics) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	shared := func(d *wireDescs, connections, requests uint64, open int64) {
		count(d.connections, connections)
		count(d.requests, requests)
		ch <- prometheus.MustNewConstMetric(d.open, prometheus.GaugeValue, float64(open))
	}
	two, three := m.h2.Stats(), m.h3.Stats()
	shared(&descH2, two.Connections, two.Requests, two.Open)
	two.Each(func(r h2.Reason, n uint64) { count(descH2.ended, n, r.String()) })
	shared(&descH3, three.Connections, three.Requests, three.Open)
	three.Each(func(r h3.Reason, n uint64) { count(descH3.ended, n, r.String()) })
	count(descH3Inline, three.Inline)
	count(descH3Early, three.Early)
}
