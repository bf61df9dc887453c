package origin

import (
	"cmp"
	"context"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Distance measures how far the origin of a zone is: how long a TCP connection
// takes to open, the shorter of two, the first of which has the name looked up.
// It is that of the apex, or else of the first name in order that is proxied, so
// that all edges measure the same; with a GET of its front page the zone's rules
// decide about host and port. p may be nil.
func (e *Engine) Distance(ctx context.Context, p *Plan, apex string) (time.Duration, error) {
	name, host := p.sample(apex)
	if host == "" {
		return 0, failure("origin.distance", fault.NotFound, errNoOrigin)
	}
	port := p.mode.port()
	if p.rules != nil {
		var route request.Route
		p.rules.apply(front(name), &route)
		host, port = cmp.Or(route.Host, host), cmp.Or(route.Port, port)
	}
	least := time.Duration(0)
	for range 2 {
		began := time.Now()
		nc, err := e.config.Dial(ctx, host, port)
		if err != nil {
			return 0, dialFailure(ctx, err)
		}
		took := max(time.Since(began), time.Microsecond)
		_ = nc.Close() // nothing was sent
		if least == 0 || took < least {
			least = took
		}
	}
	return least, nil
}

// front is a request for a name's front page.
func front(name string) *request.Request {
	host, root := []byte(name), []byte("/")
	in := &msg.Request{
		MethodText: []byte("GET"), Method: msg.GET, Scheme: msg.HTTPS, Proto: msg.HTTP11, Authority: host, Target: root, Path: root,
	}
	return &request.Request{In: in, Out: new(msg.Response), Host: host, Arena: new(arena.Arena)}
}

// sample is a name that stands for the zone's, and its origin; "" when there is
// none.
func (p *Plan) sample(apex string) (name, host string) {
	if p == nil {
		return "", ""
	}
	if found := p.names[apex]; found != nil {
		return apex, found.targets[0]
	}
	for _, names := range []map[string]*entry{p.names, p.wild} {
		for n, found := range names {
			if found != nil && (host == "" || n < name) {
				name, host = n, found.targets[0]
			}
		}
		if host != "" {
			break
		}
	}
	return name, host
}
