package edge

import (
	"context"
	"fmt"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/room"
	"github.com/selvage-edge/selvage/telemetry/report"
)

const (
	// healthEvery is how often the control plane is told how this edge is.
	healthEvery = time.Second
	// An edge with less room than this says so.
	littleDisk   = 256 << 20
	littleMemory = 64 << 20
)

// tellHealth says how this edge is, each second, until ctx ends.
func (e *Edge) tellHealth(ctx context.Context) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		text, err := e.health().Encode()
		if err != nil {
			e.log.Error("how this edge is cannot be told", "err", err)
			return
		}
		e.auditRejects()
		e.up.Offer(feed.ClassHealth, text)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (e *Edge) health() report.Health {
	h := report.Health{Started: e.started, State: e.state.get().String(), Zones: e.zones.Count()}
	h.Requests, h.Failed, h.Errors = e.counters.answered()
	h.Rejected, h.Rejections = e.rejects.count()
	h.MemoryUsed, h.MemoryFree = room.Memory()
	h.DiskFree, h.DiskTotal = room.Disk(e.cfg.State)
	say := func(is bool, format string, args ...any) {
		if is {
			h.Problems = append(h.Problems, fmt.Sprintf(format, args...))
		}
	}
	say(h.Rejected > 0, "the newest configuration of %d zones or lists cannot be used; what was before is served", h.Rejected)
	say(e.stuck.Load(), "the copy on disk cannot be written; the configuration stays as it is until a restart")
	say(h.DiskTotal > 0 && h.DiskFree < littleDisk, "the disk of the state folder has %d MiB left", h.DiskFree>>20)
	say(h.MemoryFree > 0 && h.MemoryFree < littleMemory, "the machine has %d MiB of memory left", h.MemoryFree>>20)
	if e.spool != nil {
		h.AuditWaiting, _, h.AuditRefused = e.spool.Waiting()
	}
	say(e.spool == nil, "audit events have no place to wait and are lost")
	say(h.AuditRefused > 0, "%d audit events are lost: there was no room for them on disk", h.AuditRefused)
	off := e.cfg.CacheDiskBytes > 0 && e.disk == nil
	if e.disk != nil {
		off = e.disk.Stats().Off
	}
	say(off, "the disk below the cache is not used, after failures")
	return h
}

// answered counts answers, those with 5xx, and those of them that are this
// edge's own fault.
func (c *counters) answered() (all, failed, own uint64) {
	all = uint64(c.runs(0))
	for i := range c.shards {
		s := &c.shards[i]
		for status := 500; status < statusMax; status++ {
			failed += s.status[status].Load()
		}
		own += s.own.Load()
	}
	return all, failed, own
}
