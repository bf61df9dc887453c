// Package settings reads and prints values of settings, and has the commands about
// the operator's defaults. It promises that what is printed can be typed, and that
// of two people who change the defaults at once neither's change is lost.
package settings

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/selvage-edge/selvage/zone"
)

// Text is a value as "settings set" takes it.
func Text(value json.RawMessage) string {
	var text string
	var list []string
	switch {
	case json.Unmarshal(value, &text) == nil:
		return text
	case json.Unmarshal(value, &list) == nil:
		return strings.Join(list, ",")
	}
	return string(value)
}

// Value reads a value as the setting has it.
func Value(name, typed string) (any, error) {
	d := zone.FindSetting(name)
	if d == nil {
		return nil, fmt.Errorf("no setting is called %q; \"selvage settings list ZONE\" shows those that are", name)
	}
	var value any = typed
	switch {
	case d.List != nil:
		value = []string{}
		if typed != "" {
			value = strings.Split(typed, ",")
		}
	case d.Object != nil:
		if err := d.Check(json.RawMessage(typed)); err != nil {
			return nil, err
		}
		value = json.RawMessage(typed)
	case d.Values == nil:
		n, err := strconv.Atoi(typed)
		if err != nil {
			return nil, fmt.Errorf("%s is a whole number of %s from %d to %d, not %q", name, d.Unit, d.Min, d.Max, typed)
		}
		value = n
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return value, d.Check(text)
}
