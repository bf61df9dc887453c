package zone

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestTopologySurvivesItsSettings(t *testing.T) {
	for _, want := range []Topology{
		{Mode: TopologyFlat, Parents: []string{}},
		{Mode: TopologySmart, Regional: true, Parents: []string{}},
		{Mode: TopologyCustom, Parents: []string{"FRA", "AMS"}},
	} {
		if err := want.Check(); err != nil {
			t.Errorf("%+v: %v", want, err)
		}
		s := want.Settings()
		if err := s.Check(); err != nil {
			t.Errorf("%+v: %v", want, err)
		}
		if got := s.Topology(); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v came back as %+v", want, got)
		}
	}
	if got := (Settings{}).Topology(); got.Mode != TopologySmart || got.Regional {
		t.Errorf("by default %+v", got)
	}
	parents := Settings{"tiered_cache_parents": json.RawMessage(`["FRA"]`)}
	if got := parents.Topology(); got.Mode != TopologySmart {
		t.Errorf("smart is on: %+v", got)
	}
	parents["tiered_cache_smart_topology_enable"] = json.RawMessage(`"off"`)
	if got := parents.Topology(); got.Mode != TopologyCustom {
		t.Errorf("smart is off, a parent is named: %+v", got)
	}
	parents["tiered_caching"] = json.RawMessage(`"off"`)
	if got := parents.Topology(); got.Mode != TopologyFlat {
		t.Errorf("tiered caching is off: %+v", got)
	}
	delete(parents, "tiered_cache_smart_topology_enable")
	if got := parents.Topology(); got.Mode != TopologyFlat {
		t.Errorf("tiered caching is off, smart on: %+v", got)
	}
}

func TestTopologyRefusesNamingTheField(t *testing.T) {
	for field, bad := range map[string]Topology{
		"mode":       {Mode: "round"},
		"parents":    {Mode: TopologySmart, Parents: []string{"FRA"}},
		"parents[0]": {Mode: TopologyCustom, Parents: []string{"fra"}},
		"parents[1]": {Mode: TopologyCustom, Parents: []string{"FRA", "FRA"}},
	} {
		if err := bad.Check(); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := (&Topology{Mode: TopologyCustom}).Check(); err == nil {
		t.Error("a custom topology without parents is accepted")
	}
	for _, value := range []string{`null`, `"FRA"`, `["FR"]`, `[1]`, `{}`} {
		if err := (Settings{"tiered_cache_parents": json.RawMessage(value)}).Check(); err == nil {
			t.Errorf("tiered_cache_parents=%s is accepted", value)
		}
	}
}
