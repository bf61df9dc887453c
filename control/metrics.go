package control

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/selvage-edge/selvage/control/publish"
)

// meter counts the API's calls.
type meter struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMeter(r *prometheus.Registry, p *publish.Publisher) *meter {
	m := &meter{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_control_api_calls_total", Help: "Answered API calls, by API, method and status.",
		}, []string{"api", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "selvage_control_api_call_seconds", Help: "Time from a call's head to its answer's end.",
			Buckets: []float64{.001, .005, .02, .05, .1, .5, 1, 5, 30},
		}, []string{"api"}),
	}
	r.MustRegister(m.calls, m.seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "selvage_control_head_seq", Help: "Number of the newest feed entry."},
			func() float64 { seq, _ := p.Head(); return float64(seq) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "selvage_control_leads", Help: "1 while this control process numbers changes; of all that share a database, one does."},
			func() float64 {
				if p.Leads() {
					return 1
				}
				return 0
			}))
	return m
}

func (m *meter) count(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(seen, r)
		m.calls.WithLabelValues(name, methodOf(r), strconv.Itoa(seen.status)).Inc()
		m.seconds.WithLabelValues(name).Observe(time.Since(start).Seconds())
	})
}

// methodOf bounds the label: a method is free text on the wire.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return r.Method
	}
	return "other"
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController and MaxBytesReader reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
