// Package normalize makes a visitor's request honest before anybody reads it:
// fields that only an edge may set are taken out, so that nothing a visitor
// sends can pass for what we found out ourselves.
package normalize

import (
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
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

// Run strips the fields that visitors may not set.
func (e *Engine) Run(_ *Plan, r *request.Request) (request.Verdict, error) {
	fields := &r.In.Fields
	for i := range fields.Len() {
		if reserved(fields.At(i)) {
			fields.DelFunc(reserved)
			break
		}
	}
	return request.Next, nil
}

// reserved reports whether a field tells the origin who the visitor is or
// which edge it came through: CF-*, X-Forwarded-*, Forwarded (RFC 7239),
// X-Real-IP, True-Client-IP and Selvage-*. CDN-Loop stays: the origin row
// judges it.
func reserved(f *msg.Field) bool {
	switch f.ID {
	case msg.Unknown:
		return hasPrefixFold(f.Name, "cf-") || hasPrefixFold(f.Name, "x-forwarded-") || hasPrefixFold(f.Name, "selvage-")
	case msg.CFConnectingIP, msg.CFIPCountry, msg.CFRay, msg.CFVisitor, msg.CFCacheStatus,
		msg.XForwardedFor, msg.XForwardedHost, msg.XForwardedPort, msg.XForwardedProto,
		msg.XRealIP, msg.TrueClientIP, msg.Forwarded:
		return true
	}
	return false
}

func hasPrefixFold(name []byte, prefix string) bool {
	return len(name) >= len(prefix) && msg.EqualFold(name[:len(prefix)], prefix)
}
