package cache

import (
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// Bounds of heuristic freshness (RFC 9111 §4.2.2).
const (
	heuristicShare = 10 // one tenth of the time since Last-Modified
	heuristicMax   = 24 * time.Hour
)

// judgement is what an answer's head says about storing it.
type judgement struct {
	store bool
	// status is what is said when it is not stored: BYPASS or DYNAMIC.
	status request.CacheStatus

	lifetime time.Duration // fresh until this age
	age      time.Duration // when it was received
	revalid  time.Duration // stale-while-revalidate
	fail     time.Duration // stale-if-error
	strict   bool          // never stale, not even within the two windows
	shared   bool          // s-maxage: not stale beyond them
	vary     []varyField   // values are the request's
	modified time.Time     // Last-Modified, else Date; what If-Modified-Since meets
	etag     []byte        // as sent; borrowed from the answer
	validate bool          // has an ETag or a Last-Modified
}

// judge decides whether the answer out to the request in may be stored by a
// shared cache (RFC 9111 §3), and for how long it is fresh (§4.2), as far as
// the zone's rules leave that to the origin. asked and got are when the request
// left and when the head was here.
func judge(p *policy, in *msg.Fields, out *msg.Response, asked, got time.Time) judgement {
	f := &out.Fields
	d, targeted := readTargeted(f)
	if !targeted {
		d = readDirectives(f, msg.CacheControl)
	}
	d = p.directives(d, f, out.Status)
	j := judgement{status: request.CacheBypass}
	if d.noStore && !(d.mustUnderstand && understood(out.Status)) {
		return j
	}
	if d.mustUnderstand && !understood(out.Status) || d.private || f.Has(msg.SetCookie) {
		return j
	}
	if in.Has(msg.Authorization) && !d.public && !d.mustRevalidate && !d.sMaxAge.given {
		return j
	}
	// Parts and answers about other answers are not objects, nor is what was
	// said of one moment (425, RFC 8470 §5.2).
	if s := out.Status; s < 200 || s == 206 || s == 304 || s == 413 || s == 416 || s == 431 || s == 425 || out.Tunnel != nil {
		j.status = request.CacheDynamic
		return j
	}
	vary, ok := readVary(in, f)
	if !ok {
		return j
	}
	j.vary = byEncoding(vary, in, f)
	date, ok := readDate(f.Get(msg.Date), got)
	if !ok {
		date = got
	}
	j.readValidators(f, date, got)
	explicit := j.readLifetime(f, &d, targeted, date, got)
	j.age = initialAge(f, date, asked, got)
	j.strict = d.mustRevalidate || d.proxyRevalidate || d.noCache
	j.shared = d.sMaxAge.given
	if !j.strict {
		j.revalid, j.fail = d.staleRevalidate.duration(), d.staleFail.duration()
	}
	if d.noCache {
		j.lifetime = 0
	}
	j.decide(out.Status, explicit, d.public)
	return j
}

// decide settles store: the answer needs permission (explicit freshness,
// public, or a status that is heuristically cacheable) and must be of use.
func (j *judgement) decide(status int, explicit, public bool) {
	switch useful := j.lifetime > 0 || j.validate || j.revalid > 0 || j.fail > 0; {
	case !explicit && !public && !heuristic(status), !explicit && !useful:
		j.status = request.CacheDynamic
	case !useful:
		j.status = request.CacheBypass
	default:
		j.store, j.status = true, request.CacheMiss
	}
}

func (j *judgement) readValidators(f *msg.Fields, date, got time.Time) {
	j.etag = f.Get(msg.ETag)
	if !validTag(j.etag) {
		j.etag = nil
	}
	modified, ok := readDate(f.Get(msg.LastModified), got)
	if !ok {
		modified = date
	}
	j.modified, j.validate = modified, ok || j.etag != nil
}

// readLifetime is RFC 9111 §4.2.1; explicit says that the origin named it.
func (j *judgement) readLifetime(f *msg.Fields, d *directives, targeted bool, date, got time.Time) (explicit bool) {
	switch {
	case d.sMaxAge.given:
		j.lifetime = d.sMaxAge.duration()
	case d.maxAge.given:
		j.lifetime = d.maxAge.duration()
	case !targeted && f.Has(msg.Expires):
		expires, ok := readDate(f.Get(msg.Expires), got)
		if ok && f.Count(msg.Expires) == 1 {
			j.lifetime = max(0, expires.Sub(date))
		}
	default:
		if modified, ok := readDate(f.Get(msg.LastModified), got); ok && modified.Before(date) {
			j.lifetime = min(date.Sub(modified)/heuristicShare, heuristicMax)
		}
		return false
	}
	return true
}

// initialAge is corrected_initial_age of RFC 9111 §4.2.3.
func initialAge(f *msg.Fields, date, asked, got time.Time) time.Duration {
	apparent := max(0, got.Sub(date))
	var value time.Duration
	if t, _ := msg.NextToken(f.Get(msg.Age)); t != nil {
		if n, ok := readSeconds(t); ok {
			value = time.Duration(n) * time.Second
		}
	}
	// A Date has whole seconds; less than one is no age.
	if apparent < time.Second {
		apparent = 0
	}
	return max(apparent, value+got.Sub(asked))
}

// heuristic lists the codes that are cacheable without being told (RFC 9110
// §15.1), without 206, which is not stored here.
func heuristic(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// understood lists the codes whose caching rules are known here, for
// must-understand (RFC 9111 §5.2.2.3).
func understood(status int) bool {
	switch status {
	case 302, 303, 307, 400, 403, 451, 500, 502, 503, 504:
		return true
	}
	return heuristic(status)
}

// readTargeted reads CDN-Cache-Control (RFC 9213), a structured dictionary:
// names in lower case, numbers as bare integers. A field that is not one
// counts as absent, so that Cache-Control speaks.
func readTargeted(f *msg.Fields) (d directives, ok bool) {
	if !f.Has(msg.CDNCacheControl) {
		return d, false
	}
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.CDNCacheControl {
			continue
		}
		for t, rest := msg.NextToken(l.Value); t != nil; t, rest = msg.NextToken(rest) {
			if !isMember(t) {
				return directives{}, false
			}
			ok = true
		}
	}
	if !ok {
		return d, false
	}
	d = readDirectives(f, msg.CDNCacheControl)
	for _, s := range [...]*seconds{&d.maxAge, &d.sMaxAge, &d.staleRevalidate, &d.staleFail} {
		if s.wrong {
			return directives{}, false
		}
	}
	return d, true
}

// isMember accepts "key" and "key=digits", the members of a dictionary that
// mean something to a cache; others may have any token or string as value.
func isMember(t []byte) bool {
	if t[0] != '*' && (t[0] < 'a' || t[0] > 'z') {
		return false
	}
	for i, c := range t {
		switch {
		case c == '=':
			quoted := i+1 < len(t) && t[i+1] == '"'
			return i+1 < len(t) && !(quoted && isNumeric(t[:i]))
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-', c == '.', c == '*':
		default:
			return false
		}
	}
	return true
}

func isNumeric(name []byte) bool {
	switch string(name) {
	case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
		return true
	}
	return false
}
