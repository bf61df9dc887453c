package geo

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// field is one key and its value (string, uint32 or a nested list) of a record.
type field struct {
	key   string
	value any
}

// encode writes a value in the format of MaxMind DB's data section: a control
// byte with the type in its upper three bits and the size below, then the
// payload. (https://maxmind.github.io/MaxMind-DB/; strings of up to 284 bytes,
// maps and lists of up to 28 entries.)
func encode(out []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		if len(v) > 28 {
			return append(append(out, 2<<5|29, byte(len(v)-29)), v...)
		}
		return append(append(out, 2<<5|byte(len(v))), v...)
	case uint16:
		return binary.BigEndian.AppendUint16(append(out, 5<<5|2), v)
	case uint32:
		return binary.BigEndian.AppendUint32(append(out, 6<<5|4), v)
	case uint64:
		return binary.BigEndian.AppendUint64(append(out, 8, 9-7), v) // extended type 9
	case []string:
		out = append(out, byte(len(v)), 11-7) // extended type 11
		for _, s := range v {
			out = encode(out, s)
		}
		return out
	case []field:
		out = append(out, 7<<5|byte(len(v)))
		for _, f := range v {
			out = encode(encode(out, f.key), f.value)
		}
		return out
	}
	panic("no such type in the test's encoder")
}

// build makes a database of IPv6 and IPv4 (as ::a.b.c.d) networks that do not
// overlap.
func build(t testing.TB, networks map[string][]field) string {
	t.Helper()
	const empty = 1<<32 - 1
	tree := [][2]uint32{{empty, empty}}
	var data []byte
	offsets := map[uint32]uint32{} // from a mark above any node to an offset in data
	for text, record := range networks {
		prefix := netip.MustParsePrefix(text)
		bits, address := prefix.Bits(), prefix.Addr().As16()
		if prefix.Addr().Is4() {
			bits += 96
			clear(address[:12])
		}
		mark := uint32(1<<24 + len(offsets))
		offsets[mark] = uint32(len(data))
		data = encode(data, record)
		at := uint32(0)
		for i := range bits {
			bit := address[i/8] >> (7 - i%8) & 1
			if i == bits-1 {
				tree[at][bit] = mark
				break
			}
			if tree[at][bit] == empty {
				tree[at][bit] = uint32(len(tree))
				tree = append(tree, [2]uint32{empty, empty})
			}
			at = tree[at][bit]
		}
	}
	var file []byte
	count := uint32(len(tree))
	for _, node := range tree {
		for _, child := range node {
			if offset, ok := offsets[child]; ok {
				child = count + 16 + offset
			} else if child == empty {
				child = count
			}
			file = binary.BigEndian.AppendUint32(file, child)
		}
	}
	file = append(append(file, make([]byte, 16)...), data...)
	file = append(file, "\xab\xcd\xefMaxMind.com"...)
	file = encode(file, []field{
		{"binary_format_major_version", uint16(2)}, {"binary_format_minor_version", uint16(0)},
		{"build_epoch", uint64(1_700_000_000)}, {"database_type", "test"},
		{"description", []field{{"en", "made by a test"}}}, {"ip_version", uint16(6)},
		{"languages", []string{"en"}}, {"node_count", count}, {"record_size", uint16(32)},
	})
	path := filepath.Join(t.TempDir(), "test.mmdb")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func countryFile(t testing.TB) string {
	return build(t, map[string][]field{
		"192.0.2.0/24":     {{"country_code", "DE"}},
		"198.51.100.0/25":  {{"country_code", "fr"}},
		"2001:db8:1::/48":  {{"country_code", "JP"}},
		"203.0.113.0/24":   {{"country", []field{{"iso_code", "US"}, {"names", []field{{"en", "United States"}}}}}},
		"203.0.112.0/32":   {{"country_code", "EUR"}},
		"203.0.112.1/32":   {{"country_code", "1!"}},
		"203.0.112.2/32":   {{"country_code", uint32(7)}},
		"2001:db8:2::1/64": {{"country_code", "BR"}, {"autonomous_system_number", uint32(9)}},
	})
}

func networkFile(t testing.TB) string {
	return build(t, map[string][]field{
		"192.0.2.0/25":    {{"autonomous_system_number", uint32(64500)}, {"autonomous_system_organization", "Example"}},
		"2001:db8:1::/64": {{"autonomous_system_number", uint32(4_200_000_001)}},
		"2001:db8:2::/64": {{"autonomous_system_number", uint32(10)}},
	})
}

func TestFind(t *testing.T) {
	d, err := Open(countryFile(t), networkFile(t))
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		address, country string
		asn              uint32
	}{
		{"192.0.2.1", "DE", 64500},
		{"192.0.2.200", "DE", 0},
		{"::ffff:192.0.2.1", "DE", 64500},
		{"198.51.100.127", "FR", 0},
		{"198.51.100.128", "", 0},
		{"2001:db8:1::5", "JP", 4_200_000_001},
		{"fe80::1%eth0", "", 0},
		{"203.0.113.9", "US", 0},
		{"203.0.112.0", "", 0},
		{"203.0.112.1", "", 0},
		{"203.0.112.2", "", 0},
		{"2001:db8:2::1", "BR", 9},
	}
	for _, c := range cases {
		country, asn := d.Find(netip.MustParseAddr(c.address))
		if got := strings.Trim(string(country[:]), "\x00"); got != c.country || asn != c.asn {
			t.Errorf("%s: %q AS%d, want %q AS%d", c.address, got, asn, c.country, c.asn)
		}
	}
	if country, asn := d.Find(netip.Addr{}); country != [2]byte{} || asn != 0 {
		t.Errorf("no address: %q AS%d", country, asn)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if country, _ := d.Find(netip.MustParseAddr("192.0.2.1")); country != [2]byte{} {
		t.Errorf("a closed database found %q", country)
	}
}

func TestMissingAndBrokenFiles(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.mmdb")
	d, err := Open(missing)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("a missing file: %v", err)
	}
	if country, asn := d.Find(netip.MustParseAddr("192.0.2.1")); country != [2]byte{} || asn != 0 {
		t.Errorf("an empty database found %q AS%d", country, asn)
	}

	good := countryFile(t)
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, len(whole) / 2, len(whole) - 20} {
		broken := filepath.Join(t.TempDir(), "broken.mmdb")
		if err := os.WriteFile(broken, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(good, broken)
		if err == nil || !strings.Contains(err.Error(), broken) {
			t.Errorf("a file cut to %d bytes: %v", size, err)
		}
		if country, _ := d.Find(netip.MustParseAddr("192.0.2.1")); string(country[:]) != "DE" {
			t.Errorf("the good file beside a broken one found %q", country)
		}
	}
	if _, err := Open(); err != nil {
		t.Errorf("no files at all: %v", err)
	}
}

