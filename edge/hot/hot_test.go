package hot

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestSuffixesOfNames(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a"
	for name, want := range map[string]string{
		"www.example.com": "www.example.com example.com com", "com": "com", "": "", ".": "", "a..b": "", ".a": "", "a.": "", strings.Repeat("a", 254): "",
		long: strings.Join(func() (all []string) {
			for i := 0; i < len(long); i += 2 {
				all = append(all, long[i:])
			}
			return all
		}(), " "),
	} {
		var s Suffixes
		s.Set([]byte(name))
		var got []string
		for i := range s.Len() {
			suffix, hash := s.At(i)
			if hash != HashOf(string(suffix)) {
				t.Errorf("%q: the hash of %q is not its own", name, suffix)
			}
			got = append(got, string(suffix))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("suffixes of %q: %q, want %q", name, got, want)
		}
	}
}

func put(tab *Table[string], name, value string, size int64, pinned bool) {
	tab.Put(HashOf(name), name, &value, size, pinned)
}

func find(tab *Table[string], name string) string {
	if v := tab.Find(HashOf(name), []byte(name)); v != nil {
		return *v
	}
	return ""
}

func TestTableStaysUnderItsBoundAndKeepsWhatIsUsed(t *testing.T) {
	const bound = 1 << 20
	tab := NewTable[string](bound)
	put(tab, "pinned.test", "p", 10<<10, true)
	for i := range 10_000 {
		put(tab, fmt.Sprintf("z%d.test", i), "v", 1000, false)
		find(tab, "z7.test")
		if _, bytes, _ := tab.Usage(); bytes > bound+11<<10 {
			t.Fatalf("%d bytes are held, the bound is %d", bytes, bound)
		}
	}
	count, _, evicted := tab.Usage()
	if count < 700 || count+int(evicted) != 10_001 {
		t.Errorf("%d values are held and %d have left, of 10,001", count, evicted)
	}
	if find(tab, "z7.test") != "v" || find(tab, "pinned.test") != "p" || find(tab, "z8.test") != "" {
		t.Error("what is used has left, or what is not has stayed")
	}
	tab.Pin(HashOf("pinned.test"), "pinned.test", false)
	for i := range 10_000 {
		put(tab, fmt.Sprintf("y%d.test", i), "v", 1000, false)
	}
	if find(tab, "pinned.test") != "" {
		t.Error("what is not pinned any more stays for ever")
	}
	tab.Remove(HashOf("y9999.test"), "y9999.test")
	tab.Remove(HashOf("never.test"), "never.test")
	if find(tab, "y9999.test") != "" {
		t.Error("a removed value is found")
	}
	seen := 0
	tab.Each(func(string, *string) { seen++ })
	if count, _, _ := tab.Usage(); seen != count {
		t.Errorf("%d values are passed, %d are held", seen, count)
	}
}

func TestReplaceNeedsAValue(t *testing.T) {
	tab := NewTable[string](1 << 20)
	v, h := "new", HashOf("a.test")
	if tab.Replace(h, "a.test", &v, 1, false) {
		t.Error("replaced what was not there")
	}
	put(tab, "a.test", "old", 1, true)
	if !tab.Replace(h, "a.test", &v, 1, false) || find(tab, "a.test") != "new" {
		t.Error("not replaced")
	}
	if count, bytes, _ := tab.Usage(); count != 1 || bytes != 1+nodeBytes+6 {
		t.Errorf("%d values of %d bytes", count, bytes)
	}
}

// Values come, are replaced and leave while others look: one that was put in and
// is pinned is found at any moment, whole.
func TestReadersAlwaysFindWhatIsThere(t *testing.T) {
	tab := NewTable[string](64 << 10)
	put(tab, "stays.test", "0", 100, true)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if find(tab, "stays.test") == "" {
					t.Error("a pinned value is not found")
					return
				}
				find(tab, "z17.test")
			}
		})
	}
	for i := range 20_000 {
		put(tab, fmt.Sprintf("z%d.test", i%3000), "v", 200, false)
		put(tab, "stays.test", fmt.Sprint(i), 100, true)
		if i%3 == 0 {
			name := fmt.Sprintf("z%d.test", i%1000)
			tab.Remove(HashOf(name), name)
		}
	}
	close(stop)
	readers.Wait()
}

func TestNamesAreAbsentOnlyIfTheyAre(t *testing.T) {
	var n Names
	name := func(i int) uint64 { return HashOf(fmt.Sprintf("z%d.test", i)) }
	if !n.May(name(1)) || n.Ready() {
		t.Error("something is known of a name before anything was said")
	}
	n.Missed(name(1), n.Changes())
	if n.May(name(1)) {
		t.Error("a name that was not found may be there")
	}
	before := n.Changes()
	n.Added(name(1))
	if n.Missed(name(1), before); !n.May(name(1)) {
		t.Error("a name that was looked for before it was added counts as absent")
	}
	err := n.Build(10_000, func(add func(uint64)) error {
		for i := range 10_000 {
			add(name(i))
		}
		n.Added(name(10_000))
		return nil
	})
	if err != nil || !n.Ready() {
		t.Fatalf("built: %v, %v", n.Ready(), err)
	}
	n.Added(name(10_001))
	for i := range 10_002 {
		if !n.May(name(i)) {
			t.Fatalf("name %d is called absent", i)
		}
	}
	wrong := 0
	for i := range 100_000 {
		if n.May(name(1_000_000 + i)) {
			wrong++
		}
	}
	if wrong > 500 {
		t.Errorf("%d of 100,000 absent names have to be looked for", wrong)
	}
	n.Missed(name(5), n.Changes()) // as after a deletion
	n.Added(name(5))
	if !n.May(name(5)) {
		t.Error("a name that came again is called absent")
	}
	n.Missed(name(6), n.Changes())
	n.Reset()
	if !n.May(name(1_000_000)) || !n.May(name(6)) || n.Ready() {
		t.Error("something is known of names after a reset")
	}
	failed := errors.New("disk")
	if err := n.Build(1, func(func(uint64)) error { return failed }); !errors.Is(err, failed) || n.Ready() {
		t.Errorf("a filter that could not be built is in use: %v", err)
	}
	if err := n.Build(1, func(func(uint64)) error { n.Reset(); return nil }); err != nil || n.Ready() {
		t.Errorf("a filter of what was before a reset is in use: %v", err)
	}
}
