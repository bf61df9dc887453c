package guard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// names keeps answers of the resolver for a short time and lets one look-up
// of a name serve all who ask for it meanwhile.
type names struct {
	resolver       Resolver
	found, missing time.Duration
	max            int
	mu             sync.Mutex
	kept           map[string]*answer // guarded by mu
	flying         map[string]*flight // guarded by mu
}

type answer struct {
	addrs   []netip.Addr
	err     error
	expires time.Time
}

// flight is a look-up under way, done by the first who asked.
type flight struct {
	done   chan struct{}
	result *answer // nil when the one who asked left; set before done closes
}

func newNames(c Config) *names {
	return &names{
		resolver: c.Resolver, found: c.FoundTTL, missing: c.MissingTTL, max: c.MaxNames,
		kept: make(map[string]*answer), flying: make(map[string]*flight),
	}
}

// find returns the addresses of a name. A caller whose leader left before the
// answer came asks itself.
func (n *names) find(ctx context.Context, host string) ([]netip.Addr, error) {
	for {
		known, f, lead := n.enter(host)
		if known != nil {
			return known.addrs, known.err
		}
		if lead {
			a := n.ask(ctx, host, f)
			return a.addrs, a.err
		}
		select {
		case <-f.done:
			if f.result != nil {
				return f.result.addrs, f.result.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// enter finds a kept answer, else the flight to wait for, else starts one.
func (n *names) enter(host string) (known *answer, f *flight, lead bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.kept[host]; a != nil {
		if time.Now().Before(a.expires) {
			return a, nil, false
		}
		delete(n.kept, host)
	}
	if f := n.flying[host]; f != nil {
		return nil, f, false
	}
	f = &flight{done: make(chan struct{})}
	n.flying[host] = f
	return nil, f, true
}

func (n *names) ask(ctx context.Context, host string, f *flight) *answer {
	addrs, err := n.resolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	}
	a := &answer{addrs: addrs, err: err, expires: time.Now().Add(n.found)}
	if err != nil {
		a.addrs, a.expires = nil, time.Now().Add(n.missing)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.flying, host)
	// Who asked has left: that says nothing about the name.
	if err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		f.result = a
		n.keep(host, a)
	}
	close(f.done)
	return a
}

// keep stores an answer; at the bound an arbitrary other one makes room, for
// a name that is asked often comes back at once.
func (n *names) keep(host string, a *answer) {
	if len(n.kept) >= n.max {
		for other := range n.kept {
			delete(n.kept, other)
			break
		}
	}
	n.kept[host] = a
}
