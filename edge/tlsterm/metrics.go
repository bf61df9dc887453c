package tlsterm

import (
	"crypto/tls"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	handshakes *prometheus.CounterVec
	failures   *prometheus.CounterVec
	seconds    prometheus.Histogram
}

func newMetrics() metrics {
	return metrics{
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_tls_handshakes_total", Help: "TLS handshakes completed.",
		}, []string{"version", "resumed"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_tls_handshake_failures_total", Help: "TLS handshakes that failed.",
		}, []string{"reason"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "selvage_tls_handshake_seconds", Help: "Time of completed handshakes, the client's part included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
}

func (m *metrics) done(state tls.ConnectionState, took time.Duration) {
	version := "1.2"
	if state.Version == tls.VersionTLS13 {
		version = "1.3"
	}
	m.handshakes.WithLabelValues(version, strconv.FormatBool(state.DidResume)).Inc()
	m.seconds.Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (e *Engine) Describe(out chan<- *prometheus.Desc) {
	e.metrics.handshakes.Describe(out)
	e.metrics.failures.Describe(out)
	e.metrics.seconds.Describe(out)
}

// Collect implements prometheus.Collector.
func (e *Engine) Collect(out chan<- prometheus.Metric) {
	e.metrics.handshakes.Collect(out)
	e.metrics.failures.Collect(out)
	e.metrics.seconds.Collect(out)
}
