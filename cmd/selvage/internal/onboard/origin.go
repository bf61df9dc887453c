package onboard

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Origin is a customer's server, taken from a URL.
type Origin struct {
	Scheme string     // http | https
	Host   string     // IP address without brackets, or name in lower case
	Addr   netip.Addr // valid when Host is an address
	Port   uint16
}

var label = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// ParseZone checks a zone's name and returns it in lower case as A-labels,
// without a final dot.
func ParseZone(name string) (string, error) {
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(name, "."))
	if err != nil {
		return "", fmt.Errorf("%q is no domain name; give one such as example.com", name)
	}
	ascii = strings.ToLower(ascii)
	labels := strings.Split(ascii, ".")
	if len(labels) < 2 || len(ascii) > 253 {
		return "", fmt.Errorf("%q is no domain name of two or more parts; give one such as example.com", name)
	}
	for _, l := range labels {
		if !label.MatchString(l) {
			return "", fmt.Errorf("%q is no domain name: part %q is not allowed; give one such as example.com", name, l)
		}
	}
	if _, err := netip.ParseAddr(ascii); err == nil {
		return "", fmt.Errorf("%q is an address; a zone has a name such as example.com", name)
	}
	return ascii, nil
}

// ParseOrigin checks an origin's URL: scheme, host and an optional port.
func ParseOrigin(text string) (Origin, error) {
	var o Origin
	fail := func(why string) (Origin, error) {
		return Origin{}, fmt.Errorf("origin %q %s; give a URL such as http://192.0.2.10:8080 or https://origin.example.net", text, why)
	}
	u, err := url.Parse(text)
	if err != nil {
		return fail("is no URL")
	}
	switch u.Scheme {
	case "http":
		o.Port = 80
	case "https":
		o.Port = 443
	default:
		return fail("does not start with http:// or https://")
	}
	o.Scheme = u.Scheme
	switch {
	case u.User != nil:
		return fail("has a user name or password, which an origin cannot have")
	case u.Path != "" && u.Path != "/", u.RawQuery != "" || u.ForceQuery, u.Fragment != "" || strings.Contains(text, "#"):
		return fail("has a path, query or fragment: visitors' paths are passed on as they are")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fail("has a port that is not from 1 to 65535")
		}
		o.Port = uint16(n)
	}
	return o.setHost(u.Hostname(), fail)
}

func (o Origin) setHost(host string, fail func(string) (Origin, error)) (Origin, error) {
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1" // a record cannot point at a name that each machine resolves to itself
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return fail("has an address that no server can be reached at")
		}
		o.Addr = a.Unmap()
		o.Host = o.Addr.String()
		return o, nil
	}
	if host == "" {
		return fail("has no host")
	}
	name, err := ParseZone(host)
	if err != nil {
		return fail("has a host that is neither an address nor a full name")
	}
	o.Host = name
	return o, nil
}

// Standard reports whether the port is the scheme's own, so that no rule is
// needed to reach it.
func (o Origin) Standard() bool {
	return o.Scheme == "http" && o.Port == 80 || o.Scheme == "https" && o.Port == 443
}

// RecordType is the type of the DNS record that points at the origin.
func (o Origin) RecordType() string {
	switch {
	case !o.Addr.IsValid():
		return "CNAME"
	case o.Addr.Is4():
		return "A"
	}
	return "AAAA"
}

// SSL is the zone setting for how the origin is reached.
func (o Origin) SSL() string {
	if o.Scheme == "http" {
		return "flexible"
	}
	return "full"
}
