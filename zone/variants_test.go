package zone

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestVariantsAreRefusedNamingThePlace(t *testing.T) {
	d := FindSetting("variants")
	for value, place := range map[string]string{
		`null`: "value", `[]`: "value", `"on"`: "value", `{"jpg":"image/webp"}`: "value", ``: "value",
		`{"svg":["image/webp"]}`:                           "value.svg",
		`{"JPG":["image/webp"]}`:                           "value.JPG",
		`{"jpg":["image/webp","text/html"]}`:               "value.jpg[1]",
		`{"jpg":["image/webp","image/webp"]}`:              "value.jpg[1]",
		`{"jpg":["` + strings.Repeat("x", 1<<16) + `"]}`:   "value.jpg[0]",
		`{"` + strings.Repeat("x", 1<<16) + `":["image"]}`: "value.xxx",
	} {
		err := d.Check(json.RawMessage(value))
		if err == nil || !strings.HasPrefix(err.Error(), "variants: "+place) || len(err.Error()) > 300 {
			t.Errorf("%.60s: %.400v, want it to begin with %s", value, err, place)
		}
	}
	s := Settings{"variants": json.RawMessage(`{"avif":["image/webp","image/avif"],"jpg2":["image/jp2"],"tif":[]}`)}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if v := s.Variants(); len(v) != 3 || !slices.Equal(v["avif"], []string{"image/webp", "image/avif"}) {
		t.Errorf("read as %v", v)
	}
	if v := (Settings{}).Variants(); len(v) != 0 {
		t.Errorf("by default %v", v)
	}
}
