package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"time"
)

// Account owns zones.
type Account struct {
	ID      string
	Name    string
	Created time.Time
}

// Token is an API token; the secret itself is never stored.
type Token struct {
	ID      string
	Account string
	Name    string
	Status  string // active | disabled
	Created time.Time
}

// HashToken is the form in which secrets are stored and looked up. They are 32
// random bytes and more, so a plain SHA-256 is enough: there is nothing to guess.
func HashToken(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

func (tx *Tx) PutAccount(ctx context.Context, a Account) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO accounts (id, name, created) VALUES ($1, $2, $3)`, a.ID, a.Name, micro(a.Created))
	return wrote(err, "account")
}

// Accounts returns all accounts, oldest first.
func (tx *Tx) Accounts(ctx context.Context) ([]Account, error) {
	var all []Account
	err := rows(ctx, tx, func(r *sql.Rows) error {
		var a Account
		var created int64
		if err := r.Scan(&a.ID, &a.Name, &created); err != nil {
			return err
		}
		a.Created = fromMicro(created)
		all = append(all, a)
		return nil
	}, `SELECT id, name, created FROM accounts ORDER BY created, id`)
	return all, missing(err, "account")
}

func (tx *Tx) PutToken(ctx context.Context, t Token, hash []byte) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO tokens (id, account, name, hash, status, created) VALUES ($1, $2, $3, $4, $5, $6)`,
		t.ID, t.Account, t.Name, hash, t.Status, micro(t.Created))
	return wrote(err, "token")
}

// DropTokens removes all tokens of a name, so that a new secret can replace
// them.
func (tx *Tx) DropTokens(ctx context.Context, name string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM tokens WHERE name = $1`, name)
	return wrote(err, "token")
}

// Token finds a token by the hash of its secret; fault.NotFound when there is
// none. The index compares hashes, so what its timing tells is worthless
// without a preimage.
func (tx *Tx) Token(ctx context.Context, hash []byte) (Token, error) {
	var t Token
	var created int64
	err := tx.QueryRowContext(ctx, `SELECT id, account, name, status, created FROM tokens WHERE hash = $1`, hash).
		Scan(&t.ID, &t.Account, &t.Name, &t.Status, &created)
	t.Created = fromMicro(created)
	return t, missing(err, "token")
}

// HasToken reports whether a token of that name exists.
func (tx *Tx) HasToken(ctx context.Context, name string) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM tokens WHERE name = $1`, name).Scan(&n)
	return n > 0, missing(err, "token")
}
