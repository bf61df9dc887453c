// Package rollout takes changes through the rings. It promises that a change goes
// on only after each ring's hold time, in which the nodes of the ring had it and
// fared no worse than before and than the others, that it is halted otherwise
// with the reason, and that of several control planes one decides, whichever was
// started when.
package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/control/health"
	"github.com/selvage-edge/selvage/control/progress"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/rings"
)

// each is how often rollouts are looked at.
const each = time.Second

// actor is who did what a Driver does, in the audit trail.
const actor = "control"

// Rollouts are what a Driver drives: publish.Publisher.
type Rollouts interface {
	PendingRollouts(ctx context.Context) ([]publish.Watched, error)
	Release(ctx context.Context, o publish.Order) (*publish.Rollout, uint64, error)
	Halt(ctx context.Context, o publish.Order) (*publish.Rollout, uint64, error)
	Remember(ctx context.Context, r *publish.Rollout) error
}

// Config is what a Driver is made from.
type Config struct {
	Rollouts Rollouts
	// Leads reports whether this control plane is the one to decide. Two that
	// think so harm nothing: each decision is of one version of a rollout.
	Leads func() bool
	// Nodes lists the nodes that may connect, and what they did.
	Nodes func(ctx context.Context, seq uint64) ([]progress.Node, error)
	// Health is how a node was from a time on: health.Book's Since.
	Health func(node string, since time.Time) []health.Sample
	Log    *slog.Logger
}

// Driver takes changes through the rings.
type Driver struct {
	Config
	led     time.Time // since when this control plane decides; zero: it does not; used by Run
	pending prometheus.Gauge
	halted  prometheus.Counter
}

// New makes a Driver; Run drives.
func New(c Config) *Driver {
	return &Driver{
		Config:  c,
		pending: prometheus.NewGauge(prometheus.GaugeOpts{Name: "selvage_control_rollouts_pending", Help: "Changes on their way through the rings, as the control process knows that leads."}),
		halted:  prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_control_rollouts_halted_total", Help: "Changes that this control process halted on their way through the rings."}),
	}
}

// Describe implements prometheus.Collector.
func (d *Driver) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(d, ch) }

// Collect implements prometheus.Collector.
func (d *Driver) Collect(ch chan<- prometheus.Metric) {
	d.pending.Collect(ch)
	d.halted.Collect(ch)
}

// Run drives until ctx ends. What fails is tried again.
func (d *Driver) Run(ctx context.Context) error {
	tick := time.NewTicker(each)
	defer tick.Stop()
	for failing := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			err := d.turn(ctx, now)
			if err != nil && ctx.Err() == nil && !failing {
				d.Log.Error("changes that go by rings are not driven, trying again", "error", err)
			}
			failing = err != nil
		}
	}
}

// turn looks at each rollout once.
func (d *Driver) turn(ctx context.Context, now time.Time) error {
	if !d.Leads() {
		d.led = time.Time{}
		d.pending.Set(0)
		return nil
	}
	if d.led.IsZero() {
		d.led = now
	}
	all, err := d.Rollouts.PendingRollouts(ctx)
	d.pending.Set(float64(len(all)))
	if err != nil || len(all) == 0 {
		return err
	}
	nodes, err := d.Nodes(ctx, 0)
	if err != nil {
		return err
	}
	var failed []error
	for i := range all {
		err := d.drive(ctx, now, &all[i], nodes)
		if err == nil || errors.Is(err, publish.ErrMoved) || errors.Is(err, store.ErrStale) || fault.Is(err, fault.Conflict) {
			continue // somebody else was faster: the next turn sees what it is now
		}
		failed = append(failed, fmt.Errorf("stage %d: %w", all[i].N, err))
	}
	return errors.Join(failed...)
}

// drive does with one rollout what is due.
func (d *Driver) drive(ctx context.Context, now time.Time, w *publish.Watched, nodes []progress.Node) error {
	if w.Seq == 0 {
		return nil // not numbered yet
	}
	l := look{now: now, led: d.led, rollout: w, health: d.Health}
	l.sort(nodes)
	if w.Memory == nil {
		var err error
		if w.Memory, err = json.Marshal(l.before()); err != nil {
			return fmt.Errorf("encode what was before: %w", err)
		}
		return d.Rollouts.Remember(ctx, w.Rollout)
	}
	if err := json.Unmarshal(w.Memory, &l.was); err != nil {
		return fmt.Errorf("read what was before: %w", err)
	}
	if why := l.worse(); why != "" {
		_, seq, err := d.Rollouts.Halt(ctx, publish.Order{N: w.N, By: actor, Why: why, Version: w.Version})
		if err == nil {
			d.halted.Inc()
			d.Log.Error("a change is halted on its way through the rings", "stage", w.N, "zone", w.ZoneName, "ring", w.Ring.String(), "seq", seq, "why", why)
		}
		return err
	}
	if len(l.members) == 0 {
		return d.release(ctx, w, l.next(), fmt.Sprintf("no data center is in ring %s", w.Ring))
	}
	if !l.live() {
		return nil
	}
	if w.Live.IsZero() {
		w.Live = now.UTC()
		return d.Rollouts.Remember(ctx, w.Rollout)
	}
	hold := time.Duration(w.Rings.Hold(w.Ring)) * time.Second
	if now.Sub(w.Live) < hold {
		return nil
	}
	return d.release(ctx, w, l.next(), fmt.Sprintf("ring %s held it for %s and fared no worse", w.Ring, hold))
}

func (d *Driver) release(ctx context.Context, w *publish.Watched, to rings.Ring, why string) error {
	_, seq, err := d.Rollouts.Release(ctx, publish.Order{N: w.N, To: to, By: actor, Why: why, Version: w.Version})
	if err == nil {
		d.Log.Info("a change is released to the next ring", "stage", w.N, "zone", w.ZoneName, "ring", to.String(), "seq", seq, "why", why)
	}
	return err
}
