package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// part is one feed key of a zone whose value differs; nil for absent.
type part struct {
	key           string
	before, after []byte
}

type parts []part

func (ps parts) changes() []feed.Change {
	var all []feed.Change
	for _, p := range ps {
		if p.after == nil {
			all = append(all, feed.Change{Op: feed.Delete, Key: p.key})
		} else {
			all = append(all, feed.Change{Op: feed.Set, Key: p.key, Value: p.after})
		}
	}
	return all
}

// differ lists the feed keys that two states of a zone give different values;
// either may be nil.
func differ(before, after *store.Zone) (parts, error) {
	d := &difference{}
	old, now := orEmpty(before), orEmpty(after)
	id := old.ID
	if after != nil {
		id = now.ID
	}
	d.add(zone.NameKey(cmpOr(now.Name, old.Name)), text(before), text(after))
	d.addJSON(zone.MetaKey(id), present(before, old.Meta), present(after, now.Meta))
	d.addJSON(zone.SettingsKey(id), present(settingsOf(before), old.SettingValues()), present(settingsOf(after), now.SettingValues()))
	d.records(id, old.Records, now.Records)
	d.rulesets(id, old, now)
	d.certificates(id, old, now)
	return d.parts, d.err
}

func orEmpty(z *store.Zone) *store.Zone {
	if z == nil {
		return &store.Zone{}
	}
	return z
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// text is the value of a name key: the zone's id as bare text.
func text(z *store.Zone) []byte {
	if z == nil {
		return nil
	}
	return []byte(z.ID)
}

// present returns v when there is something that has it, else nil.
func present(z *store.Zone, v any) any {
	if z == nil {
		return nil
	}
	return v
}

// settingsOf is z when any setting was set that edges get.
func settingsOf(z *store.Zone) *store.Zone {
	if z == nil || len(z.SettingValues()) == 0 {
		return nil
	}
	return z
}

type difference struct {
	parts parts
	err   error
}

func (d *difference) add(key string, before, after []byte) {
	if !bytes.Equal(before, after) || (before == nil) != (after == nil) {
		d.parts = append(d.parts, part{key, before, after})
	}
}

func (d *difference) addJSON(key string, before, after any) {
	d.add(key, d.encode(key, before), d.encode(key, after))
}

func (d *difference) encode(key string, v any) []byte {
	if v == nil || d.err != nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		d.err = fmt.Errorf("publish: encode %s: %w", key, err)
	}
	return b
}

func (d *difference) records(id string, before, after []zone.Record) {
	old, now := byName(before), byName(after)
	names := slices.Collect(maps.Keys(old))
	for name := range now {
		if _, ok := old[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if reflect.DeepEqual(old[name], now[name]) {
			continue
		}
		d.addJSON(zone.DNSKey(id, name), some(old[name]), some(now[name]))
	}
}

func some(records []zone.Record) any {
	if len(records) == 0 {
		return nil
	}
	return records
}

func byName(records []zone.Record) map[string][]zone.Record {
	m := make(map[string][]zone.Record, len(records))
	for _, r := range records {
		m[r.Name] = append(m[r.Name], r)
	}
	return m
}

func (d *difference) rulesets(id string, before, after *store.Zone) {
	value := func(r *store.Ruleset) any {
		if r == nil {
			return nil
		}
		return zone.Ruleset{Phase: r.Phase, Body: r.Body}
	}
	phases := map[string]bool{}
	for _, r := range slices.Concat(before.Rulesets, after.Rulesets) {
		phases[r.Phase] = true
	}
	for _, phase := range slices.Sorted(maps.Keys(phases)) {
		d.addJSON(zone.RulesetKey(id, phase), value(before.Ruleset(phase)), value(after.Ruleset(phase)))
	}
}

func (d *difference) certificates(id string, before, after *store.Zone) {
	value := func(z *store.Zone, certID string) any {
		if c := find(z, certID); c != nil {
			return pointer(c)
		}
		return nil
	}
	for _, certID := range certificateIDs(before, after) {
		d.addJSON(zone.CertKey(id, certID), value(before, certID), value(after, certID))
	}
}

func certificateIDs(zones ...*store.Zone) []string {
	ids := map[string]bool{}
	for _, z := range zones {
		for _, c := range z.Certificates {
			ids[c.ID] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

func find(z *store.Zone, certID string) *store.Certificate {
	i := slices.IndexFunc(z.Certificates, func(c store.Certificate) bool { return c.ID == certID })
	if i < 0 {
		return nil
	}
	return &z.Certificates[i]
}
