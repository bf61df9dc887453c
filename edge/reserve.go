package edge

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/selvage-edge/selvage/edge/phase/cache"
	"github.com/selvage-edge/selvage/edge/phase/cache/reserve"
	"github.com/selvage-edge/selvage/edge/tier"
)

// ReserveOff is Config.CacheReserve of an edge without a reserve.
const ReserveOff = "off"

// openReserve puts an object store behind the cache, for zones that ask for it:
// a bucket, or a folder of this machine. One that cannot be used is no reason
// not to serve.
func (e *Edge) openReserve() {
	if e.cfg.CacheReserve == ReserveOff {
		return
	}
	store, spool, closer, err := e.reserveStore()
	if err != nil {
		e.log.Error("the cache reserve cannot be used; serving without it", "reserve", e.cfg.CacheReserve, "err", err)
		return
	}
	queue := min(reserve.DefaultQueue, e.cfg.CacheBytes/8) // what waits is held in the cache's memory
	e.reserve = reserve.New(reserve.Config{
		Store: store, Spool: spool, Ctx: e.requests, Queue: queue, Log: e.log,
		Retain: e.cfg.CacheReserveRetain, Own: cache.ReserveOwn(e.marks),
	})
	e.reserveDir = closer
	e.cache.UseReserve(e.reserve, 0)
}

// reserveStore opens what the configuration names, and where large objects wait for
// it.
func (e *Edge) reserveStore() (store reserve.Store, spool *reserve.Spool, closer io.Closer, err error) {
	path := filepath.Join(e.cfg.State, "reserve")
	if e.cfg.CacheReserve == "" {
		dir, err := reserve.OpenDir(path, e.cfg.CacheReserveBytes)
		if err != nil {
			return nil, nil, nil, err
		}
		if spool, err = dir.Spool(); err != nil {
			return nil, nil, nil, errors.Join(err, dir.Close())
		}
		return dir, spool, dir, nil
	}
	if store, err = reserve.OpenS3(e.cfg.CacheReserve, e.cfg.CacheReserveKey, e.cfg.CacheReserveSecret); err != nil {
		return nil, nil, nil, err
	}
	if spool, err = reserve.OpenSpool(filepath.Join(path, "spool"), e.cfg.CacheReserveBytes); err != nil {
		return nil, nil, nil, err
	}
	return store, spool, spool, nil
}

// closeReserve comes after the cache is closed.
func (e *Edge) closeReserve() error {
	if e.reserve == nil {
		return nil
	}
	e.reserve.Close()
	return e.reserveDir.Close()
}

// checkReserve judges where the reserve is.
func (c *Config) checkReserve() error {
	if c.CacheReserveBytes < 0 {
		return fmt.Errorf("cache_reserve_bytes: 0 or more are needed, got %d", c.CacheReserveBytes)
	}
	if c.CacheReserveBytes == 0 {
		c.CacheReserveBytes = DefaultReserveBytes
	}
	if c.CacheReserveRetain == 0 {
		c.CacheReserveRetain = DefaultReserveRetain
	}
	if c.CacheReserveRetain < MinReserveRetain {
		return fmt.Errorf("cache_reserve_retain: at least %s is needed, got %s", MinReserveRetain, c.CacheReserveRetain)
	}
	if c.CacheReserve == "" || c.CacheReserve == ReserveOff {
		return nil
	}
	if _, err := reserve.OpenS3(c.CacheReserve, c.CacheReserveKey, c.CacheReserveSecret); err != nil {
		return fmt.Errorf("cache_reserve: %w (the key is in $SELVAGE_RESERVE_KEY, its secret in $SELVAGE_RESERVE_SECRET)", err)
	}
	return nil
}

// askOrigin is the end of the cache's way down: the reserve, where the zone
// keeps objects there, else the origin. What breaks off in the reserve goes on
// from the origin.
func (e *Edge) askOrigin(r *Request) error {
	if e.cache.Reserved(r) {
		tier.Watch(r.Out, &descent{edge: e, r: r})
		return nil
	}
	return e.Reenter(originRow, r)
}
