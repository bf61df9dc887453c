package world

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	edgekit "github.com/selvage-edge/selvage/edge"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/lab/sim/wan"
	"github.com/selvage-edge/selvage/wire/msg"
)

// source is the origin of all zones: what it says of a zone changes with each
// purge of it.
type source struct {
	w        *world
	host     *wan.Host
	server   *http.Server
	versions []atomic.Int64 // by zone
}

const sourceName = "origin"

func newSource(w *world, at wan.Place) *source {
	s := &source{w: w, host: w.net.Host(sourceName, at), versions: make([]atomic.Int64, w.plan.zones)}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	ln := s.host.Listen()
	w.ends.Go(func() { _ = s.server.Serve(ln) })
	return s
}

// ServeHTTP says which version of the zone's content this is, and by which host
// name the edge asked, which is one of its rules' doing.
func (s *source) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("zone"))
	if err != nil || n < 0 || n >= len(s.versions) {
		http.Error(out, "no such zone", http.StatusNotFound)
		return
	}
	version := s.versions[n].Load()
	<-time.After(time.Duration(s.w.chance(int64(20 * time.Millisecond)))) // it takes its time to tell what was true
	out.Header().Set("Cache-Control", "max-age=60")
	_, _ = fmt.Fprintf(out, "%d %s", version, r.Host) // who went is not waited for
}

// seen is what a visitor got.
type seen struct {
	node    *node
	zone    int
	began   int    // how many visits of all were over
	fresh   bool   // asked for by a path that nobody asked for before
	after   uint64 // acknowledged by the node before the visit
	until   uint64 // the log's end after it
	version int64
	host    string // by which the origin was asked
	ttl     string // that the visitor was told
}

func (s seen) String() string {
	return fmt.Sprintf("%s, zone %d: version %d, asked for as %s, max-age %s; acknowledged %d, log at %d", s.node.m.name, s.zone, s.version, s.host, s.ttl, s.after, s.until)
}

// follow makes the life an edge that serves visitors.
func (l *life) follow(cfg *feed.SubscriberConfig) error {
	var err error
	l.kit, err = edgekit.NewKit(l.ctx, edgekit.KitConfig{
		Identity: l.n.id, Copy: l.copy, CacheBytes: 4 << 20, Log: l.n.w.trace.logger(l.n.m.name),
		Origin: func(ctx context.Context, _ string, _ uint16) (net.Conn, error) { return l.host.Dial(ctx, sourceName) },
	})
	if err == nil {
		l.kit.Follow(cfg)
		for i := range 4 {
			l.work.Go(func() { l.visitors(i) })
		}
	}
	return err
}

// visitors come to an edge one after the other while it lives.
func (l *life) visitors(who int) {
	w := l.n.w
	for i := 0; l.ctx.Err() == nil; i++ {
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(time.Duration(w.chance(int64(200 * time.Millisecond)))):
		}
		zone := int(w.chance(int64(w.plan.zones)))
		path := "/kept"
		if w.chance(3) == 0 {
			path = fmt.Sprintf("/%d/%d/%d", l.number, who, i)
		}
		l.visit(zone, path)
	}
}

// visit asks the edge for a path of a zone and notes what was answered.
func (l *life) visit(n int, path string) {
	w := l.n.w
	w.mu.Lock()
	began := len(w.visits)
	w.mu.Unlock()
	s := seen{node: l.n, zone: n, began: began, fresh: path != "/kept", after: l.n.acked.Load()}
	conn := l.kit.Open(&msg.Conn{Remote: netip.MustParseAddrPort("192.0.2.200:4711"), Local: netip.MustParseAddrPort("192.0.2.201:80")})
	defer conn.Close()
	target := fmt.Sprintf("%s?zone=%d", path, n)
	in := &msg.Request{
		MethodText: []byte("GET"), Method: msg.GET, Authority: []byte(zoneName(n)), Target: []byte(target), Path: []byte(path),
		Query: []byte(fmt.Sprintf("zone=%d", n)), Proto: msg.HTTP11,
	}
	in.Fields.Add([]byte("Host"), []byte(zoneName(n)))
	out := new(msg.Response)
	conn.Serve(in, out)
	status, body := out.Status, string(out.Bytes)
	var err error
	if out.Body != nil {
		var text []byte
		text, err = io.ReadAll(out.Body)
		body = string(text)
	}
	ttl := string(out.Fields.Get(msg.CacheControl))
	if out.Prepared != nil && ttl == "" {
		ttl = string(out.Prepared.Fields().Get(msg.CacheControl))
	}
	out.Close()
	conn.Done(in, out, int64(len(body)), err)
	if l.dead.Load() || err != nil || status != http.StatusOK {
		return // what a dying process says, and failures of the origin's, which are not the feed's
	}
	version, host, _ := strings.Cut(body, " ")
	s.version, err = strconv.ParseInt(version, 10, 64)
	if err != nil {
		w.broken("state", "%s answers %q", l.n.m.name, body)
		return
	}
	s.host, s.ttl = host, strings.TrimPrefix(ttl, "max-age=")
	s.until = w.witness.head().Seq
	w.mu.Lock()
	defer w.mu.Unlock()
	w.visits = append(w.visits, s)
}
