package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/selvage-edge/selvage/zone"
)

// Certificate is a zone's certificate with what only the control plane knows.
type Certificate struct {
	zone.Certificate
	DataKey   []byte // the key that Sealed is under, wrapped by the master key
	Issuer    string
	Signature string
	Bundle    string // bundle_method as sent
	Created   time.Time
	Changed   time.Time
}

const certificateColumns = `id, chain, hosts, issuer, signature, expires, sealed, data_key, bundle, managed, created, changed`

func scanCertificate(r *sql.Rows, extra ...any) (Certificate, error) {
	var c Certificate
	var hosts string
	var expires, managed, created, changed int64
	into := append([]any{&c.ID, &c.Chain, &hosts, &c.Issuer, &c.Signature, &expires, &c.Sealed, &c.DataKey, &c.Bundle, &managed, &created, &changed}, extra...)
	if err := r.Scan(into...); err != nil {
		return c, err
	}
	c.Expires, c.Created, c.Changed = fromMicro(expires), fromMicro(created), fromMicro(changed)
	c.Managed = managed != 0
	if err := json.Unmarshal([]byte(hosts), &c.Hosts); err != nil {
		return c, fmt.Errorf("hosts of certificate %s: %w", c.ID, err)
	}
	return c, nil
}

// Certificates returns a zone's certificates, oldest first.
func (tx *Tx) Certificates(ctx context.Context, zoneID string) ([]Certificate, error) {
	var all []Certificate
	err := rows(ctx, tx, func(r *sql.Rows) error {
		c, err := scanCertificate(r)
		all = append(all, c)
		return err
	}, `SELECT `+certificateColumns+` FROM certificates WHERE zone = $1 ORDER BY created, id`, zoneID)
	return all, missing(err, "certificate")
}

// AllCertificates hands each certificate of each zone to fn.
func (tx *Tx) AllCertificates(ctx context.Context, fn func(zoneID string, c Certificate) error) error {
	err := rows(ctx, tx, func(r *sql.Rows) error {
		var zoneID string
		c, err := scanCertificate(r, &zoneID)
		if err != nil {
			return err
		}
		return fn(zoneID, c)
	}, `SELECT `+certificateColumns+`, zone FROM certificates ORDER BY created, id`)
	return missing(err, "certificate")
}

func (tx *Tx) saveCertificates(ctx context.Context, before, after *Zone) error {
	for _, c := range before.Certificates {
		if slices.ContainsFunc(after.Certificates, func(n Certificate) bool { return n.ID == c.ID }) {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM certificates WHERE id = $1`, c.ID); err != nil {
			return err
		}
	}
	for _, c := range after.Certificates {
		if slices.ContainsFunc(before.Certificates, func(o Certificate) bool { return o.ID == c.ID && o.Changed.Equal(c.Changed) }) {
			continue
		}
		hosts, err := json.Marshal(c.Hosts)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO certificates (`+certificateColumns+`, zone)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
			ON CONFLICT (id) DO UPDATE SET chain = excluded.chain, hosts = excluded.hosts, issuer = excluded.issuer, signature = excluded.signature,
			expires = excluded.expires, sealed = excluded.sealed, data_key = excluded.data_key, bundle = excluded.bundle,
			managed = excluded.managed, changed = excluded.changed`,
			c.ID, c.Chain, string(hosts), c.Issuer, c.Signature, micro(c.Expires), c.Sealed, c.DataKey, c.Bundle, number(c.Managed),
			micro(c.Created), micro(c.Changed), after.ID); err != nil {
			return err
		}
	}
	return nil
}
