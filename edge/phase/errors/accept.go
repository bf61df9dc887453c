package errors

import (
	"bytes"

	"github.com/selvage-edge/selvage/wire/msg"
)

// form is a representation of an error.
type form uint8

const (
	html form = iota
	jsonForm
	text
	forms
)

var types = [forms]struct{ kind, sub, full string }{
	html:     {"text", "html", "text/html; charset=utf-8"},
	jsonForm: {"application", "json", "application/json"},
	text:     {"text", "plain", "text/plain; charset=utf-8"},
}

// maxRanges bounds how much of Accept is read.
const maxRanges = 32

// choose picks the form that Accept prefers (RFC 9110 §12.5.1): the highest
// weight, where the most specific range that fits decides; html where forms
// weigh the same or none is acceptable: an error is shown all the same.
func choose(f *msg.Fields) form {
	if !f.Has(msg.Accept) {
		return html
	}
	var weight, detail [forms]int
	read := 0
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.Accept {
			continue
		}
		for t, rest := msg.NextToken(l.Value); t != nil && read < maxRanges; t, rest = msg.NextToken(rest) {
			read++
			media, parameters, _ := bytes.Cut(t, []byte{';'})
			q := quality(parameters)
			for at := range forms {
				if d := fits(bytes.TrimSpace(media), at); d > detail[at] {
					weight[at], detail[at] = q, d
				}
			}
		}
	}
	best := html
	for at := html + 1; at < forms; at++ {
		if weight[at] > weight[best] || weight[at] == weight[best] && weight[at] > 0 && detail[at] > detail[best] {
			best = at
		}
	}
	return best
}

// fits says how closely a media range names a form: 0 not at all, 1 */*,
// 2 type/*, 3 type/subtype.
func fits(media []byte, at form) int {
	kind, sub, ok := bytes.Cut(media, []byte{'/'})
	switch t := types[at]; {
	case !ok:
		return 0
	case string(kind) == "*" && string(sub) == "*":
		return 1
	case !msg.EqualFold(kind, t.kind):
		return 0
	case string(sub) == "*":
		return 2
	case msg.EqualFold(sub, t.sub):
		return 3
	}
	return 0
}

// quality reads the q parameter in thousandths; 1000 where there is none or
// it cannot be read.
func quality(parameters []byte) int {
	for len(parameters) > 0 {
		var p []byte
		p, parameters, _ = bytes.Cut(parameters, []byte{';'})
		name, value, _ := bytes.Cut(bytes.TrimSpace(p), []byte{'='})
		if !msg.EqualFold(name, "q") {
			continue
		}
		return thousandths(value)
	}
	return 1000
}

// thousandths reads a qvalue (RFC 9110 §12.4.2): 0, 0.123, 1 or 1.000.
func thousandths(p []byte) int {
	if len(p) == 0 || len(p) > 5 || p[0] != '0' && p[0] != '1' || len(p) > 1 && p[1] != '.' {
		return 1000
	}
	q := int(p[0]-'0') * 1000
	unit := 100
	for _, c := range p[min(2, len(p)):] {
		if c < '0' || c > '9' {
			return 1000
		}
		q += int(c-'0') * unit
		unit /= 10
	}
	return min(q, 1000)
}
