package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/selvage-edge/selvage/zone"
)

// Setting is one zone setting that was set.
type Setting struct {
	Value   json.RawMessage // as it was sent
	Changed time.Time
	Expires time.Time // when it falls back to its default by itself; zero for never
}

func (s Setting) same(o Setting) bool {
	return string(s.Value) == string(o.Value) && s.Changed.Equal(o.Changed) && s.Expires.Equal(o.Expires)
}

// SettingValues is the form that edges get. What the API keeps among settings for
// itself, under names that zone.SettingTable does not have, is left out.
func (z *Zone) SettingValues() zone.Settings {
	values := make(zone.Settings, len(z.Settings))
	for name, s := range z.Settings {
		if zone.FindSetting(name) != nil {
			values[name] = s.Value
		}
	}
	return values
}

// Defaults returns what the operator gives for settings that zones have not set,
// as all data centers have it, and the number of the entry that did; 0: nothing.
func (tx *Tx) Defaults(ctx context.Context) (zone.Settings, uint64, error) {
	value, seq, ok, err := tx.Key(ctx, zone.KeyDefaults)
	if err != nil || !ok {
		return nil, 0, err
	}
	s, err := zone.DecodeDefaults(value)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", zone.KeyDefaults, err)
	}
	return s, seq, nil
}

func (tx *Tx) settings(ctx context.Context, zoneID string) (map[string]Setting, error) {
	all := map[string]Setting{}
	err := rows(ctx, tx, func(r *sql.Rows) error {
		var name, value string
		var changed, expires int64
		if err := r.Scan(&name, &value, &changed, &expires); err != nil {
			return err
		}
		all[name] = Setting{Value: json.RawMessage(value), Changed: fromMicro(changed), Expires: fromMicro(expires)}
		return nil
	}, `SELECT name, value, changed, expires FROM settings WHERE zone = $1`, zoneID)
	return all, missing(err, "settings")
}

func (tx *Tx) saveSettings(ctx context.Context, before, after *Zone) error {
	for name, s := range after.Settings {
		if old, ok := before.Settings[name]; ok && old.same(s) {
			continue
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO settings (zone, name, value, changed, expires) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (zone, name) DO UPDATE SET value = excluded.value, changed = excluded.changed, expires = excluded.expires`,
			after.ID, name, string(s.Value), micro(s.Changed), micro(s.Expires)); err != nil {
			return err
		}
	}
	for name := range before.Settings {
		if _, ok := after.Settings[name]; ok {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM settings WHERE zone = $1 AND name = $2`, after.ID, name); err != nil {
			return err
		}
	}
	return nil
}

// Expiry is a setting that falls back by itself.
type Expiry struct {
	Zone, Name string
	At         time.Time
}

// NextExpiry returns the setting that expires first; ok is false when none
// does.
func (tx *Tx) NextExpiry(ctx context.Context) (e Expiry, ok bool, err error) {
	err = rows(ctx, tx, func(r *sql.Rows) error {
		var at int64
		ok = true
		err := r.Scan(&e.Zone, &e.Name, &at)
		e.At = fromMicro(at)
		return err
	}, `SELECT zone, name, expires FROM settings WHERE expires > 0 ORDER BY expires LIMIT 1`)
	return e, ok, missing(err, "settings")
}

// Expiries returns all settings that fall back by themselves.
func (tx *Tx) Expiries(ctx context.Context) ([]Expiry, error) {
	var all []Expiry
	err := rows(ctx, tx, func(r *sql.Rows) error {
		var e Expiry
		var at int64
		err := r.Scan(&e.Zone, &e.Name, &at)
		e.At = fromMicro(at)
		all = append(all, e)
		return err
	}, `SELECT zone, name, expires FROM settings WHERE expires > 0 ORDER BY expires`)
	return all, missing(err, "settings")
}
