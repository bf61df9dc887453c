package edge

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/selvage-edge/selvage/edge/dns"
	"github.com/selvage-edge/selvage/edge/phase/cache"
	"github.com/selvage-edge/selvage/edge/shelf"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/rings"
	"github.com/selvage-edge/selvage/zone"
)

// memCopy is a copy in memory.
type memCopy struct {
	held   string // file of what is held
	cursor feed.Cursor
	rows   map[string]string
}

func (c *memCopy) Cursor() feed.Cursor { return c.cursor }

func (c *memCopy) Get(key string) ([]byte, uint64, bool, error) {
	v, ok := c.rows[key]
	return []byte(v), c.cursor.Seq, ok, nil
}

func (c *memCopy) Scan(prefix string, row func(string, []byte, uint64) error) error {
	for _, key := range slices.Sorted(maps.Keys(c.rows)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if err := row(key, []byte(c.rows[key]), c.cursor.Seq); err != nil {
			return err
		}
	}
	return nil
}

// zoneRows are the rows of a zone with one record at its apex.
func zoneRows(t *testing.T, id, name string) map[string]string {
	t.Helper()
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return map[string]string{
		zone.NameKey(name): id,
		zone.MetaKey(id):   text(zone.Meta{ID: id, Name: name, Status: "active", NameServers: []string{"ns1.test", "ns2.test"}}),
		zone.DNSKey(id, name): text([]zone.Record{{
			ID: id, Name: name, Type: "A", Content: "192.0.2.1", TTL: 1, Proxied: true,
		}}),
	}
}

func testApplier(t *testing.T, c *memCopy) *applier {
	t.Helper()
	view := rings.NewView(c, "FRA")
	return applierOver(t, view, view, nil, c.held)
}

// applierOver serves what a copy holds.
func applierOver(t *testing.T, copied copyReader, stages staged, older shelf.Historian, state string) *applier {
	t.Helper()
	e := &Edge{log: slog.New(slog.DiscardHandler)}
	e.zones = shelf.New(shelf.Config{
		Copy: copied, Older: older, State: state, Shared: &zone.Shared{Colo: "FRA", Advertise: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
	})
	e.dns = dns.New(dns.Config{Names: &e.zones.Names, Ctx: t.Context(), Load: e.zones.Plan})
	e.zones.Plans = e.dns
	if err := e.zones.Open(); err != nil {
		t.Fatal(err)
	}
	e.cache = cache.New(cache.Config{Ctx: t.Context(), Fetch: func(*Request) error { return nil }})
	t.Cleanup(e.cache.Close)
	return &applier{edge: e, copy: copied, staged: stages}
}

// zoneOf is the zone that serves a host, nil when none does.
func (a *applier) zoneOf(t *testing.T, host string) *Zone {
	t.Helper()
	z, err := a.edge.zones.Load(t.Context(), []byte(host))
	if err != nil {
		t.Error(err)
	}
	return z
}

// resolve sends one question over UDP and returns the answer's code.
func resolve(t *testing.T, s *dns.Server, name string) int {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr, done := conn.LocalAddr().String(), make(chan struct{})
	go func() {
		defer close(done)
		_ = s.ServeUDP(conn) // ends with the socket, below
	}()
	answer, err := mdns.Exchange(new(mdns.Msg).SetQuestion(name, mdns.TypeA), addr)
	_ = conn.Close()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	return answer.Rcode
}

// While an edge is away a zone may be deleted and made again: the snapshot
// holds the same name under another id.
func TestSnapshotWithAZoneMadeAnewServesIt(t *testing.T) {
	const old, again = "11111111111111111111111111111111", "22222222222222222222222222222222"
	c := &memCopy{cursor: feed.Cursor{Seq: 1}, rows: zoneRows(t, old, "example.com")}
	a := testApplier(t, c)
	if err := a.reload(); err != nil {
		t.Fatal(err)
	}
	c.cursor.Seq, c.rows = 9, zoneRows(t, again, "example.com")
	if err := a.reload(); err != nil {
		t.Fatal(err)
	}
	if z := a.zoneOf(t, "example.com"); z == nil || z.ID != again {
		t.Errorf("example.com is served by %v, want zone %s", z, again)
	}
	if got := resolve(t, a.edge.dns, "example.com."); got != mdns.RcodeSuccess {
		t.Errorf("DNS answers %s for example.com", mdns.RcodeToString[got])
	}
	if got := a.edge.zones.Hot(); got != 1 {
		t.Errorf("%d zones in memory, want 1", got)
	}
	c.rows = nil
	if err := a.reload(); err != nil {
		t.Fatal(err)
	}
	if z := a.zoneOf(t, "example.com"); z != nil {
		t.Errorf("a zone that is gone is still served: %v", z)
	}
	if got := resolve(t, a.edge.dns, "example.com."); got != mdns.RcodeRefused {
		t.Errorf("DNS answers %s for a zone that is gone", mdns.RcodeToString[got])
	}
}

// A zone that cannot be compiled is rejected by the number that broke it and
// served as it was; the others of the same batch are made true.
func TestSettleRejectsByEntryAndKeepsWhatIsServed(t *testing.T) {
	const good, bad = "11111111111111111111111111111111", "22222222222222222222222222222222"
	c := &memCopy{cursor: feed.Cursor{Seq: 2}, rows: zoneRows(t, good, "good.test")}
	maps.Copy(c.rows, zoneRows(t, bad, "bad.test"))
	a := testApplier(t, c)
	if err := a.reload(); err != nil {
		t.Fatal(err)
	}
	was := a.zoneOf(t, "bad.test")
	entry := func(seq uint64, changes ...feed.Change) {
		t.Helper()
		c.cursor.Seq = seq
		for _, change := range changes {
			c.rows[change.Key] = string(change.Value)
		}
		if err := a.note(&feed.Entry{Seq: seq, Changes: changes}); err != nil {
			t.Fatal(err)
		}
	}
	set := func(key, value string) feed.Change {
		return feed.Change{Op: feed.Set, Key: key, Value: []byte(value)}
	}
	entry(3, set(zone.SettingsKey(bad), `{"nope":1}`))
	entry(4, set(zone.SettingsKey(good), `{"ssl":"off"}`))
	entry(5, feed.Change{Op: feed.Signal, Key: zone.PurgeKey(good), Value: []byte("{")})
	entry(6, set(zone.SettingsKey(good), `{"ssl":"flexible"}`))
	rejected := map[uint64]string{}
	a.settle(func(seq uint64, why error) { rejected[seq] = why.Error() })
	if len(rejected) != 2 || !strings.Contains(rejected[3], "nope") || !strings.Contains(rejected[5], "purge") {
		t.Errorf("rejected: %v; want 3 for its setting and 5 for its purge", rejected)
	}
	if a.zoneOf(t, "bad.test") != was || a.zoneOf(t, "good.test").Seq != 6 {
		t.Errorf("served: bad %v, good at %d", a.zoneOf(t, "bad.test"), a.zoneOf(t, "good.test").Seq)
	}
	a.settle(func(seq uint64, why error) { t.Errorf("again: %d %v", seq, why) })
}
