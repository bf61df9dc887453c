package publish_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/rings"
	"github.com/selvage-edge/selvage/zone"
)

func values(text string) zone.Settings {
	var s zone.Settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		panic(err)
	}
	return s
}

func (w *rollouts) defaults(when, settings, staged string) publish.Defaults {
	w.t.Helper()
	d, err := w.Defaults(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	say := func(s zone.Settings) string {
		b, err := json.Marshal(s)
		if err != nil {
			w.t.Fatal(err)
		}
		return string(b)
	}
	if say(d.Settings) != settings || say(d.Staged) != staged {
		w.t.Errorf("%s: %s, staged %s; want %s, staged %s", when, say(d.Settings), say(d.Staged), settings, staged)
	}
	return d
}

func TestDefaultsGoByRingsOrAtOnce(t *testing.T) {
	w := newRollouts(t, storetest.Place(t))
	ringed := by
	ringed.ByRings = &publish.ByRings{}
	w.defaults("at first", "null", "null")
	if _, err := w.SetDefaults(t.Context(), ringed, values(`{"http3":"off"}`), nil); err != nil {
		t.Fatal(err)
	}
	if d := w.defaults("staged", "null", `{"http3":"off"}`); d.Stage != 1 || ringed.ByRings.Stage != 1 {
		t.Errorf("stage %d, told %d; want 1", d.Stage, ringed.ByRings.Stage)
	}
	_, err := w.SetDefaults(t.Context(), by, values(`{"http2":"off"}`), nil)
	w.conflict("at once, beside the stage", err, "stage 1, ")
	if _, _, err := w.Release(t.Context(), publish.Order{N: 1, To: rings.All, By: "tester"}); err != nil {
		t.Fatal(err)
	}
	seq := w.defaults("released", `{"http3":"off"}`, "null").Seq
	if z := w.stored(); z.Spec().Settings.On("http3") || len(z.SettingValues()) != 1 {
		t.Errorf("the zone is judged with %s and has %s of its own", z.Spec().Settings, z.SettingValues())
	}
	same, err := w.SetDefaults(t.Context(), by, values(`{"http3": "off"}`), nil)
	if now := w.defaults("the same again", `{"http3":"off"}`, "null"); err != nil || same != seq || now.Seq != seq {
		t.Errorf("the same again is entry %d of %d, %v; want %d", same, now.Seq, err, seq)
	}
	_, err = w.SetDefaults(t.Context(), by, values(`{}`), new(seq+1))
	w.conflict("of other defaults", err, "seq: ")
	if _, err := w.SetDefaults(t.Context(), by, values(`{}`), &seq); err != nil {
		t.Fatal(err)
	}
	w.defaults("unset", "null", "null")
	if _, ok := w.kv()[zone.KeyDefaults]; ok {
		t.Error("the key stays when nothing is said")
	}
}

func TestDefaultsThatCannotBeAreRefused(t *testing.T) {
	w := newRollouts(t, storetest.Place(t))
	for value, want := range map[string]string{
		`{"nope":1}`:                "nope",
		`{"ssl":"maybe"}`:           "ssl",
		`{"browser_cache_ttl":"1"}`: "browser_cache_ttl",
		`{"development_mode":"on"}`: "development_mode",
	} {
		_, err := w.SetDefaults(t.Context(), by, values(value), nil)
		if _, refused := errors.AsType[*publish.Refusal](err); !refused || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a refusal that names %s", value, err, want)
		}
	}
	w.defaults("after refusals", "null", "null")
}

// Each of many adds one setting to what it read: none is lost, on however many
// control planes.
func TestDefaultsOfManyWritersLoseNothing(t *testing.T) {
	place := storetest.Place(t)
	first := newRollouts(t, place)
	writers := []*rollouts{first}
	if first.store.Shared() {
		writers = append(writers, newRollouts(t, place))
	}
	names := []string{"http2", "http3", "brotli", "zstd", "always_online", "early_hints", "0rtt", "tc_regional"}
	var work sync.WaitGroup
	for i, name := range names {
		w := writers[i%len(writers)]
		work.Go(func() {
			for range 1000 {
				d, err := w.Defaults(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				next := values(`{}`).Over(d.Settings)
				if len(d.Settings) == 0 {
					next = zone.Settings{}
				}
				next[name] = json.RawMessage(`"off"`)
				_, err = w.SetDefaults(t.Context(), by, next, &d.Seq)
				if err == nil {
					return
				}
				if !strings.Contains(fmt.Sprint(err), "changed meanwhile") {
					t.Error(err)
					return
				}
			}
			t.Errorf("%s never came through", name)
		})
	}
	work.Wait()
	d, err := first.Defaults(t.Context())
	if err != nil || len(d.Settings) != len(names) {
		t.Errorf("%d of %d are left: %s, %v", len(d.Settings), len(names), d.Settings, err)
	}
}
