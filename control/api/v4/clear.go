package v4

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

const (
	reserveSetting = "cache_reserve"
	// clearSetting is where a zone's last clearing is kept, among its settings;
	// edges do not get it.
	clearSetting = "cache_reserve_clear"
)

// clearAtMost is how long a clearing is in progress. What was not heard of by then
// clears its reserve when it comes back, before it learns that the reserve is on
// again: the order of the feed says so.
const clearAtMost = 24 * time.Hour

// clearing is a clearing of a zone's cache reserve. It is completed when every
// node that may connect has applied the entry Seq, or after clearAtMost.
type clearing struct {
	Seq   uint64     `json:"seq"` // 0 = not known
	Start time.Time  `json:"start_ts"`
	End   *time.Time `json:"end_ts,omitempty"` // nil = in progress
}

// clearingOf returns the last one, nil when there was none.
func clearingOf(z *store.Zone) *clearing {
	var run clearing
	kept, ok := z.Settings[clearSetting]
	if !ok || json.Unmarshal(kept.Value, &run) != nil {
		return nil
	}
	return &run
}

func (run *clearing) keep(z *store.Zone) error {
	value, err := json.Marshal(run)
	if err != nil {
		return fmt.Errorf("encode clearing: %w", err)
	}
	z.Settings[clearSetting] = store.Setting{Value: value, Changed: store.Now()}
	return nil
}

type clearResult struct {
	ID         string  `json:"id"`
	Start      string  `json:"start_ts"`
	State      string  `json:"state"`
	End        *string `json:"end_ts,omitempty"`
	ModifiedOn *string `json:"modified_on"`
}

func newClearResult(run *clearing) clearResult {
	r := clearResult{ID: clearSetting, Start: stamp(run.Start), State: "In-progress", ModifiedOn: new(stamp(run.Start))}
	if run.End != nil {
		r.State, r.End, r.ModifiedOn = "Completed", new(stamp(*run.End)), new(stamp(*run.End))
	}
	return r
}

// settledClear returns the zone that the path names and its last clearing, nil
// when there was none, after noting its end if that has come.
func (s *Server) settledClear(ctx context.Context, c *api.Call) (*store.Zone, *clearing, error) {
	z, err := s.read(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	run := clearingOf(z)
	if run == nil || run.End != nil {
		return z, run, nil
	}
	done := time.Since(run.Start) > clearAtMost
	if !done && run.Seq > 0 && s.Reached != nil {
		if done, err = s.Reached(ctx, run.Seq); err != nil {
			return nil, nil, err
		}
	}
	if !done {
		return z, run, nil
	}
	run.End = new(store.Now())
	_, err = s.Publish.Edit(ctx, z.ID, publish.Action{Actor: "control", Name: "cache_reserve.cleared", Object: z.ID}, func(z *store.Zone) error {
		now := clearingOf(z)
		if now == nil || now.Seq != run.Seq || now.End != nil {
			return nil // another call was there before
		}
		return run.keep(z)
	})
	return z, run, err
}

func (s *Server) getClear(ctx context.Context, c *api.Call) (api.Answer, error) {
	_, run, err := s.settledClear(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	if run == nil {
		return api.Answer{}, unset(clearSetting)
	}
	return api.Answer{Result: newClearResult(run)}, nil
}

// startClear clears the cache reserve of a zone that has it off. While it is being
// cleared a second call starts nothing.
func (s *Server) startClear(ctx context.Context, c *api.Call) (api.Answer, error) {
	z, run, err := s.settledClear(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	if err := mayClear(z); err != nil {
		return api.Answer{}, err
	}
	if run != nil && run.End == nil {
		return api.Answer{Result: newClearResult(run), Seq: run.Seq}, nil
	}
	run = &clearing{Start: store.Now()}
	run.Seq, err = s.Publish.Purge(ctx, z.ID, publish.Action{Actor: c.Token.ID, Name: "cache_reserve.clear", Object: z.ID}, zone.Purge{Reserve: true})
	if err != nil {
		return api.Answer{}, err
	}
	seq, err := s.edit(ctx, c, api.CodeSetting, "cache_reserve.clear", "", func(z *store.Zone) error {
		if err := mayClear(z); err != nil {
			return err
		}
		return run.keep(z)
	})
	return api.Answer{Result: newClearResult(run), Seq: seq}, err
}

func mayClear(z *store.Zone) error {
	if z.SettingValues().On(reserveSetting) {
		return api.Invalid(api.CodeSetting, reserveSetting, "must be off before the cache reserve can be cleared")
	}
	return nil
}
