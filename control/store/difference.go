package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/selvage-edge/selvage/zone"
)

// Difference is what one change did to a zone's rows, by their columns. It has
// no key of a certificate, neither sealed nor wrapped.
type Difference struct {
	Zone         *Sides[ZoneRow]                   `json:"zone,omitempty"`
	Settings     map[string]*Sides[SettingRow]     `json:"settings,omitempty"`     // by name
	Records      map[string]*Sides[RecordRow]      `json:"records,omitempty"`      // by id
	Rulesets     map[string]*Sides[RulesetRow]     `json:"rulesets,omitempty"`     // by phase
	Certificates map[string]*Sides[CertificateRow] `json:"certificates,omitempty"` // by id
}

// Sides is one row before and after a change; nil where there was none.
type Sides[R any] struct {
	Before *R `json:"before,omitempty"`
	After  *R `json:"after,omitempty"`
}

// ZoneRow is a row of zones. Times of all rows are microseconds since 1970.
type ZoneRow struct {
	Account     string   `json:"account"`
	Name        string   `json:"name"`
	Status      string   `json:"status"`
	Paused      bool     `json:"paused"`
	NameServers []string `json:"name_servers"`
	Created     int64    `json:"created"`
	Changed     int64    `json:"changed"`
}

// SettingRow is a row of settings; Value is JSON, byte for byte.
type SettingRow struct {
	Value   string `json:"value"`
	Changed int64  `json:"changed"`
	Expires int64  `json:"expires,omitempty"`
}

// RecordRow is a row of records.
type RecordRow struct {
	Position int64    `json:"position"` // 0 where it was not known: after being created
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Content  string   `json:"content"`
	TTL      uint32   `json:"ttl"`
	Proxied  bool     `json:"proxied"`
	Priority *uint16  `json:"priority,omitempty"`
	Data     *string  `json:"data,omitempty"`
	Comment  string   `json:"comment,omitempty"`
	Tags     []string `json:"tags"`
	Created  int64    `json:"created"`
	Changed  int64    `json:"changed"`
}

// RulesetRow is a row of rulesets; Body is JSON, byte for byte.
type RulesetRow struct {
	ID      string `json:"id"`
	Version int64  `json:"version"`
	Body    string `json:"body"`
	Changed int64  `json:"changed"`
}

// CertificateRow is a row of certificates without the key.
type CertificateRow struct {
	Chain     string   `json:"chain"`
	Hosts     []string `json:"hosts"`
	Issuer    string   `json:"issuer"`
	Signature string   `json:"signature"`
	Bundle    string   `json:"bundle"`
	Managed   bool     `json:"managed"`
	Expires   int64    `json:"expires"`
	Created   int64    `json:"created"`
	Changed   int64    `json:"changed"`
}

// Differ compares two states of a zone; either may be nil.
func Differ(before, after *Zone) *Difference {
	d := &Difference{}
	if row := pick(before, after, zoneRows); row != nil {
		d.Zone = row[""]
	}
	d.Settings = pick(before, after, settingRows)
	d.Records = pick(before, after, recordRows)
	d.Rulesets = pick(before, after, rulesetRows)
	d.Certificates = pick(before, after, certificateRows)
	return d
}

// Empty reports that two states had the same rows.
func (d *Difference) Empty() bool { return reflect.DeepEqual(*d, Difference{}) }

// pick keeps the rows that differ; nil for none.
func pick[R any](before, after *Zone, rowsOf func(*Zone) map[string]*R) map[string]*Sides[R] {
	old, now := map[string]*R{}, map[string]*R{}
	if before != nil {
		old = rowsOf(before)
	}
	if after != nil {
		now = rowsOf(after)
	}
	var all map[string]*Sides[R]
	add := func(id string) {
		if !reflect.DeepEqual(old[id], now[id]) {
			if all == nil {
				all = map[string]*Sides[R]{}
			}
			all[id] = &Sides[R]{old[id], now[id]}
		}
	}
	for id := range old {
		add(id)
	}
	for id := range now {
		if old[id] == nil {
			add(id)
		}
	}
	return all
}

func zoneRows(z *Zone) map[string]*ZoneRow {
	return map[string]*ZoneRow{"": {z.Account, z.Name, z.Status, z.Paused, z.NameServers, micro(z.Created), micro(z.Changed)}}
}

func settingRows(z *Zone) map[string]*SettingRow {
	all := make(map[string]*SettingRow, len(z.Settings))
	for name, s := range z.Settings {
		all[name] = &SettingRow{string(s.Value), micro(s.Changed), micro(s.Expires)}
	}
	return all
}

func recordRows(z *Zone) map[string]*RecordRow {
	all := make(map[string]*RecordRow, len(z.Records))
	for i := range z.Records {
		r := &z.Records[i]
		row := &RecordRow{
			Position: z.positions[r.ID], Name: r.Name, Type: r.Type, Content: r.Content, TTL: r.TTL, Proxied: r.Proxied,
			Priority: r.Priority, Comment: r.Comment, Tags: r.Tags, Created: micro(r.Created), Changed: micro(r.Changed),
		}
		if r.Data != nil {
			row.Data = new(string(r.Data))
		}
		all[r.ID] = row
	}
	return all
}

