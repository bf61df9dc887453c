package ssd

import (
	"sync/atomic"
	"time"
)

// counts are the counters of a store.
type counts struct {
	recovered                                  atomic.Int64 // nanoseconds
	written, dropped, evicted, damaged, failed atomic.Uint64
	full, busy, scrubbed, rounds               atomic.Uint64
}

// Stats is what a store counts, at one moment.
type Stats struct {
	Records    int
	Bytes      int64 // of the files, held against Budget
	Budget     int64
	IndexBytes int64 // of memory
	Files      int
	Queued     int   // records that wait to be written
	QueuedSize int64 // their bytes

	Written   uint64 // bytes of records, those written again included
	Dropped   uint64 // records not written: queue full, disk failing, too large
	Evicted   uint64 // records deleted for room
	Damaged   uint64 // records and files that did not match their checksums
	Failed    uint64 // steps of the disk that failed
	Full      uint64 // of these, for want of room on the disk
	Busy      uint64 // lookups that found too many reading
	Scrubbed  uint64 // bytes that the scrubber read
	Rounds    uint64 // times that it has been through
	Recovered time.Duration
	Off       bool // it does not read or does not write, after failures
}

// Stats reads all counters.
func (s *Store) Stats() Stats {
	now := s.cfg.Now()
	c := &s.counts
	st := Stats{
		Bytes: s.used.Load(), Budget: s.cfg.Bytes, Files: s.segs.count(),
		Written: c.written.Load(), Dropped: c.dropped.Load(), Evicted: c.evicted.Load(), Damaged: c.damaged.Load(),
		Failed: c.failed.Load(), Full: c.full.Load(), Busy: c.busy.Load(), Scrubbed: c.scrubbed.Load(), Rounds: c.rounds.Load(),
		Recovered: time.Duration(c.recovered.Load()), Off: s.sick.off(now) || s.wsick.off(now),
	}
	st.Records, st.IndexBytes = s.index.size()
	st.Queued, st.QueuedSize = s.queue.load()
	return st
}
