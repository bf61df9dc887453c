package cache

import (
	"bytes"
	flags "flag" // flag is one of a stored answer
	"fmt"
	"hash/maphash"
	"strconv"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/internal/figure"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

var (
	manyObjects = flags.Int("objects", 100_000, "objects among which tagged ones are purged")
	figuresFile = flags.String("figures", "", "file to which figures are appended, one a line")
)

// tell logs figures, and appends them to the file that was asked for.
func tell(t *testing.T, figures ...figure.Figure) {
	t.Helper()
	for _, f := range figures {
		t.Log(f)
		if *figuresFile == "" {
			continue
		}
		if err := figure.Append(*figuresFile, f); err != nil {
			t.Error(err)
		}
	}
}

// storeMany stores the pages /1 to /many-1 under their host's key, as fills do.
func (g *rig) storeMany(host []byte, many int, tags func(n int) string) {
	g.t.Helper()
	e := g.e
	z, seq := e.marks.Acquire(testZone)
	defer z.Release()
	for n := 1; n < many; n++ {
		text := strconv.AppendInt(append(bytes.Clone(host), '/'), int64(n), 10)
		k := key{hash: maphash.Bytes(e.seed, text), text: text}
		f := &fill{e: e, key: k, zone: z, seq: seq}
		out := &msg.Response{Status: 200, Length: 1}
		addLines(&out.Fields, "Cache-Control: max-age=86400", "Cache-Tag: "+tags(n))
		o := e.newObject(f, out, &judgement{lifetime: 24 * time.Hour}, e.now())
		if o == nil {
			g.t.Fatal("no memory")
		}
		o.seal(e, append(o.inner()[:0], '1'))
		s := e.shardOf(k.hash)
		s.fills[k.hash] = append(s.fills[k.hash], f)
		e.put(f, o)
		o.Release()
	}
}

// One object in a hundred has the tag, 10,000 of a million. Whoever asks
// meanwhile waits for no search, and gets none of them.
func TestTaggedObjectsArePurgedAmongMany(t *testing.T) {
	many, tagged := *manyObjects, min(10_000, *manyObjects/100)
	step := many / tagged
	g := newRig(t, Config{Bytes: 1<<30 + 1024*int64(many)}, nil)
	g.e.clock = nil
	version := "1"
	g.serve = func(r *request.Request) error {
		return reply(r, 200, version, "Cache-Control: max-age=86400", "Cache-Tag: tagged, other")
	}
	r := ask(t.Context(), "GET /")
	get := func(n int, want request.CacheStatus) time.Duration {
		t.Helper()
		r.Arena.Reset()
		r.Out.Reset()
		r.CacheKey, r.CachePolicy, r.Cache = nil, nil, request.CacheNote{}
		r.In.Path = strconv.AppendInt(append(r.In.Path[:0], '/'), int64(n), 10)
		r.In.Target = r.In.Path
		r.Start = time.Now()
		if _, err := g.e.Run(&g.plan, r); err != nil || r.Cache.Status != want {
			t.Fatalf("/%d is %v, want %v; %v", n, r.Cache.Status, want, err)
		}
		took := time.Since(r.Start)
		if got := readAnswer(r); got.body != version && want == request.CacheMiss {
			t.Fatalf("/%d is version %s, want %s", n, got.body, version)
		}
		r.Out.Close()
		return took
	}
	get(0, request.CacheMiss)
	g.storeMany(bytes.TrimSuffix(g.e.keyOf(&g.plan, r).text, []byte("/0")), many, func(n int) string {
		if n%step == 0 && n/step < tagged {
			return "tagged, other"
		}
		return "other"
	})
	if st := g.e.Stats(); st.Objects != many {
		t.Fatalf("%d objects of %d are stored", st.Objects, many)
	}
	hits := func() []float64 {
		took := make([]float64, 0, 50_000)
		for i := range cap(took) {
			n := (i*7919 + 1) % many
			if n%step == 0 {
				n++
			}
			took = append(took, float64(get(n, request.CacheHit).Nanoseconds())/1000)
		}
		return took
	}
	before := hits()
	began := time.Now()
	if err := g.e.Purge(testZone, 9, zone.Purge{Tags: []string{"tagged"}}); err != nil {
		t.Fatal(err)
	}
	call := []float64{float64(time.Since(began).Nanoseconds()) / 1000}
	meanwhile := hits()
	version = "2"
	for n := range tagged {
		get(n*step, request.CacheMiss)
	}
	g.wantFetches(int64(1 + tagged))
	name := fmt.Sprintf("purge of %d tagged objects among %d: ", tagged, many)
	tell(t, figure.Most(name+"the call, of one edge", "µs", call, 0, 10_000),
		figure.Most(name+"p99 of a hit before", "µs", before, .99, 1000),
		figure.Most(name+"p99 of a hit meanwhile", "µs", meanwhile, .99, 1000))
}