func rulesetRows(z *Zone) map[string]*RulesetRow {
	all := make(map[string]*RulesetRow, len(z.Rulesets))
	for _, r := range z.Rulesets {
		all[r.Phase] = &RulesetRow{r.ID, r.Version, string(r.Body), micro(r.Changed)}
	}
	return all
}

func certificateRows(z *Zone) map[string]*CertificateRow {
	all := make(map[string]*CertificateRow, len(z.Certificates))
	for i := range z.Certificates {
		c := &z.Certificates[i]
		all[c.ID] = &CertificateRow{c.Chain, c.Hosts, c.Issuer, c.Signature, c.Bundle, c.Managed, micro(c.Expires), micro(c.Created), micro(c.Changed)}
	}
	return all
}

// state is a zone while changes are taken back.
type state struct {
	id           string
	zone         *ZoneRow // nil: it does not exist
	settings     map[string]*SettingRow
	records      map[string]*RecordRow
	rulesets     map[string]*RulesetRow
	certificates map[string]*CertificateRow
}

func stateOf(id string, z *Zone) *state {
	s := &state{id: id}
	if z == nil {
		z = &Zone{}
	} else {
		s.zone = zoneRows(z)[""]
	}
	s.settings, s.records, s.rulesets, s.certificates = settingRows(z), recordRows(z), rulesetRows(z), certificateRows(z)
	return s
}

// errOtherRow says that a change did not lead to the state that it is taken from.
var errOtherRow = errors.New("a change of the history does not lead to the state after it")

// undo takes a change back.
func (s *state) undo(d *Difference) error {
	if d.Zone != nil {
		if (d.Zone.After == nil) != (s.zone == nil) {
			return errOtherRow
		}
		s.zone = d.Zone.Before
	}
	return errors.Join(back(s.settings, d.Settings), back(s.records, d.Records), back(s.rulesets, d.Rulesets), back(s.certificates, d.Certificates))
}

func back[R any](rows map[string]*R, change map[string]*Sides[R]) error {
	for id, side := range change {
		if (rows[id] == nil) != (side.After == nil) {
			return fmt.Errorf("%w: row %s", errOtherRow, id)
		}
		if side.Before == nil {
			delete(rows, id)
		} else {
			rows[id] = side.Before
		}
	}
	return nil
}

// made is the zone that the rows are of, nil for none. Its certificates have no
// keys.
func (s *state) made() *Zone {
	m := s.zone
	if m == nil {
		return nil
	}
	z := &Zone{
		Meta: zone.Meta{ID: s.id, Account: m.Account, Name: m.Name, Status: m.Status, Paused: m.Paused, NameServers: m.NameServers,
			Created: fromMicro(m.Created), Changed: fromMicro(m.Changed)},
		Settings: make(map[string]Setting, len(s.settings)), Records: []zone.Record{}, positions: make(map[string]int64, len(s.records)),
	}
	for name, v := range s.settings {
		z.Settings[name] = Setting{Value: json.RawMessage(v.Value), Changed: fromMicro(v.Changed), Expires: fromMicro(v.Expires)}
	}
	for id, r := range s.records {
		rec := zone.Record{ID: id, Name: r.Name, Type: r.Type, Content: r.Content, TTL: r.TTL, Proxied: r.Proxied, Priority: r.Priority,
			Comment: r.Comment, Tags: r.Tags, Created: fromMicro(r.Created), Changed: fromMicro(r.Changed)}
		if r.Data != nil {
			rec.Data = json.RawMessage(*r.Data)
		}
		z.Records, z.positions[id] = append(z.Records, rec), r.Position
	}
	// In the order in which the tables are read.
	slices.SortFunc(z.Records, func(a, b zone.Record) int {
		return cmp.Or(cmp.Compare(z.positions[a.ID], z.positions[b.ID]), cmp.Compare(a.ID, b.ID))
	})
	for _, phase := range slices.Sorted(maps.Keys(s.rulesets)) {
		r := s.rulesets[phase]
		z.Rulesets = append(z.Rulesets, Ruleset{ID: r.ID, Phase: phase, Version: r.Version, Body: json.RawMessage(r.Body), Changed: fromMicro(r.Changed)})
	}
	for id, c := range s.certificates {
		z.Certificates = append(z.Certificates, Certificate{
			Certificate: zone.Certificate{ID: id, Chain: c.Chain, Hosts: c.Hosts, Expires: fromMicro(c.Expires), Managed: c.Managed},
			Issuer:      c.Issuer, Signature: c.Signature, Bundle: c.Bundle, Created: fromMicro(c.Created), Changed: fromMicro(c.Changed),
		})
	}
	slices.SortFunc(z.Certificates, func(a, b Certificate) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return z
}

const (
	// packFrom is from how many bytes on a difference is compressed.
	packFrom = 2 << 10
	// maxDiff bounds one that is read, in bytes.
	maxDiff = 64 << 20
)

// pack is a difference as it is stored: JSON, compressed with zstd where that
// pays.
func (d *Difference) pack() ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil || len(b) < packFrom {
		return b, err
	}
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, err
	}
	_, err = w.Write(b)
	err = errors.Join(err, w.Close())
	return packed.Bytes(), err
}

func unpackDifference(b []byte) (*Difference, error) {
	if len(b) > 0 && b[0] != '{' {
		r, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDiff))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		if b, err = io.ReadAll(io.LimitReader(r, maxDiff)); err != nil {
			return nil, err
		}
	}
	d := &Difference{}
	return d, json.Unmarshal(b, d)
}
