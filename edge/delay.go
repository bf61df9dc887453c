package edge

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/feed"
)

// delays measures how long entries take from the control plane to here, by both
// machines' clocks. Used by the subscriber's goroutine.
type delays struct {
	seconds prometheus.Histogram
	noted   []time.Time // of entries that are not settled yet: those of one batch
}

func newDelays() *delays {
	return &delays{seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "selvage_edge_delay_seconds", Help: "Time from an entry at the control plane until this edge serves by it.",
		Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	})}
}

// note is the subscriber's OnEntry.
func (d *delays) note(next func(*feed.Entry) error) func(*feed.Entry) error {
	return func(e *feed.Entry) error {
		d.noted = append(d.noted, e.Time)
		return next(e)
	}
}

// settle is the subscriber's OnBatch.
func (d *delays) settle(next func(func(uint64, error))) func(func(uint64, error)) {
	return func(reject func(uint64, error)) {
		next(reject)
		now := time.Now()
		for _, at := range d.noted {
			d.seconds.Observe(max(0, now.Sub(at)).Seconds())
		}
		d.noted = d.noted[:0]
	}
}
