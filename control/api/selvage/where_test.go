package selvage

import (
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/progress"
)

func TestTextSaysWhoIsMissing(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 5, 0, 0, time.UTC)
	at := func(text string) time.Time {
		d, err := time.Parse(time.DateTime, text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	node := func(colo string, since time.Time) *progress.Node {
		return &progress.Node{Node: identity.Node{Colo: colo}, Since: since}
	}
	gone := at("2026-11-22 12:03:04")
	many := func(w *where, n int) {
		for i := range n {
			w.has(node(string([]byte{'A', 'A' + byte(i/26), 'A' + byte(i%26)}), gone))
		}
	}
	for _, c := range []struct {
		fill func(*where)
		want string
	}{
		{func(*where) {}, "no edge has joined yet"},
		{func(w *where) { many(w, 330) }, "live in 330 of 330"},
		{func(w *where) { many(w, 329); w.lacks(node("FRA", gone), now) }, "live in 329 of 330, missing FRA since 12:03:04 UTC"},
		{func(w *where) { w.has(node("FRA", gone)); w.has(node("FRA", gone)); w.lacks(node("FRA", gone), now) }, "live in 0 of 1, missing FRA (1 of 3 nodes) since 12:03:04 UTC"},
		{func(w *where) {
			w.lacks(node("FRA", at("2026-11-21 12:03:04")), now)
			w.lacks(node("AMS", at("2026-11-22 00:00:01")), now)
			w.rejected(node("NRT", gone), "no room")
		}, "live in 0 of 3, missing FRA since 2026-11-21 12:03:04 UTC, AMS since 00:00:01 UTC, rejected by NRT: no room"},
		{func(w *where) {
			up := node("FRA", gone)
			up.Connected = true
			w.lacks(up, at("2026-11-22 12:04:59"))
		}, "live in 0 of 1, missing FRA since 12:04:59 UTC"},
		{func(w *where) {
			for _, colo := range []string{"AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG"} {
				w.lacks(node(colo, gone), now)
			}
		}, "live in 0 of 7, missing AAA since 12:03:04 UTC, BBB since 12:03:04 UTC, CCC since 12:03:04 UTC, DDD since 12:03:04 UTC, EEE since 12:03:04 UTC and 2 more"},
	} {
		var w where
		c.fill(&w)
		if got := w.text("live", now); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
