// Package head holds the rules that the heads of HTTP/1.1, HTTP/2 and HTTP/3
// share, and makes a msg.Request of the field lines that a decoder of HPACK or
// QPACK delivers (RFC 9113 §8.2 and §8.3, RFC 9114 §4.2 and §4.3).
//
// It promises that what is malformed is refused and never repaired: a request
// that it lets pass can be written as HTTP/1.1 without meaning anything else
// there. Nothing is copied, except several Cookie lines into one.
package head

import (
	"github.com/selvage-edge/selvage/wire/msg"
)

// Refusal is a request that is not accepted. Status 400 stands for a malformed
// one, which is a stream error to HTTP/2 and HTTP/3; others may be answered.
type Refusal struct {
	Status int
	Reason string
}

func (e *Refusal) Error() string { return "head: " + e.Reason }

func bad(reason string) *Refusal { return &Refusal{400, reason} }

// The refusals are values so that refusing allocates nothing.
var (
	errName          = bad("invalid field name")
	errValue         = bad("invalid byte in field value")
	errSpace         = bad("white space around a field value")
	errDouble        = bad("field name that imitates a framing field")
	errConnection    = bad("field that belongs to an HTTP/1.1 connection")
	errTE            = bad("TE other than trailers")
	errPseudoUnknown = bad("unknown pseudo-header")
	errPseudoTwice   = bad("pseudo-header sent twice")
	errPseudoLate    = bad("pseudo-header behind a field")
	errPseudoTrailer = bad("pseudo-header in trailers")
	errPseudoMissing = bad("pseudo-header missing")
	errMethod        = bad("invalid method")
	errScheme        = bad("invalid scheme")
	errPath          = bad("invalid path")
	errAuthority     = bad("invalid authority")
	errHostTwice     = bad("several Host lines")
	errHostMismatch  = bad("Host differs from the authority")
	errLength        = bad("invalid Content-Length")
	errLengthTwice   = bad("several Content-Length lines")
	errLengthBody    = bad("Content-Length with a message that ends with its head")
	errProtocol      = bad("protocol without CONNECT, or invalid")
	errTrailer       = bad("field not allowed in a trailer section")
	errConnect       = &Refusal{501, "CONNECT"}
	errUnseen        = &Refusal{501, "protocol that would carry requests past the edge"}
	errExpect        = &Refusal{417, "unknown expectation"}
	errBodyLarge     = &Refusal{413, "body too large"}
)

// Pseudo is a pseudo-header field, or a set of them.
type Pseudo uint8

// The pseudo-header fields of requests.
const (
	PseudoMethod Pseudo = 1 << iota
	PseudoScheme
	PseudoAuthority
	PseudoPath
	PseudoProtocol
)

// Builder makes one request after the other. It is owned by one goroutine.
type Builder struct {
	// Expect says, after End, that the visitor waits for 100 (Continue).
	Expect bool
	// Priority is the value of the Priority field (RFC 9218 §5), nil without
	// one or with several.
	Priority []byte

	req      *msg.Request
	seen     Pseudo
	regular  bool // a field has been seen: pseudo-headers are over
	cookies  int
	scheme   []byte
	path     []byte
	protocol []byte
	priority int
}

// Start begins a request; req has been reset. What Add is given becomes part of it.
func (b *Builder) Start(req *msg.Request) { *b = Builder{req: req} }

// Add takes the next line of the head. Name and value live as long as the request.
func (b *Builder) Add(name, value []byte) error {
	if len(name) > 0 && name[0] == ':' {
		return b.pseudo(name, value)
	}
	b.regular = true
	if err := CheckLine(name, value); err != nil {
		return err
	}
	f := &b.req.Fields
	f.Add(name, value)
	switch l := f.At(f.Len() - 1); l.ID {
	case msg.Unknown:
		if Imitates(name) {
			return errDouble
		}
		if string(name) == "priority" {
			if b.priority++; b.priority == 1 {
				b.Priority = value
			} else {
				b.Priority = nil
			}
		}
	case msg.Connection, msg.KeepAlive, msg.ProxyConnection, msg.TransferEncoding, msg.Upgrade, msg.HTTP2Settings:
		return errConnection
	case msg.TE:
		if !msg.EqualFold(value, "trailers") {
			return errTE
		}
	case msg.Cookie:
		b.cookies++
	}
	return nil
}

