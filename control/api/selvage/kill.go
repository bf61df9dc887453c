package selvage

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

// Kills keeps the kill switches.
type Kills interface {
	Kills(ctx context.Context) ([]store.Kill, error)
	SetKill(ctx context.Context, a publish.Action, name string, k zone.Killed) (zone.Killed, uint64, error)
	ClearKill(ctx context.Context, a publish.Action, name string) (uint64, error)
}

type killResult struct {
	Name string `json:"name"`
	zone.Killed
}

func (s *Server) kills(ctx context.Context) ([]killResult, error) {
	set, err := s.Kill.Kills(ctx)
	all := make([]killResult, len(set))
	for i, k := range set {
		all[i] = killResult{k.Name, k.Killed}
	}
	return all, err
}

func (s *Server) listKills(ctx context.Context, _ *api.Call) (api.Answer, error) {
	all, err := s.kills(ctx)
	return api.Answer{Result: all}, err
}

// killName reads the switch that the path names.
func killName(c *api.Call) (string, error) {
	name := c.PathValue("name")
	if id, ok := zone.KilledZone(name); ok {
		if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 || hex.EncodeToString(raw) != id {
			return "", api.Invalid(api.CodeIdentifier, "name", "after zone/ an identifier of 32 lower-case hex digits is needed, got %.64q", id)
		}
		return name, nil
	}
	if _, ok := zone.FindKill(name); !ok {
		return "", api.Missing(api.CodeNoKill, "name: no kill switch is called %.64q", name)
	}
	return name, nil
}

func (s *Server) getKill(ctx context.Context, c *api.Call) (api.Answer, error) {
	name, err := killName(c)
	if err != nil {
		return api.Answer{}, err
	}
	all, err := s.kills(ctx)
	for _, k := range all {
		if k.Name == name {
			return api.Answer{Result: k}, nil
		}
	}
	if err == nil {
		err = api.Missing(api.CodeNoKill, "name: the switch %s is not set", name)
	}
	return api.Answer{}, err
}

// setKill sets a switch: {"reason": TEXT, "ttl": SECONDS} or "expires": TIME.
func (s *Server) setKill(ctx context.Context, c *api.Call) (api.Answer, error) {
	name, err := killName(c)
	if err != nil {
		return api.Answer{}, err
	}
	var in struct {
		Reason  string     `json:"reason"`
		TTL     *int64     `json:"ttl"`
		Expires *time.Time `json:"expires"`
	}
	if err := api.DecodeAll(c, &in); err != nil {
		return api.Answer{}, err
	}
	k := zone.Killed{Reason: in.Reason, By: c.Token.ID, Expires: in.Expires}
	if err := k.Check(); err != nil {
		return api.Answer{}, &api.Problem{Status: 400, Code: api.CodeBadRequest, Message: err.Error()}
	}
	if in.TTL != nil {
		if in.Expires != nil || *in.TTL < 1 || *in.TTL > maxKillLife {
			return api.Answer{}, api.Invalid(api.CodeBadRequest, "ttl", "must be from 1 to %d seconds, without expires", maxKillLife)
		}
		k.Expires = new(store.Now().Add(time.Duration(*in.TTL) * time.Second))
	}
	if k.Expires != nil {
		k.Expires = new(k.Expires.UTC().Truncate(time.Microsecond))
		if !k.Expires.After(time.Now()) || k.Expires.After(time.Now().Add(maxKillLife*time.Second)) {
			return api.Answer{}, api.Invalid(api.CodeBadRequest, "expires", "must be in the next %d seconds, got %s", maxKillLife, k.Expires.Format(time.RFC3339))
		}
	}
	stored, seq, err := s.Kill.SetKill(ctx, publish.Action{Actor: c.Token.ID, Name: "kill.set"}, name, k)
	if err != nil {
		return api.Answer{}, err
	}
	s.Timer()
	return api.Answer{Result: killResult{name, stored}, Seq: seq}, nil
}

// maxKillLife is the longest that a switch may be set to clear itself after, in
// seconds: a year.
const maxKillLife = 365 * 24 * 3600

func (s *Server) clearKill(ctx context.Context, c *api.Call) (api.Answer, error) {
	name, err := killName(c)
	if err != nil {
		return api.Answer{}, err
	}
	seq, err := s.Kill.ClearKill(ctx, publish.Action{Actor: c.Token.ID, Name: "kill.clear"}, name)
	return api.Answer{Result: map[string]string{"name": name}, Seq: seq}, err
}
