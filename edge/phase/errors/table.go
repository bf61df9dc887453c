package errors

import "github.com/selvage-edge/selvage/fault"

// page is what a status means to the person who sees it.
type page struct {
	title  string
	who    fault.Side // at fault, unless the fault itself says
	advice string
	owner  string // what the site's owner can do; "" = nothing to add
	retry  int    // seconds for Retry-After; 0 = none
}

// pages is the one table of what our own answers say.
var pages = map[int]page{
	400: {"The request could not be understood", fault.Visitor, "The browser or program sent something that breaks the rules of HTTP. Check the address and try again; clearing this site's cookies may help.", "", 0},
	403: {"This address cannot be used", fault.Visitor, "Open the site by its name instead of a bare address.", "", 0},
	404: {"Nothing is here", fault.Visitor, "Check the address.", "", 0},
	405: {"This method is not served", fault.Visitor, "The browser or program asked in a way that this server does not answer.", "", 0},
	408: {"The request took too long to arrive", fault.Visitor, "Check your connection and try again.", "", 0},
	409: {"No site with this name is served here", fault.Visitor, "Check the address. If it is right, the site has been set up only in part.", "The name points here, but no zone on this edge has it. Add the zone, or change the DNS record.", 0},
	413: {"The request is too large", fault.Visitor, "Send less at a time.", "", 0},
	414: {"The address is too long", fault.Visitor, "Shorten the address and try again.", "", 0},
	417: {"An expectation cannot be met", fault.Visitor, "The program asked for something in its Expect field that this server does not know.", "", 0},
	421: {"No site with this name is served here", fault.Visitor, "Check the address. If it is right, the site has been set up only in part.", "The name points here, but no zone on this edge proxies it. Add the zone, or switch the proxy on for its DNS record.", 0},
	429: {"Too many requests", fault.Visitor, "Wait a little, then try again.", "", 60},
	431: {"The request's head is too large", fault.Visitor, "Clearing this site's cookies usually helps.", "", 0},
	500: {"Something failed at the edge", fault.Edge, "This is our fault. Try again in a few minutes.", "", 0},
	501: {"This method is not served", fault.Visitor, "The browser or program asked in a way that this server does not answer.", "", 0},
	502: {"The origin's answer could not be used", fault.Origin, "Try again in a few minutes.", "The origin answered, but not in a way that can be passed on. Look at its log for the time below.", 0},
	503: {"Too busy just now", fault.Edge, "Try again in a moment.", "", 30},
	504: {"The origin took too long", fault.Origin, "Try again in a few minutes.", "The origin did not answer in time.", 30},
	505: {"This version of HTTP is not served", fault.Visitor, "Use HTTP/1.1 or later.", "", 0},
	508: {"The request went round in a circle", fault.Origin, "Only the site's owner can mend this.", "The origin sends requests back to this zone. Point the DNS record or the origin rule at the server itself, not at a proxied name.", 0},
	520: {"The origin's answer makes no sense", fault.Origin, "Try again in a few minutes.", "The origin closed the connection early or broke the rules of HTTP. Look at its log for the time below, and at the size of its header fields.", 0},
	521: {"The origin refuses connections", fault.Origin, "Try again in a few minutes.", "The web server is not running, or a firewall turns this edge away. Start it and allow the edge's addresses.", 30},
	522: {"The origin cannot be connected to in time", fault.Origin, "Try again in a few minutes.", "The server is overloaded or a firewall drops packets from this edge. Check the address in the DNS record.", 30},
	523: {"The origin cannot be reached", fault.Origin, "Try again in a few minutes.", "There is no route to the origin's address. Check the address in the DNS record and the network it is in.", 30},
	524: {"The origin took too long to answer", fault.Origin, "Try again in a few minutes.", "The connection stood, but no answer came. Look for a slow program or database behind the web server.", 30},
	525: {"No encrypted connection to the origin", fault.Origin, "Only the site's owner can mend this.", "The TLS handshake with the origin failed. Check that it speaks TLS 1.2 or later on this port, or set ssl to flexible if it has no TLS at all.", 0},
	526: {"The origin's certificate is not valid", fault.Origin, "Only the site's owner can mend this.", "ssl is set to strict and the certificate is expired, self-signed or for another name. Renew it, or set ssl to full.", 0},
	530: {"The origin has no usable address", fault.Origin, "Only the site's owner can mend this.", "The name that the DNS record or origin rule points to cannot be resolved. Check it.", 0},
}

// special holds pages for one kind of fault where the status alone says too
// little.
var special = map[int]map[fault.Kind]page{
	503: {
		fault.Limit:    {"The origin is busy", fault.Origin, "Try again in a moment.", "Every connection that one origin may have is in use. The origin answers too slowly for the requests it gets.", 10},
		fault.Off:      {"This site is switched off here for now", fault.Control, "Try again later.", "The operator of this network has switched the zone off. Ask them why.", 300},
		fault.Draining: {"This server is going away", fault.Edge, "Try again now: another server will answer.", "", 1},
	},
	530: {
		fault.Forbidden: {"The origin's address may not be used", fault.Origin, "Only the site's owner can mend this.", "The DNS record or origin rule points to a private, local or reserved address, or to the edge itself. Use the origin's public address.", 0},
		fault.NotFound:  {"No origin is known for this name", fault.Origin, "Only the site's owner can mend this.", "No proxied DNS record has this name.", 0},
	},
	520: {
		fault.Version:   {"The origin does not speak HTTP/2", fault.Origin, "Only the site's owner can mend this.", "gRPC needs HTTP/2: offer it by ALPN over https, or speak it without TLS over http. Settings: origin_max_http_version, origin_h2c.", 0},
		fault.Closed:    {"The origin ended the connection", fault.Origin, "Try again in a few minutes.", "The origin closed the connection before its answer was whole. Look at its log for the time below.", 0},
		fault.Cancelled: {"The origin called the request off", fault.Origin, "Try again in a few minutes.", "The origin reset the request (CANCEL) before its answer was whole. Look at its log for the time below.", 0},
	},
}

// pageOf finds what to say; a status without a line gets its class's.
func pageOf(status int, f *fault.Error) page {
	if f != nil {
		if p, ok := special[status][f.Kind]; ok {
			return p
		}
	}
	if p, ok := pages[status]; ok {
		return p
	}
	switch {
	case status >= 520 && status < 600 && f != nil && f.Side == fault.Origin:
		return pages[520]
	case status >= 500:
		return pages[500]
	}
	return pages[400]
}
