package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Certificate is a zone's certificate with what only the control plane knows.
// Its Sealed is the private key under its data key.
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

// Ref names the certificate's pair of chain and key.
func (c *Certificate) Ref() feed.PairRef {
	return feed.PairRef{ID: c.ID, Sum: feed.SumPair(c.ID, c.Chain, c.Sealed)}
}

// The tables that hold certificates: those that the log names, and those that
// it does not name yet.
const (
	tablePublished = "certificates"
	tableStaged    = "staged"
)

// certificates returns a zone's certificates in a table, oldest first.
func (tx *Tx) certificates(ctx context.Context, table, zoneID string) ([]Certificate, error) {
	var all []Certificate
	err := rows(ctx, tx, func(r *sql.Rows) error {
		c, err := scanCertificate(r)
		all = append(all, c)
		return err
	}, `SELECT `+certificateColumns+` FROM `+table+` WHERE zone = $1 ORDER BY created, id`, zoneID)
	return all, missing(err, "certificate")
}

// PairOf finds the certificate, staged or published, whose pair is named, and
// its zone; fault.NotFound when there is none any more.
func (tx *Tx) PairOf(ctx context.Context, ref feed.PairRef) (c Certificate, zoneID string, err error) {
	for _, table := range []string{tablePublished, tableStaged} {
		found := false
		err := rows(ctx, tx, func(r *sql.Rows) (err error) {
			c, err = scanCertificate(r, &zoneID)
			found = err == nil && c.Ref() == ref
			return err
		}, `SELECT `+certificateColumns+`, zone FROM `+table+` WHERE id = $1`, ref.ID)
		if found || err != nil {
			return c, zoneID, missing(err, "certificate")
		}
	}
	return Certificate{}, "", missing(sql.ErrNoRows, "certificate")
}

// Stage is a staged certificate's pair.
type Stage struct {
	feed.PairRef
	Zone  string
	Since time.Time       // when it was staged
	Held  map[string]bool // by control processes all of whose nodes hold it
}

// Staged returns all stages, oldest first.
func (tx *Tx) Staged(ctx context.Context) (all []Stage, err error) {
	at := map[string]int{}
	if err = rows(ctx, tx, func(r *sql.Rows) error {
		var zoneID string
		c, err := scanCertificate(r, &zoneID)
		at[c.ID] = len(all)
		all = append(all, Stage{PairRef: c.Ref(), Zone: zoneID, Since: c.Changed, Held: map[string]bool{}})
		return err
	}, `SELECT `+certificateColumns+`, zone FROM staged ORDER BY changed, id`); err != nil || len(all) == 0 {
		return all, missing(err, "staged certificate")
	}
	err = rows(ctx, tx, func(r *sql.Rows) error {
		var cert, control string
		var sum []byte
		err := r.Scan(&cert, &control, &sum)
		if i, ok := at[cert]; ok && string(sum) == string(all[i].Sum[:]) {
			all[i].Held[control] = true
		}
		return err
	}, `SELECT cert, control, sum FROM held`)
	return all, missing(err, "staged certificate")
}

// PutHeld notes that all nodes connected to a control process hold a staged
// pair. Of a stage that is over it does nothing.
func (tx *Tx) PutHeld(ctx context.Context, ref feed.PairRef, control string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO held (cert, control, sum) SELECT id, $2, $3 FROM staged WHERE id = $1
		ON CONFLICT (cert, control) DO UPDATE SET sum = excluded.sum`, ref.ID, control, ref.Sum[:])
	return wrote(err, "held pair")
}

// LiveControls returns the control processes that live now, as LiveControl says.
func (tx *Tx) LiveControls(ctx context.Context) (all []string, err error) {
	err = rows(ctx, tx, func(r *sql.Rows) error {
		var name string
		err := r.Scan(&name)
		all = append(all, strings.TrimPrefix(name, controlLease))
		return err
	}, `SELECT name FROM leases WHERE name LIKE '`+controlLease+`%' AND expires >= `+tx.kind.now())
	return all, missing(err, "lease")
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

func (tx *Tx) saveCertificates(ctx context.Context, table, zoneID string, before, after []Certificate) error {
	for _, c := range before {
		if slices.ContainsFunc(after, func(n Certificate) bool { return n.ID == c.ID }) {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE id = $1`, c.ID); err != nil {
			return err
		}
	}
	for _, c := range after {
		if slices.ContainsFunc(before, func(o Certificate) bool { return o.ID == c.ID && o.Changed.Equal(c.Changed) }) {
			continue
		}
		hosts, err := json.Marshal(c.Hosts)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO `+table+` (`+certificateColumns+`, zone)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
			ON CONFLICT (id) DO UPDATE SET chain = excluded.chain, hosts = excluded.hosts, issuer = excluded.issuer, signature = excluded.signature,
			expires = excluded.expires, sealed = excluded.sealed, data_key = excluded.data_key, bundle = excluded.bundle,
			managed = excluded.managed, changed = excluded.changed`,
			c.ID, c.Chain, string(hosts), c.Issuer, c.Signature, micro(c.Expires), c.Sealed, c.DataKey, c.Bundle, number(c.Managed),
			micro(c.Created), micro(c.Changed), zoneID); err != nil {
			return err
		}
	}
	return nil
}
