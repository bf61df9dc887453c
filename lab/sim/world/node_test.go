package world

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	edgekit "github.com/selvage-edge/selvage/edge"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/lab/sim/wan"
)

// node is a relay or an edge: a disk and an identity, and the process that runs
// on it now.
type node struct {
	w  *world
	m  *machine
	id *feed.Identity

	full  atomic.Bool  // the disk says that it has no room
	slow  atomic.Int64 // nanoseconds that an entry takes
	after atomic.Int64 // writes to the disk until the power fails; 0 = it does not
	acked atomic.Uint64
	ahead atomic.Int64 // nanoseconds that its clock is

	mu   sync.Mutex // held by who starts or ends the process
	disk *vfs.MemFS // guarded by mu
	life *life      // nil while it does not run; guarded by mu
}

// life is one process.
type life struct {
	n       *node
	host    *wan.Host
	disk    *vfs.MemFS
	copy    *feed.Copy
	sub     *feed.Subscriber
	server  *feed.Server // of a relay
	kit     *edgekit.Kit // of an edge
	number  int64        // of this life, in the run
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
	dead    atomic.Bool
	batches atomic.Int64
	old     *vfs.MemFS // the disk as it was; of a mutation
	next    *vfs.MemFS // what the crash left of the disk; written before dead is seen
	last    uint64     // number handed on last; owned by the subscriber
}

func newNode(w *world, m *machine) *node {
	n := &node{w: w, m: m, disk: vfs.NewCrashableMem()}
	if w.plan.light {
		n.disk = vfs.NewMem()
	}
	n.id = w.ca.identity(nodeID(m.name), m.place.Colo, m.role == relay)
	return n
}

// ack notes what a parent heard from this node.
func (n *node) ack(seq uint64) {
	for was := n.acked.Load(); seq > was && !n.acked.CompareAndSwap(was, seq); was = n.acked.Load() {
	}
}

// start runs a process on the node's disk.
func (n *node) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.w
	l := &life{n: n, disk: n.disk, host: w.net.Host(n.m.name, n.m.place)}
	var disk vfs.FS = n.disk
	if !w.plan.light {
		disk = errorfs.Wrap(n.disk, errorfs.InjectorFunc(l.onDisk))
	}
	log := w.trace.logger(n.m.name)
	acked := n.acked.Load()
	opts := feed.CopyOptions{FS: disk, Log: log, CacheBytes: 1 << 20, Now: ahead(&n.ahead)}
	if n.m.role == relay {
		opts.Retain = feed.Retention{Entries: w.plan.kept, Age: w.plan.age}
	}
	var err error
	if l.copy, err = feed.OpenCopy("copy", opts); err != nil {
		w.broken("disk", "%s: the copy does not open after a crash: %v", n.m.name, err)
		return
	}
	at := l.copy.Cursor().Seq
	w.trace.add("%s starts at %d, had acknowledged %d", n.m.name, at, acked)
	if at < acked {
		w.broken("back", "%s stands at %d after a start, and had acknowledged %d", n.m.name, at, acked)
	}
	l.last = at
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.number = w.lives.Add(1)
	cfg := feed.SubscriberConfig{Parents: n.m.parents, Dial: l.host.Dial, Identity: n.id, Copy: l.copy, Log: log}
	if n.m.role == edge && !w.plan.light {
		if err := l.follow(&cfg); err != nil {
			w.broken("state", "%s does not serve: %v", n.m.name, err)
			return
		}
	}
	w.plan.wrong.spoil(l, &cfg)
	l.watch(&cfg)
	if w.plan.wrong.rewind {
		l.old = n.disk.CrashClone(vfs.CrashCloneCfg{})
	}
	if n.m.role == relay {
		l.server = feed.NewServer(feed.ServerConfig{
			Log: feed.NewRelayLog(l.copy), Identity: n.id, Logger: log, Gather: 5 * time.Millisecond, OnAck: w.onAck,
			Upstream: func() feed.Upstream { return l.sub.Upstream() },
		})
		cfg.Relay = l.server
	}
	l.sub = feed.NewSubscriber(cfg)
	if l.server != nil {
		ln := l.host.Listen()
		l.work.Go(func() { _ = l.server.Serve(l.ctx, ln) })
	}
	l.work.Go(func() {
		if err := l.sub.Run(l.ctx); err != nil && !l.dead.Load() {
			w.trace.add("%s cannot go on: %v", n.m.name, err)
			w.later(2*time.Second, func() { n.restart(false, 100, time.Second) })
		}
	})
	n.life = l
}

