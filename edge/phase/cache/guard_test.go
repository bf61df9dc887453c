package cache

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
)

// hitRatio is that of a zone with a skewed choice of pages, while another asks
// for scans pages that it never asks for again, for each request of the first.
func hitRatio(t *testing.T, scans int) float64 {
	g := newRig(t, Config{Bytes: 2 << 20, Shards: 2}, nil)
	g.serve = func(r *request.Request) error {
		return reply(r, 200, strings.Repeat("x", 2000+int(r.In.Path[len(r.In.Path)-1])*20), "Cache-Control: max-age=600")
	}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(5, 5)), 1.1, 4, 20_000)
	const warm, requests = 6_000, 8_000
	hits, scanned := 0, 0
	for i := range warm + requests {
		if a := g.run(fmt.Sprintf("GET /%d", zipf.Uint64())); a.cache == "HIT" && i >= warm {
			hits++
		}
		for range scans {
			r := ask(t.Context(), fmt.Sprintf("GET /%d", scanned))
			scanned++
			r.ZoneID = "fedcba9876543210fedcba9876543210"
			g.do(r)
		}
	}
	return float64(hits) / requests
}

// A zone that scans lowers another's hit ratio by at most two points.
func TestScanningZoneLeavesOthersTheirHits(t *testing.T) {
	alone := hitRatio(t, 0)
	for _, scans := range []int{1, 5} {
		beside := hitRatio(t, scans)
		t.Logf("hit ratio %.3f alone, %.3f beside %d scanned pages per request", alone, beside, scans)
		if alone-beside > 0.02 {
			t.Errorf("hit ratio %.3f alone, %.3f beside a zone that scans %d pages per request", alone, beside, scans)
		}
	}
}
