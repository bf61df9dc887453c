package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/selvage-edge/selvage/internal/atomicfile"
)

// StateFile is what edge.json holds: where a ready edge is found.
type StateFile struct {
	Ready   bool   `json:"ready"`
	PID     int    `json:"pid"`
	Colo    string `json:"colo"`
	Node    string `json:"node"`
	HTTP    string `json:"http"`
	HTTPS   string `json:"https"`
	DNS     string `json:"dns"`
	Metrics string `json:"metrics"`
	Peer    string `json:"peer,omitempty"`
	Relay   string `json:"relay,omitempty"`
}

func (e *Edge) statePath() string { return filepath.Join(e.cfg.State, "edge.json") }

func (e *Edge) writeState() error {
	text, err := json.Marshal(StateFile{
		Ready: true, PID: os.Getpid(), Colo: e.cfg.Colo, Node: e.identity.NodeID,
		HTTP: addrOf(e.sockets.http), HTTPS: addrOf(e.sockets.https), DNS: e.sockets.dnsUDP.LocalAddr().String(),
		Metrics: addrOf(e.sockets.metrics), Peer: addrOf(e.sockets.peer), Relay: addrOf(e.sockets.relay),
	})
	if err != nil {
		return fmt.Errorf("write edge.json: %w", err)
	}
	return atomicfile.Write(e.statePath(), append(text, '\n'), 0o644)
}

func (e *Edge) removeState() error {
	if err := os.Remove(e.statePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove edge.json: %w", err)
	}
	return nil
}

// adminTimeout bounds a scrape, a health check or a profile.
const adminTimeout = 60 * time.Second

// serveAdmin answers /metrics, /healthz and /readyz from the first moment on.
// What it returns stops it.
func (e *Edge) serveAdmin(ctx context.Context) func() error {
	e.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), e.counters)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", e.readyz)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	server := &http.Server{Handler: mux, ReadTimeout: adminTimeout, WriteTimeout: adminTimeout, MaxHeaderBytes: 16 << 10}
	served := make(chan error, 1)
	go func() { served <- server.Serve(e.sockets.metrics) }()
	return func() error {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		err := server.Shutdown(stopping)
		if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
			err = errors.Join(err, serveErr)
		}
		return err
	}
}

// readyz says whether this edge should be given visitors, and how old its
// configuration is: an edge that lost its feed serves on and says so.
func (e *Edge) readyz(w http.ResponseWriter, _ *http.Request) {
	state := e.state.get()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if state != ready {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, state)
		return
	}
	s := e.feed.Status()
	fmt.Fprintf(w, "%s\nzones %d\napplied %d\nhead %d\nfeed_connected %t\n", state, e.zones.Count(), s.Applied, s.Head, s.Connected)
}

// registerEngines adds the metrics of what build made.
func (e *Edge) registerEngines() {
	e.registry.MustRegister(
		e.zones, e.dns, e.tls, e.origin, &e.kills, e.cache, e.feed, e.up, h1Metrics{e.h1}, wireMetrics{e.h2, e.h3},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "selvage_edge_state", Help: "0 loading, 1 ready, 2 draining."}, func() float64 { return float64(e.state.get()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "selvage_edge_staged_keys", Help: "Keys that this edge reads from changes on their way through the rings."}, func() float64 { return float64(e.applier.staged.Staged()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "selvage_edge_connections", Help: "Visitors' connections open."}, func() float64 { return float64(e.connections.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "selvage_edge_connections_refused_total", Help: "Visitors' connections closed at once because there were too many."}, func() float64 { return float64(e.overflow.Load()) }),
	)
	e.registry.MustRegister(e.tiers, &e.asks, e.delays.seconds, e.pairs)
	if e.peer != nil {
		e.registry.MustRegister(e.peer)
	}
	if e.relay != nil {
		e.registry.MustRegister(e.relay)
	}
	if e.replica != nil {
		e.registry.MustRegister(e.replica)
	}
	if e.access == nil {
		return
	}
	e.registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "selvage_access_log_lines_total", Help: "Access log lines given to the file."}, func() float64 { return float64(e.access.Written()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "selvage_access_log_dropped_total", Help: "Access log lines dropped because a ring was full."}, func() float64 { return float64(e.access.Dropped()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "selvage_access_log_failed_total", Help: "Writes of the access log that failed."}, func() float64 { return float64(e.access.Failed()) }),
	)
}
