package cache

import (
	"bytes"
	"strconv"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// judge is the judgement of an answer to r under the zone's rules; in are the
// fields of the visitor who asked. Fields that a rule strips are gone from out
// afterwards.
func (p *policy) judge(r *request.Request, in *msg.Fields, out *msg.Response, asked, got time.Time) judgement {
	p.strip.apply(&out.Fields)
	j := judge(p, in, out, asked, got)
	if r.Held > 0 { // another edge knows better than whole seconds of Age and Date tell
		j.age = r.Held + got.Sub(asked)
	}
	if _, ours := p.ttlFor(&out.Fields, out.Status); ours {
		// Counted from now on, whatever age the answer came with; of another
		// edge's answer, from when that edge had it.
		if j.lifetime += j.age; r.Held > 0 {
			j.lifetime = r.Held + r.Left
		}
	}
	if j.store && p.armor && disguised(r.RulePath(), &out.Fields) {
		j.store, j.status = false, request.CacheBypass
	}
	if j.store && p.variants != nil && p.variants.broken(r.In.Path, in, out) {
		j.store, j.status = false, request.CacheBypass
	}
	return j
}

func (s *stripping) apply(f *msg.Fields) {
	if *s == (stripping{}) {
		return
	}
	f.DelFunc(func(l *msg.Field) bool {
		return s.etag && l.ID == msg.ETag || s.lastModified && l.ID == msg.LastModified || s.setCookie && l.ID == msg.SetCookie
	})
}

// ttlFor is the TTL that rules give to an answer; false where the origin's
// own freshness counts.
func (p *policy) ttlFor(f *msg.Fields, status int) (time.Duration, bool) {
	if ttl, ok := p.edge.of(status); ok {
		return ttl, true
	}
	if !p.ruled || f.Has(msg.CacheControl) || f.Has(msg.CDNCacheControl) || f.Has(msg.Expires) || p.edge.mode == ttlBypass {
		return 0, false
	}
	ttl := defaultTTL(status)
	return ttl, ttl > 0
}

// directives are what an answer says about caching with what the rules say in
// its place.
func (p *policy) directives(d directives, f *msg.Fields, status int) directives {
	if ttl, ok := p.ttlFor(f, status); ok {
		d = directives{staleRevalidate: d.staleRevalidate, staleFail: d.staleFail}
		switch {
		case ttl < 0:
			d.noStore = true
		case ttl == 0:
			d.noCache = true
		default:
			d.maxAge = seconds{n: int64(ttl / time.Second), given: true}
		}
		return d
	}
	if p.edge.mode == ttlBypass && !f.Has(msg.CacheControl) && !f.Has(msg.CDNCacheControl) && !f.Has(msg.Expires) {
		d.noStore = true
	}
	if p.lax {
		d.relax()
	}
	return d
}

// relax is what Cloudflare documents for origin_cache_control: false. What would
// be stored only to be asked for each time is not stored, and the demands to
// revalidate are ignored.
func (d *directives) relax() {
	if d.sMaxAge.given {
		d.maxAge, d.sMaxAge = d.sMaxAge, seconds{}
	}
	d.noStore = d.noStore || d.noCache || d.maxAge.given && d.maxAge.n == 0
	d.mustRevalidate, d.proxyRevalidate = false, false
}

var (
	browserNoStore = []byte("no-store")
	browserNoCache = []byte("no-cache")
)

// told are the object's lines with what a form tells browsers in place of the
// origin's own; nil where the origin's stay.
func (o *object) told(as form) []byte {
	f := o.fields()
	seconds := int64(as >> formSeconds)
	switch as & formTells {
	case tellNoStore:
		return told(f, browserNoStore)
	case tellNoCache:
		return told(f, browserNoCache)
	case tellSeconds:
		return told(f, strconv.AppendInt([]byte("max-age="), seconds, 10))
	case tellBypass:
		if f.Has(msg.CacheControl) || f.Has(msg.Expires) {
			return nil
		}
		return told(f, browserNoStore)
	}
	return o.raised(f, time.Duration(seconds)*time.Second)
}

// raised are the lines with the max-age of browser_cache_ttl; nil where the
// origin says as much or more, or forbids keeping.
func (o *object) raised(f *msg.Fields, least time.Duration) []byte {
	d := readDirectives(f, msg.CacheControl)
	var own time.Duration
	switch {
	case d.noCache || d.noStore:
		return nil
	case d.maxAge.given:
		own = d.maxAge.duration()
	case f.Has(msg.Expires):
		now := o.engine().cfg.Now()
		date, okDate := readDate(o.date(), now)
		expires, ok := readDate(f.Get(msg.Expires), now)
		if ok && okDate {
			own = expires.Sub(date)
		}
	}
	if own >= least {
		return nil
	}
	var value []byte
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.CacheControl {
			continue
		}
		for t, rest := msg.NextToken(l.Value); t != nil; t, rest = msg.NextToken(rest) {
			if name, _, _ := bytes.Cut(t, []byte{'='}); !msg.EqualFold(name, "max-age") {
				value = append(append(value, t...), ", "...)
			}
		}
	}
	return told(f, strconv.AppendInt(append(value, "max-age="...), int64(least/time.Second), 10))
}

// told is f with value as its Cache-Control and without Expires.
func told(f *msg.Fields, value []byte) []byte {
	var shown msg.Fields
	for _, l := range f.All() {
		if l.ID != msg.Expires && l.ID != msg.CacheControl {
			shown.AddField(l)
		}
	}
	shown.AddID(msg.CacheControl, value)
	return prepare(&shown, func(*msg.Field) bool { return false })
}
