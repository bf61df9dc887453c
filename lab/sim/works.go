package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/internal/figure"
)

// cold asks all edges for the same page at once, as often as there are pages.
func cold(ctx context.Context, o options, n *network, src *origin) ([]figure.Figure, error) {
	const pages = 100
	src.slow.Store(int64(20 * time.Millisecond))
	defer src.slow.Store(0)
	src.reset()
	for p := range pages {
		errs := make([]error, len(n.clients))
		var work sync.WaitGroup
		for i := range n.clients {
			work.Go(func() { errs[i] = n.want(ctx, i, fmt.Sprintf("/cold/%d", p), src) })
		}
		work.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
	}
	_, most := src.asked()
	return []figure.Figure{figure.Count(fmt.Sprintf("origin fetches of the object fetched most, %d edges cold at the same time, %d objects", o.edges, pages), "fetches", most, 1)}, nil
}

// want gets a page and is an error unless it is the origin's present one.
func (n *network) want(ctx context.Context, i int, path string, src *origin) error {
	status, body, err := n.get(ctx, i, path)
	if version := strconv.FormatInt(src.version.Load(), 10); err == nil && (status != 200 || body != version) {
		err = fmt.Errorf("%s answers %d %q for %s, want version %s", n.Edges[i].Colo, status, body, path, version)
	}
	return err
}

// lifetimes loads all edges with requests for one page whose edge TTL is 5 s.
func lifetimes(ctx context.Context, o options, n *network, src *origin) ([]figure.Figure, error) {
	const ttl = 5
	rule := `starts_with(http.request.uri.path, "/ttl/")`
	seq, err := n.call(ctx, "PUT", n.zone+"/rulesets/phases/http_request_cache_settings/entrypoint", map[string]any{"rules": []any{map[string]any{
		"expression": rule, "action": "set_cache_settings",
		"action_parameters": map[string]any{"cache": true, "edge_ttl": map[string]any{"mode": "override_origin", "default": ttl}},
	}}}, nil)
	if err != nil {
		return nil, err
	}
	if err := n.everywhere(ctx, seq); err != nil {
		return nil, err
	}
	src.reset()
	l := &load{network: n, rate: o.rate, path: func() string { return "/ttl/page" }}
	loading, done := context.WithTimeout(ctx, o.load)
	l.run(loading)
	done()
	if l.first.Load() != nil {
		return nil, *l.first.Load()
	}
	sum, _ := src.asked()
	return []figure.Figure{
		figure.Count(fmt.Sprintf("origin requests in %s with an edge TTL of %d s, %d edges, %d requests", o.load, ttl, o.edges, l.sent.Load()), "requests",
			sum, int(o.load.Seconds()/ttl)+1),
	}, nil
}

// load sends requests at a rate that does not depend on the answers, to all
// edges in turn.
type load struct {
	*network
	rate int
	path func() string
	sent atomic.Int64
	bad  atomic.Int64 // answers that are not 200
	late atomic.Int64 // requests that began 100 ms after their time
	// first is what went wrong first.
	first atomic.Pointer[error]
}

// senders is how many requests may wait for their answers.
const senders = 1024

func (l *load) run(ctx context.Context) {
	began := time.Now()
	var work sync.WaitGroup
	for range senders {
		work.Go(func() {
			for ctx.Err() == nil {
				k := l.sent.Add(1) - 1
				due := began.Add(time.Duration(k) * time.Second / time.Duration(l.rate))
				select {
				case <-time.After(time.Until(due)):
				case <-ctx.Done():
					l.sent.Add(-1)
					return
				}
				if time.Since(due) > 100*time.Millisecond {
					l.late.Add(1)
				}
				path := l.path()
				status, _, err := l.get(context.WithoutCancel(ctx), int(k)%len(l.clients), path)
				if err == nil && status == 200 {
					continue
				}
				l.bad.Add(1)
				if err == nil {
					err = fmt.Errorf("%s: status %d", path, status)
				}
				l.first.CompareAndSwap(nil, &err)
			}
		})
	}
	work.Wait()
}

