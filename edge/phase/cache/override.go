package cache

import (
	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// overrides lists fields by which common frameworks let a request name another
// URL, host or method than its own; '_' may stand for '-'. X-Forwarded-* does
// the same and never gets here.
var overrides = [...]string{
	"x-host", "x-original-host", "x-original-url", "x-rewrite-url",
	"x-http-method", "x-http-method-override", "x-method-override",
}

// overridden reports a request that may be answered for something else than
// its URL and method: stored, the answer would be one page under another's name.
func overridden(f *msg.Fields) bool {
	for i := range f.Len() {
		l := f.At(i)
		if l.ID != msg.Unknown || len(l.Name) < len("x-host") || l.Name[0]|0x20 != 'x' {
			continue
		}
		for _, name := range overrides {
			if request.Alike(l.Name, name) {
				return true
			}
		}
	}
	return false
}
