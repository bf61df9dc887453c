package msg

// ID names a field that the product reads or writes. The table below is the
// one list of them; order carries no meaning and numbers never leave the process.
type ID uint8

// The known fields, in the spelling of their RFC or of the API they come from.
const (
	Unknown                 ID = iota
	Accept                     // Accept
	AcceptEncoding             // Accept-Encoding
	AcceptLanguage             // Accept-Language
	AcceptRanges               // Accept-Ranges
	Age                        // Age
	Allow                      // Allow
	AltSvc                     // Alt-Svc
	Authorization              // Authorization
	CacheControl               // Cache-Control
	CacheTag                   // Cache-Tag
	CDNCacheControl            // CDN-Cache-Control
	CDNLoop                    // CDN-Loop
	CFCacheStatus              // CF-Cache-Status
	CFConnectingIP             // CF-Connecting-IP
	CFIPCountry                // CF-IPCountry
	CFRay                      // CF-Ray
	CFVisitor                  // CF-Visitor
	Connection                 // Connection
	ContentDisposition         // Content-Disposition
	ContentEncoding            // Content-Encoding
	ContentLanguage            // Content-Language
	ContentLength              // Content-Length
	ContentLocation            // Content-Location
	ContentRange               // Content-Range
	ContentSecurityPolicy      // Content-Security-Policy
	ContentType                // Content-Type
	Cookie                     // Cookie
	Date                       // Date
	EarlyData                  // Early-Data
	ETag                       // ETag
	Expect                     // Expect
	Expires                    // Expires
	Forwarded                  // Forwarded
	Host                       // Host
	HTTP2Settings              // HTTP2-Settings
	IfMatch                    // If-Match
	IfModifiedSince            // If-Modified-Since
	IfNoneMatch                // If-None-Match
	IfRange                    // If-Range
	IfUnmodifiedSince          // If-Unmodified-Since
	KeepAlive                  // Keep-Alive
	LastModified               // Last-Modified
	Link                       // Link
	Location                   // Location
	MaxForwards                // Max-Forwards
	Origin                     // Origin
	Pragma                     // Pragma
	ProxyAuthenticate          // Proxy-Authenticate
	ProxyAuthorization         // Proxy-Authorization
	ProxyConnection            // Proxy-Connection
	Range                      // Range
	Referer                    // Referer
	RetryAfter                 // Retry-After
	SecWebSocketAccept         // Sec-WebSocket-Accept
	SecWebSocketKey            // Sec-WebSocket-Key
	Server                     // Server
	SetCookie                  // Set-Cookie
	StrictTransportSecurity    // Strict-Transport-Security
	SurrogateControl           // Surrogate-Control
	TE                         // TE
	Trailer                    // Trailer
	TransferEncoding           // Transfer-Encoding
	TrueClientIP               // True-Client-IP
	Upgrade                    // Upgrade
	UserAgent                  // User-Agent
	Vary                       // Vary
	Via                        // Via
	Warning                    // Warning
	WWWAuthenticate            // WWW-Authenticate
	XForwardedFor              // X-Forwarded-For
	XForwardedHost             // X-Forwarded-Host
	XForwardedPort             // X-Forwarded-Port
	XForwardedProto            // X-Forwarded-Proto
	XRealIP                    // X-Real-IP
	count
)

// Count is how long a table by ID has to be.
const Count = int(count)

