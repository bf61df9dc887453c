package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/internal/heap"
	"github.com/selvage-edge/selvage/telemetry/report"
)

// serve loads the copy, opens the doors as soon as there is something to
// serve, and drains when ctx ends.
func (e *Edge) serve(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var work sync.WaitGroup
	failed := make(chan error, 8)
	spawn := func(name string, run func() error) {
		work.Go(func() {
			if err := run(); err != nil && running.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	// The feed goes on while visitors are drained, so that a long drain still
	// learns of purges.
	feeding, stopFeeding := context.WithCancel(e.requests)
	defer stopFeeding()
	work.Go(func() { e.fetchValues(feeding) })
	if err := e.resume(); err != nil {
		stopFeeding()
		work.Wait()
		return err
	}
	work.Go(func() { e.follow(feeding) })
	work.Go(func() { e.zones.Run(feeding) })
	e.comparePairs()
	work.Go(func() { e.pairs.Run(feeding) })
	work.Go(func() { e.verifyCopy(feeding) })
	if e.relay != nil {
		work.Go(func() {
			if err := e.relay.Serve(feeding, e.sockets.relay); err != nil {
				failed <- fmt.Errorf("relay: %w", err)
			}
		})
	}
	work.Go(func() { heap.Keep(running, e.quietSince()) })
	work.Go(func() { e.tiers.Run(feeding) })
	work.Go(func() { e.tellHealth(feeding) })
	err := e.waitLoaded(ctx, failed)
	if err == nil && ctx.Err() == nil {
		err = e.open(running, spawn)
	}
	if err == nil && ctx.Err() == nil {
		e.state.set(ready)
		// A full disk is no reason not to serve.
		if stateErr := e.writeState(); stateErr != nil {
			e.log.Error("edge.json is not written; serving without it", "err", stateErr)
		}
		e.log.Info("ready", "colo", e.cfg.Colo, "http", addrOf(e.sockets.http), "https", addrOf(e.sockets.https), "zones_compiled", e.zones.Hot())
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	stop()
	drainErr := e.drain()
	stopFeeding()
	work.Wait()
	return errors.Join(err, drainErr)
}

// quietRate is how many requests a second a quiet edge has at most.
const quietRate = 100

// quietSince returns a function that says whether there were few requests since
// the last time that it was asked, or since now.
func (e *Edge) quietSince() func() bool {
	seen, at := e.requestsSeen(), time.Now()
	return func() bool {
		now, when := e.requestsSeen(), time.Now()
		quiet := now-seen < quietRate*when.Sub(at).Seconds()
		seen, at = now, when
		return quiet
	}
}

// requestsSeen counts the requests that entered the pipeline.
func (e *Edge) requestsSeen() float64 {
	return e.counters.runs(0)
}

// follow keeps the configuration up to date. When the disk under the copy
// fails, visitors are served on with the last good state: an old configuration
// is better than none, and readiness and metrics say how old it is.
func (e *Edge) follow(ctx context.Context) {
	if err := e.feed.Run(ctx); err != nil {
		e.stuck.Store(true)
		e.log.Error("the configuration cannot be kept up to date any more; serving on with what is known until a restart", "applied", e.copy.Cursor().Seq, "err", err)
	}
}

// pollLoaded is how often a new edge looks whether its first state arrived.
const pollLoaded = 20 * time.Millisecond

// waitLoaded returns when the copy has a state to serve: at once on a restart,
// after the first snapshot on a new edge.
func (e *Edge) waitLoaded(ctx context.Context, failed <-chan error) error {
	tick := time.NewTicker(pollLoaded)
	defer tick.Stop()
	for !e.loaded() {
		select {
		case <-tick.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// loaded reports that what the copy holds has taken effect (a snapshot moves
// its cursor before that), or that the parent has nothing yet.
func (e *Edge) loaded() bool {
	s := e.feed.Status()
	return s.Applied > 0 || s.Connected && s.Head == 0 && !s.LastHeartbeat.IsZero()
}

// open starts serving on all listeners.
func (e *Edge) open(ctx context.Context, spawn func(string, func() error)) error {
	if err := e.quic.listen(); err != nil {
		return err
	}
	accept := func(name string, l net.Listener, serve func(net.Conn, func())) {
		e.accepting.Add(1)
		spawn(name, func() error {
			defer e.accepting.Done()
			return e.accept(ctx, l, serve)
		})
	}
	accept("http", e.sockets.http, e.serveHTTP)
	accept("https", e.sockets.https, e.serveHTTPS)
	e.accepting.Add(1)
	spawn("https-udp", func() error {
		defer e.accepting.Done()
		return e.quic.accept(ctx)
	})
	spawn("dns udp", func() error { return e.dns.ServeUDP(e.sockets.dnsUDP) })
	spawn("dns tcp", func() error { return e.dns.ServeTCP(e.sockets.dnsTCP) })
	if e.peer != nil {
		spawn("peer", func() error { return e.peer.Serve(e.sockets.peer) })
	}
	return nil
}

// drain refuses new work, finishes what is in flight for at most
// DrainTimeout, then cuts the rest.
func (e *Edge) drain() error {
	e.state.set(draining)
	e.audit(report.Audit{Action: "edge.drain"})
	e.log.Info("draining", "connections", e.connections.Load(), "at_most", e.cfg.DrainTimeout)
	patience, done := context.WithTimeout(e.requests, e.cfg.DrainTimeout)
	defer done()
	closeErr := errors.Join(e.sockets.http.Close(), e.sockets.https.Close(), e.quic.shut())
	e.accepting.Wait() // now nobody is added to visitors any more
	var work sync.WaitGroup
	var h1Err, h2Err, h3Err, dnsErr, peerErr error
	work.Go(func() { h1Err = e.h1.Drain(patience) })
	work.Go(func() { h2Err = e.h2.Drain(patience) })
	work.Go(func() { h3Err = e.h3.Drain(patience) })
	work.Go(func() { dnsErr = e.dns.Drain(patience) })
	if e.peer != nil {
		closeErr = errors.Join(closeErr, e.sockets.peer.Close())
		work.Go(func() { peerErr = e.peer.Drain(patience) })
	}
	work.Wait()
	e.cutRequests()
	e.cutVisitors()
	e.crew.Close()
	closeErr = errors.Join(closeErr, e.quic.close())
	e.log.Info("drained")
	e.audit(report.Audit{Action: "edge.stop"})
	return errors.Join(closeErr, ignoreTimeout(h1Err), ignoreTimeout(h2Err), ignoreTimeout(h3Err), ignoreTimeout(dnsErr), ignoreTimeout(peerErr), e.removeState())
}

// cutEvery is how often drain looks for connections that came late.
const cutEvery = 50 * time.Millisecond

// cutVisitors waits until no visitor is left, after requests has ended. One whose
// handshake was under way may have come to a server that had already drained, and
// nothing would bound how long it takes over its answer.
func (e *Edge) cutVisitors() {
	gone := make(chan struct{})
	go func() { // joined below
		e.visitors.Wait()
		close(gone)
	}()
	tick := time.NewTicker(cutEvery)
	defer tick.Stop()
	for {
		// requests has ended: they cut at once, which is what their errors say.
		_ = e.h1.Drain(e.requests)
		_ = e.h2.Drain(e.requests)
		_ = e.h3.Drain(e.requests)
		select {
		case <-gone:
			return
		case <-tick.C:
		}
	}
}

// ignoreTimeout: that the patience ended is how a drain may end.
func ignoreTimeout(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// resume serves what the copy holds.
func (e *Edge) resume() error {
	if err := e.applier.begin(); err != nil {
		e.log.Error("what the copy says cannot be used whole", "err", err)
	}
	if err := e.resumeMarks(); err != nil {
		return err
	}
	e.stand.reach(e.copy.Cursor().Seq)
	return nil
}
