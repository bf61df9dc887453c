package errors

import (
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/fault"
)

func TestGRPCIsToldInAHeadAlone(t *testing.T) {
	r := ask("POST", "")
	New().RenderGRPC(r, 14, 521, broken(fault.Origin, fault.Refused))
	var got []string
	for _, l := range r.Out.Fields.All() {
		got = append(got, string(l.Name)+": "+string(l.Value))
	}
	want := "Content-Type: application/grpc\nGrpc-Status: 14\nGrpc-Message: The origin refuses connections (error 521, ray 0123456789abcdef)"
	if r.Out.Status != 200 || !strings.EqualFold(strings.Join(got, "\n"), want) {
		t.Errorf("%d\n%s", r.Out.Status, strings.Join(got, "\n"))
	}
	if r.Out.Bytes != nil || r.Out.Body != nil || r.Out.Length != 0 || r.Out.Trailer != nil {
		t.Errorf("something follows the head: %+v", r.Out)
	}
}

// What stands in Grpc-Message as it is must not need percent-encoding.
func TestTitlesArePlain(t *testing.T) {
	check := func(title string) {
		for _, c := range []byte(title) {
			if c < ' ' || c > '~' || c == '%' {
				t.Errorf("%q has the byte %q", title, c)
			}
		}
	}
	for _, p := range pages {
		check(p.title)
	}
	for _, kinds := range special {
		for _, p := range kinds {
			check(p.title)
		}
	}
}
