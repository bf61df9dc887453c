package cache

import (
	"bytes"
	"io"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

// maxPosted is the largest answer to POST that is stored, in bytes.
const maxPosted = 1 << 20

// posted is an answer to POST that is stored for later GETs when it has left
// whole.
type posted struct {
	io.ReadCloser
	t      task
	f      *fill // never in the table: nobody waits for it
	j      judgement
	got    time.Time
	turn   uint64 // of invalidations when the request began
	fields msg.Fields
	body   []byte
	done   bool
}

// repost prepares to keep an answer to POST where the origin says that it is
// what a GET of the same URL would get: explicit freshness and a Content-Location
// that is the URL itself (RFC 9110 §9.3.3). Only a 200 is such. nil = it is not.
func (t task) repost(f *fill, asked, got time.Time) *posted {
	out := t.r.Out
	pol := t.p.decide(t.r)
	if t.r.In.Method != msg.POST || out.Status != 200 || pol.eligibility != allowed || overridden(&t.r.In.Fields) ||
		out.Length > maxPosted || out.Fields.Count(msg.ContentLocation) != 1 || !explicit(&out.Fields) {
		return nil
	}
	l, ok := t.sameHost(out.Fields.Get(msg.ContentLocation))
	if !ok || string(appendURL(nil, l.host, l.path, l.query, true)) != string(appendURL(nil, t.r.Host, t.r.In.Path, t.r.In.Query, true)) {
		return nil
	}
	p := &posted{t: t, f: f, got: got}
	if p.j = pol.judge(t.r, &t.r.In.Fields, out, asked, got); !p.j.store || p.j.lifetime <= 0 {
		return nil
	}
	out.Fields.CopyTo(&p.fields, bytes.Clone)
	return p
}

// follow keeps the answer as it leaves. turn is how many invalidations there
// have been, those by this request included.
func (p *posted) follow(turn uint64) {
	p.turn = turn
	out := p.t.r.Out
	if out.Body != nil {
		p.ReadCloser, out.Body = out.Body, p
		return
	}
	p.body = out.Bytes
	p.keep()
	p.f.zone.Release()
}

// explicit reports whether the origin names a lifetime.
func explicit(f *msg.Fields) bool {
	d, targeted := readTargeted(f)
	if !targeted {
		d = readDirectives(f, msg.CacheControl)
	}
	return d.maxAge.given || d.sMaxAge.given || !targeted && f.Has(msg.Expires)
}

func (p *posted) Read(to []byte) (int, error) {
	n, err := p.ReadCloser.Read(to)
	switch {
	case p.done:
	case len(p.body)+n > maxPosted:
		p.body, p.done = nil, true
	default:
		p.body = append(p.body, to[:n]...)
		// Who knows the length may not read on to the end.
		if length := p.t.r.Out.Length; err == io.EOF || length >= 0 && int64(len(p.body)) == length {
			p.done = true
			p.keep()
		}
	}
	return n, err
}

// Close implements io.Closer. It is called once: by msg.Response.Close.
func (p *posted) Close() error {
	p.done = true
	p.f.zone.Release()
	return p.ReadCloser.Close()
}

// keep stores the answer, unless something was purged or changed meanwhile.
func (p *posted) keep() {
	e := p.t.e
	answer := msg.Response{Status: 200, Fields: p.fields, Length: int64(len(p.body))}
	o := e.newObject(p.f, &answer, &p.j, e.since(p.got))
	if o == nil {
		return
	}
	defer o.Release()
	to := o.inner()
	if len(p.body) > len(to) {
		if to = e.newBody(len(p.body), false); to == nil {
			return
		}
	}
	o.seal(e, append(to[:0], p.body...))
	s := e.shardOf(p.f.key.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.changes.Load() == p.turn && !o.zone.Judge(o.subject(p.f.seq)).Gone {
		e.insert(s, p.f.key, o, nil)
	}
}
