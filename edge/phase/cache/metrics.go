package cache

import (
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/phase/cache/slab"
	"github.com/selvage-edge/selvage/edge/request"
)

// Stats is what the engine counts, at one moment.
type Stats struct {
	Objects   int
	Bytes     int64 // of stored objects, held against the budget
	Pinned    int64 // bytes of objects that are evicted but still being read
	Fills     int64 // in flight
	Filling   int64 // bytes that they buffer
	Served    [request.CacheUpdating + 1]uint64
	Evictions uint64
	Coalesced uint64 // requests that shared another's fetch
	Refused   uint64 // requests that found the table of fills full
	// TurnedAway are objects that were not stored, because their zone's are hardly
	// ever asked for again and others' are.
	TurnedAway uint64
	Coded      uint64 // stored bodies that were compressed
	Uncoded    uint64 // that could not be: their encoder failed
	Memory     slab.Stats
}

// countServed counts an answer with an object, in any shard.
func (e *Engine) countServed(o *object, status request.CacheStatus) {
	e.shards[uint64(uintptr(unsafe.Pointer(o))>>7)&e.mask].served[status].Add(1)
}

// Stats reads all counters.
func (e *Engine) Stats() Stats {
	st := Stats{
		Bytes: e.used.Load(), Pinned: e.pinned(), Fills: e.fills.Load(), Filling: e.filling.Load(), Evictions: e.evictions.Load(),
		Coalesced: e.coalesced.Load(), Refused: e.refused.Load(), TurnedAway: e.turnedAway.Load(), Coded: e.coded.Load(), Uncoded: e.uncoded.Load(), Memory: e.slab.Stats(),
	}
	for i := range e.shards {
		s := &e.shards[i]
		for j := range s.served {
			st.Served[j] += s.served[j].Load()
		}
		s.mu.RLock()
		st.Objects += s.queues.Len()
		s.mu.RUnlock()
	}
	return st
}

var (
	descObjects   = prometheus.NewDesc("selvage_cache_objects", "Objects stored.", nil, nil)
	descBytes     = prometheus.NewDesc("selvage_cache_bytes", "Bytes of stored objects, with heads and bookkeeping.", nil, nil)
	descBudget    = prometheus.NewDesc("selvage_cache_budget_bytes", "Bytes that stored objects may use.", nil, nil)
	descPinned    = prometheus.NewDesc("selvage_cache_pinned_bytes", "Bytes of evicted objects that are still being read.", nil, nil)
	descFills     = prometheus.NewDesc("selvage_cache_fills", "Fetches in flight on behalf of the cache.", nil, nil)
	descFilling   = prometheus.NewDesc("selvage_cache_fill_bytes", "Bytes buffered by fetches in flight.", nil, nil)
	descServed    = prometheus.NewDesc("selvage_cache_requests_total", "Answers by CF-Cache-Status.", []string{"status"}, nil)
	descEvictions = prometheus.NewDesc("selvage_cache_evictions_total", "Objects evicted for room.", nil, nil)
	descCoalesced = prometheus.NewDesc("selvage_cache_coalesced_total", "Requests that waited for another's fetch.", nil, nil)
	descTurned    = prometheus.NewDesc("selvage_cache_turned_away_total", "Objects not stored because their zone's are hardly ever asked for again.", nil, nil)
	descResident  = prometheus.NewDesc("selvage_cache_memory_bytes", "Bytes of memory that the cache holds, in whole pages.", nil, nil)
	descLive      = prometheus.NewDesc("selvage_cache_memory_used_bytes", "Bytes of that memory that objects, fills and the index use.", nil, nil)
	descIdle      = prometheus.NewDesc("selvage_cache_memory_idle_bytes", "Bytes of that memory that lie free between others.", nil, nil)
	descCoded     = prometheus.NewDesc("selvage_cache_coded_total", "Stored bodies that were compressed, by whether that worked.", []string{"outcome"}, nil)
	descRefused   = prometheus.NewDesc("selvage_cache_fills_refused_total", "Requests that passed unshared because too many fills ran.", nil, nil)
)

// Describe implements prometheus.Collector.
func (e *Engine) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descObjects, descBytes, descBudget, descPinned, descFills, descFilling, descServed, descEvictions, descCoalesced, descRefused, descTurned, descCoded, descResident, descLive, descIdle} {
		to <- d
	}
	describeDisk(to)
	describeFar(to)
}

// Collect implements prometheus.Collector.
func (e *Engine) Collect(to chan<- prometheus.Metric) {
	st := e.Stats()
	gauge := func(d *prometheus.Desc, v float64) { to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	count(descCoded, st.Coded, "ok")
	count(descCoded, st.Uncoded, "failed")
	gauge(descObjects, float64(st.Objects))
	gauge(descBytes, float64(st.Bytes))
	gauge(descBudget, float64(e.cfg.Bytes))
	gauge(descPinned, float64(st.Pinned))
	gauge(descFills, float64(st.Fills))
	gauge(descFilling, float64(st.Filling))
	for s := request.CacheHit; s <= request.CacheUpdating; s++ {
		count(descServed, st.Served[s], s.String())
	}
	count(descEvictions, st.Evictions)
	count(descCoalesced, st.Coalesced)
	count(descRefused, st.Refused)
	count(descTurned, st.TurnedAway)
	gauge(descResident, float64(st.Memory.Resident))
	gauge(descLive, float64(st.Memory.Live))
	gauge(descIdle, float64(st.Memory.Idle))
	e.disk.collect(gauge, count)
	e.far.collect(gauge, count)
}
