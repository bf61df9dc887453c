package cache

import (
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

func TestHeadFreshensWhatAGetWouldGet(t *testing.T) {
	for _, c := range []struct {
		name   string
		first  []string
		head   []string
		status int
		want   string
		x      string
	}{
		{"agrees", []string{`ETag: "1"`}, []string{`ETag: "1"`, "Cache-Control: max-age=500", "X: 2"}, 200, "HIT", "2"},
		{"without validators", nil, []string{"Cache-Control: max-age=500", "Content-Length: 4", "X: 2"}, 200, "HIT", "2"},
		{"agrees and is stale", []string{`ETag: "1"`}, []string{`ETag: "1"`, "Cache-Control: max-age=0", "X: 2"}, 200, "EXPIRED", "1"},
		{"another version", []string{`ETag: "1"`}, []string{`ETag: "2"`, "Cache-Control: max-age=500"}, 200, "EXPIRED", "1"},
		{"another date", []string{"Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT"}, []string{"Last-Modified: Fri, 02 Jan 2015 00:00:00 GMT", "Cache-Control: max-age=500"}, 200, "EXPIRED", "1"},
		{"another length", nil, []string{"Content-Length: 5", "Cache-Control: max-age=500"}, 200, "EXPIRED", "1"},
		{"not to be stored", nil, []string{"Cache-Control: no-store"}, 200, "EXPIRED", "1"},
		{"gone", nil, []string{"Cache-Control: max-age=500"}, 410, "EXPIRED", "1"},
	} {
		g := newRig(t, Config{}, nil)
		g.serve = func(r *request.Request) error {
			if r.In.Method == msg.HEAD {
				return reply(r, c.status, "", c.head...)
			}
			return reply(r, 200, "body", append(c.first, "Cache-Control: max-age=60", "X: 1", "Cache-Tag: t")...)
		}
		g.run("GET /a")
		g.sleep(2 * time.Minute)
		if a := g.run("HEAD /a"); a.cache != "DYNAMIC" || a.status != c.status {
			t.Errorf("%s: HEAD %d %s", c.name, a.status, a.cache)
		}
		a := g.run("GET /a")
		if a.cache != c.want || a.body != "body" || a.get("X") != c.x {
			t.Errorf("%s: GET %s %q X %s, want %s", c.name, a.cache, a.body, a.get("X"), c.want)
		}
		// The body is as old as it was: a purge reaches it, and by its tag.
		g.purge(zone.Purge{Tags: []string{"t"}})
		if a := g.run("GET /a"); a.cache != "MISS" {
			t.Errorf("%s: after a purge %s", c.name, a.cache)
		}
		g.e.Close()
		checkStore(t, g.e)
	}
}