var names = [count][]byte{
	Accept:                  []byte("Accept"),
	AcceptEncoding:          []byte("Accept-Encoding"),
	AcceptLanguage:          []byte("Accept-Language"),
	AcceptRanges:            []byte("Accept-Ranges"),
	Age:                     []byte("Age"),
	Allow:                   []byte("Allow"),
	AltSvc:                  []byte("Alt-Svc"),
	Authorization:           []byte("Authorization"),
	CacheControl:            []byte("Cache-Control"),
	CacheTag:                []byte("Cache-Tag"),
	CDNCacheControl:         []byte("CDN-Cache-Control"),
	CDNLoop:                 []byte("CDN-Loop"),
	CFCacheStatus:           []byte("CF-Cache-Status"),
	CFConnectingIP:          []byte("CF-Connecting-IP"),
	CFIPCountry:             []byte("CF-IPCountry"),
	CFRay:                   []byte("CF-Ray"),
	CFVisitor:               []byte("CF-Visitor"),
	Connection:              []byte("Connection"),
	ContentDisposition:      []byte("Content-Disposition"),
	ContentEncoding:         []byte("Content-Encoding"),
	ContentLanguage:         []byte("Content-Language"),
	ContentLength:           []byte("Content-Length"),
	ContentLocation:         []byte("Content-Location"),
	ContentRange:            []byte("Content-Range"),
	ContentSecurityPolicy:   []byte("Content-Security-Policy"),
	ContentType:             []byte("Content-Type"),
	Cookie:                  []byte("Cookie"),
	Date:                    []byte("Date"),
	EarlyData:               []byte("Early-Data"),
	ETag:                    []byte("ETag"),
	Expect:                  []byte("Expect"),
	Expires:                 []byte("Expires"),
	Forwarded:               []byte("Forwarded"),
	Host:                    []byte("Host"),
	HTTP2Settings:           []byte("HTTP2-Settings"),
	IfMatch:                 []byte("If-Match"),
	IfModifiedSince:         []byte("If-Modified-Since"),
	IfNoneMatch:             []byte("If-None-Match"),
	IfRange:                 []byte("If-Range"),
	IfUnmodifiedSince:       []byte("If-Unmodified-Since"),
	KeepAlive:               []byte("Keep-Alive"),
	LastModified:            []byte("Last-Modified"),
	Link:                    []byte("Link"),
	Location:                []byte("Location"),
	MaxForwards:             []byte("Max-Forwards"),
	Origin:                  []byte("Origin"),
	Pragma:                  []byte("Pragma"),
	ProxyAuthenticate:       []byte("Proxy-Authenticate"),
	ProxyAuthorization:      []byte("Proxy-Authorization"),
	ProxyConnection:         []byte("Proxy-Connection"),
	Range:                   []byte("Range"),
	Referer:                 []byte("Referer"),
	RetryAfter:              []byte("Retry-After"),
	SecWebSocketAccept:      []byte("Sec-WebSocket-Accept"),
	SecWebSocketKey:         []byte("Sec-WebSocket-Key"),
	Server:                  []byte("Server"),
	SetCookie:               []byte("Set-Cookie"),
	StrictTransportSecurity: []byte("Strict-Transport-Security"),
	SurrogateControl:        []byte("Surrogate-Control"),
	TE:                      []byte("TE"),
	Trailer:                 []byte("Trailer"),
	TransferEncoding:        []byte("Transfer-Encoding"),
	TrueClientIP:            []byte("True-Client-IP"),
	Upgrade:                 []byte("Upgrade"),
	UserAgent:               []byte("User-Agent"),
	Vary:                    []byte("Vary"),
	Via:                     []byte("Via"),
	Warning:                 []byte("Warning"),
	WWWAuthenticate:         []byte("WWW-Authenticate"),
	XForwardedFor:           []byte("X-Forwarded-For"),
	XForwardedHost:          []byte("X-Forwarded-Host"),
	XForwardedPort:          []byte("X-Forwarded-Port"),
	XForwardedProto:         []byte("X-Forwarded-Proto"),
	XRealIP:                 []byte("X-Real-IP"),
}

// Bytes returns the canonical spelling; callers must not write to it.
func (id ID) Bytes() []byte { return names[id] }

func (id ID) String() string { return string(names[id]) }

// buckets finds candidates by length and first letter: never more than four.
var buckets = func() (t [32][32][]ID) {
	for id := Unknown + 1; id < count; id++ {
		n := names[id]
		b := &t[len(n)][n[0]&31]
		*b = append(*b, id)
	}
	return t
}()

// Known returns the ID of a field name compared without case, Unknown when
// the table does not have it.
func Known[T ~string | ~[]byte](name T) ID {
	if len(name) == 0 || len(name) >= len(buckets) {
		return Unknown
	}
	for _, id := range buckets[len(name)][name[0]&31] {
		if EqualFold(names[id], name) {
			return id
		}
	}
	return Unknown
}
