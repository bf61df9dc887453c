package feed

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// fetchBounds are the upper bounds of the histogram of fetches, in seconds.
var fetchBounds = [...]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 3}

type replicaCounters struct {
	held, fetched, failed, bytes, dropped, unkept, away atomic.Uint64

	nanos   atomic.Uint64
	buckets [len(fetchBounds) + 1]atomic.Uint64
}

func (c *replicaCounters) took(d time.Duration) {
	i := 0
	for i < len(fetchBounds) && d.Seconds() > fetchBounds[i] {
		i++
	}
	c.buckets[i].Add(1)
	c.nanos.Add(uint64(d))
}

var replicaDesc = struct{ reads, seconds, fetched, groups, held, dropped, unkept, away *prometheus.Desc }{
	prometheus.NewDesc("selvage_replica_reads_total", "Reads of a partial replica: of values that were held, that were fetched, or that could not be had (failed).", []string{"values"}, nil),
	prometheus.NewDesc("selvage_replica_fetch_seconds", "Time of reads whose values were fetched.", nil, nil),
	prometheus.NewDesc("selvage_replica_fetched_bytes_total", "Bytes of values that relays sent.", nil, nil),
	prometheus.NewDesc("selvage_replica_held_zones", "Zones of which values are held.", nil, nil),
	prometheus.NewDesc("selvage_replica_held_bytes", "Bytes of values held, with what each costs beside them.", nil, nil),
	prometheus.NewDesc("selvage_replica_dropped_zones_total", "Zones whose values were dropped to hold no more than replica_bytes.", nil, nil),
	prometheus.NewDesc("selvage_replica_unkept_total", "Answers that were used and not kept: the copy takes none while a snapshot arrives, or the disk is full.", nil, nil),
	prometheus.NewDesc("selvage_replica_parent_failures_total", "Times a parent could not be had for values, or answered wrongly.", nil, nil),
}

// Describe implements prometheus.Collector.
func (r *Replica) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(r, ch) }

// Collect implements prometheus.Collector.
func (r *Replica) Collect(ch chan<- prometheus.Metric) {
	c := &r.counters
	for name, v := range map[string]*atomic.Uint64{"held": &c.held, "fetched": &c.fetched, "failed": &c.failed} {
		ch <- prometheus.MustNewConstMetric(replicaDesc.reads, prometheus.CounterValue, float64(v.Load()), name)
	}
	buckets, total := make(map[float64]uint64, len(fetchBounds)), uint64(0)
	for i := range c.buckets {
		total += c.buckets[i].Load()
		if i < len(fetchBounds) {
			buckets[fetchBounds[i]] = total
		}
	}
	ch <- prometheus.MustNewConstHistogram(replicaDesc.seconds, total, time.Duration(c.nanos.Load()).Seconds(), buckets)
	groups, held := r.cfg.Copy.held.size()
	gauge(ch, replicaDesc.groups, float64(groups))
	gauge(ch, replicaDesc.held, float64(held))
	counter(ch, replicaDesc.fetched, &c.bytes)
	counter(ch, replicaDesc.dropped, &c.dropped)
	counter(ch, replicaDesc.unkept, &c.unkept)
	counter(ch, replicaDesc.away, &c.away)
}