// CheckLine refuses a field line that HTTP/2 and HTTP/3 do not allow: a name
// that is no token in lower case, a value with control characters or with
// white space around it.
func CheckLine(name, value []byte) error {
	if len(name) == 0 || !LowerToken.All(name) {
		return errName
	}
	if !AllValue(value) {
		return errValue
	}
	if n := len(value); n > 0 && (blank(value[0]) || blank(value[n-1])) {
		return errSpace
	}
	return nil
}

func blank(b byte) bool { return b == ' ' || b == '\t' }

// AddTrailer takes a line of a trailer section into to.
func AddTrailer(to *msg.Fields, name, value []byte) error {
	if len(name) > 0 && name[0] == ':' {
		return errPseudoTrailer
	}
	if err := CheckLine(name, value); err != nil {
		return err
	}
	to.Add(name, value)
	switch l := to.At(to.Len() - 1); l.ID {
	case msg.Unknown:
		if Imitates(name) {
			return errDouble
		}
	case msg.KeepAlive, msg.ProxyConnection, msg.HTTP2Settings:
		return errConnection
	}
	if !TrailerAllowed(to) {
		return errTrailer
	}
	return nil
}

func (b *Builder) pseudo(name, value []byte) error {
	if b.regular {
		return errPseudoLate
	}
	var p Pseudo
	switch string(name) {
	case ":method":
		p = PseudoMethod
	case ":scheme":
		p = PseudoScheme
	case ":authority":
		p = PseudoAuthority
	case ":path":
		p = PseudoPath
	case ":protocol":
		p = PseudoProtocol
	default:
		return errPseudoUnknown
	}
	if b.seen&p != 0 {
		return errPseudoTwice
	}
	b.Set(p, value)
	return nil
}

// Set is Add for one pseudo-header field, of which the decoder knows that it
// came once and before all fields.
func (b *Builder) Set(p Pseudo, value []byte) {
	b.seen |= p
	switch p {
	case PseudoMethod:
		b.req.MethodText = value
	case PseudoScheme:
		b.scheme = value
	case PseudoAuthority:
		b.req.Authority = value
	case PseudoPath:
		b.path = value
	case PseudoProtocol:
		b.protocol = value
	}
}

// End completes the request. ended says that the message ends with its head,
// maxBody bounds a declared length (0 = no bound), alloc gives memory that
// lives as long as the request. Body, Trailer, Proto and Early are the
// caller's to set.
//
// An extended CONNECT (RFC 8441, RFC 9220) becomes what a WebSocket handshake
// of HTTP/1.1 is: method GET and Upgrade. A plain CONNECT is refused.
func (b *Builder) End(ended bool, maxBody int64, alloc func(int) []byte) error {
	req := b.req
	if b.seen&PseudoMethod == 0 {
		return errPseudoMissing
	}
	if len(req.MethodText) == 0 || !Token.All(req.MethodText) {
		return errMethod
	}
	req.Method = msg.MethodOf(req.MethodText)
	if err := b.route(); err != nil {
		return err
	}
	if err := b.host(); err != nil {
		return err
	}
	if err := b.body(ended, maxBody); err != nil {
		return err
	}
	if b.cookies > 1 {
		joinCookies(&req.Fields, alloc)
	}
	return nil
}

var methodGET = []byte("GET")

// Unseen reports protocols that carry requests themselves (HTTP, or TLS with
// HTTP in it, RFC 2817): behind a change to one, a visitor would speak to an
// origin past all rules of the edge. They are never offered to an origin.
func Unseen(protocol []byte) bool {
	for _, prefix := range [...]string{"h2c", "http/", "tls/"} {
		if len(protocol) >= len(prefix) && msg.EqualFold(protocol[:len(prefix)], prefix) {
			return true
		}
	}
	return msg.EqualFold(protocol, "h2") || msg.EqualFold(protocol, "http") || msg.EqualFold(protocol, "tls")
}

