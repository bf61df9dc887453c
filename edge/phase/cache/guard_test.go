package cache

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
)

// hitRatio is that of a zone with a skewed choice of pages, while another asks
// for scans pages for each request of the first, each of them times in a row, and
// never again.
func hitRatio(t *testing.T, scans, times int) float64 {
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
			for range times {
				r := ask(t.Context(), fmt.Sprintf("GET /%d", scanned))
				r.ZoneID = "fedcba9876543210fedcba9876543210"
				g.do(r)
			}
			scanned++
		}
	}
	return float64(hits) / requests
}

// A zone that scans lowers another's hit ratio by at most two points. One that
// has five times the other's requests hit twice as often has a share of the small
// queue, and no more.
func TestScanningZoneLeavesOthersTheirHits(t *testing.T) {
	alone := hitRatio(t, 0, 0)
	for _, scan := range []struct {
		pages, times int
		most         float64
	}{{1, 1, .02}, {5, 1, .02}, {1, 2, .04}, {5, 3, .2}} {
		beside := hitRatio(t, scan.pages, scan.times)
		t.Logf("hit ratio %.3f alone, %.3f beside %d pages scanned per request, each %d times", alone, beside, scan.pages, scan.times)
		if alone-beside > scan.most {
			t.Errorf("hit ratio %.3f alone, %.3f beside %d pages scanned per request, each %d times; want at most %.2f less", alone, beside, scan.pages, scan.times, scan.most)
		}
	}
}
