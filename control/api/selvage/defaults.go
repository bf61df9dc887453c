package selvage

import (
	"context"
	"encoding/json"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/zone"
)

// Defaults keeps what the operator gives for settings that zones have not set.
type Defaults interface {
	Defaults(ctx context.Context) (publish.Defaults, error)
	SetDefaults(ctx context.Context, a publish.Action, s zone.Settings, since *uint64) (uint64, error)
}

type defaultsResult struct {
	Seq      uint64        `json:"seq"` // of the entry that said so; 0: nothing is said
	Settings zone.Settings `json:"settings"`
	// Staged is what is on its way through the rings.
	Staged *stagedDefaults `json:"staged,omitempty"`
}

type stagedDefaults struct {
	Stage    uint64        `json:"stage"`
	Settings zone.Settings `json:"settings"`
}

func (s *Server) defaults(ctx context.Context) (defaultsResult, error) {
	d, err := s.Default.Defaults(ctx)
	out := defaultsResult{Seq: d.Seq, Settings: d.Settings}
	if d.Settings == nil {
		out.Settings = zone.Settings{}
	}
	if d.Stage > 0 {
		out.Staged = &stagedDefaults{d.Stage, d.Staged}
	}
	return out, err
}

func (s *Server) getDefaults(ctx context.Context, _ *api.Call) (api.Answer, error) {
	d, err := s.defaults(ctx)
	return api.Answer{Result: d}, err
}

// putDefaults replaces them all: {"settings": {NAME: VALUE, …}, "seq": N}, by rings
// unless the call says otherwise. seq, which may be left out, is of those that were
// read.
func (s *Server) putDefaults(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in struct {
		Settings zone.Settings `json:"settings"`
		Seq      *uint64       `json:"seq"`
		// Passed over: what was read may be sent back.
		Staged json.RawMessage `json:"staged"`
	}
	if err := api.DecodeAll(c, &in); err != nil {
		return api.Answer{}, err
	}
	if in.Settings == nil {
		return api.Answer{}, api.Invalid(api.CodeSetting, "settings", "is missing; {} is to say nothing")
	}
	seq, err := s.Default.SetDefaults(ctx, publish.Action{Actor: c.Token.ID, ByRings: c.ByRings}, in.Settings, in.Seq)
	if err != nil {
		return api.Answer{}, api.Judged(err, api.CodeSetting)
	}
	d, err := s.defaults(ctx)
	return api.Answer{Result: d, Seq: seq}, err
}
