package store

import (
	"context"
	"database/sql"
	"time"
)

// PutJoin keeps the hash of a join token until it is used or expires.
func (tx *Tx) PutJoin(ctx context.Context, hash []byte, expires time.Time) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM join_tokens WHERE expires < $1`, micro(time.Now())); err != nil {
		return wrote(err, "join token")
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO join_tokens (hash, expires) VALUES ($1, $2)`, hash, micro(expires))
	return wrote(err, "join token")
}

// TakeJoin uses a join token up; false when there is none or it has expired.
func (tx *Tx) TakeJoin(ctx context.Context, hash []byte) (bool, error) {
	r, err := tx.ExecContext(ctx, `DELETE FROM join_tokens WHERE hash = $1 AND expires >= $2`, hash, micro(time.Now()))
	if err != nil {
		return false, wrote(err, "join token")
	}
	n, err := r.RowsAffected()
	return n == 1, wrote(err, "join token")
}

// PutNode keeps a node's document (JSON), replacing an older one.
func (tx *Tx) PutNode(ctx context.Context, id, document string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO nodes (id, document) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET document = excluded.document`, id, document)
	return wrote(err, "node")
}

// Node returns a node's document; fault.NotFound when there is none.
func (tx *Tx) Node(ctx context.Context, id string) (string, error) {
	var document string
	err := tx.QueryRowContext(ctx, `SELECT document FROM nodes WHERE id = $1`, id).Scan(&document)
	return document, missing(err, "node")
}

// Nodes returns all nodes' documents, by id.
func (tx *Tx) Nodes(ctx context.Context) ([]string, error) {
	var all []string
	err := rows(ctx, tx, func(r *sql.Rows) error {
		var document string
		err := r.Scan(&document)
		all = append(all, document)
		return err
	}, `SELECT document FROM nodes ORDER BY id`)
	return all, missing(err, "node")
}
