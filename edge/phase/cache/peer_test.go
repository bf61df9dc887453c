package cache

import (
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
)

// What another edge is given is what the origin said; a visitor is told which
// tier gave it to us.
func TestAnswersPassBetweenEdgesUnchanged(t *testing.T) {
	g := newRig(t, Config{}, func(r *request.Request) error {
		if string(r.CacheKey) != testZone+" https://www.example.com/a" {
			t.Errorf("fill of %q", r.CacheKey)
		}
		r.Cache.Tier = request.TierUpper
		return reply(r, 200, "body", "Cache-Control: max-age=60", "ETag: \"1\"")
	})
	g.plan.browsersKeep(time.Hour)
	if a := g.run("GET /a"); a.note.Tier != request.TierUpper || a.get("Cache-Control") != "max-age=3600" {
		t.Errorf("miss: tier %s, %s", a.note.Tier, a.get("Cache-Control"))
	}
	r := ask(t.Context(), "GET /a")
	r.Role = request.RoleOwner
	if a := g.do(r); a.note.Tier != request.TierRAM || a.get("Cache-Control") != "max-age=60" {
		t.Errorf("hit of another edge: tier %s, %s", a.note.Tier, a.get("Cache-Control"))
	}
}

// An answer that is not for the store keeps the tier that Fetch noted.
func TestUnsharedAnswersTellTheirTier(t *testing.T) {
	g := newRig(t, Config{}, func(r *request.Request) error {
		r.Cache.Tier = request.TierRegion
		return reply(r, 200, "body", "Cache-Control: no-store")
	})
	if a := g.run("GET /a"); a.note.Tier != request.TierRegion || a.cache != "BYPASS" {
		t.Errorf("%s from %s", a.cache, a.note.Tier)
	}
}
