package pair

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

const (
	// passWants is how many missing pairs one pass over the copy takes along.
	passWants = 1024
	// strayAge is how old a pair has to be that no entry names, to be removed:
	// a younger one may be staged.
	strayAge = time.Hour
)

// Compare has the copy compared with the pairs that are here: after a start,
// and when the copy was replaced by a snapshot.
func (k *Keeper) Compare() {
	select {
	case k.walk <- struct{}{}:
	default:
	}
}

func (k *Keeper) compare(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.walk:
		}
		err := k.fetchMissing(ctx)
		if err == nil {
			err = k.sweep(ctx)
		}
		if err != nil && ctx.Err() == nil {
			k.Log.Warn("certificates of the copy are not compared with the pairs that are here", "error", err)
		}
	}
}

// missing is a pair that an entry names and that is not here.
type missing struct {
	zone string
	ref  feed.PairRef
}

// fetchMissing fetches what the copy names, a part after the other, so that a
// new edge does not ask for a million certificates at once.
func (k *Keeper) fetchMissing(ctx context.Context) error {
	for after := ""; ; {
		some, last, err := k.missing(after)
		if err != nil || last == "" {
			return err
		}
		after = last
		for _, m := range some {
			if !k.vacant(ctx) {
				return nil
			}
			k.want(m.ref, m.zone, false)
		}
	}
}

// vacant waits until fewer pairs are missing than are asked for at once, and
// reports whether ctx lasts.
func (k *Keeper) vacant(ctx context.Context) bool {
	for {
		k.mu.Lock()
		n, room := len(k.wants), k.room
		k.mu.Unlock()
		if n < maxAsked {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-room:
		}
	}
}

var errEnough = errors.New("enough for one pass")

// missing returns pairs that are not here, of zones whose names come after one,
// and the last name that it looked at: "" when there was none.
func (k *Keeper) missing(after string) (some []missing, last string, err error) {
	err = k.Copy.Scan(zone.PrefixName, func(key string, value []byte, _ uint64) error {
		if key <= after {
			return nil
		}
		last = key
		zoneID := string(value)
		if err := k.Copy.Scan(zone.CertKey(zoneID, ""), func(_ string, value []byte, _ uint64) error {
			var c zone.Certificate
			if err := json.Unmarshal(value, &c); err != nil {
				return nil //nolint:nilerr // the zone is rejected where it is compiled
			}
			ref, ok := k.look(zoneID, &c)
			if ok && !k.files.has(ref) {
				some = append(some, missing{zoneID, ref})
			}
			return nil
		}); err != nil {
			return err
		}
		if len(some) >= passWants {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, "", fmt.Errorf("list certificates of the copy: %w", err)
	}
	return some, last, nil
}

// look names the pair of a certificate, and takes over one of an earlier
// version's entries.
func (k *Keeper) look(zoneID string, c *zone.Certificate) (feed.PairRef, bool) {
	if c.Pair == "" {
		if ok, err := k.adopt(zoneID, c); err != nil || !ok {
			if err != nil {
				k.Log.Warn("a certificate's key is not taken over from the copy", "zone", zoneID, "certificate", c.ID, "error", err)
			}
			return feed.PairRef{}, false
		}
	}
	ref, err := RefOf(c)
	return ref, err == nil
}

// sweep removes pairs that no entry names any more and files that are none.
func (k *Keeper) sweep(ctx context.Context) error {
	err := filepath.WalkDir(k.Dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed meanwhile, or there are none at all
		case err != nil || ctx.Err() != nil:
			return errors.Join(err, context.Cause(ctx))
		case d.IsDir():
			return nil
		}
		info, err := d.Info()
		if err != nil || time.Since(info.ModTime()) < strayAge {
			return nil //nolint:nilerr // removed meanwhile
		}
		id, sum, ok := strings.Cut(d.Name(), ".")
		if ok && id != "" && k.named(path, id, sum) {
			return nil
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove pairs that are over: %w", err)
	}
	return nil
}

// named reports whether a pair is to stay: an entry names it, or names one that
// has not come, or it is staged.
func (k *Keeper) named(path, id, sum string) bool {
	p, err := k.files.read(path, id, sum)
	if err != nil {
		return false
	}
	k.mu.Lock()
	staged := k.staged[id] == p.Ref().Sum
	k.mu.Unlock()
	if staged {
		return true
	}
	value, _, ok, err := k.Copy.Get(zone.CertKey(p.Zone, id))
	if err != nil {
		return true // nobody knows
	}
	var c zone.Certificate
	if !ok || json.Unmarshal(value, &c) != nil {
		return false
	}
	ref, err := RefOf(&c)
	return c.Pair == "" || err != nil || ref == p.Ref() || !k.files.has(ref)
}