func TestReload(t *testing.T) {
	path := countryFile(t)
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr("192.0.2.1")
	stop := make(chan struct{})
	var finders sync.WaitGroup
	finders.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if country, _ := d.Find(a); string(country[:]) != "DE" && string(country[:]) != "AT" {
				t.Errorf("found %q while the file was replaced", country)
				return
			}
		}
	})
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(); err == nil {
		t.Error("garbage was loaded")
	}
	if country, _ := d.Find(a); string(country[:]) != "DE" {
		t.Errorf("after a failed reload: %q, want what was there", country)
	}
	next, err := os.ReadFile(build(t, map[string][]field{"192.0.2.0/24": {{"country_code", "AT"}}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, next, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(); err != nil {
		t.Error(err)
	}
	if country, _ := d.Find(a); string(country[:]) != "AT" {
		t.Errorf("after a reload: %q, want the new file's", country)
	}
	close(stop)
	finders.Wait()
}

func TestFindAllocatesNothing(t *testing.T) {
	d, err := Open(countryFile(t), networkFile(t))
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr("203.0.113.9")
	if n := testing.AllocsPerRun(1000, func() { d.Find(a) }); n != 0 {
		t.Errorf("%v allocations per look-up, want none", n)
	}
}

func BenchmarkFind(b *testing.B) {
	d, err := Open(countryFile(b), networkFile(b))
	if err != nil {
		b.Fatal(err)
	}
	a := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		d.Find(a)
	}
}
