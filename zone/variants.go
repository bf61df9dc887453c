package zone

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Variants are the media types in which the origin has images, by the extension
// of their path, besides that of the extension itself. Which of them a visitor
// gets is chosen by its Accept (Cloudflare's Vary for images).
type Variants map[string][]string

// imageTypes are the extensions that can have variants, with their own types.
var imageTypes = map[string]string{
	"avif": "image/avif", "bmp": "image/bmp", "gif": "image/gif", "jp2": "image/jp2", "jpeg": "image/jpeg", "jpg": "image/jpeg",
	"jpg2": "image/jp2", "png": "image/png", "tif": "image/tiff", "tiff": "image/tiff", "webp": "image/webp",
}

// ImageType is the media type of an extension in lower case; "" = it can have no
// variants.
func ImageType(extension string) string { return imageTypes[extension] }

// Variants returns the setting; nil when there are none.
func (s Settings) Variants() Variants {
	v, err := readVariants(s.Value("variants"))
	if err != nil {
		return nil
	}
	return v
}

func readVariants(value json.RawMessage) (Variants, error) {
	var v Variants // null leaves it nil
	if err := json.Unmarshal(value, &v); err != nil || v == nil {
		return nil, fmt.Errorf(`value must be an object as {"jpg":["image/webp","image/avif"]}, got %.80s`, value)
	}
	types := slices.Compact(slices.Sorted(maps.Values(imageTypes)))
	for _, extension := range slices.Sorted(maps.Keys(v)) {
		if ImageType(extension) == "" {
			return nil, fmt.Errorf("value.%.20s: no such extension, there are %s", extension, strings.Join(slices.Sorted(maps.Keys(imageTypes)), ", "))
		}
		for i, t := range v[extension] {
			if !slices.Contains(types, t) {
				return nil, fmt.Errorf("value.%s[%d]: must be one of %s, got %.40q", extension, i, strings.Join(types, ", "), t)
			}
			if slices.Contains(v[extension][:i], t) {
				return nil, fmt.Errorf("value.%s[%d]: %s is there twice", extension, i, t)
			}
		}
	}
	return v, nil
}

func checkVariants(value json.RawMessage) error {
	_, err := readVariants(value)
	return err
}
