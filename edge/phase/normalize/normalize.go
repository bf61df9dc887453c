// Package normalize makes a visitor's request honest before anybody reads it:
// fields that only an edge may set are taken out, so that nothing a visitor
// sends can pass for what we found out ourselves, and rules get the path in one
// form, however it was written.
//
// Cache key and origin have the path as it was sent, unless the zone says that
// they get the normal form too: a key in another form than what the origin
// answers to would let one page be stored under the name of another.
package normalize

import (
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

// Plan is what a zone asks of the row. Every zone has one: the row is never off.
type Plan struct {
	path  bool // rules see the normal form
	merge bool // backslashes are slashes, runs of slashes one
	all   bool // cache key and origin see it too
}

// Compile returns the zone's plan.
func Compile(spec *zone.Spec) (*Plan, error) {
	scope := spec.Settings.Text("url_normalization_scope")
	return &Plan{
		path:  scope != "none",
		merge: spec.Settings.Text("url_normalization_type") == "cloudflare",
		all:   scope == "both",
	}, nil
}

// Engine has no state; it exists so that the row reads like its neighbours.
type Engine struct{}

// New returns the engine.
func New() *Engine { return &Engine{} }

// Run strips the fields that visitors may not set. Trailers, which have not
// arrived yet, are the origin row's to judge. Then it normalises the path.
func (e *Engine) Run(p *Plan, r *request.Request) (request.Verdict, error) {
	fields := &r.In.Fields
	for i := range fields.Len() {
		if request.Reserved(fields.At(i)) {
			fields.DelFunc(request.Reserved)
			break
		}
	}
	if path := r.In.Path; p != nil && p.path && len(path) > 0 && path[0] == '/' && !isNormal(path, p.merge) {
		p.rewrite(r)
	}
	return request.Next, nil
}

// rewrite sets the path that rules see, and with all the one that everybody
// sees.
func (p *Plan) rewrite(r *request.Request) {
	normal := appendPath(r.Arena.Alloc(room(r.In.Path))[:0], r.In.Path, p.merge)
	if !p.all {
		r.Path = normal
		return
	}
	target := append(r.Arena.Alloc(len(normal) + 1 + len(r.In.Query))[:0], normal...)
	if r.In.Query != nil {
		target = append(append(target, '?'), r.In.Query...)
	}
	r.In.Path, r.In.Target = normal, target
}
