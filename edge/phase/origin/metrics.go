package origin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/fault"
)

// metrics are the engine's counters.
type metrics struct {
	engine   *Engine
	connects prometheus.Counter
	reuses   prometheus.Counter
	retries  prometheus.Counter
	givenUp  prometheus.Counter
	hints    prometheus.Counter
	failures *prometheus.CounterVec
	wait     prometheus.Histogram
	conns    *prometheus.Desc
	streams  *prometheus.Desc
}

func newMetrics(e *Engine) *metrics {
	return &metrics{
		engine:   e,
		connects: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_origin_connects_total", Help: "Connections opened to origins."}),
		reuses:   prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_origin_reuses_total", Help: "Requests sent on a kept connection."}),
		retries:  prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_origin_retries_total", Help: "Requests sent again, or to another address."}),
		givenUp:  prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_origin_given_up_total", Help: "Connections to origins taken from slow visitors because requests stood in line."}),
		hints:    prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_origin_early_hints_total", Help: "103 answers made from what a page's latest answer linked to."}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_origin_failures_total", Help: "Requests without an answer, by kind of failure."}, []string{"kind"}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "selvage_origin_wait_seconds", Help: "Time from sending a request to the head of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 100}}),
		conns:   prometheus.NewDesc("selvage_origin_connections", "Connections to origins, by state.", []string{"state"}, nil),
		streams: prometheus.NewDesc("selvage_origin_streams", "Requests in flight on connections that speak HTTP/2.", nil, nil),
	}
}

func (m *metrics) failed(k fault.Kind) { m.failures.WithLabelValues(k.String()).Inc() }

// Describe implements prometheus.Collector.
func (e *Engine) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range e.metrics.list() {
		c.Describe(ch)
	}
	ch <- e.metrics.conns
	ch <- e.metrics.streams
}

// Collect implements prometheus.Collector.
func (e *Engine) Collect(ch chan<- prometheus.Metric) {
	for _, c := range e.metrics.list() {
		c.Collect(ch)
	}
	open, idle, streams := 0, 0, 0
	for _, p := range e.list() {
		p.mu.Lock()
		open += p.open
		idle += len(p.idle)
		for _, s := range p.sessions {
			if streams += s.busy; s.busy == 0 {
				idle++
			}
		}
		p.mu.Unlock()
	}
	ch <- prometheus.MustNewConstMetric(e.metrics.conns, prometheus.GaugeValue, float64(open-idle), "busy")
	ch <- prometheus.MustNewConstMetric(e.metrics.conns, prometheus.GaugeValue, float64(idle), "idle")
	ch <- prometheus.MustNewConstMetric(e.metrics.streams, prometheus.GaugeValue, float64(streams))
}

func (m *metrics) list() []prometheus.Collector {
	return []prometheus.Collector{m.connects, m.reuses, m.retries, m.givenUp, m.hints, m.failures, m.wait}
}
