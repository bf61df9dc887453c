package v4

import (
	"context"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

// Ours are the calls about one zone that Cloudflare's API has no word for, by
// method and path below /selvage/v1; package selvage serves them.
func (s *Server) Ours() map[string]api.Handler {
	return map[string]api.Handler{
		"POST /zones/{zone}/purge":               s.purgeOurs,
		"GET /zones/{zone}/history":              s.getHistory,
		"POST /zones/{zone}/rollback":            s.rollbackZone,
		"GET /zones/{zone}/topology":             s.getTopology,
		"PUT /zones/{zone}/topology":             s.putTopology,
		"GET /zones/{zone}/settings/{setting}":   s.getAnySetting,
		"PATCH /zones/{zone}/settings/{setting}": s.patchAnySetting,
		"GET /zones/{zone}/settings":             s.listAllSettings,
	}
}

// purgeOurs is purge_cache that may be soft, or clear the cache reserve.
func (s *Server) purgeOurs(ctx context.Context, c *api.Call) (api.Answer, error) {
	return s.purgeWith(ctx, c, true)
}

func anySetting(c *api.Call) (*zone.Setting, error) {
	name := c.PathValue("setting")
	if d := zone.FindSetting(name); d != nil {
		return d, nil
	}
	return nil, api.Missing(api.CodeNoSetting, "%s: no setting has this name", limit(name, 80))
}

func (s *Server) getAnySetting(ctx context.Context, c *api.Call) (api.Answer, error) {
	d, err := anySetting(c)
	if err != nil {
		return api.Answer{}, err
	}
	return s.showSetting(ctx, c, d)
}

func (s *Server) patchAnySetting(ctx context.Context, c *api.Call) (api.Answer, error) {
	d, err := anySetting(c)
	if err != nil {
		return api.Answer{}, err
	}
	return s.changeSetting(ctx, c, d)
}

func (s *Server) listAllSettings(ctx context.Context, c *api.Call) (api.Answer, error) {
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	all := make([]settingResult, len(zone.SettingTable))
	for i := range all {
		all[i] = newSettingResult(&zone.SettingTable[i], z)
	}
	return api.Answer{Result: all}, nil
}

func (s *Server) getTopology(ctx context.Context, c *api.Call) (api.Answer, error) {
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Result: z.Spec().Settings.Topology()}, nil
}

// putTopology sets the four settings that a topology is made of at once.
func (s *Server) putTopology(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in zone.Topology
	if err := api.DecodeAll(c, &in); err != nil {
		return api.Answer{}, err
	}
	if err := in.Check(); err != nil {
		return api.Answer{}, &api.Problem{Status: 400, Code: api.CodeSetting, Message: err.Error()}
	}
	var after *store.Zone
	seq, err := s.edit(ctx, c, api.CodeSetting, "topology.put", "", func(z *store.Zone) error {
		after = z
		for name, value := range in.Settings() {
			if err := set(z, zone.FindSetting(name), value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Result: after.Spec().Settings.Topology(), Seq: seq}, nil
}
