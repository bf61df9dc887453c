package shelf

import "github.com/selvage-edge/selvage/zone"

// What the parts of a compiled zone have of memory, in bytes: seen of many alike
// by TestBytesAreWhatZonesHave.
const (
	zoneBytes        = 750
	hostBytes        = 125 // of a proxied name, beside the name
	certificateBytes = 3500
)

// frontBytes is about what a compiled zone has of memory, DNS apart.
func frontBytes(spec *zone.Spec) int64 {
	n := zoneBytes
	for i := range spec.Records {
		if r := &spec.Records[i]; r.Proxied && !spec.Paused {
			n += hostBytes + len(r.Name)
		}
	}
	for i := range spec.Certificates {
		n += certificateBytes + len(spec.Certificates[i].Chain)*3/4 // PEM is Base64
	}
	for i := range spec.Rulesets {
		n += len(spec.Rulesets[i].Body)
	}
	return int64(n)
}
