package edge

import (
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/request"
)

// bucketBounds are the upper bounds of the duration histogram, in seconds.
var bucketBounds = [...]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 100}

const (
	statusMax   = 600
	cacheKinds  = int(request.CacheUpdating) + 1
	tierKinds   = int(request.TierOrigin) + 1
	bucketCount = len(bucketBounds) + 1
)

// counterShard is one group of counters; connections are spread over the
// groups so that two processors rarely write to one cache line.
type counterShard struct {
	bytes    atomic.Uint64
	nanos    atomic.Uint64
	status   [statusMax]atomic.Uint64
	cache    [cacheKinds]atomic.Uint64
	tier     [tierKinds]atomic.Uint64
	buckets  [bucketCount]atomic.Uint64
	rowNanos [request.MaxRows]atomic.Uint64
	refused  [statusMax]atomic.Uint64
	own      atomic.Uint64 // answers of 5xx that are this edge's fault
	// What most requests have is counted together: answers of 200, and how many
	// ran just these of the first rows.
	ok      [cacheKinds][tierKinds]atomic.Uint64
	rowSets [1 << setRows]atomic.Uint64
	rowRuns [request.MaxRows]atomic.Uint64 // of the others
}

// setRows is how many rows a set has.
const setRows = 8

// counters are summed when somebody reads them.
type counters struct {
	shards []counterShard
	broken [request.MaxRows]atomic.Uint64
}

func newCounters() *counters {
	return &counters{shards: make([]counterShard, runtime.GOMAXPROCS(0))}
}

func (c *counters) shard(n uint32) *counterShard { return &c.shards[n%uint32(len(c.shards))] }

func (c *counters) broke(row int) { c.broken[row].Add(1) }

func (c *counters) refused(n uint32, status int) {
	c.shard(n).refused[min(max(status, 0), statusMax-1)].Add(1)
}

// rows counts the rows that a request ran, by the nanoseconds of each.
func (c *counters) rows(n uint32, marks []uint32) {
	s, set := c.shard(n), 0
	for i, ns := range marks {
		if ns == 0 {
			continue
		}
		s.rowNanos[i].Add(uint64(ns))
		if i < setRows {
			set |= 1 << i
		} else {
			s.rowRuns[i].Add(1)
		}
	}
	s.rowSets[set].Add(1)
}

// runs is how often a row ran.
func (c *counters) runs(row int) float64 {
	n := c.sum(func(s *counterShard) *atomic.Uint64 { return &s.rowRuns[row] })
	if row < setRows {
		for set := range 1 << setRows {
			if set&(1<<row) != 0 {
				n += c.sum(func(s *counterShard) *atomic.Uint64 { return &s.rowSets[set] })
			}
		}
	}
	return n
}

func (c *counters) done(n uint32, status int, cache request.CacheStatus, tier request.Tier, bytes int64, took time.Duration) {
	s := c.shard(n)
	if status == 200 {
		s.ok[cache][tier].Add(1)
	} else {
		s.status[min(max(status, 0), statusMax-1)].Add(1)
		s.cache[cache].Add(1)
		s.tier[tier].Add(1)
	}
	s.bytes.Add(uint64(max(bytes, 0)))
	s.nanos.Add(uint64(took))
	seconds := took.Seconds()
	b := 0
	for b < len(bucketBounds) && seconds > bucketBounds[b] {
		b++
	}
	s.buckets[b].Add(1)
}

func (c *counters) sum(pick func(*counterShard) *atomic.Uint64) float64 {
	var n uint64
	for i := range c.shards {
		n += pick(&c.shards[i]).Load()
	}
	return float64(n)
}

var (
	descRequests = prometheus.NewDesc("selvage_edge_requests_total", "Requests answered, by status code.", []string{"status"}, nil)
	descRefused  = prometheus.NewDesc("selvage_edge_requests_refused_total", "Requests refused as malformed before the pipeline, by status code.", []string{"status"}, nil)
	descCache    = prometheus.NewDesc("selvage_edge_requests_by_cache_total", "Requests answered, by CF-Cache-Status.", []string{"cache_status"}, nil)
	descTier     = prometheus.NewDesc("selvage_edge_requests_by_tier_total", "Requests answered, by who answered.", []string{"tier"}, nil)
	descSent     = prometheus.NewDesc("selvage_edge_sent_bytes_total", "Body bytes sent to visitors.", nil, nil)
	descDuration = prometheus.NewDesc("selvage_edge_request_duration_seconds", "Time from request head read to answer sent.", nil, nil)
	descRowTime  = prometheus.NewDesc("selvage_edge_phase_seconds_total", "Time spent in a row of the pipeline.", []string{"phase"}, nil)
	descRowRuns  = prometheus.NewDesc("selvage_edge_phase_runs_total", "Times a row of the pipeline ran.", []string{"phase"}, nil)
	descBroken   = prometheus.NewDesc("selvage_edge_phase_broken_total", "Times a row failed by itself.", []string{"phase"}, nil)
)

// Describe implements prometheus.Collector.
func (c *counters) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *counters) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	var ok float64
	var okCache [cacheKinds]float64
	var okTier [tierKinds]float64
	for k := range okCache {
		for t := range okTier {
			v := c.sum(func(s *counterShard) *atomic.Uint64 { return &s.ok[k][t] })
			ok, okCache[k], okTier[t] = ok+v, okCache[k]+v, okTier[t]+v
		}
	}
	for status := range statusMax {
		v := c.sum(func(s *counterShard) *atomic.Uint64 { return &s.status[status] })
		if status == 200 {
			v = ok
		}
		if v > 0 {
			counter(descRequests, v, strconv.Itoa(status))
		}
		if v := c.sum(func(s *counterShard) *atomic.Uint64 { return &s.refused[status] }); v > 0 {
			counter(descRefused, v, strconv.Itoa(status))
		}
	}
	for k := range cacheKinds {
		counter(descCache, okCache[k]+c.sum(func(s *counterShard) *atomic.Uint64 { return &s.cache[k] }), request.CacheStatus(k).String())
	}
	for k := range tierKinds {
		counter(descTier, okTier[k]+c.sum(func(s *counterShard) *atomic.Uint64 { return &s.tier[k] }), request.Tier(k).String())
	}
	for i := range onRequest {
		counter(descRowTime, c.sum(func(s *counterShard) *atomic.Uint64 { return &s.rowNanos[i] })/1e9, onRequest[i].name)
		counter(descRowRuns, c.runs(i), onRequest[i].name)
		counter(descBroken, float64(c.broken[i].Load()), onRequest[i].name)
	}
	counter(descSent, c.sum(func(s *counterShard) *atomic.Uint64 { return &s.bytes }))
	c.collectDuration(ch)
}

func (c *counters) collectDuration(ch chan<- prometheus.Metric) {
	buckets := make(map[float64]uint64, len(bucketBounds))
	var total uint64
	for b := range bucketCount {
		total += uint64(c.sum(func(s *counterShard) *atomic.Uint64 { return &s.buckets[b] }))
		if b < len(bucketBounds) {
			buckets[bucketBounds[b]] = total
		}
	}
	seconds := c.sum(func(s *counterShard) *atomic.Uint64 { return &s.nanos }) / 1e9
	ch <- prometheus.MustNewConstHistogram(descDuration, total, seconds, buckets)
}
