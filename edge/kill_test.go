package edge

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/tier"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// off makes just these switches set on an edge.
func (e *Edge) off(t *testing.T, names ...string) {
	t.Helper()
	c := &memCopy{rows: map[string]string{}}
	for _, name := range names {
		c.rows[zone.KillKey(name)] = `{"reason":"test"}`
	}
	if err := e.kills.Begin(c.Scan); err != nil {
		t.Fatal(err)
	}
	e.kills.End()
}

// hostPage is an origin that says which Host it was asked for.
func hostPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=600")
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, strings.Repeat("host "+r.Host+"\n", 200))
}

// killed is a cluster of two data centers with rules of both phases.
func killed(t *testing.T) (*cluster, *fakeOrigin) {
	t.Helper()
	spec := topology(smart)
	spec.Rulesets = []zone.Ruleset{
		{Phase: "http_request_cache_settings", Body: []byte(`{"rules":[{"expression":"http.request.uri.path eq \"/ruled\"","action":"set_cache_settings","action_parameters":{"cache":false}}]}`)},
		{Phase: "http_request_origin", Body: []byte(`{"rules":[{"expression":"http.request.uri.path eq \"/routed\"","action":"route","action_parameters":{"host_header":"inner.test"}}]}`)},
	}
	o := newOrigin(hostPage)
	return newCluster(t, spec, nodes(1, "FRA", "NRT"), o), o
}

func TestSwitchesTakeTheirPartOut(t *testing.T) {
	c, o := killed(t)
	e := c.edges[0]
	cacheOf := func(path string, lines ...string) string { return e.visit(path, lines...).cache }

	cacheOf("/a")
	if got := cacheOf("/a"); got != "HIT" {
		t.Fatalf("before: %s, want HIT", got)
	}
	e.off(t, "cache")
	asked := o.count("/a")
	if v := e.visit("/a"); v.cache != "" || v.status != 200 || o.count("/a") != asked+1 {
		t.Errorf("cache off: %d %q, origin asked %d times more, want 200 without a word of a cache, and once", v.status, v.cache, o.count("/a")-asked)
	}
	e.off(t)
	if got := cacheOf("/a"); got != "HIT" {
		t.Errorf("cache on again: %s, want HIT", got)
	}

	if got := cacheOf("/ruled"); got != "BYPASS" && got != "DYNAMIC" {
		t.Fatalf("ruled out of the cache: %s", got)
	}
	e.off(t, "cache_rules")
	cacheOf("/ruled")
	if got := cacheOf("/ruled"); got != "HIT" {
		t.Errorf("cache_rules off: %s, want HIT", got)
	}

	if v := e.visit("/routed"); !strings.Contains(v.body, "host inner.test") {
		t.Fatalf("routed: %.40q", v.body)
	}
	e.off(t, "origin_rules", "cache")
	if v := e.visit("/routed"); !strings.Contains(v.body, "host site.test") {
		t.Errorf("origin_rules off: %.40q, want the zone's own host", v.body)
	}
	e.off(t)

	cacheOf("/z")
	settled(t, "a compressed hit", func() bool {
		v := e.visit("/z", "Accept-Encoding", "gzip")
		return v.cache == "HIT" && string(v.fields.Get(msg.ContentEncoding)) == "gzip"
	})
	e.off(t, "compression")
	for _, path := range []string{"/z", "/y"} { // stored, and not
		if v := e.visit(path, "Accept-Encoding", "gzip"); v.fields.Has(msg.ContentEncoding) {
			t.Errorf("compression off: %s has Content-Encoding %s", path, v.fields.Get(msg.ContentEncoding))
		}
	}
}

func TestWithoutTiersEachEdgeAsksTheOrigin(t *testing.T) {
	c, o := killed(t)
	passed := 0
	count := func(prefix string) (asked int) {
		for i := range 8 {
			path := prefix + string(rune('a'+i))
			for _, e := range c.edges {
				if e.visit(path).tier != "origin" {
					passed++
				}
			}
			asked += o.count(path)
		}
		return asked
	}
	settled(t, "the edges to know each other", func() bool {
		return len(c.edges[0].tiers.Way(nil, site().ID, &smart, tier.Hash([]byte("x")), 0))+len(c.edges[1].tiers.Way(nil, site().ID, &smart, tier.Hash([]byte("x")), 0)) > 0
	})
	if asked := count("/with"); asked >= 16 {
		t.Fatalf("with tiers: the origin was asked %d times for 8 objects by 2 edges", asked)
	}
	for _, e := range c.edges {
		e.off(t, "tiers")
	}
	passed = 0
	if asked := count("/without"); asked != 16 || passed > 0 {
		t.Errorf("tiers off: the origin was asked %d times for 8 objects by 2 edges, %d answers came from elsewhere; want 16, 0", asked, passed)
	}
}

