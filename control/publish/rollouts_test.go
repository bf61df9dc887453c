package publish_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/rings"
	"github.com/selvage-edge/selvage/zone"
)

// rollouts is a control plane with one zone.
type rollouts struct {
	t     *testing.T
	store *store.Store
	*publish.Publisher
	zone string
}

func newRollouts(t *testing.T, place string) *rollouts {
	t.Helper()
	w := &rollouts{t: t, store: openStore(t, place)}
	w.Publisher, _ = open(t, config(w.store))
	z := newZone("example.com")
	w.zone = z.ID
	if err := w.store.Read(t.Context(), func(tx *store.Tx) error { _, err := tx.ZoneMeta(t.Context(), z.ID); return err }); err == nil {
		return w // another one made it
	}
	z.Records = []zone.Record{{ID: strings.Repeat("01", 16), Name: "www.example.com", Type: "A", Content: "192.0.2.1", TTL: 1, Tags: []string{}}}
	z.Settings = map[string]store.Setting{"ssl": {Value: json.RawMessage(`"full"`), Changed: store.Now()}}
	if _, err := w.Create(t.Context(), by, z); err != nil {
		t.Fatal(err)
	}
	return w
}

// kv is the feed's state of the zone, and of all stages.
func (w *rollouts) kv() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	if err := w.store.Read(w.t.Context(), func(tx *store.Tx) error {
		return tx.Keys(w.t.Context(), "", func(key string, value []byte, _ uint64) error {
			all[key] = string(value)
			return nil
		})
	}); err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *rollouts) stored() *store.Zone {
	w.t.Helper()
	var z *store.Zone
	if err := w.store.Read(w.t.Context(), func(tx *store.Tx) (err error) {
		z, err = tx.Zone(w.t.Context(), w.zone)
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	z.Version = 0
	return z
}

// staged makes a change by rings and returns its stage's number.
func (w *rollouts) staged(fn func(*store.Zone) error) uint64 {
	w.t.Helper()
	a := by
	a.ByRings = &publish.ByRings{}
	seq, err := w.Edit(w.t.Context(), w.zone, a, fn)
	if err != nil || seq == 0 || a.ByRings.Stage == 0 || len(a.ByRings.First) != 1 {
		w.t.Fatalf("stage %+v of entry %d: %v", a.ByRings, seq, err)
	}
	return a.ByRings.Stage
}

// everything changes each kind of part.
func everything(z *store.Zone) error {
	z.Settings["ssl"] = store.Setting{Value: json.RawMessage(`"strict"`), Changed: store.Now()}
	z.Settings["brotli"] = store.Setting{Value: json.RawMessage(`"off"`), Changed: store.Now()}
	z.Records[0].Content = "192.0.2.2"
	z.Rulesets = append(z.Rulesets, store.Ruleset{ID: strings.Repeat("02", 16), Phase: "http_request_origin", Version: 1, Body: json.RawMessage(`{"rules":[]}`), Changed: store.Now()})
	return addRecord("new")(z)
}

func (w *rollouts) conflict(what string, err error, text string) {
	w.t.Helper()
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), text) {
		w.t.Errorf("%s: %v; want a conflict that says %q", what, err, text)
	}
}

