package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/selvage-edge/selvage/zone"
)

// Kill is a kill switch that is set.
type Kill struct {
	Name string
	zone.Killed
}

// Kills returns the switches that are set, by name.
func (tx *Tx) Kills(ctx context.Context) ([]Kill, error) {
	var all []Kill
	err := rows(ctx, tx, func(r *sql.Rows) error {
		var k Kill
		var document string
		if err := r.Scan(&k.Name, &document); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(document), &k.Killed); err != nil {
			return fmt.Errorf("kill switch %s: %w", k.Name, err)
		}
		all = append(all, k)
		return nil
	}, `SELECT name, document FROM kills ORDER BY name`)
	return all, missing(err, "kill switch")
}

// PutKill stores a switch's document.
func (tx *Tx) PutKill(ctx context.Context, name, document string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO kills (name, document) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET document = excluded.document`, name, document)
	return wrote(err, "kill switch")
}

// DropKill forgets a switch.
func (tx *Tx) DropKill(ctx context.Context, name string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM kills WHERE name = $1`, name)
	return wrote(err, "kill switch")
}
