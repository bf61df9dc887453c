package edge

import (
	"cmp"
	"path/filepath"

	"github.com/selvage-edge/selvage/edge/phase/cache/ssd"
)

// openDisk puts a disk below the cache's memory, where one is asked for. One
// that cannot be used is no reason not to serve.
func (e *Edge) openDisk() {
	if e.cfg.CacheDiskBytes == 0 {
		return
	}
	dir := cmp.Or(e.cfg.CacheDiskDir, filepath.Join(e.cfg.State, "cache"))
	store, err := ssd.Open(ssd.Config{Dir: dir, Bytes: e.cfg.CacheDiskBytes, Log: e.log})
	if err != nil {
		e.log.Error("the disk below the cache cannot be used; serving without it", "dir", dir, "err", err)
		return
	}
	e.disk = store
	e.cache.UseDisk(store)
}

// closeDisk comes after the cache is closed, which writes what is hot.
func (e *Edge) closeDisk() error {
	if e.disk == nil {
		return nil
	}
	return e.disk.Close()
}