func TestAZoneThatIsOffSaysSo(t *testing.T) {
	c, o := killed(t)
	c.edges[0].off(t, zone.KillZone(site().ID))
	v := c.edges[0].visit("/x")
	if v.status != 503 || !strings.Contains(v.body, "switched off") || o.count("/x") != 0 || v.fields.Get(msg.RetryAfter) == nil {
		t.Errorf("%d %.200q, Retry-After %q, origin asked %d times", v.status, v.body, v.fields.Get(msg.RetryAfter), o.count("/x"))
	}
	c.edges[0].off(t, zone.KillZone(strings.Repeat("f", 32)))
	if v := c.edges[0].visit("/x"); v.status != 200 {
		t.Errorf("another zone is off: %d, want 200", v.status)
	}
}

func TestEarlyDataIsSentAgain(t *testing.T) {
	e := inMemory(t, site(), stored)
	serve := func() int {
		s := e.Open(conn())
		defer s.Close()
		in, out := ask("/x"), new(msg.Response)
		in.Early = true
		s.Serve(in, out)
		out.Close()
		s.Done(in, out, 0, nil)
		return out.Status
	}
	if got := serve(); got != 200 {
		t.Fatalf("GET in early data: %d", got)
	}
	e.off(t, "early_data")
	if got := serve(); got != 425 {
		t.Errorf("early_data off: %d, want 425", got)
	}
}

func TestHTTP3IsTakenBack(t *testing.T) {
	e := inMemory(t, site(), stored)
	e.altSvc = []byte(`h3=":443"`)
	over := func(p msg.Proto) (*msg.Response, string) {
		cn := conn()
		cn.TLS = &tls.ConnectionState{ServerName: "site.test"}
		s := e.Open(cn)
		defer s.Close()
		in, out := ask("/x"), new(msg.Response)
		in.Proto = p
		s.Serve(in, out)
		alt := string(out.Fields.Get(msg.AltSvc))
		out.Close()
		s.Done(in, out, 0, nil)
		return out, alt
	}
	e.off(t, "http3")
	if _, alt := over(msg.HTTP2); alt != "clear" {
		t.Errorf("over HTTP/2: Alt-Svc %q, want clear", alt)
	}
	if out, alt := over(msg.HTTP3); !out.EndConn || alt != "" {
		t.Errorf("over HTTP/3: the connection stays, Alt-Svc %q", alt)
	}
	if _, err := (&quicDoor{edge: e}).admit(t.Context(), nil); err != errOff {
		t.Errorf("a new QUIC connection: %v, want %v", err, errOff)
	}
	e.off(t)
	if out, _ := over(msg.HTTP3); out.EndConn {
		t.Error("with http3 on, the connection ends after the first answer")
	}
}

// What one step sets, counts before what else is in it; what it clears, after.
func TestSwitchesKeepTheFeedsOrder(t *testing.T) {
	const id = "11111111111111111111111111111111"
	c := &memCopy{cursor: feed.Cursor{Seq: 1}, rows: zoneRows(t, id, "example.com")}
	c.rows[zone.KillKey("cache")] = `{"reason":"test"}`
	a := testApplier(t, c)
	if err := a.reload(); err != nil {
		t.Fatal(err)
	}
	if !a.edge.kills.Now().Has(zone.KillCache) {
		t.Fatal("a switch of the copy does not count after the start")
	}
	delete(c.rows, zone.KillKey("cache"))
	c.rows[zone.KillKey("tiers")] = `{"reason":"test"}`
	c.rows[zone.MetaKey(id)] = "damaged" // settle rejects it, which is where the test looks
	c.cursor.Seq = 3
	for seq, key := range map[uint64]string{2: zone.KillKey("cache"), 3: zone.MetaKey(id)} {
		if err := a.note(&feed.Entry{Seq: seq, Changes: []feed.Change{{Op: feed.Set, Key: key}, {Op: feed.Set, Key: zone.KillKey("tiers")}}}); err != nil {
			t.Fatal(err)
		}
	}
	rejected := 0
	a.settle(func(_ uint64, why error) {
		rejected++
		if now := a.edge.kills.Now(); !now.Has(zone.KillCache) || !now.Has(zone.KillTiers) {
			t.Errorf("while zones change (%v): off %b, want both switches", why, now)
		}
	})
	if now := a.edge.kills.Now(); rejected != 1 || now.Has(zone.KillCache) || !now.Has(zone.KillTiers) {
		t.Errorf("afterwards: off %b, %d rejections; want tiers alone, and one", now, rejected)
	}
}
