package cache

import (
	"bytes"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// readDate reads an HTTP-date in any of its three forms (RFC 9110 §5.6.7). The
// form is kept to the letter, apart from the case of names: a recipient that
// guesses at half-right dates keeps what others hold for stale. A two-digit year
// that lies over 50 years ahead of now is in the past.
func readDate(b []byte, now time.Time) (time.Time, bool) {
	d := dateText{rest: b}
	switch comma := bytes.IndexByte(b, ','); {
	case comma == 3: // IMF-fixdate: Sun, 06 Nov 1994 08:49:37 GMT
		d.name(shortDays[:])
		d.skip(", ")
		d.day = d.number(2)
		d.skip(" ")
		d.month = d.name(months[:])
		d.skip(" ")
		d.year = d.number(4)
		d.skip(" ")
		d.clock()
		d.skip(" GMT")
	case comma > 0: // RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
		d.name(longDays[:])
		d.skip(", ")
		d.day = d.number(2)
		d.skip("-")
		d.month = d.name(months[:])
		d.skip("-")
		d.year, d.short = now.Year()/100*100+d.number(2), true
		if d.year+100 <= now.Year()+50 {
			d.year += 100
		}
		d.skip(" ")
		d.clock()
		d.skip(" GMT")
	default: // asctime: Sun Nov  6 08:49:37 1994
		d.name(shortDays[:])
		d.skip(" ")
		d.month = d.name(months[:])
		d.skip(" ")
		if len(d.rest) > 0 && d.rest[0] == ' ' {
			d.skip(" ")
			d.day = d.number(1)
		} else {
			d.day = d.number(2)
		}
		d.skip(" ")
		d.clock()
		d.skip(" ")
		d.year = d.number(4)
	}
	return d.time(now)
}

var (
	shortDays = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	longDays  = [...]string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}
	months    = [...]string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
)

// dateText is a date being read; wrong, once set, stays.
type dateText struct {
	rest                                   []byte
	year, month, day, hour, minute, second int
	short                                  bool // the year has two digits
	wrong                                  bool
}

// skip reads a literal, whatever its case.
func (d *dateText) skip(text string) {
	if len(d.rest) < len(text) || !msg.EqualFold(d.rest[:len(text)], text) {
		d.wrong = true
		return
	}
	d.rest = d.rest[len(text):]
}

// number reads exactly n digits.
func (d *dateText) number(n int) int {
	if len(d.rest) < n {
		d.wrong = true
		return 0
	}
	v, ok := readDigits(d.rest[:n], 9999)
	d.wrong = d.wrong || !ok
	d.rest = d.rest[n:]
	return int(v)
}

// name reads one of the names and returns its place in the list.
func (d *dateText) name(names []string) int {
	for i, name := range names {
		if len(d.rest) >= len(name) && msg.EqualFold(d.rest[:len(name)], name) {
			d.rest = d.rest[len(name):]
			return i
		}
	}
	d.wrong = true
	return 0
}

func (d *dateText) clock() {
	d.hour = d.number(2)
	d.skip(":")
	d.minute = d.number(2)
	d.skip(":")
	d.second = d.number(2)
}

// time is the date, if all of it was read and each part exists. A leap second
// counts as the one before it.
func (d *dateText) time(now time.Time) (time.Time, bool) {
	if d.wrong || len(d.rest) > 0 || d.hour > 23 || d.minute > 59 || d.second > 60 {
		return time.Time{}, false
	}
	t := time.Date(d.year, time.Month(d.month+1), d.day, d.hour, d.minute, min(d.second, 59), 0, time.UTC)
	if t.Day() != d.day {
		return time.Time{}, false
	}
	if d.short && t.After(now.AddDate(50, 0, 0)) {
		t = t.AddDate(-100, 0, 0)
	}
	return t, true
}

// appendDate appends the preferred form of a date.
func appendDate(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 GMT")
}
