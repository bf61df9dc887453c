// Package ruleset reads the bodies of entrypoint rulesets as the API takes
// them, for the phases that obey them. It promises that what nobody knows is
// refused, and that an error begins with the path of the field.
package ruleset

import (
	"encoding/json"
	"fmt"

	"github.com/selvage-edge/selvage/expr"
	"github.com/selvage-edge/selvage/internal/strictjson"
	"github.com/selvage-edge/selvage/zone"
)

// Kind is what the rulesets of a phase are like.
type Kind struct {
	Phase  string // its name in the API
	Action string // the one that its rules take
	Most   int    // how many rules it may have
}

// Rule is what requests that match get. Immutable.
type Rule[S any] struct {
	When *expr.Program
	Set  S
}

// Read reads {"rules":[{"expression","action","action_parameters","enabled",
// "description"}]}, of at most zone.MaxRulesetBytes; parameters reads
// action_parameters. Rules that are not enabled are read too, but left out.
func Read[S any](body json.RawMessage, k Kind, parameters func(d *strictjson.Reader, raw json.RawMessage, path string) S) ([]Rule[S], error) {
	if len(body) > zone.MaxRulesetBytes {
		return nil, fmt.Errorf("rules: at most %d bytes are allowed, got %d", zone.MaxRulesetBytes, len(body))
	}
	d := &strictjson.Reader{}
	var list []Rule[S]
	d.Object(body, "", func(name, path string, v json.RawMessage) {
		switch name {
		case "rules":
			d.Array(v, path, k.Most, func(path string, v json.RawMessage) {
				r, enabled := read(d, v, path, k.Action, parameters)
				if enabled {
					list = append(list, r)
				}
			})
		case "id", "name", "description", "kind", "version", "last_updated":
			d.Text(v, path)
		case "phase":
			exactly(d, v, path, k.Phase)
		default:
			d.Unknown(path)
		}
	})
	if d.Err != nil {
		return nil, d.Err
	}
	return list, nil
}

func exactly(d *strictjson.Reader, raw json.RawMessage, path, want string) {
	if got := d.Text(raw, path); d.Err == nil && got != want {
		d.Fail(path, "must be %q, got %q", want, got)
	}
}

func read[S any](d *strictjson.Reader, raw json.RawMessage, path, action string, parameters func(*strictjson.Reader, json.RawMessage, string) S) (r Rule[S], enabled bool) {
	var acts, set bool
	enabled = true
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "expression":
			r.When = compile(d, v, path)
		case "action":
			acts = true
			exactly(d, v, path, action)
		case "action_parameters":
			set = true
			r.Set = parameters(d, v, path)
		case "enabled":
			enabled = d.Bool(v, path)
		case "id", "ref", "version", "last_updated", "description":
			d.Text(v, path)
		case "logging", "categories", "exposed_credential_check", "position":
			d.Fail(path, "is not supported in this phase")
		default:
			d.Unknown(path)
		}
	})
	switch {
	case d.Err != nil:
	case r.When == nil:
		d.Fail(path+".expression", "is needed")
	case !acts:
		d.Fail(path+".action", "is needed")
	case !set:
		d.Fail(path+".action_parameters", "is needed")
	}
	return r, enabled
}

func compile(d *strictjson.Reader, raw json.RawMessage, path string) *expr.Program {
	text := d.Text(raw, path)
	if d.Err != nil {
		return nil
	}
	program, err := expr.Compile(text)
	if err != nil {
		d.Err = fmt.Errorf("%s: %w", path, err)
	}
	return program
}