func TestRolloutIsHalted(t *testing.T) {
	w := newRollouts(t, storetest.Place(t))
	was, before := w.stored(), w.kv()
	n := w.staged(everything)
	if z := w.stored(); string(z.Settings["ssl"].Value) != `"strict"` || len(z.Records) != 2 || len(z.Rulesets) != 1 {
		t.Errorf("what a user reads while it is on its way: %+v", z)
	}
	now := w.kv()
	stage, err := rings.Decode([]byte(now[rings.Key(n)]))
	if err != nil || len(stage.Changes) != 4 || stage.Ring != rings.Canary {
		t.Fatalf("%+v, %v", stage, err)
	}
	delete(now, rings.Key(n))
	if !maps.Equal(now, before) {
		t.Error("a stage changes what nodes of other rings read")
	}
	// Another part may change meanwhile, and stays when it is halted.
	if _, err := w.Edit(t.Context(), w.zone, by, addRecord("other")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Halt(t.Context(), publish.Order{N: n, By: "tester", Why: "errors"}); err != nil {
		t.Fatal(err)
	}
	z := w.stored()
	if i := slices.IndexFunc(z.Records, func(r zone.Record) bool { return strings.HasPrefix(r.Name, "other.") }); i < 0 {
		t.Error("what was changed meanwhile is lost")
	} else {
		z.Records = slices.Delete(z.Records, i, i+1)
	}
	if len(z.Rulesets) == 0 {
		z.Rulesets = was.Rulesets
	}
	if !store.Differ(was, z).Empty() {
		t.Errorf("after the halt\n%+v\nbefore\n%+v", z, was)
	}
	after := w.kv()
	delete(after, zone.DNSKey(w.zone, "other.example.com"))
	if !maps.Equal(after, before) {
		t.Errorf("after the halt nodes read\n%v\nbefore\n%v", after, before)
	}
	r, err := w.Rollout(t.Context(), n)
	if err != nil || r.State != publish.Halted || r.Stage != nil || r.Undo != nil || len(r.Steps) != 2 || r.Steps[1].Why != "errors" {
		t.Errorf("%+v, %v", r, err)
	}
	_, _, err = w.Halt(t.Context(), publish.Order{N: n})
	w.conflict("halted again", err, "was halted")
	_, _, err = w.Release(t.Context(), publish.Order{N: n, To: rings.All})
	w.conflict("released after its halt", err, "was halted")
	// Everybody may change it again, and the audit trail tells what was.
	if _, err := w.Edit(t.Context(), w.zone, by, everything); err != nil {
		t.Error(err)
	}
	var names []string
	if err := w.store.Read(t.Context(), func(tx *store.Tx) error {
		events, err := tx.Events(t.Context(), 10)
		for _, e := range events {
			names = append(names, e.Action)
			for _, text := range []string{e.Before, e.After} {
				if text != "" && !json.Valid([]byte(text)) {
					t.Errorf("the audit trail's %s is no JSON: %s", e.Action, text)
				}
			}
			if e.Action == "rollout.halt" && !strings.Contains(e.After, `"why":"errors"`) {
				t.Errorf("the audit trail tells of the halt: %s", e.After)
			}
		}
		return err
	}); err != nil || strings.Join(names, ",") != "test,rollout.halt,test,rollout.stage test,test" {
		t.Errorf("audit trail: %v, %v", names, err)
	}
}

func TestRolloutIsReleasedRingByRing(t *testing.T) {
	w := newRollouts(t, storetest.Place(t))
	n := w.staged(everything)
	head, _ := w.Head()
	if _, seq, err := w.Release(t.Context(), publish.Order{N: n, To: rings.Share, By: "control"}); err != nil || seq != head+1 {
		t.Fatalf("entry %d, %v", seq, err)
	}
	if s, err := rings.Decode([]byte(w.kv()[rings.Key(n)])); err != nil || s.Ring != rings.Share {
		t.Errorf("%+v, %v", s, err)
	}
	_, _, err := w.Release(t.Context(), publish.Order{N: n, To: rings.Share})
	w.conflict("released to the same ring", err, "is released to share already")
	_, _, err = w.Release(t.Context(), publish.Order{N: n, To: rings.All, Version: 99})
	if !errors.Is(err, publish.ErrMoved) {
		t.Errorf("an order about another version: %v", err)
	}
	r, seq, err := w.Release(t.Context(), publish.Order{N: n, To: rings.All, By: "control"})
	if err != nil || seq != head+2 || r.State != publish.Released {
		t.Fatalf("entry %d, %+v, %v", seq, r, err)
	}
	// One entry: the changes themselves and the stage's end.
	entries := checkLog(t, w.Publisher)
	if last := entries[len(entries)-1]; len(last.Changes) != 5 || last.Changes[4].Key != rings.Key(n) {
		t.Errorf("%+v", last.Changes)
	}
	kv := w.kv()
	if kv[zone.SettingsKey(w.zone)] != `{"brotli":"off","ssl":"strict"}` || kv[rings.Key(n)] != "" {
		t.Errorf("%v", kv)
	}
}

func TestWhatIsOnItsWayIsNotChangedBehindItsBack(t *testing.T) {
	w := newRollouts(t, storetest.Place(t))
	setting := func(name, value string) func(*store.Zone) error {
		return func(z *store.Zone) error {
			z.Settings[name] = store.Setting{Value: json.RawMessage(value), Changed: store.Now()}
			return nil
		}
	}
	n := w.staged(setting("ssl", `"strict"`))
	_, err := w.Edit(t.Context(), w.zone, by, setting("brotli", `"off"`))
	w.conflict("the same key", err, fmt.Sprintf("stage %d, ", n))
	a := by
	a.ByRings = &publish.ByRings{}
	_, err = w.Edit(t.Context(), w.zone, a, addRecord("second"))
	w.conflict("a second stage of the zone", err, "one at a time")
	// What compiles with the stage only, or without it only, is refused: this judge
	// refuses paused zones.
	if _, _, err := w.Halt(t.Context(), publish.Order{N: n}); err != nil {
		t.Fatal(err)
	}
	if _, err = w.Edit(t.Context(), w.zone, a, func(z *store.Zone) error { z.Paused = true; return nil }); err == nil || !strings.Contains(err.Error(), "paused") {
		t.Errorf("a stage that cannot be compiled: %v", err)
	}
	// A zone goes with what is on its way to it.
	n = w.staged(setting("ssl", `"strict"`))
	if _, err := w.Remove(t.Context(), w.zone, by); err != nil {
		t.Fatal(err)
	}
	if kv := w.kv(); len(kv) > 0 {
		t.Errorf("left of the zone: %v", kv)
	}
	_, _, err = w.Release(t.Context(), publish.Order{N: n, To: rings.All})
	w.conflict("released after its zone was deleted", err, "was dropped")
	_, _, err = w.Halt(t.Context(), publish.Order{N: n})
	w.conflict("halted after its zone was deleted", err, "was dropped")
}

// A judge that refuses one state of two: a zone must be good with the stage and
// without it.
func TestBothStatesAreJudged(t *testing.T) {
	s := openStore(t, storetest.Place(t))
	c := config(s)
	c.Judge = func(spec *zone.Spec) error {
		if len(spec.Records) > 2 && len(spec.Settings) == 0 {
			return fmt.Errorf("records: too many without a setting")
		}
		return nil
	}
	p, _ := open(t, c)
	z := newZone("example.com")
	z.Settings = map[string]store.Setting{}
	z.Records = []zone.Record{{ID: strings.Repeat("01", 16), Name: "a.example.com", Type: "A", Content: "192.0.2.1", TTL: 1, Tags: []string{}}}
	if _, err := p.Create(t.Context(), by, z); err != nil {
		t.Fatal(err)
	}
	a := by
	a.ByRings = &publish.ByRings{}
	if _, err := p.Edit(t.Context(), z.ID, a, func(z *store.Zone) error {
		z.Settings["ssl"] = store.Setting{Value: json.RawMessage(`"full"`)}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Edit(t.Context(), z.ID, by, addRecord("b")); err != nil {
		t.Fatal(err)
	}
	_, err := p.Edit(t.Context(), z.ID, by, addRecord("c"))
	if err == nil || !strings.Contains(err.Error(), "too many") || !strings.Contains(err.Error(), "without stage 1") {
		t.Errorf("good with the stage only: %v", err)
	}
}

func TestWhatCannotGoByRings(t *testing.T) {
	w := newRollouts(t, storetest.Place(t))
	a := by
	a.ByRings = &publish.ByRings{}
	for name, c := range map[string]struct {
		fn   func(*store.Zone) error
		want string
	}{
		"a certificate": {func(z *store.Zone) error {
			z.Certificates = append(z.Certificates, store.Certificate{Certificate: zone.Certificate{ID: strings.Repeat("0c", 16)}})
			return nil
		}, "is the same in all data centers"},
		"a setting that ends by itself": {func(z *store.Zone) error {
			z.Settings["development_mode"] = store.Setting{Value: json.RawMessage(`"on"`), Changed: store.Now(), Expires: store.Now().Add(1e9)}
			return nil
		}, "development_mode: ends by itself"},
	} {
		if _, err := w.Edit(t.Context(), w.zone, a, c.fn); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if _, err := w.Edit(t.Context(), w.zone, a, func(*store.Zone) error { return nil }); err != nil || a.ByRings.Stage != 0 {
		t.Errorf("nothing: stage %d, %v", a.ByRings.Stage, err)
	}
}

func TestRingsAreTheOperators(t *testing.T) {
	w := newRollouts(t, storetest.Place(t))
	if d, err := w.Rings(t.Context()); err != nil || !reflect.DeepEqual(d, rings.Default()) {
		t.Errorf("%+v, %v", d, err)
	}
	want := rings.Definition{Canaries: []string{"NRT"}, Share: 25, CanaryHold: 60, ShareHold: 120}
	if _, err := w.SetRings(t.Context(), "tester", want); err != nil {
		t.Fatal(err)
	}
	if d, err := w.Rings(t.Context()); err != nil || !reflect.DeepEqual(d, want) {
		t.Errorf("%+v, %v", d, err)
	}
	n := w.staged(everything)
	if _, err := w.SetRings(t.Context(), "tester", rings.Definition{Canaries: []string{"FRA"}, CanaryHold: 1, ShareHold: 1}); err != nil {
		t.Fatal(err)
	}
	if r, err := w.Rollout(t.Context(), n); err != nil || !reflect.DeepEqual(r.Rings, want) || !slices.Equal(r.Stage.Canaries, want.Canaries) {
		t.Errorf("a stage does not keep the rings it began with: %+v, %v", r, err)
	}
	if _, err := w.SetRings(t.Context(), "tester", rings.Definition{}); err == nil {
		t.Error("a definition that cannot be is accepted")
	}
}

// Two control planes that find the same thing due do it once.
func TestTwoControlPlanesReleaseOnce(t *testing.T) {
	place := storetest.Postgres(t)
	first, second := newRollouts(t, place), newRollouts(t, place)
	n := first.staged(everything)
	r, err := second.Rollout(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	results := make([]error, 8)
	var work sync.WaitGroup
	for i := range results {
		p := []*rollouts{first, second}[i%2]
		work.Go(func() {
			_, _, results[i] = p.Release(t.Context(), publish.Order{N: n, To: rings.Share, By: "control", Version: r.Version})
		})
	}
	work.Wait()
	done := 0
	for _, err := range results {
		if err == nil {
			done++
		} else if !errors.Is(err, publish.ErrMoved) {
			t.Error(err)
		}
	}
	if r, err := first.Rollout(t.Context(), n); done != 1 || err != nil || len(r.Steps) != 2 {
		t.Errorf("released %d times: %+v, %v", done, r, err)
	}
	// A zone that is deleted while its change is released leaves nothing behind.
	work.Go(func() {
		_, _, _ = first.Release(t.Context(), publish.Order{N: n, To: rings.All, By: "control"}) // either order is good
	})
	if _, err := second.Remove(t.Context(), second.zone, by); err != nil {
		t.Fatal(err)
	}
	work.Wait()
	eventually(t, "nothing is left of the zone", func() bool { return len(first.kv()) == 0 })
}

// What the operator says for all zones goes by rings, unless it is asked not to.
func TestWhatIsSaidForAllZonesGoesByRings(t *testing.T) {
	w := newRollouts(t, storetest.Place(t))
	list := func(value string) []feed.Change {
		return []feed.Change{{Op: feed.Set, Key: zone.PrefixOperator + "list", Value: []byte(value)}}
	}
	operate := func(changes []feed.Change, atOnce bool) (uint64, error) {
		a := by
		if !atOnce {
			a.ByRings = &publish.ByRings{}
		}
		return w.Operate(t.Context(), a, changes, func(*store.Tx) error { return nil })
	}
	if _, err := operate(list(`["a"]`), false); err != nil {
		t.Fatal(err)
	}
	kv := w.kv()
	if kv[zone.PrefixOperator+"list"] != "" || kv[rings.Key(1)] == "" {
		t.Fatalf("not a stage: %v", kv)
	}
	_, err := operate(list(`["b"]`), false)
	w.conflict("a second stage", err, "one at a time")
	_, err = operate(list(`["b"]`), true)
	w.conflict("at once, of the same key", err, "stage 1, ")
	if _, err := operate([]feed.Change{{Op: feed.Set, Key: zone.PrefixOperator + "other", Value: []byte(`1`)}}, true); err != nil {
		t.Error(err)
	}
	if n := w.staged(everything); n != 2 {
		t.Errorf("a zone's stage beside it is %d", n)
	}
	if _, _, err := w.Halt(t.Context(), publish.Order{N: 1, By: "tester"}); err != nil {
		t.Fatal(err)
	}
	if kv := w.kv(); kv[rings.Key(1)] != "" || kv[zone.PrefixOperator+"list"] != "" || kv[zone.PrefixOperator+"other"] != "1" {
		t.Errorf("after the halt: %v", kv)
	}
	if _, err := operate(list(`["c"]`), false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Release(t.Context(), publish.Order{N: 3, To: rings.All, By: "tester"}); err != nil {
		t.Fatal(err)
	}
	if kv := w.kv(); kv[zone.PrefixOperator+"list"] != `["c"]` || kv[rings.Key(3)] != "" {
		t.Errorf("after the release: %v", kv)
	}
	if _, err := operate([]feed.Change{{Op: feed.Set, Key: zone.SettingsKey(w.zone), Value: []byte(`{}`)}}, true); err == nil {
		t.Error("a customer's key is taken for the operator's")
	}
}
