package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Zone is a zone with all its parts, as the control plane keeps them: what the
// edges get, and what only the API shows.
type Zone struct {
	zone.Meta
	Settings     map[string]Setting
	Defaults     zone.Settings // of the operator, below Settings; not the zone's, not saved with it
	Records      []zone.Record // in the order of creation
	Rulesets     []Ruleset
	Certificates []Certificate
	// Staged are certificates that no entry names yet: new ones, and what
	// replaces one of Certificates that has the same id.
	Staged []Certificate
	// Version counts the zone's writes; SaveZone compares it.
	Version int64
	// positions are the places of stored records; replaced, never changed.
	positions map[string]int64
}

// ErrStale is in the chain of SaveZone's error when the zone was written since
// its state was read: read it again and make the change of that.
var ErrStale = errors.New("store: the zone has changed meanwhile")

// Spec is what edges compile, as it is when what is staged is published.
func (z *Zone) Spec() *zone.Spec {
	s := &zone.Spec{Meta: z.Meta, Settings: z.SettingValues().Over(z.Defaults), Records: slices.Clone(z.Records)}
	for _, r := range z.Rulesets {
		s.Rulesets = append(s.Rulesets, zone.Ruleset{Phase: r.Phase, Body: r.Body})
	}
	for _, c := range z.Newest() {
		s.Certificates = append(s.Certificates, c.Certificate)
	}
	return s
}

// Newest are the zone's certificates with staged ones in the place of those
// that they replace.
func (z *Zone) Newest() []Certificate {
	all := slices.Clone(z.Certificates)
	for _, c := range z.Staged {
		all = put(all, c)
	}
	return all
}

// Publish moves the staged certificate that is named to those that edges are
// told of, and reports whether there was such a one.
func (z *Zone) Publish(ref feed.PairRef) bool {
	i := slices.IndexFunc(z.Staged, func(c Certificate) bool { return c.Ref() == ref })
	if i < 0 {
		return false
	}
	z.Certificates = put(z.Certificates, z.Staged[i])
	z.Staged = slices.Delete(z.Staged, i, i+1)
	return true
}

// Stage adds a certificate to those that are staged, in the place of one of the
// same id.
func (z *Zone) Stage(c Certificate) { z.Staged = put(z.Staged, c) }

func put(all []Certificate, c Certificate) []Certificate {
	if i := slices.IndexFunc(all, func(o Certificate) bool { return o.ID == c.ID }); i >= 0 {
		all[i] = c
		return all
	}
	return append(all, c)
}

// Clone returns a copy that can be edited while z stays as it is. Parts are
// replaced, never changed in place, so lists are copied and parts are shared.
func (z *Zone) Clone() *Zone {
	c := *z
	c.Settings = make(map[string]Setting, len(z.Settings))
	for name, s := range z.Settings {
		c.Settings[name] = s
	}
	c.Records = slices.Clone(z.Records)
	c.Rulesets = slices.Clone(z.Rulesets)
	c.Certificates = slices.Clone(z.Certificates)
	c.Staged = slices.Clone(z.Staged)
	return &c
}

const zoneColumns = `id, account, name, status, paused, name_servers, created, changed`

func scanMeta(r interface{ Scan(...any) error }) (zone.Meta, error) {
	var m zone.Meta
	var servers string
	var paused, created, changed int64
	if err := r.Scan(&m.ID, &m.Account, &m.Name, &m.Status, &paused, &servers, &created, &changed); err != nil {
		return m, err
	}
	m.Paused = paused != 0
	m.Created, m.Changed = fromMicro(created), fromMicro(changed)
	if err := json.Unmarshal([]byte(servers), &m.NameServers); err != nil {
		return m, fmt.Errorf("name_servers of zone %s: %w", m.ID, err)
	}
	return m, nil
}

// Zones returns the metadata of all zones, by name.
func (tx *Tx) Zones(ctx context.Context) ([]zone.Meta, error) {
	all := []zone.Meta{}
	err := rows(ctx, tx, func(r *sql.Rows) error {
		m, err := scanMeta(r)
		all = append(all, m)
		return err
	}, `SELECT `+zoneColumns+` FROM zones ORDER BY name`)
	return all, missing(err, "zone")
}

