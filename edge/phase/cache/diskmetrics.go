package cache

import "github.com/prometheus/client_golang/prometheus"

var (
	descDiskRecords  = prometheus.NewDesc("selvage_cache_disk_records", "Records on the disk: objects, bodies of large ones, and what Vary names.", nil, nil)
	descDiskBytes    = prometheus.NewDesc("selvage_cache_disk_bytes", "Bytes of the files, held against the budget.", nil, nil)
	descDiskBudget   = prometheus.NewDesc("selvage_cache_disk_budget_bytes", "Bytes that the files may have; 0 without a disk.", nil, nil)
	descDiskIndex    = prometheus.NewDesc("selvage_cache_disk_index_bytes", "Memory of the index of what is on the disk.", nil, nil)
	descDiskFiles    = prometheus.NewDesc("selvage_cache_disk_files", "Files on the disk, each held open.", nil, nil)
	descDiskQueue    = prometheus.NewDesc("selvage_cache_disk_queue_bytes", "Bytes that wait to be written.", nil, nil)
	descDiskOff      = prometheus.NewDesc("selvage_cache_disk_off", "1 while the disk is not read or not written, after failures.", nil, nil)
	descDiskLooked   = prometheus.NewDesc("selvage_cache_disk_lookups_total", "Lookups of what memory did not hold, by what was found.", []string{"found"}, nil)
	descDiskSaved    = prometheus.NewDesc("selvage_cache_disk_objects_written_total", "Objects queued to be written.", nil, nil)
	descDiskWritten  = prometheus.NewDesc("selvage_cache_disk_written_bytes_total", "Bytes of records written, with those written again to be kept.", nil, nil)
	descDiskDropped  = prometheus.NewDesc("selvage_cache_disk_dropped_total", "Records not written: the queue was full, the disk failed, or they were too large.", nil, nil)
	descDiskEvicted  = prometheus.NewDesc("selvage_cache_disk_evicted_total", "Records deleted for room.", nil, nil)
	descDiskDamaged  = prometheus.NewDesc("selvage_cache_disk_damaged_total", "Records and files that did not match their checksums and were forgotten.", nil, nil)
	descDiskFailed   = prometheus.NewDesc("selvage_cache_disk_failures_total", "Reads and writes that failed.", nil, nil)
	descDiskFull     = prometheus.NewDesc("selvage_cache_disk_full_total", "Writes that failed for want of room on the device.", nil, nil)
	descDiskBusy     = prometheus.NewDesc("selvage_cache_disk_busy_total", "Lookups that found too many reading, and counted as misses.", nil, nil)
	descDiskScrubbed = prometheus.NewDesc("selvage_cache_disk_scrubbed_bytes_total", "Bytes compared with their checksums in the background.", nil, nil)
)

func describeDisk(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descDiskRecords, descDiskBytes, descDiskBudget, descDiskIndex, descDiskFiles, descDiskQueue, descDiskOff, descDiskLooked, descDiskSaved,
		descDiskWritten, descDiskDropped, descDiskEvicted, descDiskDamaged, descDiskFailed, descDiskFull, descDiskBusy, descDiskScrubbed,
	} {
		to <- d
	}
}

// collect reads the counters of the disk; d may be nil.
func (d *disk) collect(gauge func(*prometheus.Desc, float64), count func(*prometheus.Desc, uint64, ...string)) {
	if d == nil {
		gauge(descDiskBudget, 0)
		return
	}
	st := d.store.Stats()
	gauge(descDiskRecords, float64(st.Records))
	gauge(descDiskBytes, float64(st.Bytes))
	gauge(descDiskBudget, float64(st.Budget))
	gauge(descDiskIndex, float64(st.IndexBytes))
	gauge(descDiskFiles, float64(st.Files))
	gauge(descDiskQueue, float64(st.QueuedSize))
	off := 0.0
	if st.Off {
		off = 1
	}
	gauge(descDiskOff, off)
	count(descDiskLooked, d.hits.Load(), "fresh")
	count(descDiskLooked, d.stale.Load(), "stale")
	count(descDiskLooked, d.misses.Load(), "nothing")
	count(descDiskSaved, d.saved.Load())
	count(descDiskWritten, st.Written)
	count(descDiskDropped, st.Dropped)
	count(descDiskEvicted, st.Evicted)
	count(descDiskDamaged, st.Damaged)
	count(descDiskFailed, st.Failed)
	count(descDiskFull, st.Full)
	count(descDiskBusy, st.Busy)
	count(descDiskScrubbed, st.Scrubbed)
}
