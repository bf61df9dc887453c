package cache

import (
	"encoding/json"
	"sync/atomic"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/edge/ruleset"
)

// RulesPhase is the ruleset that CompileRules reads.
const RulesPhase = "http_request_cache_settings"

// MaxRules is how many rules a ruleset of this phase may have.
const MaxRules = 300

// Rules is a compiled http_request_cache_settings ruleset: what its rules
// change of the policy of requests that match. Immutable.
type Rules struct {
	list []ruleset.Rule[[]func(*policy)]
}

// CompileRules reads the body of an http_request_cache_settings entrypoint
// ruleset as the API takes it, with rules of action set_cache_settings. What it
// does not know it refuses; an error begins with the path of the field. nil,
// nil: no rule is enabled.
func CompileRules(body json.RawMessage) (*Rules, error) {
	list, err := ruleset.Read(body, ruleset.Kind{Phase: RulesPhase, Action: "set_cache_settings", Most: MaxRules}, parameters)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &Rules{list}, nil
}

// ruled is a policy and the way to those that further rules make of it: the
// set of rules that match is found once, and afterwards costs a step for each.
type ruled struct {
	policy policy
	after  atomic.Pointer[[]step] // replaced, never changed
}

// step is what follows when the rule at this place matches too.
type step struct {
	rule int
	to   *ruled
}

// maxPolicies is how many combined policies a plan keeps. More sets of
// matching rules than that are combined anew for each request.
const maxPolicies = 1024

// decide applies all rules that match to from, in order: of several that set
// the same thing the last one wins.
func (rules *Rules) decide(r *request.Request, from *ruled, kept *atomic.Int32) *policy {
	at := from
	for i := range rules.list {
		if rules.list[i].When.Match(r) {
			at = at.next(i, rules.list[i].Set, kept)
		}
	}
	return &at.policy
}

func (s *ruled) next(rule int, set []func(*policy), kept *atomic.Int32) *ruled {
	known := s.after.Load()
	if known != nil {
		for _, st := range *known {
			if st.rule == rule {
				return st.to
			}
		}
	}
	made := &ruled{policy: s.policy}
	for _, change := range set {
		change(&made.policy)
	}
	if kept.Add(1) > maxPolicies {
		kept.Add(-1)
		return made
	}
	var more []step
	if known != nil {
		more = append(more, *known...)
	}
	more = append(more, step{rule, made})
	if !s.after.CompareAndSwap(known, &more) {
		kept.Add(-1) // another request added one meanwhile: the next one finds or adds it
	}
	return made
}

// Settings decides the policy of a request by the zone's cache rules, for Run
// to carry out.
func (e *Engine) Settings(p *Plan, r *request.Request) (request.Verdict, error) {
	if p != nil {
		p.prepare(r)
	}
	return request.Next, nil
}
