package cache

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// What was fetched before a purge is never served to a request that came
// after it, whatever fills, revalidations and readers are under way.
func TestPurgedVersionIsNeverServedAgain(t *testing.T) {
	const keys, purges = 4, 400
	var version, purged [keys]atomic.Int64
	g := newRig(t, Config{Shards: 2}, nil)
	g.serve = func(r *request.Request) error {
		i := int(r.In.Path[1] - '0')
		v := strconv.FormatInt(version[i].Load(), 10)
		runtime.Gosched() // a purge may come between reading and answering
		tag := `"` + v + `"`
		if string(r.In.Fields.Get(msg.IfNoneMatch)) == tag {
			return reply(r, 304, "", "ETag: "+tag)
		}
		control := [...]string{"max-age=60", "no-cache", "max-age=0, stale-while-revalidate=60"}[rand.IntN(3)]
		return reply(r, 200, v, "ETag: "+tag, "Cache-Control: "+control)
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for !done.Load() {
				i := rand.IntN(keys)
				least := purged[i].Load()
				a := g.run(fmt.Sprintf("GET /%d", i))
				if got, err := strconv.ParseInt(a.body, 10, 64); err != nil || got < least {
					t.Errorf("key %d: version %q (%s) after the purge of all before %d", i, a.body, a.cache, least)
					return
				}
			}
		})
	}
	for seq := range uint64(purges) {
		i := int(seq) % keys
		now := version[i].Add(1)
		p := zone.Purge{Files: []string{fmt.Sprintf("http://www.example.com/%d", i)}}
		if seq%3 == 0 {
			p = zone.Purge{Everything: true}
		}
		if err := g.e.Purge(testZone, seq+1, p); err != nil {
			t.Fatal(err)
		}
		purged[i].Store(now)
		runtime.Gosched()
	}
	done.Store(true)
	wg.Wait()
	g.e.Close()
	checkStore(t, g.e)
}

func TestZoneStateLivesAsLongAsItsObjects(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60"))
	for i := range 10 {
		r := ask(t.Context(), "GET /a")
		r.ZoneID = fmt.Sprint("zone", i)
		g.do(r)
	}
	g.e.work.Wait()
	if n := g.e.marks.Zones(); n != 10 {
		t.Errorf("%d zone states, want 10", n)
	}
	for i := range 10 {
		if err := g.e.Purge(fmt.Sprint("zone", i), 1, zone.Purge{Files: []string{"https://www.example.com/a"}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := g.e.marks.Zones(); n != 0 {
		t.Errorf("%d zone states without an object", n)
	}
}
