package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/selvage-edge/selvage/zone"
)

func (tx *Tx) records(ctx context.Context, zoneID string) ([]zone.Record, map[string]int64, error) {
	all, positions := []zone.Record{}, map[string]int64{}
	err := rows(ctx, tx, func(r *sql.Rows) error {
		var rec zone.Record
		var tags string
		var data sql.NullString
		var priority sql.NullInt64
		var position, proxied, created, changed int64
		if err := r.Scan(&position, &rec.ID, &rec.Name, &rec.Type, &rec.Content, &rec.TTL, &proxied, &priority, &data, &rec.Comment, &tags, &created, &changed); err != nil {
			return err
		}
		rec.Proxied = proxied != 0
		rec.Created, rec.Changed = fromMicro(created), fromMicro(changed)
		if priority.Valid {
			rec.Priority = new(uint16(priority.Int64))
		}
		if data.Valid {
			rec.Data = json.RawMessage(data.String)
		}
		if err := json.Unmarshal([]byte(tags), &rec.Tags); err != nil {
			return fmt.Errorf("tags of record %s: %w", rec.ID, err)
		}
		all, positions[rec.ID] = append(all, rec), position
		return nil
	}, `SELECT position, id, name, type, content, ttl, proxied, priority, data, comment, tags, created, changed
		FROM records WHERE zone = $1 ORDER BY position, id`, zoneID)
	return all, positions, missing(err, "dns record")
}

func (tx *Tx) saveRecords(ctx context.Context, before, after *Zone) error {
	old := make(map[string]*zone.Record, len(before.Records))
	for i := range before.Records {
		old[before.Records[i].ID] = &before.Records[i]
	}
	kept := make(map[string]bool, len(after.Records))
	for i := range after.Records {
		kept[after.Records[i].ID] = true
	}
	for id := range old {
		if kept[id] {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM records WHERE id = $1`, id); err != nil {
			return err
		}
	}
	for i := range after.Records {
		rec := &after.Records[i]
		if was := old[rec.ID]; was != nil && reflect.DeepEqual(was, rec) {
			continue
		}
		if err := tx.putRecord(ctx, after.ID, rec, old[rec.ID] == nil, after.positions[rec.ID]); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) putRecord(ctx context.Context, zoneID string, rec *zone.Record, fresh bool, position int64) error {
	tags, err := json.Marshal(rec.Tags)
	if err != nil {
		return err
	}
	var priority, data any
	if rec.Priority != nil {
		priority = int64(*rec.Priority)
	}
	if rec.Data != nil {
		data = string(rec.Data)
	}
	if !fresh {
		_, err = tx.ExecContext(ctx, `UPDATE records SET name = $1, type = $2, content = $3, ttl = $4, proxied = $5, priority = $6,
			data = $7, comment = $8, tags = $9, changed = $10 WHERE id = $11`,
			rec.Name, rec.Type, rec.Content, int64(rec.TTL), number(rec.Proxied), priority, data, rec.Comment, string(tags), micro(rec.Changed), rec.ID)
		return err
	}
	// Callers append new records, so the order of insertion is the zone's order; one
	// that comes back out of the history has its old place.
	_, err = tx.ExecContext(ctx, `INSERT INTO records (id, zone, position, name, type, content, ttl, proxied, priority, data, comment, tags, created, changed)
		VALUES ($1, $2, CASE WHEN CAST($14 AS BIGINT) > 0 THEN CAST($14 AS BIGINT) ELSE (SELECT COALESCE(MAX(position), 0) + 1 FROM records WHERE zone = $2) END, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		rec.ID, zoneID, rec.Name, rec.Type, rec.Content, int64(rec.TTL), number(rec.Proxied), priority, data,
		rec.Comment, string(tags), micro(rec.Created), micro(rec.Changed), position)
	return err
}