// ZoneMeta returns one zone's metadata; fault.NotFound when there is none.
func (tx *Tx) ZoneMeta(ctx context.Context, id string) (zone.Meta, error) {
	m, err := scanMeta(tx.QueryRowContext(ctx, `SELECT `+zoneColumns+` FROM zones WHERE id = $1`, id))
	return m, missing(err, "zone")
}

// ZoneNamed finds a zone by its name; fault.NotFound when there is none.
func (tx *Tx) ZoneNamed(ctx context.Context, name string) (zone.Meta, error) {
	m, err := scanMeta(tx.QueryRowContext(ctx, `SELECT `+zoneColumns+` FROM zones WHERE name = $1`, name))
	return m, missing(err, "zone")
}

// Zone returns one zone with all its parts; fault.NotFound when there is none.
func (tx *Tx) Zone(ctx context.Context, id string) (*Zone, error) {
	m, err := tx.ZoneMeta(ctx, id)
	if err != nil {
		return nil, err
	}
	z := &Zone{Meta: m}
	if err := tx.QueryRowContext(ctx, `SELECT version FROM zones WHERE id = $1`, id).Scan(&z.Version); err != nil {
		return nil, missing(err, "zone")
	}
	if z.Settings, err = tx.settings(ctx, id); err != nil {
		return nil, err
	}
	if z.Defaults, _, err = tx.Defaults(ctx); err != nil {
		return nil, err
	}
	if z.Records, z.positions, err = tx.records(ctx, id); err != nil {
		return nil, err
	}
	if z.Rulesets, err = tx.rulesets(ctx, id); err != nil {
		return nil, err
	}
	if z.Certificates, err = tx.certificates(ctx, tablePublished, id); err != nil {
		return nil, err
	}
	if z.Staged, err = tx.certificates(ctx, tableStaged, id); err != nil {
		return nil, err
	}
	return z, nil
}

// SaveZone writes the difference between two states of one zone; before is nil
// for a new zone, after is nil for one that goes away, else its Version becomes
// what is stored. When the stored state is not before, it is ErrStale.
func (tx *Tx) SaveZone(ctx context.Context, before, after *Zone) error {
	if after == nil {
		r, err := tx.ExecContext(ctx, `DELETE FROM zones WHERE id = $1 AND version = $2`, before.ID, before.Version)
		return wrote(one(r, err), "zone")
	}
	if before == nil {
		before = &Zone{}
	}
	if err := tx.saveMeta(ctx, before, after); err != nil {
		return wrote(err, "zone")
	}
	if err := tx.saveSettings(ctx, before, after); err != nil {
		return wrote(err, "settings")
	}
	if err := tx.saveRecords(ctx, before, after); err != nil {
		return wrote(err, "dns record")
	}
	if err := tx.saveRulesets(ctx, before, after); err != nil {
		return wrote(err, "ruleset")
	}
	if err := tx.saveCertificates(ctx, tableStaged, after.ID, before.Staged, after.Staged); err != nil {
		return wrote(err, "staged certificate")
	}
	return wrote(tx.saveCertificates(ctx, tablePublished, after.ID, before.Certificates, after.Certificates), "certificate")
}

func (tx *Tx) saveMeta(ctx context.Context, before, after *Zone) error {
	servers, err := json.Marshal(after.NameServers)
	if err != nil {
		return err
	}
	if before.ID == "" {
		_, err = tx.ExecContext(ctx, `INSERT INTO zones (`+zoneColumns+`, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			after.ID, after.Account, after.Name, after.Status, number(after.Paused), string(servers), micro(after.Created), micro(after.Changed), after.Version)
		return err
	}
	after.Version = before.Version + 1
	r, err := tx.ExecContext(ctx, `UPDATE zones SET status = $1, paused = $2, name_servers = $3, changed = $4, version = $5 WHERE id = $6 AND version = $7`,
		after.Status, number(after.Paused), string(servers), micro(after.Changed), after.Version, after.ID, before.Version)
	return one(r, err)
}

// one is ErrStale unless a statement found its one row.
func one(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := r.RowsAffected()
	if err == nil && n == 0 {
		return ErrStale
	}
	return err
}

// Now is the clock as the store keeps it: UTC, whole microseconds, so that
// what is compared before and after a round trip is equal.
func Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
