package rings

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

func TestDefinitionIsRefusedNamingTheField(t *testing.T) {
	if d := Default(); d.Check() != nil {
		t.Errorf("the default: %v", d.Check())
	}
	good := Definition{Canaries: []string{"FRA", "AMS"}, Share: 10, CanaryHold: 1, ShareHold: 1}
	for field, spoil := range map[string]func(*Definition){
		"canaries[1]":         func(d *Definition) { d.Canaries = []string{"FRA", "fra"} },
		"canaries[2]":         func(d *Definition) { d.Canaries = []string{"FRA", "AMS", "FRA"} },
		"canaries":            func(d *Definition) { d.Canaries = make([]string, MaxCanaries+1) },
		"share_percent":       func(d *Definition) { d.Share = 100 },
		"canary_hold_seconds": func(d *Definition) { d.CanaryHold = 0 },
		"share_hold_seconds":  func(d *Definition) { d.ShareHold = MaxHold + 1 },
	} {
		d := good
		spoil(&d)
		if err := d.Check(); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// Which data centers are in the share depends on nothing but their codes, and
// about as many are as was asked.
func TestShareIsAboutWhatWasAsked(t *testing.T) {
	d := Definition{Canaries: []string{"FRA"}, Share: 10}
	in := 0
	for i := range 26 * 26 * 26 {
		colo := string([]byte{'A' + byte(i/676), 'A' + byte(i/26%26), 'A' + byte(i%26)})
		if d.Of(colo) == Share {
			in++
		}
	}
	if part := float64(in) / (26 * 26 * 26); part < 0.09 || part > 0.11 {
		t.Errorf("%.3f of all codes are in a share of 10%%", part)
	}
	if d.Of("FRA") != Canary {
		t.Errorf("the canary is in ring %s", d.Of("FRA"))
	}
}

func TestCanaryIsNamedWhereNoneIs(t *testing.T) {
	colos := []string{"FRA", "AMS", "NRT"}
	d := Default().Resolve(colos)
	if len(d.Canaries) != 1 {
		t.Fatalf("%v", d.Canaries)
	}
	for _, colo := range colos {
		if Rank(colo) < Rank(d.Canaries[0]) {
			t.Errorf("%s stands before %s", colo, d.Canaries[0])
		}
	}
	if again := Default().Resolve([]string{"NRT", "FRA", "AMS"}); again.Canaries[0] != d.Canaries[0] {
		t.Errorf("in another order %v", again.Canaries)
	}
	if none := Default().Resolve(nil); len(none.Canaries) != 0 {
		t.Errorf("without data centers %v", none.Canaries)
	}
	if named := (Definition{Canaries: []string{"LHR"}}).Resolve(colos); named.Canaries[0] != "LHR" {
		t.Errorf("named, got %v", named.Canaries)
	}
}

func TestStageIsRefused(t *testing.T) {
	id := strings.Repeat("ab", 16)
	set := func(key string) feed.Change { return feed.Change{Op: feed.Set, Key: key, Value: []byte("{}")} }
	d := Definition{Canaries: []string{"FRA"}, Share: 10}
	var many []feed.Change
	for i := range MaxChanges + 1 {
		many = append(many, set(zone.DNSKey(id, fmt.Sprint("n", i))))
	}
	for name, changes := range map[string][]feed.Change{
		"nothing":       {},
		"a certificate": {set(zone.CertKey(id, "c"))},
		"a key":         {set(zone.SealedKey("c", "n"))},
		"a purge":       {set(zone.PurgeKey(id))},
		"a name":        {set(zone.NameKey("example.com"))},
		"a node":        {set(feed.NodeKey(id))},
		"a stage":       {set(Key(1))},
		"twice":         {set(zone.SettingsKey(id)), set(zone.SettingsKey(id))},
		"too many":      many,
		"too large":     {{Op: feed.Set, Key: zone.SettingsKey(id), Value: make([]byte, zone.MaxValueBytes)}},
	} {
		if value, err := NewStage(d, "token", time.Now(), changes).Encode(); err == nil {
			t.Errorf("%s is accepted as %.80s", name, value)
		}
	}
}

func FuzzDecode(f *testing.F) {
	id := strings.Repeat("ab", 16)
	good, err := NewStage(Definition{Canaries: []string{"FRA"}, Share: 10}, "token", time.Unix(0, 0).UTC(), []feed.Change{
		{Op: feed.Set, Key: zone.SettingsKey(id), Value: []byte(`{}`)}, {Op: feed.Delete, Key: zone.DNSKey(id, "a.example.com")},
	}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(strings.Replace(string(good), "canary", "all", 1)))
	f.Fuzz(func(t *testing.T, value []byte) {
		s, err := Decode(value)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil {
			return // within the limit only in the form that it came in
		}
		same, err := Decode(again)
		if err != nil || len(same.Changes) != len(s.Changes) || same.Ring != s.Ring || same.Share != s.Share {
			t.Fatalf("%.200s came back as %.200s: %v", value, again, err)
		}
	})
}