// purges measures the time from a purge's call to its acknowledgement by all
// edges, and looks that none of them serves what was purged.
func purges(ctx context.Context, o options, n *network, src *origin) ([]figure.Figure, error) {
	kinds := []map[string]any{
		{"files": []string{"http://" + host + "/purged/page"}}, {"tags": []string{"all"}},
		{"prefixes": []string{host + "/purged"}}, {"hosts": []string{host}}, {"purge_everything": true},
	}
	for i := range n.clients {
		if err := n.want(ctx, i, "/purged/page", src); err != nil {
			return nil, err
		}
	}
	took := make([]float64, o.purges)
	for k := range took {
		src.version.Add(1)
		began := time.Now()
		seq, err := n.call(ctx, "POST", n.zone+"/purge_cache", kinds[k%len(kinds)], nil)
		if err != nil {
			return nil, err
		}
		if err := n.everywhere(ctx, seq); err != nil {
			return nil, err
		}
		took[k] = time.Since(began).Seconds() * 1000
		for i := range n.clients {
			if err := n.want(ctx, i, "/purged/page", src); err != nil {
				return nil, fmt.Errorf("after the acknowledgement of purge %v: %w", kinds[k%len(kinds)], err)
			}
		}
	}
	f := figure.Most(fmt.Sprintf("purge to the acknowledgement of %d edges, p99 of %d by url, tag, prefix, host, everything", o.edges, len(took)), "ms", took, .99, 150)
	return []figure.Figure{f}, nil
}

// originLimit is how many connections an edge may have to an origin.
const originLimit = 256

// everything purges all objects of a zone under load.
func everything(ctx context.Context, o options, n *network, src *origin) ([]figure.Figure, error) {
	if err := sweep(ctx, o, n, src); err != nil {
		return nil, err
	}
	src.reset()
	src.slow.Store(int64(50 * time.Millisecond))
	l := &load{network: n, rate: o.rate, path: func() string { return fmt.Sprintf("/all/%d", rand.N(o.objects)) }}
	loading, done := context.WithTimeout(ctx, time.Duration(5*o.objects/o.rate+10)*time.Second)
	defer done()
	var work sync.WaitGroup
	work.Go(func() { l.run(loading) })
	defer work.Wait()
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if sum, _ := src.asked(); sum > 0 {
		return nil, fmt.Errorf("the origin was asked %d times for what is stored everywhere", sum)
	}
	src.version.Add(1)
	seq, err := n.call(ctx, "POST", n.zone+"/purge_cache", map[string]any{"purge_everything": true}, nil)
	if err != nil {
		return nil, err
	}
	if err := n.everywhere(ctx, seq); err != nil {
		return nil, err
	}
	work.Wait()
	src.slow.Store(0)
	under, _ := src.asked()
	if err := sweep(ctx, o, n, src); err != nil {
		return nil, err
	}
	sum, most := src.asked()
	lost, err := n.sum(ctx, "selvage_tier_losses_total")
	if err != nil {
		return nil, err
	}
	moved, err := n.sum(ctx, "selvage_tier_moves_total")
	if err != nil {
		return nil, err
	}
	if l.first.Load() != nil {
		fmt.Println("first of the bad answers:", *l.first.Load())
	}
	name := fmt.Sprintf("purge of everything, %d objects, %d req/s over %d edges: ", o.objects, o.rate, o.edges)
	return []figure.Figure{
		figure.Count(name+"the origin's most requests at a time", "requests", int(src.peak.Load()), originLimit),
		figure.Count(name+"origin fetches of the object fetched most", "fetches", most, 1),
		figure.Count(name+"origin fetches in all", "fetches", sum, o.objects),
		figure.Count(name+fmt.Sprintf("answers other than 200, of %d (%d fetches meanwhile)", l.sent.Load(), under), "answers", int(l.bad.Load()), 0),
		figure.Alone("edges taken for gone by others, since the start", "times", []float64{lost}, 0),
		figure.Alone("upper tiers that moved, since the start", "times", []float64{moved}, 0),
		figure.Alone(name+"requests sent 100 ms late", "requests", []float64{float64(l.late.Load())}, 0),
	}, nil
}

// sweep gets every object through every edge.
func sweep(ctx context.Context, o options, n *network, src *origin) error {
	var next atomic.Int64
	errs := make([]error, 32)
	var work sync.WaitGroup
	for w := range errs {
		work.Go(func() {
			for errs[w] == nil {
				k := int(next.Add(1) - 1)
				if k >= o.objects*len(n.clients) {
					return
				}
				errs[w] = n.want(ctx, k%len(n.clients), fmt.Sprintf("/all/%d", k/len(n.clients)), src)
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}
