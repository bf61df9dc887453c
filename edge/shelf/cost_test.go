package shelf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/dns"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// kind is a zone as some are.
type kind struct {
	name        string
	records     int
	proxied     bool
	certificate int // of so many in its chain
	rules       int // of the cache
}

var kinds = []kind{
	{"small", 8, true, 0, 0},
	{"small-certificate", 8, true, 1, 0},
	{"mail-only", 30, false, 0, 0},
	{"rules", 8, true, 1, 20},
	{"chain", 8, true, 4, 0},
	{"many-rules", 2, true, 0, 200},
	{"large", 1000, true, 1, 0},
}

// of are the rows of the n-th zone of a kind.
func (k kind) of(t testing.TB, n int, key *ecdsa.PrivateKey) []feed.Change {
	id, name := idOf(n), fmt.Sprintf("zone%07d.example", n)
	changes := []feed.Change{
		set(zone.NameKey(name), id),
		set(zone.MetaKey(id), zone.Meta{ID: id, Name: name, Account: idOf(0), Status: "active", NameServers: []string{"ada.ns.example", "bob.ns.example"}}),
		set(zone.SettingsKey(id), `{"ssl":"full","always_use_https":"on","browser_cache_ttl":14400}`),
	}
	for i := range k.records {
		host := fmt.Sprintf("host%d.%s", i, name)
		changes = append(changes, set(zone.DNSKey(id, host), []zone.Record{{ID: idOf(i), Name: host, Type: "A", Content: fmt.Sprintf("192.0.2.%d", i%250), TTL: 1, Proxied: k.proxied, Tags: []string{}}}))
	}
	if k.rules > 0 {
		var rules []string
		for i := range k.rules {
			rules = append(rules, fmt.Sprintf(`{"id":"%032x","action":"set_cache_settings","expression":"http.request.uri.path eq \"/some/path/%d\" or starts_with(http.request.uri.path, \"/static%d/\")","action_parameters":{"cache":true}}`, i, i, i))
		}
		changes = append(changes, set(zone.RulesetKey(id, "http_request_cache_settings"), zone.Ruleset{Phase: "http_request_cache_settings", Body: []byte(`{"rules":[` + strings.Join(rules, ",") + `]}`)}))
	}
	if k.certificate > 0 {
		hosts := []string{name, "*." + name}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(int64(n + 1)), DNSNames: hosts, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		changes = append(changes, set(zone.CertKey(id, id), zone.Certificate{ID: id, Chain: strings.Repeat(string(text), k.certificate), Hosts: hosts, Expires: leaf.NotAfter}))
	}
	return changes
}

// table is a Reader of rows in memory, which do not come and go as a store's do.
type table struct {
	keys []string // sorted
	rows map[string][]byte
}

func (m *table) Cursor() feed.Cursor { return feed.Cursor{Seq: 1} }

func (m *table) Get(key string) ([]byte, uint64, bool, error) {
	v, ok := m.rows[key]
	return v, 1, ok, nil
}

func (m *table) Scan(prefix string, row func(key string, value []byte, seq uint64) error) error {
	at, _ := slices.BinarySearch(m.keys, prefix)
	for _, key := range m.keys[at:] {
		if !strings.HasPrefix(key, prefix) {
			return nil
		}
		if err := row(key, m.rows[key], 1); err != nil {
			return err
		}
	}
	return nil
}

// fleet is a shelf over so many zones of a kind.
func fleet(t testing.TB, k kind, count int) *Shelf {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	m := &table{rows: map[string][]byte{}}
	for n := range count {
		for _, c := range k.of(t, n, key) {
			m.keys, m.rows[c.Key] = append(m.keys, c.Key), c.Value
		}
	}
	slices.Sort(m.keys)
	s := New(Config{Copy: m, Bytes: 1 << 40, Shared: &zone.Shared{Colo: "FRA", Advertise: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, Fill: func(spec *zone.Spec) error {
		for i := range spec.Certificates {
			spec.Certificates[i].PrivateKey = slices.Clone(der)
		}
		return nil
	}})
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	return s
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What zones are said to have of memory is what they have, within 30 %, so that
// zones_cache_bytes holds.
func TestBytesAreWhatZonesHave(t *testing.T) {
	for _, k := range kinds {
		count := max(20, 2000/(k.records+k.rules))
		s := fleet(t, k, count)
		d := dns.New(dns.Config{Names: &s.Names, Ctx: t.Context(), Load: s.Plan, Bytes: 1 << 40})
		s.Plans = d
		names := make([][]byte, count)
		for n := range names {
			names[n] = fmt.Appendf(nil, "zone%07d.example", n)
		}
		each := func(load func(name []byte) error) int64 {
			before := heap()
			for _, name := range names {
				if err := load(name); err != nil {
					t.Fatal(err)
				}
			}
			return heap() - before
		}
		fronts := each(func(name []byte) error {
			_, err := s.Load(t.Context(), name)
			return err
		})
		plans := each(func(name []byte) error {
			_, err := s.Plan(t.Context(), string(name))
			return err
		})
		_, said, _ := s.zones.Usage()
		_, saidOfPlans, _ := d.Usage()
		for _, m := range []struct {
			what      string
			has, said int64
		}{{"zone", fronts, said}, {"plan", plans, saidOfPlans}} {
			if m.said*10 < m.has*7 || m.said*10 > m.has*13 {
				t.Errorf("%s: a %s has %d bytes, it is said to have %d", k.name, m.what, m.has/int64(count), m.said/int64(count))
			}
		}
		runtime.KeepAlive(s)
		runtime.KeepAlive(names)
	}
}

// BenchmarkCold reads a zone from a store on disk among 10,000 and compiles it.
func BenchmarkCold(b *testing.B) {
	for _, records := range []int{8, 100, 1000, 10_000} {
		k := kind{"", records, true, 0, 0}
		count := max(2, 80_000/records)
		c, err := feed.OpenCopy(b.TempDir(), feed.CopyOptions{NoSync: true})
		if err != nil {
			b.Fatal(err)
		}
		w, err := c.BeginSnapshot()
		if err != nil {
			b.Fatal(err)
		}
		m := fleet(b, k, count).Copy.(*table)
		for _, key := range m.keys {
			if err := w.Add(b.Context(), key, m.rows[key], 1); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Commit(b.Context(), feed.Cursor{Seq: 1, Hash: [32]byte{1}}); err != nil {
			b.Fatal(err)
		}
		s := New(Config{Copy: c, Bytes: 1 << 40, Shared: &zone.Shared{Colo: "FRA", Advertise: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}})
		d := dns.New(dns.Config{Names: &s.Names, Ctx: b.Context(), Load: s.Plan, Bytes: 1 << 40})
		s.Plans = d
		if err := s.Open(); err != nil {
			b.Fatal(err)
		}
		for what, step := range map[string]func(n int) error{
			"look-up": func(n int) error { _, err := s.lookup(fmt.Sprintf("zone%07d.example", n)); return err },
			"records": func(n int) error { _, err := s.records(idOf(n)); return err },
			"plan":    func(n int) error { _, _, err := s.newestRecords(idOf(n)); return err },
			"front":   func(n int) error { _, err := s.newest(idOf(n)); return err },
			"whole": func(n int) error {
				name := fmt.Sprintf("zone%07d.example", n)
				_, err := s.Plan(b.Context(), name)
				d.Remove(name)
				return err
			},
		} {
			b.Run(fmt.Sprintf("%s/%d", what, records), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := step(i * 7919 % count); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
