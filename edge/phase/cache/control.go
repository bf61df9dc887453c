package cache

import (
	"bytes"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// directives are what Cache-Control lines say (RFC 9111 §5.2, RFC 5861).
type directives struct {
	noStore, noCache, private, public           bool
	mustRevalidate, proxyRevalidate             bool
	mustUnderstand, onlyIfCached                bool
	maxAge, sMaxAge, staleRevalidate, staleFail seconds
}

// seconds is a directive's delta-seconds.
type seconds struct {
	n     int64 // 0..maxSeconds
	given bool
	wrong bool // not a number, or given twice with different values
}

// maxSeconds is what a larger number counts as (RFC 9111 §1.2.2).
const maxSeconds = 1 << 31

// readDirectives reads all lines of one field: Cache-Control or its targeted
// form. Unknown directives are passed over.
func readDirectives(f *msg.Fields, id msg.ID) (d directives) {
	if !f.Has(id) {
		return d
	}
	for i := range f.Len() {
		if l := f.At(i); l.ID == id {
			for t, rest := msg.NextToken(l.Value); t != nil; t, rest = msg.NextToken(rest) {
				d.add(t)
			}
		}
	}
	return d
}

func (d *directives) add(t []byte) {
	name, value, valued := bytes.Cut(t, []byte{'='})
	name = bytes.TrimRight(name, " \t")
	for _, flag := range [...]struct {
		name string
		to   *bool
	}{
		{"no-store", &d.noStore}, {"no-cache", &d.noCache}, {"private", &d.private},
		{"public", &d.public}, {"must-revalidate", &d.mustRevalidate},
		{"proxy-revalidate", &d.proxyRevalidate}, {"must-understand", &d.mustUnderstand},
		{"only-if-cached", &d.onlyIfCached},
	} {
		if msg.EqualFold(name, flag.name) {
			*flag.to = true
			return
		}
	}
	for _, number := range [...]struct {
		name string
		to   *seconds
	}{
		{"max-age", &d.maxAge}, {"s-maxage", &d.sMaxAge},
		{"stale-while-revalidate", &d.staleRevalidate}, {"stale-if-error", &d.staleFail},
	} {
		if msg.EqualFold(name, number.name) {
			number.to.add(value, valued)
			return
		}
	}
}

func (s *seconds) add(value []byte, valued bool) {
	value = bytes.Trim(value, " \t")
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	n, ok := readSeconds(value)
	if !valued || !ok || s.given && s.n != n {
		s.wrong = true
	}
	s.n, s.given = n, true
}

// duration is the value, zero where it is absent or wrong.
func (s seconds) duration() time.Duration {
	if s.wrong {
		return 0
	}
	return time.Duration(s.n) * time.Second
}

// readSeconds reads digits only; what is larger than maxSeconds is that.
func readSeconds(b []byte) (int64, bool) { return readDigits(b, maxSeconds) }

// readDigits reads digits only; what is larger than most is most, which is at
// most a tenth of what an int64 holds.
func readDigits(b []byte, most int64) (int64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int64(c-'0'), most)
	}
	return n, true
}
