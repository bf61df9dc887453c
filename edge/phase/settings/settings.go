// Package settings carries out what a zone's settings decide about a request
// before any rule of the zone is asked: today, that http is answered with a
// redirect to https.
package settings

import (
	"strconv"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// Plan is what a zone asks for; nil when every request passes untouched.
type Plan struct{ alwaysHTTPS bool }

// Compile reads the zone's settings; an unknown name or a value out of range
// is refused, naming it.
func Compile(spec *zone.Spec) (*Plan, error) {
	if err := spec.Settings.Check(); err != nil {
		return nil, err
	}
	if !spec.Settings.On("always_use_https") {
		return nil, nil
	}
	return &Plan{alwaysHTTPS: true}, nil
}

// Engine knows how visitors reach this edge over https.
type Engine struct{ port []byte }

// New takes the port on which visitors find https; 443 is left out of URLs.
func New(httpsPort uint16) *Engine {
	if httpsPort == 443 || httpsPort == 0 {
		return &Engine{}
	}
	return &Engine{port: strconv.AppendUint([]byte{':'}, uint64(httpsPort), 10)}
}

// Run redirects http to https where the zone asks for it: 301 for GET and
// HEAD, 308 for methods whose body must come along (RFC 9110 §15.4).
func (e *Engine) Run(p *Plan, r *request.Request) (request.Verdict, error) {
	if p == nil || !p.alwaysHTTPS || r.In.Scheme == msg.HTTPS {
		return request.Next, nil
	}
	r.Out.Status = 308
	if r.In.Method == msg.GET || r.In.Method == msg.HEAD {
		r.Out.Status = 301
	}
	target := r.In.Target
	if len(target) == 0 || target[0] != '/' {
		target = []byte{'/'}
	}
	const scheme = "https://"
	location := r.Arena.Alloc(len(scheme) + len(r.Host) + len(e.port) + len(target))[:0]
	location = append(location, scheme...)
	location = append(location, r.Host...)
	location = append(location, e.port...)
	location = append(location, target...)
	r.Out.Fields.AddID(msg.Location, location)
	return request.Respond, nil
}
