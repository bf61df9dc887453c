package store

import (
	"context"
	"strconv"
	"time"
)

// Shared makes of SQLite a database that several control planes share, as they
// do PostgreSQL: for simulations, in which each of them is a part of one process
// and has a Store of its own.
type Shared struct {
	// Now is the database's clock.
	Now func() time.Time
	// Around runs each transaction, which writes or only reads. What it does
	// before is the way to the database, and an error that it makes of a nil is an
	// answer that was lost.
	Around func(ctx context.Context, writes bool, run func() error) error
}

type sharedKind struct {
	sqliteKind
	clock func() time.Time
}

func (sharedKind) shared() bool { return true }

func (k sharedKind) now() string { return strconv.FormatInt(k.clock().UnixMicro(), 10) }

// OpenShared opens or creates SQLite's database in the folder dir, which others
// of this process may have open as well.
func OpenShared(ctx context.Context, dir string, how Shared) (*Store, error) {
	s, err := openSQLite(ctx, dir)
	if err != nil {
		return nil, err
	}
	s.kind, s.around = sharedKind{clock: how.Now}, how.Around
	s.queue = nil // it is for the writers of one store
	return s, nil
}
