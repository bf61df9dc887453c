package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/selvage-edge/selvage/control/publish"
)

// RolloutHeader says how a change goes out: RolloutAll or RolloutRings.
const (
	RolloutHeader = "Selvage-Rollout"
	RolloutAll    = "all"
	RolloutRings  = "rings"
)

// note is a message of an answer, in the form that Cloudflare's clients read.
type note struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// codeStaged is the code of the message that a change goes by rings.
const codeStaged = 1200

func staged(r *publish.ByRings) note {
	first := "the next ring"
	if len(r.First) > 0 {
		first = strings.Join(r.First, ", ")
	}
	return note{codeStaged, fmt.Sprintf("the change goes by rings as stage %d, to %s first; GET /selvage/v1/rollouts/%[1]d tells how far it is", r.Stage, first)}
}

// rolloutOf reads how a change is to go out; nil: everywhere at once, which is
// the default of customers' changes; of the operator's it is by rings.
func rolloutOf(r *http.Request, byRings, byDefault bool) (*publish.ByRings, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil, nil
	}
	switch how := r.Header.Get(RolloutHeader); {
	case how == "" && byDefault:
		return &publish.ByRings{}, nil
	case how == "" || how == RolloutAll:
		return nil, nil
	case how != RolloutRings:
		return nil, Invalid(CodeBadRequest, RolloutHeader, "must be %s or %s, got %.40q", RolloutAll, RolloutRings, how)
	case !byRings:
		return nil, Invalid(CodeBadRequest, RolloutHeader, "this change cannot go by rings; settings, rulesets and DNS records of a zone that is there can, and defaults")
	}
	return &publish.ByRings{}, nil
}

// operates reports whether a call says something for all zones.
func operates(method, path string) bool { return method == http.MethodPut && path == "/defaults" }

// goesByRings reports whether the change of a call may go by rings: of parts of
// a zone that is there. The list names those that may, so that a new call cannot
// pass by what it was asked.
func goesByRings(method, path string) bool {
	if operates(method, path) {
		return true
	}
	part, ok := strings.CutPrefix(path, "/zones/{zone}")
	if !ok || method == http.MethodGet || part == "/cache/cache_reserve_clear" {
		return false
	}
	if part == "" {
		return method == http.MethodPatch
	}
	for _, may := range []string{"/dns_records", "/settings", "/rulesets/", "/cache/", "/argo/", "/url_normalization", "/topology"} {
		if strings.HasPrefix(part, may) {
			return true
		}
	}
	return false
}
