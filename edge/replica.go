package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Values of Config.Replica.
const (
	ReplicaFull    = "full"
	ReplicaPartial = "partial"
)

// DefaultReplicaBytes is how much a partial replica holds of values.
const (
	DefaultReplicaBytes = 1 << 30
	MinReplicaBytes     = 16 << 20
)

// replicaUse is how often the zones in use are told of, so that their values are
// the last to go: who is served from memory is not read again.
const replicaUse = time.Minute

func (c *Config) checkReplica() error {
	c.Replica = cmp.Or(c.Replica, ReplicaFull)
	c.ReplicaBytes = cmp.Or(c.ReplicaBytes, DefaultReplicaBytes)
	switch {
	case c.Replica != ReplicaFull && c.Replica != ReplicaPartial:
		return fmt.Errorf("replica: %s or %s is needed, got %q", ReplicaFull, ReplicaPartial, c.Replica)
	case c.Replica == ReplicaPartial && c.Relay != "":
		return errors.New("replica: partial holds too little to be a relay; leave --relay out")
	case c.ReplicaBytes < MinReplicaBytes:
		return fmt.Errorf("replica_bytes: at least %d bytes are needed, got %d", MinReplicaBytes, c.ReplicaBytes)
	}
	return nil
}

// copyOptions are the copy's. In a partial one the rows of zones may be
// elsewhere: names, nodes, stages, kill switches and what else is read at a
// look-up or as a whole are always held.
func (e *Edge) copyOptions() feed.CopyOptions {
	o := feed.CopyOptions{Log: e.log, Retain: e.cfg.retention(), Replaced: e.auditDamage}
	if e.cfg.Replica == ReplicaPartial {
		o.Thin = zone.PrefixZone
	}
	return o
}

// openReplica returns what the copy is read through.
func (e *Edge) openReplica() copyReader {
	if e.cfg.Replica != ReplicaPartial {
		return e.copy
	}
	e.replica = feed.NewReplica(feed.ReplicaConfig{
		Copy: e.copy, Parents: e.cfg.Parents, Identity: e.identity, Bytes: e.cfg.ReplicaBytes, Log: e.log.With("part", "replica"),
	})
	return e.replica
}

// fetchValues runs until ctx ends; a whole copy needs none.
func (e *Edge) fetchValues(ctx context.Context) {
	if e.replica == nil {
		return
	}
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { e.replica.Run(ctx) })
	tick := time.NewTicker(replicaUse)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, id := range e.zones.IDs() {
				e.replica.Touch(zone.Prefix(id))
			}
		case <-ctx.Done():
			return
		}
	}
}
