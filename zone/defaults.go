package zone

import (
	"encoding/json"
	"fmt"
	"maps"
)

// DecodeDefaults reads and checks the value of KeyDefaults. A name or a value that
// this program does not know is an error: no part of it is used.
func DecodeDefaults(value []byte) (Settings, error) {
	var s Settings
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return s, s.CheckDefaults()
}

// CheckDefaults is Check of what the operator gives for all zones. The error
// names the setting.
func (s Settings) CheckDefaults() error {
	if err := s.Check(); err != nil {
		return err
	}
	for name := range s {
		if FindSetting(name).Own {
			return fmt.Errorf("settings: %s: each zone sets it for itself, there is no default of the operator's", name)
		}
	}
	return nil
}

// Over returns what a zone has that set s itself: of all other names what
// defaults say. Neither is changed.
func (s Settings) Over(defaults Settings) Settings {
	if len(defaults) == 0 {
		return s
	}
	all := maps.Clone(defaults)
	maps.Copy(all, s)
	return all
}
