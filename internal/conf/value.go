package conf

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes that is written with a unit: 256MiB, 1GB, 4096.
type Size int64

var units = []struct {
	name  string
	bytes float64
}{ // longer names first, since "B" ends all of them
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// Set implements a flag's value.
func (s *Size) Set(text string) error {
	number, factor := text, 1.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			number, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(v) || v < 0 || v*factor > math.MaxInt64/2 {
		return fmt.Errorf("a size with its unit is needed, such as 256MiB, got %q", text)
	}
	*s = Size(v * factor)
	return nil
}

// String writes the size in the largest binary unit that leaves no fraction.
func (s Size) String() string {
	if s == 0 {
		return "0B"
	}
	unit, v := "B", int64(s)
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v%1024 != 0 {
			break
		}
		v /= 1024
		unit = u
	}
	return strconv.FormatInt(v, 10) + unit
}

// Type names the value in help texts.
func (s *Size) Type() string { return "SIZE" }

// Duration is a length of time with its unit: 30s, 1m30s, 250ms.
type Duration time.Duration

// Set implements a flag's value.
func (d *Duration) Set(text string) error {
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		return fmt.Errorf("a duration with its unit is needed, such as 30s, got %q", text)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) String() string { return time.Duration(d).String() }

// Type names the value in help texts.
func (d *Duration) Type() string { return "DURATION" }

// List is a list of values of one kind, separated by commas. Set adds to
// it, so a flag may repeat.
type List[T any] struct {
	Values []T
	parse  func(string) (T, error)
	kind   string
}

// NewAddrs returns an empty list of IP addresses.
func NewAddrs() *List[netip.Addr] {
	return &List[netip.Addr]{kind: "IP,...", parse: func(s string) (netip.Addr, error) {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return a, fmt.Errorf("an IP address is needed, got %q", s)
		}
		return a.Unmap(), nil
	}}
}

// NewPrefixes returns an empty list of networks in CIDR form.
func NewPrefixes() *List[netip.Prefix] {
	return &List[netip.Prefix]{kind: "CIDR,...", parse: func(s string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return p, fmt.Errorf("a network such as 10.0.0.0/8 is needed, got %q", s)
		}
		if p != p.Masked() {
			return p, fmt.Errorf("network %s has bits set beyond its prefix; %s is meant?", s, p.Masked())
		}
		return p, nil
	}}
}

// NewStrings returns an empty list of words.
func NewStrings(kind string) *List[string] {
	return &List[string]{kind: kind, parse: func(s string) (string, error) { return s, nil }}
}

// Set implements a flag's value.
func (l *List[T]) Set(text string) error {
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			return fmt.Errorf("an empty item in %q", text)
		}
		v, err := l.parse(item)
		if err != nil {
			return err
		}
		l.Values = append(l.Values, v)
	}
	return nil
}

func (l *List[T]) String() string {
	items := make([]string, len(l.Values))
	for i, v := range l.Values {
		items[i] = fmt.Sprint(v)
	}
	return strings.Join(items, ",")
}

// Type names the value in help texts.
func (l *List[T]) Type() string { return l.kind }
