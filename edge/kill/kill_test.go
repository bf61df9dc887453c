package kill

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/zone"
)

type rows map[string]string

func (r rows) scan(prefix string, row func(string, []byte, uint64) error) error {
	for _, key := range slices.Sorted(maps.Keys(r)) {
		if strings.HasPrefix(key, prefix) {
			if err := row(key, []byte(r[key]), 1); err != nil {
				return err
			}
		}
	}
	return nil
}

const reason = `{"reason":"test","by":"me","since":"2026-11-22T12:00:00Z"}`

func TestSwitchesThatAreSetCountAtOnceThoseClearedAtTheEnd(t *testing.T) {
	var s Switches
	step := func(r rows, during, after string) {
		t.Helper()
		if err := s.Begin(r.scan); err != nil {
			t.Fatal(err)
		}
		if got := said(&s); got != during {
			t.Errorf("between: %s, want %s", got, during)
		}
		s.End()
		if got := said(&s); got != after {
			t.Errorf("after: %s, want %s", got, after)
		}
	}
	step(rows{}, "", "")
	step(rows{"kill/cache": reason, "kill/zone/a": reason}, "cache a", "cache a")
	step(rows{"kill/tiers": reason, "kill/zone/b": reason}, "cache tiers a b", "tiers b")
	step(rows{"kill/tiers": reason, "kill/zone/b": reason, "zone/a/meta": "{}"}, "tiers b", "tiers b")
	step(rows{}, "tiers b", "")
}

// said lists what is off, of all switches and of zones a and b.
func said(s *Switches) string {
	var all []string
	now := s.Now()
	for i := range zone.KillTable {
		if now.Has(zone.Kill(i)) {
			all = append(all, zone.KillTable[i].Name)
		}
	}
	for _, id := range []string{"a", "b"} {
		if s.Zone(now, id) {
			all = append(all, id)
		}
	}
	return strings.Join(all, " ")
}

func TestWhatCannotBeReadIsNamedAndTheRestCounts(t *testing.T) {
	var s Switches
	err := s.Begin(rows{"kill/cache": reason, "kill/zz_of_next_year": reason}.scan)
	if err == nil || !strings.Contains(err.Error(), "kill/zz_of_next_year: this edge knows no such switch") {
		t.Errorf("error %v, want one that names the unknown switch", err)
	}
	s.End()
	if got := said(&s); got != "cache" {
		t.Errorf("off: %q, want cache", got)
	}
	// A switch is a switch, whatever its value says.
	if err := s.Begin(rows{"kill/disk": "?"}.scan); err == nil || !strings.Contains(err.Error(), "kill/disk") {
		t.Errorf("error %v, want one that names kill/disk", err)
	}
	s.End()
	if got := said(&s); got != "disk" {
		t.Errorf("off: %q, want disk", got)
	}
	broken := errors.New("broken")
	if err := s.Begin(func(string, func(string, []byte, uint64) error) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v, want the scan's", err)
	}
	s.End()
	if got := said(&s); got != "disk" {
		t.Errorf("after a copy that cannot be read: %q, want disk as before", got)
	}
}

func TestTableNamesAreDistinctAndKeys(t *testing.T) {
	seen := map[string]bool{}
	for i, s := range zone.KillTable {
		if s.Name == "" || s.Doc == "" || seen[s.Name] || strings.Contains(s.Name, "/") {
			t.Errorf("switch %d: name %q, doc %q", i, s.Name, s.Doc)
		}
		seen[s.Name] = true
		if k, ok := zone.FindKill(s.Name); !ok || int(k) != i {
			t.Errorf("FindKill(%q) = %d, %t", s.Name, k, ok)
		}
	}
	if zone.Kills(0).With(zone.Kill(len(zone.KillTable)-1)) >= someZone {
		t.Error("the switches reach the bit that says that zones are off")
	}
}

// BenchmarkAsk is what switches cost a request: nothing off, ten other zones off.
func BenchmarkAsk(b *testing.B) {
	id := strings.Repeat("ab", 16)
	ask := func(b *testing.B, s *Switches) {
		b.ReportAllocs()
		for b.Loop() {
			now := s.Now()
			if s.Zone(now, id) || now.Has(zone.KillCache) {
				b.Fatal("off")
			}
		}
	}
	b.Run("nothing", func(b *testing.B) { ask(b, new(Switches)) })
	b.Run("zones", func(b *testing.B) {
		var s Switches
		r := rows{}
		for i := range 10 {
			r[zone.KillKey(zone.KillZone(strings.Repeat("c", 31)+string(rune('0'+i))))] = reason
		}
		if err := s.Begin(r.scan); err != nil {
			b.Fatal(err)
		}
		s.End()
		ask(b, &s)
	})
}
