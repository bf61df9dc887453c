package guard

import "net/netip"

// block is a range that no outside address lies in, and why.
type block struct {
	prefix netip.Prefix
	why    string
}

// The IANA special-purpose registries (RFC 6890 and successors), plus one
// public address that clouds use for metadata.
var blocks4 = []block{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network (RFC 791)"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private (RFC 1918)"},
	{netip.MustParsePrefix("100.64.0.0/10"), "carrier-grade NAT (RFC 6598)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback (RFC 1122)"},
	{netip.MustParsePrefix("168.63.129.16/32"), "cloud metadata"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local and cloud metadata (RFC 3927)"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private (RFC 1918)"},
	{netip.MustParsePrefix("192.0.0.0/24"), "protocol assignments (RFC 6890)"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay (RFC 7526)"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private (RFC 1918)"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking (RFC 2544)"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast (RFC 5771)"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved and broadcast (RFC 1112)"},
}

// Ranges inside 2000::/3; everything outside it is refused as a whole.
var blocks6 = []block{
	{netip.MustParsePrefix("2001::/23"), "protocol assignments (RFC 2928)"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation (RFC 3849)"},
	{netip.MustParsePrefix("3fff::/20"), "documentation (RFC 9637)"},
}

// Names for common ranges outside 2000::/3, for a better message only.
var names6 = []block{
	{netip.MustParsePrefix("::/128"), "unspecified (RFC 4291)"},
	{netip.MustParsePrefix("::1/128"), "loopback (RFC 4291)"},
	{netip.MustParsePrefix("::/96"), "IPv4-compatible (RFC 4291)"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "local NAT64 (RFC 8215)"},
	{netip.MustParsePrefix("fc00::/7"), "private (RFC 4193)"},
	{netip.MustParsePrefix("fe80::/10"), "link-local (RFC 4291)"},
	{netip.MustParsePrefix("fec0::/10"), "site-local (RFC 3879)"},
	{netip.MustParsePrefix("ff00::/8"), "multicast (RFC 4291)"},
}

var (
	global6 = netip.MustParsePrefix("2000::/3")
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixTo4  = netip.MustParsePrefix("2002::/16")
	teredo  = netip.MustParsePrefix("2001::/32")
)

// inside says why an address is not one of the public internet; "" = it is.
// IPv4-mapped addresses must have been unmapped.
func inside(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "no address"
	case a.Zone() != "":
		return "bound to an interface (RFC 4007)"
	case a.Is4():
		return find(blocks4, a)
	}
	if e, ok := embedded(a); ok {
		if why := inside(e); why != "" {
			return "carries " + e.String() + ": " + why
		}
		if teredo.Contains(a) {
			return inside(teredoServer(a))
		}
		if nat64.Contains(a) || sixTo4.Contains(a) {
			return ""
		}
	}
	if !global6.Contains(a) {
		if why := find(names6, a); why != "" {
			return why
		}
		return "not global unicast (RFC 4291)"
	}
	return find(blocks6, a)
}

func find(list []block, a netip.Addr) string {
	for _, b := range list {
		if b.prefix.Contains(a) {
			return b.why
		}
	}
	return ""
}

// embedded returns the IPv4 address to which traffic for an IPv6 address is
// carried: NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP
// (RFC 5214).
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	switch {
	case nat64.Contains(a.WithZone("")):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case sixTo4.Contains(a.WithZone("")):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case teredo.Contains(a.WithZone("")):
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), true
	case (b[8] == 0 || b[8] == 2) && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe && global6.Contains(a.WithZone("")):
		return netip.AddrFrom4([4]byte(b[12:])), true
	}
	return netip.Addr{}, false
}

func teredoServer(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[4:8]))
}
