package request

import "github.com/selvage-edge/selvage/wire/msg"

// Reserved reports whether a field tells the origin who the visitor is or
// which edge it came through: CF-*, X-Forwarded-*, Forwarded (RFC 7239),
// X-Real-IP, True-Client-IP and Selvage-*, also with '_' for '-': behind us,
// gateways map both to one variable. No visitor may set one, in a head or in
// trailers. CDN-Loop is not among them: the origin row judges it.
func Reserved(f *msg.Field) bool {
	switch f.ID {
	case msg.Unknown:
		return begins(f.Name, "cf-") || begins(f.Name, "x-forwarded-") || begins(f.Name, "selvage-") ||
			Alike(f.Name, "x-real-ip") || Alike(f.Name, "true-client-ip")
	case msg.CFConnectingIP, msg.CFIPCountry, msg.CFRay, msg.CFVisitor, msg.CFCacheStatus,
		msg.XForwardedFor, msg.XForwardedHost, msg.XForwardedPort, msg.XForwardedProto,
		msg.XRealIP, msg.TrueClientIP, msg.Forwarded:
		return true
	}
	return false
}

// Alike compares a field name with what, which is in lower case, and takes '_'
// for '-' as gateways behind us do.
func Alike(name []byte, what string) bool { return len(name) == len(what) && begins(name, what) }

// begins compares with prefix, which is in lower case, and takes '_' for '-'.
func begins(name []byte, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := name[i]
		switch {
		case c == '_':
			c = '-'
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}