// route checks what says where the request goes (RFC 9114 §4.3.1, §4.4).
func (b *Builder) route() error {
	req := b.req
	if b.seen&PseudoProtocol != 0 && (req.Method != msg.CONNECT || len(b.protocol) == 0 || !Token.All(b.protocol)) {
		return errProtocol
	}
	if req.Method == msg.CONNECT && b.seen&PseudoProtocol == 0 {
		if b.seen&(PseudoScheme|PseudoPath) != 0 || !Authority(req.Authority) {
			return errAuthority
		}
		return errConnect
	}
	if b.seen&PseudoScheme == 0 || b.seen&PseudoPath == 0 {
		return errPseudoMissing
	}
	switch {
	case msg.EqualFold(b.scheme, "https"), msg.EqualFold(b.scheme, "http"):
		// How the visitor reached us is what counts; the caller sets Scheme.
	default:
		return errScheme
	}
	switch {
	case len(b.path) == 0 || !Target.All(b.path):
		return errPath
	case b.path[0] == '/':
		SetTarget(req, b.path)
	case len(b.path) == 1 && b.path[0] == '*' && req.Method == msg.OPTIONS:
		req.Target, req.Path = b.path, b.path
	default:
		return errPath
	}
	if req.Method == msg.CONNECT {
		if Unseen(b.protocol) {
			return errUnseen
		}
		req.Method, req.MethodText, req.Upgrade = msg.GET, methodGET, b.protocol
		if b.seen&PseudoAuthority == 0 {
			return errPseudoMissing
		}
	}
	return nil
}

// host makes sure that :authority and Host say the same, and that both are
// there afterwards: rows read either (RFC 9114 §4.3.1).
func (b *Builder) host() error {
	req := b.req
	switch req.Fields.Count(msg.Host) {
	case 0:
		if b.seen&PseudoAuthority == 0 {
			return errPseudoMissing
		}
	case 1:
		host := req.Fields.Get(msg.Host)
		if b.seen&PseudoAuthority == 0 {
			req.Authority = host
		} else if !msg.EqualFold(host, req.Authority) {
			return errHostMismatch
		}
	default:
		return errHostTwice
	}
	if !Authority(req.Authority) {
		return errAuthority
	}
	if !req.Fields.Has(msg.Host) {
		req.Fields.AddID(msg.Host, req.Authority)
	}
	return nil
}

// body sets Length.
func (b *Builder) body(ended bool, maxBody int64) error {
	req, declared := b.req, int64(-1)
	switch req.Fields.Count(msg.ContentLength) {
	case 0:
	case 1:
		n, ok := Length(req.Fields.Get(msg.ContentLength))
		if !ok {
			return errLength
		}
		declared = n
	default:
		return errLengthTwice
	}
	switch {
	case req.Upgrade != nil && declared >= 0:
		return errLength // what follows is the other protocol's
	case req.Upgrade != nil:
	case ended && declared > 0:
		return errLengthBody
	case !ended && declared < 0:
		req.Length = msg.LengthUnknown
	case !ended:
		req.Length = declared
	}
	if maxBody > 0 && req.Length > maxBody {
		return errBodyLarge
	}
	if req.Fields.Has(msg.Expect) {
		if req.Fields.Count(msg.Expect) > 1 || !msg.EqualFold(req.Fields.Get(msg.Expect), "100-continue") {
			return errExpect
		}
		b.Expect = req.Length != 0
	}
	return nil
}

// joinCookies makes one line of several (RFC 9113 §8.2.3, RFC 9114 §4.2.1): in
// HTTP/1.1 and to whoever reads fields, a second Cookie line is an error.
func joinCookies(f *msg.Fields, alloc func(int) []byte) {
	size := 0
	for i := range f.Len() {
		if l := f.At(i); l.ID == msg.Cookie {
			size += len(l.Value) + 2
		}
	}
	joined := alloc(size)[:0]
	for i := range f.Len() {
		if l := f.At(i); l.ID == msg.Cookie {
			if len(joined) > 0 {
				joined = append(joined, "; "...)
			}
			joined = append(joined, l.Value...)
		}
	}
	f.Set(msg.Cookie, joined)
}
