package world

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/lab/sim/wan"
	"github.com/selvage-edge/selvage/zone"
)

// root is one control plane: what numbers changes and serves the feed.
type root struct {
	w  *world
	m  *machine
	id *feed.Identity

	ahead atomic.Int64 // nanoseconds that its clock is

	mu   sync.Mutex // held by who starts or ends the process
	life *rootLife  // nil while it does not run; guarded by mu
}

// rootLife is one process.
type rootLife struct {
	r      *root
	host   *wan.Host
	store  *store.Store
	pub    *publish.Publisher
	server *feed.Server
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	dead   atomic.Bool
	lossy  atomic.Bool // answers of the database are lost

	mu    sync.Mutex
	apart chan struct{} // closed when the database can be reached again; nil: it can; guarded by mu
}

var (
	errDead = errors.New("the process is dead")
	errLost = errors.New("the connection to the database was lost")
)

// around is the way to the database and back.
func (l *rootLife) around(ctx context.Context, writes bool, run func() error) error {
	l.mu.Lock()
	apart := l.apart
	l.mu.Unlock()
	if apart != nil {
		select {
		case <-apart:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if l.dead.Load() {
		return errDead
	}
	err := run()
	if err == nil && writes {
		if seen := l.r.w.witness.look(context.WithoutCancel(ctx)); seen != nil {
			l.r.w.broken("log", "the log cannot be read: %v", seen)
		}
	}
	if l.dead.Load() {
		return errDead // it may have arrived; nobody is there to hear
	}
	if err == nil && writes && l.lossy.Load() {
		return errLost
	}
	return err
}

func (r *root) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.w
	l := &rootLife{r: r, host: w.net.Host(r.m.name, r.m.place)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	log := w.trace.logger(r.m.name)
	var err error
	if l.store, err = store.OpenShared(l.ctx, w.dir, store.Shared{Now: ahead(&w.database), Around: l.around}); err != nil {
		w.broken("log", "%s: the database does not open: %v", r.m.name, err)
		return
	}
	if l.pub, err = publish.New(l.ctx, publish.Config{
		Store: l.store, Log: log, Retain: w.plan.retain, RetainFor: w.plan.age, Gather: w.plan.gather, Now: ahead(&r.ahead),
		Judge: func(*zone.Spec) error { return nil },
	}); err != nil {
		w.broken("log", "%s: the log does not open: %v", r.m.name, err)
		return
	}
	l.server = feed.NewServer(feed.ServerConfig{Log: l.pub, Identity: r.id, Logger: log, OnAck: w.onAck, Now: ahead(&r.ahead)})
	ln := l.host.Listen()
	l.work.Go(func() {
		if err := l.pub.Run(l.ctx); err != nil {
			w.broken("log", "%s gave up: %v", r.m.name, err)
		}
	})
	l.work.Go(func() { _ = l.server.Serve(l.ctx, ln) })
	r.life = l
	seq, _ := l.pub.Head()
	w.trace.add("%s starts at %d, leads: %t", r.m.name, seq, l.pub.Leads())
}

// stop ends the process; gently: it may say farewell.
func (r *root) stop(gently bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.life
	if l == nil {
		return false
	}
	if !gently {
		l.dead.Store(true)
		l.host.Kill(r.w.chance(2) == 0)
	}
	l.detach(false)
	l.cancel()
	l.work.Wait()
	if gently {
		l.dead.Store(true)
		l.host.Kill(false)
	}
	if err := l.store.Close(); err != nil {
		r.w.trace.add("%s: close of the database: %v", r.m.name, err)
	}
	r.life = nil
	return true
}

func (r *root) running() *rootLife {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.life
}

// detach takes the database from a control plane: its transactions wait.
func (l *rootLife) detach(apart bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case apart && l.apart == nil:
		l.apart = make(chan struct{})
	case !apart && l.apart != nil:
		close(l.apart)
		l.apart = nil
	}
}

// restart ends the process and starts another one after a time.
func (r *root) restart(gently bool, away time.Duration) {
	if r.stop(gently) {
		r.w.later(away, r.start)
	}
}
