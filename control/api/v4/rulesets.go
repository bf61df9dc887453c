package v4

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

// phases are the rulesets that the edges run.
var phases = map[string]bool{"http_request_origin": true, "http_request_cache_settings": true}

func phaseOf(c *api.Call) (string, error) {
	phase := c.PathValue("phase")
	if !phases[phase] {
		return "", api.Missing(api.CodeNoRuleset, "phase: %q is not served; http_request_cache_settings and http_request_origin are", limit(phase, 80))
	}
	return phase, nil
}

// entrypoint is what a ruleset's text is read for; the text itself is kept.
type entrypoint struct {
	Name        *string         `json:"name"`
	Description *string         `json:"description"`
	Kind        *string         `json:"kind"`
	Phase       *string         `json:"phase"`
	Rules       json.RawMessage `json:"rules"`
}

func (s *Server) getEntrypoint(ctx context.Context, c *api.Call) (api.Answer, error) {
	phase, err := phaseOf(c)
	if err != nil {
		return api.Answer{}, err
	}
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	r := z.Ruleset(phase)
	if r == nil {
		return api.Answer{}, api.Missing(api.CodeNoRuleset, "could not find entrypoint ruleset in the %s phase", phase)
	}
	text, err := renderRuleset(r)
	return api.Answer{Result: text}, err
}

func (s *Server) putEntrypoint(ctx context.Context, c *api.Call) (api.Answer, error) {
	phase, err := phaseOf(c)
	if err != nil {
		return api.Answer{}, err
	}
	if dry := c.URL.Query().Get("dry_run"); dry != "" && dry != "false" {
		return api.Answer{}, api.Invalid(api.CodeBadRequest, "dry_run", "is not supported")
	}
	body, err := api.Read(c)
	if err != nil {
		return api.Answer{}, err
	}
	if err := checkEntrypoint(body, phase); err != nil {
		return api.Answer{}, err
	}
	var stored store.Ruleset
	seq, err := s.edit(ctx, c, api.CodeRuleset, "ruleset.put", "", func(z *store.Zone) error {
		stored = store.Ruleset{ID: newID(), Phase: phase, Version: 1, Body: body, Changed: store.Now()}
		if old := z.Ruleset(phase); old != nil && bytes.Equal(old.Body, body) {
			stored = *old // an identical write changes nothing
			return nil
		} else if old != nil {
			stored.ID, stored.Version = old.ID, old.Version+1
			*old = stored
			return nil
		}
		z.Rulesets = append(z.Rulesets, stored)
		return nil
	})
	if p, ok := errors.AsType[*api.Problem](err); ok {
		// The edges' compile says which ruleset; here there is only one.
		return api.Answer{}, &api.Problem{Status: p.Status, Code: p.Code, Message: strings.TrimPrefix(p.Message, "rulesets: "+phase+": ")}
	}
	if err != nil {
		return api.Answer{}, err
	}
	text, err := renderRuleset(&stored)
	return api.Answer{Result: text, Seq: seq}, err
}

// checkEntrypoint judges the shape; what the rules mean is the edges' compile's
// to judge.
func checkEntrypoint(body []byte, phase string) error {
	if len(body) > zone.MaxRulesetBytes {
		return api.Invalid(api.CodeRuleset, "rules", "at most %d bytes are allowed", zone.MaxRulesetBytes)
	}
	var in entrypoint
	if err := api.Unmarshal(body, &in); err != nil {
		return err
	}
	var rules []json.RawMessage
	if in.Rules == nil || json.Unmarshal(in.Rules, &rules) != nil || rules == nil {
		return api.Invalid(api.CodeRuleset, "rules", "must be a list of rules")
	}
	if in.Kind != nil && *in.Kind != "zone" {
		return api.Invalid(api.CodeRuleset, "kind", "must be zone, got %q", limit(*in.Kind, 80))
	}
	if in.Phase != nil && *in.Phase != phase {
		return api.Invalid(api.CodeRuleset, "phase", "must be %s as in the path, got %q", phase, limit(*in.Phase, 80))
	}
	return nil
}

// renderRuleset composes the answer around the rules as they were sent: their
// bytes are spliced in, never decoded and encoded again. Name and description
// are spliced too.
func renderRuleset(r *store.Ruleset) (api.Verbatim, error) {
	var sent struct {
		Name        json.RawMessage `json:"name"`
		Description json.RawMessage `json:"description"`
		Rules       json.RawMessage `json:"rules"`
	}
	if err := json.Unmarshal(r.Body, &sent); err != nil {
		return nil, err
	}
	if sent.Name == nil {
		sent.Name = json.RawMessage(`"default"`)
	}
	if sent.Description == nil {
		sent.Description = json.RawMessage(`""`)
	}
	b := []byte(`{"id":"` + r.ID + `","name":`)
	b = append(b, sent.Name...)
	b = append(b, `,"description":`...)
	b = append(b, sent.Description...)
	b = append(b, `,"kind":"zone","version":"`+strconv.FormatInt(r.Version, 10)+`","rules":`...)
	b = append(b, sent.Rules...)
	b = append(b, `,"last_updated":"`+stamp(r.Changed)+`","phase":"`+r.Phase+`"}`...)
	return b, nil
}
