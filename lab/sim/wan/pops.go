package wan

import (
	_ "embed"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

//go:embed pops.csv
var list string

// Place is where a machine stands.
type Place struct {
	Colo     string // three capital letters
	Lat, Lon float64
}

// Places reads the list of data centers, in the order of their codes.
func Places() ([]Place, error) {
	var all []Place
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, ",")
		if len(f) != 3 {
			return nil, fmt.Errorf("list of places: %q: want code, latitude, longitude", line)
		}
		lat, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			return nil, fmt.Errorf("list of places: %w", err)
		}
		lon, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return nil, fmt.Errorf("list of places: %w", err)
		}
		all = append(all, Place{f[0], lat, lon})
	}
	return all, nil
}

const (
	earthKm = 6371
	// kmPerMs is how far light gets in glass in a millisecond.
	kmPerMs = 200
	// detour is how much longer a cable is than the great circle.
	detour = 1.6
	// local is what machines of one place need, and what routers add.
	local = 500 * time.Microsecond
)

// Km is the distance of two places along the great circle.
func Km(a, b Place) float64 {
	rad := func(deg float64) float64 { return deg * math.Pi / 180 }
	lat, lon := rad(b.Lat-a.Lat)/2, rad(b.Lon-a.Lon)/2
	h := math.Pow(math.Sin(lat), 2) + math.Cos(rad(a.Lat))*math.Cos(rad(b.Lat))*math.Pow(math.Sin(lon), 2)
	return 2 * earthKm * math.Asin(math.Min(1, math.Sqrt(h)))
}

// Delay is how long a byte takes from one place to another.
func Delay(a, b Place) time.Duration {
	return local + time.Duration(Km(a, b)*detour/kmPerMs*float64(time.Millisecond))
}
