package edge

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/telemetry/report"
)

// A zone that cannot be used is told of until it is good again, or gone.
func TestRejectionsStandUntilTheZoneIsGood(t *testing.T) {
	const id = "11111111111111111111111111111111"
	c := &memCopy{cursor: feed.Cursor{Seq: 2}, rows: zoneRows(t, id, "example.com"), held: filepath.Join(t.TempDir(), "held.json")}
	a := testApplier(t, c)
	if err := a.begin(); err != nil {
		t.Fatal(err)
	}
	good := c.rows
	turn := func(seq uint64, rows map[string]string) string {
		c.cursor.Seq, c.rows = seq, rows
		a.touched, a.newest = map[string]uint64{id: seq}, seq
		a.settle(func(uint64, error) {})
		now, total := a.edge.rejects.count()
		return fmt.Sprint(now, total, len(a.edge.rejects.standing()))
	}
	broken := func() map[string]string { // a record that is none
		rows := zoneRows(t, id, "example.com")
		for key := range rows {
			if key != "name/example.com" {
				rows[key] = "{"
			}
		}
		return rows
	}
	for i, step := range []struct {
		rows map[string]string
		want string
	}{
		{broken(), "1 1 1"}, {broken(), "1 2 1"}, {good, "0 2 0"}, {broken(), "1 3 1"}, {nil, "0 3 0"},
	} {
		if got := turn(uint64(3+i), step.rows); got != step.want {
			t.Errorf("step %d: rejected now, in all and told %s, want %s", i, got, step.want)
		}
	}
	// After a start with what cannot be used it is told as well.
	turn(8, broken())
	c.rows["name/example.com"] = id
	fresh := testApplier(t, c)
	if err := fresh.begin(); err == nil {
		t.Fatal("what cannot be used was loaded")
	}
	if got := fresh.edge.rejects.standing(); len(got) != 1 || got[0].Seq != c.cursor.Seq || got[0].Reason == "" {
		t.Errorf("standing: %+v", got)
	}
}

func TestHealthSaysWhatIsWrong(t *testing.T) {
	e := &Edge{zones: testApplier(t, &memCopy{}).edge.zones, counters: newCounters(), cfg: Config{State: t.TempDir(), CacheDiskBytes: 1}}
	e.counters.done(0, 502, request.CacheNone, request.TierEdge, 0, 0)
	e.counters.done(0, 404, request.CacheNone, request.TierEdge, 0, 0)
	e.counters.done(0, 500, request.CacheNone, request.TierEdge, 0, 0)
	e.counters.shard(0).own.Add(1)
	_ = e.rejects.note("zone/a", 7, errors.New("no"))
	e.stuck.Store(true)
	e.state.set(ready)
	h := e.health()
	if h.State != report.Ready || h.Failed != 2 || h.Errors != 1 || h.Rejected != 1 || h.Rejections != 1 || h.DiskTotal == 0 || h.MemoryUsed == 0 {
		t.Errorf("health: %+v", h)
	}
	for _, want := range []string{
		"the newest configuration of 1 zones or lists cannot be used; what was before is served",
		"the copy on disk cannot be written; the configuration stays as it is until a restart",
		"the disk below the cache is not used, after failures",
	} {
		if !slices.Contains(h.Problems, want) {
			t.Errorf("problems %q, want %q among them", h.Problems, want)
		}
	}
}

// Of what cannot be used the audit trail has the beginning, each new reason and
// the end; what came and went between two looks is left out.
func TestAuditOfRejections(t *testing.T) {
	var r rejects
	note := func(why string) {
		var err error
		if why != "" {
			err = errors.New(why)
		}
		_ = r.note("zone/a", 7, err)
	}
	for i, step := range []struct {
		whys []string
		want string
	}{
		{[]string{""}, "[]"},
		{[]string{"bad"}, "[config.rejected bad]"},
		{[]string{"bad", "bad"}, "[]"},
		{[]string{"worse"}, "[config.rejected worse]"},
		{[]string{"", "worse"}, "[]"},
		{[]string{"bad", ""}, "[config.recovered ]"},
		{[]string{"bad", ""}, "[]"},
	} {
		for _, why := range step.whys {
			note(why)
		}
		var got []string
		for _, a := range r.news() {
			got = append(got, a.Action+" "+a.Detail)
		}
		if fmt.Sprint(got) != step.want {
			t.Errorf("step %d: %v, want %s", i, got, step.want)
		}
	}
}
