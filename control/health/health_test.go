package health

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/telemetry/report"
)

func book(t *testing.T, place, control string) *Book {
	t.Helper()
	s, err := store.Open(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b, err := New(t.Context(), Config{Store: s, Control: control, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sample(at time.Time, requests uint64) Sample {
	return Sample{at, report.Health{Version: 1, State: report.Ready, Requests: requests}}
}

func requests(all []Sample) string {
	var text []string
	for _, s := range all {
		text = append(text, fmt.Sprint(s.Requests))
	}
	return strings.Join(text, " ")
}

func TestReaderTakesHealthAndRefusesRubbish(t *testing.T) {
	b := book(t, storetest.Place(t), "one")
	h := report.Health{State: report.Ready, Requests: 7, Problems: []string{"the disk is small"}}
	text, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Take(feed.Report{Node: feed.NodeInfo{Node: "a"}, Payload: text}); err != nil {
		t.Error(err)
	}
	if err := b.Take(feed.Report{Node: feed.NodeInfo{Node: "b"}, Payload: []byte(`{"v":1,"state":"?"}`)}); err == nil {
		t.Error("rubbish was taken")
	}
	if s, ok := b.Newest("a"); !ok || s.Requests != 7 || time.Since(s.At) > time.Minute {
		t.Errorf("a: %+v, %t", s, ok)
	}
	if s, ok := b.Newest("b"); ok {
		t.Errorf("b: %+v, want none", s)
	}
	if got := b.troubled(); got != 1 {
		t.Errorf("%d are troubled, want a", got)
	}
}

// There is a sample to compare with, then all that came, however many; before
// that each minute's.
func TestSince(t *testing.T) {
	b := book(t, storetest.Place(t), "one")
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for i := range 2 * 3600 {
		b.note("a", sample(noon.Add(time.Duration(i)*time.Second), uint64(i)), true)
	}
	for _, c := range []struct {
		since int
		want  string
	}{
		{7199, "7199"},
		{7300, "7199"},
		{7196, "7196 7197 7198 7199"},
		// 7080 is the oldest second that is kept.
		{7030, "7019 7079 7080 7081"},
		{7079, "7079 7080 7081 7082"},
	} {
		if got := requests(b.Since("a", noon.Add(time.Duration(c.since)*time.Second))); !strings.HasPrefix(got, c.want) || !strings.HasSuffix(got, "7199") {
			t.Errorf("since %d: %.60s, want %s …", c.since, got, c.want)
		}
	}
	if got := len(b.Since("a", noon)); got != keptSeconds+store.HealthSlots-2 {
		t.Errorf("%d samples of two hours are kept", got)
	}
	if got := b.Since("nobody", noon); got != nil {
		t.Errorf("of nobody: %v", got)
	}
}

// A node that talks too much costs no history, one that starts anew is seen.
func TestSamplesAreSpaced(t *testing.T) {
	b := book(t, storetest.Place(t), "one")
	now := time.Now().Truncate(time.Minute)
	for i := range 1000 {
		b.note("a", sample(now.Add(time.Duration(i)*time.Millisecond), uint64(i)), true)
	}
	if n := len(b.Since("a", time.Time{})); n > 3 {
		t.Errorf("%d samples of one second", n)
	}
	again := sample(now.Add(1001*time.Millisecond), 0)
	again.Started = now
	b.note("a", again, true)
	if got := requests(b.Since("a", time.Time{})); !strings.HasSuffix(got, "999 0") {
		t.Errorf("samples %s, want the last before the restart, and the first after", got)
	}
}

func TestProcessesShareAndRemember(t *testing.T) {
	place := storetest.Place(t)
	one, two := book(t, place, "one"), book(t, place, "two")
	start := time.Now().UTC().Truncate(time.Microsecond).Add(-5 * time.Minute)
	for i := range 5 {
		one.note("a", sample(start.Add(time.Duration(i)*time.Minute), uint64(i)), true)
		two.note("b", sample(start.Add(time.Duration(i)*time.Minute), uint64(10+i)), true)
		for _, b := range []*Book{one, two} {
			if err := b.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := one.read(t.Context(), start.Add(-time.Second), false); err != nil {
			t.Fatal(err)
		}
	}
	if got := requests(one.Since("b", start)); got != "10 11 12 13 14" {
		t.Errorf("one knows of b: %s", got)
	}
	if s, ok := two.Newest("a"); ok {
		t.Errorf("two has not read and knows of a: %+v", s)
	}
	three := book(t, place, "one") // the first one again
	if got := requests(three.Since("a", start.Add(2*time.Minute))); got != "2 3 4" {
		t.Errorf("after a restart a was %s, want 2 3 4", got)
	}
	// The node moves: who hears of it now is believed.
	two.note("a", sample(time.Now(), 99), true)
	if err := two.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := three.read(t.Context(), time.Now().Add(-window), false); err != nil {
		t.Fatal(err)
	}
	if s, _ := three.Newest("a"); s.Requests != 99 {
		t.Errorf("a is %+v, want what two heard", s)
	}
}

// What is older than an hour is forgotten here and in the database.
func TestOldIsForgotten(t *testing.T) {
	b := book(t, storetest.Place(t), "one")
	b.note("gone", sample(time.Now().Add(-2*keptFor), 1), true)
	b.note("here", sample(time.Now(), 1), true)
	if err := b.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.Newest("gone"); ok {
		t.Error("a node that was not heard of for two hours is still known")
	}
	var all []string
	if err := b.Store.Read(t.Context(), func(tx *store.Tx) error {
		return tx.HealthSince(t.Context(), time.Time{}, func(h store.Health) { all = append(all, h.Node) })
	}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(all) != "[here]" {
		t.Errorf("the database has %v", all)
	}
}
