package edge

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/feed"
)

// What waits for the end of its batch is delayed until then.
func TestDelayLastsUntilTheBatchIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDelays()
		note := d.note(func(*feed.Entry) error { return nil })
		settle := d.settle(func(func(uint64, error)) { time.Sleep(time.Second) })
		for range 2 {
			if err := note(&feed.Entry{Time: time.Now()}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		settle(nil)
		settle(nil)
		r := prometheus.NewRegistry()
		r.MustRegister(d.seconds)
		all, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if h := all[0].Metric[0].GetHistogram(); h.GetSampleCount() != 2 || h.GetSampleSum() != 5 {
			t.Errorf("%d delays of %g s in all, want 2 of 3 and 2 s", h.GetSampleCount(), h.GetSampleSum())
		}
	})
}
