package clock

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		rate, bytes int           // bytes come
		each        time.Duration // each time after so long
		until       time.Duration // when the time is over; 0 = never
	}{
		"at the rate":             {100, 1000, 10 * time.Second, 0},
		"above it, in large bits": {100, 1 << 30, 29 * time.Second, 0},
		"below it":                {100, 500, 10 * time.Second, 55 * time.Second},
		"a byte now and then":     {100, 1, 29 * time.Second, 30*time.Second + 10*time.Millisecond},
		"nothing":                 {100, 0, time.Second, 30 * time.Second},
		"no rate":                 {0, 1, 29 * time.Second, 0},
		"no rate, nothing":        {0, 0, time.Second, 30 * time.Second},
		"a high rate":             {1 << 20, 1 << 20, time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := Pace{Most: 30 * time.Second, Rate: c.rate}
			for at := time.Duration(0); at < time.Hour; at += c.each {
				left := p.Left()
				if left > p.Most {
					t.Fatalf("%v are left of %v", left, p.Most)
				}
				if left < c.each {
					if got := at + left; got != c.until {
						t.Errorf("over after %v, want %v", got, c.until)
					}
					return
				}
				p.Moved(c.each, c.bytes)
			}
			if c.until != 0 {
				t.Errorf("never over, want after %v", c.until)
			}
		})
	}
}
