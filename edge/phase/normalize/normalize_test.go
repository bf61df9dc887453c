package normalize

import (
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

func TestVisitorsCannotSpeakForTheEdge(t *testing.T) {
	kept := []string{"Host", "Accept", "CDN-Loop", "Via", "X-Requested-With", "Cf", "X-Forward", "X_Custom", "Real_IP"}
	gone := []string{
		"CF-Connecting-IP", "cf-ray", "Cf-Anything", "CF-IPCountry", "CF-Visitor", "X-Forwarded-For", "x-forwarded-proto",
		"X-FORWARDED-HOST", "X-Forwarded-Server", "Forwarded", "X-Real-IP", "True-Client-IP", "Selvage-Envelope",
		"CF_Connecting_IP", "X_Forwarded_For", "x-forwarded_proto", "X_REAL_IP", "True_Client-IP", "selvage_envelope",
	}
	in := &msg.Request{}
	for i := range gone {
		if i < len(kept) {
			in.Fields.Add([]byte(kept[i]), []byte("v"))
		}
		in.Fields.Add([]byte(gone[i]), []byte("spoofed"))
	}
	verdict, err := New().Run(&Plan{}, &request.Request{In: in})
	if verdict != request.Next || err != nil {
		t.Fatalf("verdict %v, error %v", verdict, err)
	}
	if in.Fields.Len() != len(kept) {
		t.Errorf("%d fields left, want %d", in.Fields.Len(), len(kept))
	}
	for i, name := range kept {
		if i < in.Fields.Len() && string(in.Fields.At(i).Name) != name {
			t.Errorf("field %d is %q, want %q: order must be kept", i, in.Fields.At(i).Name, name)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	in := &msg.Request{}
	for _, name := range []string{"Host", "User-Agent", "Accept", "Accept-Encoding", "Cookie", "X-Custom"} {
		in.Fields.Add([]byte(name), []byte("v"))
	}
	r, e := &request.Request{In: in}, New()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Run(nil, r); err != nil {
			b.Fatal(err)
		}
	}
}

// Whatever the names are, none that is reserved gets past the row, and no
// other is lost.
func FuzzRun(f *testing.F) {
	f.Add("cf-ray", "X-Forwarded-Whatever", "Accept")
	f.Add("CF-", "\xff\x00", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		in := &msg.Request{}
		want := 0
		for _, name := range []string{a, b, c} {
			in.Fields.Add([]byte(name), []byte("v"))
			if line := in.Fields.At(in.Fields.Len() - 1); !request.Reserved(line) {
				want++
			}
		}
		if _, err := New().Run(&Plan{}, &request.Request{In: in}); err != nil {
			t.Fatal(err)
		}
		if in.Fields.Len() != want {
			t.Errorf("%q, %q, %q: %d fields left, want %d", a, b, c, in.Fields.Len(), want)
		}
		for i := range in.Fields.Len() {
			if name := strings.ToLower(string(in.Fields.At(i).Name)); strings.HasPrefix(name, "cf-") || strings.HasPrefix(name, "x-forwarded-") {
				t.Errorf("%q got past the row", name)
			}
		}
	})
}
