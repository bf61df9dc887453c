package cache

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// What a fill's head says of Vary counts for those who come next, also before
// its body is stored: nobody waits for a variant that is not theirs.
func TestVaryIsKnownWithTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, Config{}, nil)
		b := newPipeBody()
		g.serve = func(r *request.Request) error {
			lang := string(r.In.Fields.Get(msg.AcceptLanguage))
			if lang != "en" {
				time.Sleep(time.Second)
				return reply(r, 200, lang, "Cache-Control: max-age=60", "Vary: Accept-Language")
			}
			r.Out.Status, r.Out.Length, r.Out.Body = 200, 2, b
			addLines(&r.Out.Fields, "Cache-Control: max-age=60", "Vary: Accept-Language")
			return nil
		}
		en := ask(t.Context(), "GET /a", "Accept-Language: en")
		_, _ = g.e.Run(&g.plan, en)
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 10 {
			lang := []string{"de", "fr"}[i%2]
			wg.Go(func() { g.want(g.run("GET /a", "Accept-Language: "+lang), 200, "MISS", lang) })
		}
		wg.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("two variants took %s, want 1s", took)
		}
		g.wantFetches(3)
		go io.WriteString(b.w, "en")
		g.want(readAnswer(en), 200, "MISS", "en")
		en.Out.Close()
	})
}

// Many who ask at once for what lies on the disk and is too large to come back
// into memory get it from there, all of them.
func TestManyReadTheDiskAtOnce(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", maxLoaded/16+1)
	d := newDiskRig(t, Config{}, always(200, body, "Cache-Control: max-age=600"))
	for i := range 20 {
		line := fmt.Sprintf("GET /%d", i)
		d.twice(line)
		d.forget()
		d.fetches.Store(0)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 32 {
			wg.Go(func() {
				<-start
				d.wantTier(d.run(line), "HIT", body, request.TierSSD)
			})
		}
		close(start)
		wg.Wait()
		d.wantFetches(0)
	}
}

// A purge is over when it is looked at, whatever was done to the clock since.
func TestPurgesAreOver(t *testing.T) {
	g := newRig(t, Config{}, nil)
	for _, ahead := range []time.Duration{-time.Hour, 0, time.Hour} {
		at := g.e.instantOf(g.now().Add(ahead).UnixNano())
		if now := g.e.now(); at > now || ahead < 0 && now-at < int64(-ahead) {
			t.Errorf("a purge %s ahead of the clock was at %d of %d", ahead, at, now)
		}
	}
}

// What an unsafe request makes doubtful while it is fetched goes nowhere: not
// into memory, and not into the reserve.
func TestChangedWhileFetchedIsNotKept(t *testing.T) {
	var f *farRig
	f = newFarRig(t, func(r *request.Request) error {
		if r.In.Method == msg.GET && f.asked == 1 {
			f.run("POST /a") // asks the origin as well
		}
		return reply(r, 200, fmt.Sprint(f.asked), "Cache-Control: max-age=72000")
	})
	f.get("/a", request.TierOrigin, 2)
	if n := f.e.far.store.Stats().Written; n != 0 {
		t.Errorf("%d objects were written", n)
	}
	f.want(f.get("/a", request.TierOrigin, 3), 200, "MISS", "3")
}

// Who found an object before it was dropped does not write it to the disk after.
func TestDroppedIsNotWritten(t *testing.T) {
	d := newDiskRig(t, Config{}, always(200, "hello", "Cache-Control: max-age=600"))
	d.run("GET /a")
	r := ask(t.Context(), "GET /a")
	k := d.e.keyOf(&d.plan, r)
	o := d.e.shardOf(k.hash).find(k, r)
	d.run("POST /a")
	o.touch()
	o.Release()
	d.forget()
	d.want(d.run("GET /a"), 200, "MISS", "hello")
}

// An origin that encodes and does not say so: each visitor gets what it can read.
func TestEncodedWithoutVary(t *testing.T) {
	d := newDiskRig(t, Config{}, func(r *request.Request) error {
		if r.In.Fields.HasToken(msg.AcceptEncoding, "gzip") {
			return reply(r, 200, "coded", "Cache-Control: max-age=600", "Content-Encoding: gzip")
		}
		return reply(r, 200, "plain", "Cache-Control: max-age=600")
	})
	for range 2 {
		d.twice("GET /a", "Accept-Encoding: gzip, br")
		for _, line := range []string{"Accept-Encoding: br,gzip", "X: 1", "Accept-Encoding: identity", "Accept-Encoding: gzip"} {
			a := d.run("GET /a", line)
			coded := a.get("Content-Encoding") == "gzip"
			if coded != (a.body == "coded") || coded && !strings.Contains(line, "gzip") {
				t.Errorf("%s: %s %q in %q", line, a.cache, a.body, a.get("Content-Encoding"))
			}
		}
		d.forget()
		d.restart()
	}
}

// What a visitor has by a date may be of another coding: it gets the whole.
func TestDateDoesNotTellCodings(t *testing.T) {
	body := strings.Repeat("some text that is worth it ", 100)
	g := newRig(t, Config{}, always(200, body, "Cache-Control: max-age=600", "Content-Type: text/plain", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"))
	g.run("GET /a")
	g.e.work.Wait()
	lines := []string{"Range: bytes=5-9", "If-Range: Sun, 06 Nov 1994 08:49:37 GMT"}
	if a := g.run("GET /a", append(lines, "Accept-Encoding: gzip")...); a.status != 200 || a.body != body {
		t.Errorf("%d, %d bytes", a.status, len(a.body))
	}
	if a := g.run("GET /a", lines...); a.status != 206 || a.body != body[5:10] {
		t.Errorf("without codings: %d, %d bytes", a.status, len(a.body))
	}
}

// Purges of a URL while it is being read from the disk: nothing of before is a
// hit after.
func TestPurgeWhileRead(t *testing.T) {
	d := newDiskRig(t, Config{}, nil)
	for i := range 50 {
		seq := uint64(2*i + 2)
		d.serve = always(200, fmt.Sprint("before ", i), "Cache-Control: max-age=600")
		d.twice("GET /a")
		d.forget()
		d.serve = always(200, fmt.Sprint("after ", i), "Cache-Control: max-age=600")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { d.run("GET /a") })
		}
		if err := d.e.Purge(testZone, seq, zone.Purge{Files: []string{"https://www.example.com/a"}}); err != nil {
			t.Fatal(err)
		}
		a := d.run("GET /a")
		wg.Wait()
		if b := d.run("GET /a"); a.body != fmt.Sprint("after ", i) || b.body != a.body {
			t.Fatalf("after purge %d: %s %q, then %s %q", i, a.cache, a.body, b.cache, b.body)
		}
		if err := d.e.Purge(testZone, seq+1, zone.Purge{Everything: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// A HEAD that shows that the object has changed counts for what the disk has of
// it too.
func TestHeadTellsOfChangeOnDisk(t *testing.T) {
	version := 1
	d := newDiskRig(t, Config{}, func(r *request.Request) error {
		return reply(r, 200, fmt.Sprint(version), "Cache-Control: max-age=600", fmt.Sprintf("ETag: %q", fmt.Sprint(version)))
	})
	d.twice("GET /a")
	version = 2
	// Passed beside the cache, since it is meant for who has the resource.
	d.run("HEAD /a", `If-Match: "2"`)
	d.forget()
	d.want(d.run("GET /a"), 200, "MISS", "2")
}
