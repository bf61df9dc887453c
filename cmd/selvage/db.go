package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/selvage-edge/selvage/control"
	"github.com/selvage-edge/selvage/control/store"
)

func (a *app) dbCommand() *cobra.Command {
	return group("db", "Move the control plane's database", `The control plane keeps what it knows in a file of its state folder, or in a
PostgreSQL.

  selvage db copy /var/lib/selvage/control postgres://selvage@db.example.net/selvage`, a.dbCopyCommand())
}

func (a *app) dbCopyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "copy FROM TO",
		Short: "Copy everything into a new database",
		Long: `Copy everything from one database into an empty one, whole or not at all. Each is
the state folder of a control plane, or a PostgreSQL's address. Stop the control
plane first; what stays in its state folder (identity, token) is still needed.

  selvage db copy /var/lib/selvage/control postgres://selvage@db.example.net/selvage
  selvage db copy postgres://selvage@db.example.net/selvage /var/lib/selvage/new

PostgreSQL's usual ways work to give the password: PGPASSWORD, ~/.pgpass.`,
		Args: exactly(2, "where from and where to"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.copyDatabase(cmd.Context(), args[0], args[1]) },
	}
}

func (a *app) copyDatabase(ctx context.Context, from, to string) (err error) {
	if !store.IsPostgres(from) {
		if err := store.Exists(from); err != nil {
			return usage("%w; FROM is the state folder of a control plane, or postgres://…", err)
		}
	}
	var open [2]*store.Store
	for i, place := range []string{from, to} {
		if !store.IsPostgres(place) {
			if err := os.MkdirAll(place, 0o700); err != nil {
				return fmt.Errorf("make state folder: %w", err)
			}
			release, err := control.LockState(place)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, release()) }()
		}
		s, err := store.Open(ctx, place)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		open[i] = s
	}
	sum := int64(0)
	if err := store.Copy(ctx, open[0], open[1], func(table string, n int64, end bool) {
		if end {
			sum += n
		}
		fmt.Fprintf(a.err, "%s: %d rows\n", table, n)
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%d rows copied from %s to %s\n", sum, open[0].Place(), open[1].Place())
	return err
}
