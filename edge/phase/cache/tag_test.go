package cache

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/phase/cache/mark"
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

func TestPurgeByTagPrefixAndHost(t *testing.T) {
	for _, c := range []struct {
		name string
		p    zone.Purge
		want string
	}{
		{"tag", zone.Purge{Tags: []string{"Blue"}}, "MISS"},
		{"second line's tag", zone.Purge{Tags: []string{"a tag, no"}}, "HIT"},
		{"tag with blank", zone.Purge{Tags: []string{"two words"}}, "MISS"},
		{"other tag", zone.Purge{Tags: []string{"green"}}, "HIT"},
		{"prefix", zone.Purge{Prefixes: []string{"WWW.Example.com/a"}}, "MISS"},
		{"prefix, escaped", zone.Purge{Prefixes: []string{"www.example.com/%61/b"}}, "MISS"},
		{"other prefix", zone.Purge{Prefixes: []string{"www.example.com/ab"}}, "HIT"},
		{"host", zone.Purge{Hosts: []string{"www.example.com"}}, "MISS"},
		{"other host", zone.Purge{Hosts: []string{"example.com"}}, "HIT"},
		{"url", zone.Purge{Files: []string{"http://www.example.com/a/b?x=1"}}, "MISS"},
		{"other url", zone.Purge{Files: []string{"http://www.example.com/a/b"}}, "HIT"},
		{"soft tag", zone.Purge{Tags: []string{"red"}, Soft: true}, "REVALIDATED"},
		{"soft, everything", zone.Purge{Everything: true, Soft: true}, "REVALIDATED"},
		{"soft, other tag", zone.Purge{Tags: []string{"green"}, Soft: true}, "HIT"},
		{"soft url", zone.Purge{Files: []string{"https://www.example.com/a/b?x=1"}, Soft: true}, "REVALIDATED"},
	} {
		g := newRig(t, Config{}, func(r *request.Request) error {
			if r.In.Fields.Has(msg.IfNoneMatch) {
				return reply(r, 304, "", `ETag: "1"`, "Cache-Control: max-age=60")
			}
			return reply(r, 200, "x", `ETag: "1"`, "Cache-Control: max-age=60", "Cache-Tag: red, blue", "Cache-Tag: ,two words,")
		})
		a := g.run("GET /a/b?x=1")
		if a.get("Cache-Tag") != "" {
			t.Errorf("%s: the visitor sees the tags", c.name)
		}
		g.run("GET /a/b?x=1")
		if err := g.e.Purge(testZone, 9, c.p); err != nil {
			t.Fatal(err)
		}
		g.want(g.run("GET /a/b?x=1"), 200, c.want, "x")
		g.want(g.run("GET /a/b?x=1"), 200, "HIT", "x")
		if c.want == "REVALIDATED" {
			// The tags outlive a 304 that does not repeat them.
			if err := g.e.Purge(testZone, 10, zone.Purge{Tags: []string{"BLUE"}}); err != nil {
				t.Fatal(err)
			}
			g.want(g.run("GET /a/b?x=1"), 200, "MISS", "x")
		}
	}
}

// A fill that began before a purge of its tag is not stored as fresh.
func TestPurgeDuringFill(t *testing.T) {
	for _, soft := range []bool{false, true} {
		g := newRig(t, Config{}, nil)
		n := 0
		g.serve = func(r *request.Request) error {
			if n++; n == 1 {
				p := zone.Purge{Tags: []string{"a"}, Soft: soft}
				if err := g.e.Purge(testZone, 3, p); err != nil {
					t.Error(err)
				}
			}
			return reply(r, 200, fmt.Sprint(n), "Cache-Control: max-age=60", "Cache-Tag: a")
		}
		g.want(g.run("GET /a"), 200, "MISS", "1")
		want := "MISS"
		if soft {
			want = "EXPIRED"
		}
		g.want(g.run("GET /a"), 200, want, "2")
		g.want(g.run("GET /a"), 200, "HIT", "2")
	}
}

func TestSoftPurgeServesStaleMeanwhile(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=3600, stale-while-revalidate=60", "Cache-Tag: a"))
	g.run("GET /a")
	g.sleep(time.Minute)
	if err := g.e.Purge(testZone, 3, zone.Purge{Tags: []string{"a"}, Soft: true}); err != nil {
		t.Fatal(err)
	}
	g.want(g.run("GET /a"), 200, "UPDATING", "x")
	g.e.work.Wait()
	g.want(g.run("GET /a"), 200, "HIT", "x")
	g.wantFetches(2)
	// Later than the window: nothing stale any more.
	if err := g.e.Purge(testZone, 4, zone.Purge{Tags: []string{"a"}, Soft: true}); err != nil {
		t.Fatal(err)
	}
	g.sleep(61 * time.Second)
	g.want(g.run("GET /a"), 200, "EXPIRED", "x")
}

