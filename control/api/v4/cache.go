package v4

import (
	"context"
	"encoding/json"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

// The settings of the cache that the API has at paths of their own.

func (s *Server) getCacheSetting(name string) api.Handler {
	d := zone.FindSetting(name)
	return func(ctx context.Context, c *api.Call) (api.Answer, error) { return s.showSetting(ctx, c, d) }
}

func (s *Server) patchCacheSetting(name string) api.Handler {
	d := zone.FindSetting(name)
	return func(ctx context.Context, c *api.Call) (api.Answer, error) { return s.changeSetting(ctx, c, d) }
}

// deleteCacheSetting gives a setting its default back.
func (s *Server) deleteCacheSetting(name string) api.Handler {
	return func(ctx context.Context, c *api.Call) (api.Answer, error) {
		seq, err := s.edit(ctx, c, api.CodeSetting, "setting.delete", "", func(z *store.Zone) error {
			delete(z.Settings, name)
			return nil
		})
		return api.Answer{Result: struct {
			ID         string  `json:"id"`
			Editable   bool    `json:"editable"`
			ModifiedOn *string `json:"modified_on"`
		}{name, true, nil}, Seq: seq}, err
	}
}

// unset is the answer about a setting that has no value until it is given one.
// Clients look for the words.
func unset(name string) error {
	return api.Missing(api.CodeUnset, "%s: the zone setting does not exist", name)
}

// getVariants shows the variants of images. Without a rule for any extension
// there is none, and that is an error: so it is in Cloudflare's API.
func (s *Server) getVariants(ctx context.Context, c *api.Call) (api.Answer, error) {
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	if _, ok := z.Settings["variants"]; !ok {
		return api.Answer{}, unset("variants")
	}
	return api.Answer{Result: newSettingResult(zone.FindSetting("variants"), z)}, nil
}

func (s *Server) deleteVariants(ctx context.Context, c *api.Call) (api.Answer, error) {
	if _, err := s.getVariants(ctx, c); err != nil {
		return api.Answer{}, err
	}
	return s.deleteCacheSetting("variants")(ctx, c)
}

// normalization is url_normalization: two settings in one value.
type normalization struct {
	Type  string `json:"type"`
	Scope string `json:"scope"`
}

const (
	normalizeType  = "url_normalization_type"
	normalizeScope = "url_normalization_scope"
)

func normalizationOf(z *store.Zone) normalization {
	values := z.Spec().Settings
	return normalization{Type: values.Text(normalizeType), Scope: values.Text(normalizeScope)}
}

func (s *Server) getNormalization(ctx context.Context, c *api.Call) (api.Answer, error) {
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Result: normalizationOf(z)}, nil
}

func (s *Server) putNormalization(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in struct {
		Type  json.RawMessage `json:"type"`
		Scope json.RawMessage `json:"scope"`
	}
	if err := api.Decode(c, &in); err != nil {
		return api.Answer{}, err
	}
	var after *store.Zone
	seq, err := s.edit(ctx, c, api.CodeSetting, "setting.patch", "", func(z *store.Zone) error {
		after = z
		if err := set(z, zone.FindSetting(normalizeType), in.Type); err != nil {
			return err
		}
		return set(z, zone.FindSetting(normalizeScope), in.Scope)
	})
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Result: normalizationOf(after), Seq: seq}, nil
}

func (s *Server) deleteNormalization(ctx context.Context, c *api.Call) (api.Answer, error) {
	seq, err := s.edit(ctx, c, api.CodeSetting, "setting.delete", "", func(z *store.Zone) error {
		delete(z.Settings, normalizeType)
		delete(z.Settings, normalizeScope)
		return nil
	})
	return api.Answer{Seq: seq}, err
}
