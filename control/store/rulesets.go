package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"reflect"
	"slices"
	"time"
)

// Ruleset is a phase's entrypoint ruleset.
type Ruleset struct {
	ID      string
	Phase   string
	Version int64 // from 1
	Body    json.RawMessage
	Changed time.Time
}

// Ruleset returns the ruleset of a phase, nil when there is none.
func (z *Zone) Ruleset(phase string) *Ruleset {
	i := slices.IndexFunc(z.Rulesets, func(r Ruleset) bool { return r.Phase == phase })
	if i < 0 {
		return nil
	}
	return &z.Rulesets[i]
}

func (tx *Tx) rulesets(ctx context.Context, zoneID string) ([]Ruleset, error) {
	var all []Ruleset
	err := rows(ctx, tx, func(r *sql.Rows) error {
		var rs Ruleset
		var body string
		var changed int64
		if err := r.Scan(&rs.Phase, &rs.ID, &rs.Version, &body, &changed); err != nil {
			return err
		}
		rs.Body, rs.Changed = json.RawMessage(body), fromMicro(changed)
		all = append(all, rs)
		return nil
	}, `SELECT phase, id, version, body, changed FROM rulesets WHERE zone = $1 ORDER BY phase`, zoneID)
	return all, missing(err, "ruleset")
}

func (tx *Tx) saveRulesets(ctx context.Context, before, after *Zone) error {
	for _, r := range after.Rulesets {
		if old := before.Ruleset(r.Phase); old != nil && reflect.DeepEqual(*old, r) {
			continue
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO rulesets (zone, phase, id, version, body, changed) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (zone, phase) DO UPDATE SET id = excluded.id, version = excluded.version, body = excluded.body, changed = excluded.changed`,
			after.ID, r.Phase, r.ID, r.Version, string(r.Body), micro(r.Changed)); err != nil {
			return err
		}
	}
	for _, r := range before.Rulesets {
		if after.Ruleset(r.Phase) != nil {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM rulesets WHERE zone = $1 AND phase = $2`, after.ID, r.Phase); err != nil {
			return err
		}
	}
	return nil
}