// watch looks at what the subscriber hands on, before the edge gets it.
func (l *life) watch(cfg *feed.SubscriberConfig) {
	entry, snapshot := cfg.OnEntry, cfg.OnSnapshot
	cfg.OnEntry = func(e *feed.Entry) error {
		if d := l.n.slow.Load(); d > 0 {
			<-time.After(time.Duration(d))
		}
		if e.Seq != l.last+1 {
			l.back("%s is handed entry %d after %d", l.n.m.name, e.Seq, l.last)
		}
		l.last = e.Seq
		if l.n.w.told != nil {
			l.n.w.told(l.n, e)
		}
		if entry == nil {
			return nil
		}
		return entry(e)
	}
	cfg.OnSnapshot = func(seq uint64) error {
		if seq < l.last {
			l.back("%s is handed a snapshot of %d after %d", l.n.m.name, seq, l.last)
		}
		l.last = seq
		if snapshot == nil {
			return nil
		}
		return snapshot(seq)
	}
}

// back notes a number that went back, unless it is a dead process's.
func (l *life) back(format string, args ...any) {
	if !l.dead.Load() {
		l.n.w.broken("back", format, args...)
	}
}

// onDisk is asked before each operation on the disk.
func (l *life) onDisk(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil
	}
	if l.n.after.Load() > 0 && !l.dead.Load() && l.n.after.Add(-1) == 0 {
		l.powerFails(false, int(l.n.w.chance(100)))
		n := l.n
		n.w.later(time.Millisecond, func() { n.restart(false, -1, 500*time.Millisecond) })
	}
	return nil
}

// powerFails ends the process in the middle of whatever it does: nobody hears of
// it any more, and of what it did not sync some blocks are there and some are not.
func (l *life) powerFails(silently bool, percent int) {
	if !l.dead.CompareAndSwap(false, true) {
		return
	}
	l.host.Kill(silently)
	if l.n.w.plan.light {
		l.next = l.disk
		return
	}
	if percent >= 100 { // the process alone: the system has what it wrote
		l.next = l.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: l.n.w.random()})
		return
	}
	l.next = l.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: l.n.w.random()})
	if l.old != nil {
		l.next = l.old
	}
	l.n.w.trace.add("%s is dead, %d%% of what was not synced is there", l.n.m.name, percent)
}

// restart ends the process, if nothing has yet, and starts another one after a
// time.
func (n *node) restart(silently bool, percent int, away time.Duration) {
	if n.stop(silently, percent) {
		n.w.later(away, n.start)
	}
}

// stop ends the process and reports whether there was one.
func (n *node) stop(silently bool, percent int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.life
	if l == nil {
		return false
	}
	l.powerFails(silently, percent)
	l.cancel()
	l.work.Wait()
	if l.kit != nil {
		l.kit.Close()
	}
	if err := l.copy.Close(); err != nil && !errors.Is(err, feed.ErrBroken) {
		n.w.trace.add("%s: close of the dead one's copy: %v", n.m.name, err)
	}
	n.disk, n.life = l.next, nil
	n.full.Store(false)
	n.slow.Store(0)
	return true
}

// running is the process, or nil.
func (n *node) running() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

// says that the disk is full, or not any more.
func (n *node) fill(full bool) {
	n.full.Store(full)
	if l := n.running(); l != nil {
		usage := vfs.DiskUsage{AvailBytes: 1 << 40, TotalBytes: 1 << 40}
		if full {
			usage.AvailBytes = 1 << 20
		}
		l.disk.TestingSetDiskUsage(usage)
	}
}

// caughtUp reports whether the node stands at a position and says so.
func (n *node) caughtUp(at feed.Cursor) bool {
	l := n.running()
	return l != nil && l.copy.Cursor() == at && l.sub.Status().Applied == at.Seq
}
