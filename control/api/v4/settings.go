package v4

import (
	"context"
	"encoding/json"
	"time"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

// developmentTime is how long development mode lasts by itself.
const developmentTime = 3 * time.Hour

type settingResult struct {
	ID            string          `json:"id"`
	Value         json.RawMessage `json:"value"`
	Editable      bool            `json:"editable"`
	ModifiedOn    *string         `json:"modified_on"`
	TimeRemaining *int64          `json:"time_remaining,omitempty"`
}

func newSettingResult(d *zone.Setting, z *store.Zone) settingResult {
	r := settingResult{ID: d.Name, Value: z.Defaults.Value(d.Name), Editable: true}
	if set, ok := z.Settings[d.Name]; ok {
		r.Value = set.Value
		r.ModifiedOn = new(stamp(set.Changed))
	}
	if d.Name == "development_mode" {
		r.TimeRemaining = new(developmentLeft(z.Settings, time.Now()))
	}
	return r
}

func findSetting(name string) (*zone.Setting, error) {
	d := zone.FindSetting(name)
	if d == nil || d.Path != "" {
		return nil, api.Missing(api.CodeNoSetting, "%s: no setting has this name", limit(name, 80))
	}
	return d, nil
}

func (s *Server) listSettings(ctx context.Context, c *api.Call) (api.Answer, error) {
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	all := make([]settingResult, 0, len(zone.SettingTable))
	for i := range zone.SettingTable {
		if d := &zone.SettingTable[i]; d.Path == "" {
			all = append(all, newSettingResult(d, z))
		}
	}
	return api.Answer{Result: all}, nil
}

func (s *Server) getSetting(ctx context.Context, c *api.Call) (api.Answer, error) {
	d, err := findSetting(c.PathValue("setting"))
	if err != nil {
		return api.Answer{}, err
	}
	return s.showSetting(ctx, c, d)
}

func (s *Server) showSetting(ctx context.Context, c *api.Call, d *zone.Setting) (api.Answer, error) {
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Result: newSettingResult(d, z)}, nil
}

// set gives a zone a setting, or says what its value may be.
func set(z *store.Zone, d *zone.Setting, value json.RawMessage) error {
	if len(value) == 0 {
		return api.Invalid(api.CodeSetting, d.Name, "value is missing")
	}
	if err := d.Check(value); err != nil {
		return &api.Problem{Status: 400, Code: api.CodeSetting, Message: err.Error()}
	}
	if d.Name == reserveSetting && (zone.Settings{d.Name: value}).On(d.Name) {
		if run := clearingOf(z); run != nil && run.End == nil {
			return api.Invalid(api.CodeSetting, d.Name, "cannot be on while the cache reserve is being cleared")
		}
	}
	now := store.Now()
	if old, ok := z.Settings[d.Name]; ok && string(old.Value) == string(value) && (old.Expires.IsZero() || old.Expires.After(now)) {
		return nil // an identical write changes nothing, neither when it ends by itself
	}
	v := store.Setting{Value: value, Changed: now}
	if d.Name == "development_mode" && (zone.Settings{d.Name: value}).On(d.Name) {
		v.Expires = now.Add(developmentTime)
	}
	z.Settings[d.Name] = v
	return nil
}

func (s *Server) patchSetting(ctx context.Context, c *api.Call) (api.Answer, error) {
	d, err := findSetting(c.PathValue("setting"))
	if err != nil {
		return api.Answer{}, err
	}
	return s.changeSetting(ctx, c, d)
}

func (s *Server) changeSetting(ctx context.Context, c *api.Call, d *zone.Setting) (api.Answer, error) {
	var in struct {
		Value json.RawMessage `json:"value"`
	}
	if err := api.Decode(c, &in); err != nil {
		return api.Answer{}, err
	}
	if d.Name == reserveSetting {
		if _, _, err := s.settledClear(ctx, c); err != nil {
			return api.Answer{}, err
		}
	}
	var after *store.Zone
	seq, err := s.edit(ctx, c, api.CodeSetting, "setting.patch", "", func(z *store.Zone) error {
		after = z
		return set(z, d, in.Value)
	})
	if err != nil {
		return api.Answer{}, err
	}
	s.timer()
	return api.Answer{Result: newSettingResult(d, after), Seq: seq}, nil
}

func (s *Server) patchSettings(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in struct {
		Items []struct {
			ID    string          `json:"id"`
			Value json.RawMessage `json:"value"`
		} `json:"items"`
	}
	if err := api.Decode(c, &in); err != nil {
		return api.Answer{}, err
	}
	if len(in.Items) == 0 {
		return api.Answer{}, api.Invalid(api.CodeSetting, "items", "must name at least one setting")
	}
	var results []settingResult
	seq, err := s.edit(ctx, c, api.CodeSetting, "setting.patch", "", func(z *store.Zone) error {
		for _, item := range in.Items {
			d := zone.FindSetting(item.ID)
			if d == nil || d.Path != "" {
				return api.Invalid(api.CodeNoSetting, "items", "no setting is called %q", limit(item.ID, 80))
			}
			if err := set(z, d, item.Value); err != nil {
				return err
			}
			results = append(results, newSettingResult(d, z))
		}
		return nil
	})
	if err != nil {
		return api.Answer{}, err
	}
	s.timer()
	return api.Answer{Result: results, Seq: seq}, nil
}

func (s *Server) timer() {
	if s.Timer != nil {
		s.Timer()
	}
}
