package store

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/pressly/goose/v3"
)

// Newest is the newest version of the schema.
func Newest() (int64, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	return int64(len(names)), err
}

// MakeOld makes the database at place as the release with that version of the
// schema left it, and runs fill on it.
func MakeOld(ctx context.Context, place string, version int64, fill func(*Tx) error) error {
	s, err := Open(ctx, place)
	if err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	dialect := goose.DialectSQLite3
	if IsPostgres(place) {
		dialect, files = goose.DialectPostgres, inPostgres{files}
	}
	p, err := goose.NewProvider(dialect, s.write, files)
	if err != nil {
		return err
	}
	if _, err := p.DownTo(ctx, 0); err != nil {
		return err
	}
	if _, err := p.UpTo(ctx, version); err != nil {
		return err
	}
	return errors.Join(s.Write(ctx, fill), s.Close())
}

// Tables are what Copy copies.
func Tables() []string { return slices.Clone(tables) }

// Bare is a zone without the places of its records, which only a stored one has.
func Bare(z *Zone) *Zone {
	c := *z
	c.positions = nil
	return &c
}
