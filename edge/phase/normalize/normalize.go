// Package normalize makes a visitor's request honest before anybody reads it:
// fields that only an edge may set are taken out, so that nothing a visitor
// sends can pass for what we found out ourselves.
package normalize

import (
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/zone"
)

// Plan is what a zone asks of the row. Every zone has one: the row is never off.
type Plan struct{}

// Compile returns the zone's plan.
func Compile(*zone.Spec) (*Plan, error) { return &Plan{}, nil }

// Engine has no state; it exists so that the row reads like its neighbours.
type Engine struct{}

// New returns the engine.
func New() *Engine { return &Engine{} }

// Run strips the fields that visitors may not set. Trailers, which have not
// arrived yet, are the origin row's to judge.
func (e *Engine) Run(_ *Plan, r *request.Request) (request.Verdict, error) {
	fields := &r.In.Fields
	for i := range fields.Len() {
		if request.Reserved(fields.At(i)) {
			fields.DelFunc(request.Reserved)
			break
		}
	}
	return request.Next, nil
}