func TestCacheTagIsBounded(t *testing.T) {
	var f msg.Fields
	addLines(&f, "Cache-Tag: "+strings.Repeat("a,", 5000)+"z")
	if n := len(hashTags(joinTags(&f))); n != maxTags {
		t.Errorf("%d tags, want %d", n, maxTags)
	}
	f.Reset()
	for i := range 40 {
		addLines(&f, fmt.Sprintf("Cache-Tag: t%d%s", i, strings.Repeat("x", 1000)))
	}
	if line := joinTags(&f); len(line) > maxTagBytes || len(hashTags(line)) != 16 {
		t.Errorf("%d bytes, %d tags, want 16 of a KiB", len(line), len(hashTags(line)))
	}
	f.Reset()
	addLines(&f, "Cache-Tag: , ,", "Cache-Tag:")
	if line := joinTags(&f); line != nil {
		t.Errorf("%q of no tag", line)
	}
}

// An edge that asks for another's answer gets the tags, or its own copy could
// not be purged.
func TestTagsPassBetweenEdges(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x", "Cache-Control: max-age=60", "Cache-Tag: a, b"))
	for range 2 {
		r := ask(t.Context(), "GET /a")
		r.Role = request.RoleOwner
		if a := g.do(r); a.get("Cache-Tag") != "a,b" {
			t.Errorf("%s: tags %q", a.cache, a.get("Cache-Tag"))
		}
	}
	g = newRig(t, Config{}, always(200, "x", "Cache-Control: no-store", "Cache-Tag: a, b"))
	if a := g.run("GET /a"); a.get("Cache-Tag") != "" {
		t.Error("the visitor sees the tags of an answer that is not stored")
	}
}

func TestValidAfterStorage(t *testing.T) {
	g := newRig(t, Config{}, always(200, "x"))
	s := &mark.Subject{Seq: 0, Tags: hashTags([]byte("a,b")), URL: []byte("www.example.com/x")}
	life := g.e.marks.ID()
	if ok, _, _ := g.e.valid(life, testZone, s); !ok {
		t.Error("nothing was purged")
	}
	z, _ := g.e.marks.Acquire(testZone) // something of the zone is stored
	defer z.Release()
	if err := g.e.Purge(testZone, 2, zone.Purge{Tags: []string{"b"}, Soft: true}); err != nil {
		t.Fatal(err)
	}
	if ok, expired, seen := g.e.valid(life, testZone, s); !ok || expired == 0 || seen != 2 {
		t.Errorf("soft: %v %v %v", ok, expired, seen)
	}
	if ok, _, _ := g.e.valid(life+1, testZone, s); ok {
		t.Error("valid under another ledger")
	}
	if err := g.e.Purge(testZone, 3, zone.Purge{Prefixes: []string{"www.example.com/x"}}); err != nil {
		t.Fatal(err)
	}
	if ok, _, _ := g.e.valid(life, testZone, s); ok {
		t.Error("valid after a purge")
	}
}

func FuzzCacheTag(f *testing.F) {
	f.Add("a, b,,c")
	f.Add(" ,\t,x y ,\"q,r\"")
	f.Fuzz(func(t *testing.T, line string) {
		var in msg.Fields
		in.AddID(msg.CacheTag, []byte(line))
		joined := joinTags(&in)
		var again msg.Fields
		again.AddID(msg.CacheTag, joined)
		if string(joinTags(&again)) != string(joined) {
			t.Errorf("%q becomes %q, then %q", line, joined, joinTags(&again))
		}
		n := 0
		for _, tag := range strings.Split(line, ",") {
			if strings.Trim(tag, " \t") != "" {
				n++
			}
		}
		if got := len(hashTags(joined)); len(line) < maxTagBytes && got != min(n, maxTags) {
			t.Errorf("%d tags of %q, want %d", got, line, n)
		}
	})
}

// A hundred tags each of which is on a hundred of 100,000 objects: what a purge
// costs an edge until it is acknowledged, and the first hit after it of an object
// that it is not about.
func BenchmarkPurgeAmongMany(b *testing.B) {
	const objects, tags = 100_000, 1000
	g := newRig(b, Config{Bytes: 1 << 30}, nil)
	g.serve = func(r *request.Request) error {
		n, err := strconv.Atoi(string(r.In.Path[1:]))
		if err != nil {
			return err
		}
		return reply(r, 200, "x", "Cache-Control: max-age=3600", fmt.Sprintf("Cache-Tag: page,t%d,u%d", n%tags, n))
	}
	for i := range objects {
		g.run(fmt.Sprint("GET /", i))
	}
	seq := uint64(0)
	purge := func(from int) {
		p := zone.Purge{}
		for i := range 100 {
			p.Tags = append(p.Tags, fmt.Sprint("t", from+i))
		}
		seq++
		if err := g.e.Purge(testZone, seq, p); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("purge", func(b *testing.B) {
		for b.Loop() {
			purge(0)
		}
	})
	g.e.work.Wait()
	b.Run("hit after", func(b *testing.B) {
		r := ask(b.Context(), "GET /500")
		for b.Loop() {
			seq++
			g.e.marks.Note(testZone, seq, &mark.Purge{Tags: []string{"none"}}, g.now())
			g.hit(r)
		}
	})
	b.Run("hit", func(b *testing.B) {
		r := ask(b.Context(), "GET /500")
		for b.Loop() {
			g.hit(r)
		}
	})
}
