// Package rollouts shows people the changes that go by rings. It promises that
// those on their way come first.
package rollouts

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/cmd/selvage/internal/table"
)

// List prints rollouts, those on their way first.
func List(w io.Writer, asJSON bool, all []client.Rollout) error {
	slices.SortStableFunc(all, func(a, b client.Rollout) int {
		switch {
		case a.State == b.State || a.State != "pending" && b.State != "pending":
			return 0
		case a.State == "pending":
			return -1
		}
		return 1
	})
	return table.Print(w, asJSON, all, []string{"STAGE", "ZONE", "CHANGE", "STATE"}, func(r client.Rollout) []string {
		return []string{strconv.FormatUint(r.Stage, 10), zoneOf(&r), r.Action, r.Text}
	})
}

func zoneOf(r *client.Rollout) string {
	if r.ZoneName == "" {
		return "all zones"
	}
	return r.ZoneName
}

// Show prints one rollout with its steps.
func Show(w io.Writer, asJSON bool, r client.Rollout) error {
	if asJSON {
		return indented(w, r)
	}
	type line struct{ name, value string }
	lines := []line{
		{"stage", strconv.FormatUint(r.Stage, 10)},
		{"state", r.Text},
		{"zone", zoneOf(&r)},
		{"change", r.Action + " by " + r.Actor},
		{"rings", ringsText(r.Rings)},
	}
	for _, key := range r.Keys {
		lines = append(lines, line{"key", key})
	}
	for _, s := range r.Steps {
		text := fmt.Sprintf("%s %s by %s", s.At.UTC().Format(time.DateTime), s.What, s.By)
		if s.What == "released" {
			text = fmt.Sprintf("%s released to %s by %s", s.At.UTC().Format(time.DateTime), s.Ring, s.By)
		}
		if s.Why != "" {
			text += ": " + s.Why
		}
		lines = append(lines, line{"step", text})
	}
	return table.Print(w, false, lines, []string{"FIELD", "VALUE"}, func(l line) []string { return []string{l.name, l.value} })
}

// Rings prints who gets changes first.
func Rings(w io.Writer, asJSON bool, r client.Rings) error {
	if asJSON {
		return indented(w, r)
	}
	type ring struct{ name, who, hold string }
	hold := func(seconds int) string { return (time.Duration(seconds) * time.Second).String() }
	canaries := strings.Join(r.Canaries, ", ")
	if canaries == "" {
		canaries = "one that is chosen"
	}
	return table.Print(w, false, []ring{
		{"canary", canaries, hold(r.CanaryHold)},
		{"share", fmt.Sprintf("about %d%% of the others", r.Share), hold(r.ShareHold)},
		{"all", "the rest", "-"},
	}, []string{"RING", "WHO", "HOLD", "DATA CENTERS NOW"}, func(x ring) []string {
		now := strings.Join(r.Colos[x.name], " ")
		if now == "" {
			now = "-"
		}
		return []string{x.name, x.who, x.hold, now}
	})
}

func ringsText(r client.Rings) string {
	return fmt.Sprintf("%s for %s, about %d%% for %s, all", strings.Join(r.Canaries, ", "),
		time.Duration(r.CanaryHold)*time.Second, r.Share, time.Duration(r.ShareHold)*time.Second)
}

func indented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
