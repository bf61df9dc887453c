// Package msg is the form that HTTP/1.1, HTTP/2 and HTTP/3 all produce and
// consume: one request, one response, their fields and bodies, and the small
// contract between a protocol server and whoever answers.
//
// Nothing in it knows the product. Protocol packages (wire/h1, later h2 and
// h3) fill a Request, call Session.Serve, and pull the answer from the
// Response. Nobody re-serialises one protocol into another.
package msg

import (
	"crypto/tls"
	"io"
	"net/netip"
	"os"
	"time"
)

// Proto is the protocol version of a message: 10, 11, 20 or 30.
type Proto uint8

const (
	HTTP10 Proto = 10
	HTTP11 Proto = 11
	HTTP2  Proto = 20
	HTTP3  Proto = 30
)

func (p Proto) String() string {
	switch p {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP11:
		return "HTTP/1.1"
	case HTTP2:
		return "HTTP/2"
	case HTTP3:
		return "HTTP/3"
	}
	return "HTTP/?"
}

// Method is a request method; its token is case-sensitive (RFC 9110 §9.1).
type Method uint8

const (
	OTHER Method = iota // any token not below; see Request.MethodText
	GET
	HEAD
	POST
	PUT
	DELETE
	OPTIONS
	PATCH
	TRACE
	CONNECT
)

var methods = [...]string{"", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}

// MethodOf recognises a method token.
func MethodOf(token []byte) Method {
	for m := GET; m <= CONNECT; m++ {
		if string(token) == methods[m] {
			return m
		}
	}
	return OTHER
}

func (m Method) String() string { return methods[m] }

// Safe reports whether the method is defined as safe (RFC 9110 §9.2.1).
func (m Method) Safe() bool { return m == GET || m == HEAD || m == OPTIONS || m == TRACE }

// Idempotent reports RFC 9110 §9.2.2.
func (m Method) Idempotent() bool { return m.Safe() || m == PUT || m == DELETE }

// Unknown lengths of bodies: chunked, or until the connection closes.
const LengthUnknown int64 = -1

// Request is a parsed request. All byte slices are borrowed from the
// protocol's buffer and stay valid until Session.Done returns; what must live
// longer is copied (request.Detach). The answering side may change Fields and
// replace slices by its own memory; it never writes into the bytes.
type Request struct {
	MethodText []byte // as sent
	Method     Method
	Scheme     Scheme // how the visitor reached us
	Authority  []byte // Host or :authority as sent, port included; never empty for HTTP/1.1 and later
	Target     []byte // request-target as sent, origin-form or "*"
	Path       []byte // Target up to '?', at least "/"; "*" for OPTIONS *
	Query      []byte // Target after '?', nil when there is no '?'
	Proto      Proto
	Fields     Fields // Host included, framing fields as received
	Length     int64  // of the body in bytes; 0 none, LengthUnknown when chunked
	// Body is nil when Length is 0. Read returns io.EOF at the end; the first
	// Read sends 100-continue where it was asked for. A body left unread is
	// drained up to a bound by the protocol, or the connection is closed.
	Body    io.ReadCloser
	Trailer Fields // filled when Body has returned io.EOF
	// Upgrade is the protocol asked for by a valid Upgrade + Connection: upgrade,
	// else nil. An extended CONNECT (RFC 8441, RFC 9220) comes in the same form:
	// method GET, Upgrade its :protocol, and no Sec-WebSocket-Key.
	Upgrade []byte
	// Early says that the request came in TLS early data (0-RTT) and may be a
	// replay (RFC 8470).
	Early bool
	// Patience is how long an origin may take for the head of its answer, and
	// between two arrivals of its body; 0 = as the client is made. It is of
	// requests that are sent.
	Patience time.Duration
	// Interim sends a 1xx other than 101 ahead of the answer; nil where the
	// visitor's protocol cannot take one (HTTP/1.0).
	Interim func(status int, fields *Fields) error
}

// MediaGRPC is the media type of gRPC, alone or before "+" and the coding of its
// messages. What else begins so, as gRPC-Web, is another protocol.
const MediaGRPC = "application/grpc"

// CallsGRPC reports whether a request is a call of gRPC: both bodies are
// messages that come when they come.
func (r *Request) CallsGRPC() bool {
	kind := r.Fields.Get(ContentType)
	n := len(MediaGRPC)
	if len(kind) < n || !EqualFold(kind[:n], MediaGRPC) {
		return false
	}
	return len(kind) == n || kind[n] == '+' || kind[n] == ';' || kind[n] == ' ' || kind[n] == '\t'
}

// Scheme is http or https.
type Scheme uint8

const (
	HTTP Scheme = iota
	HTTPS
)

func (s Scheme) String() string {
	if s == HTTPS {
		return "https"
	}
	return "http"
}

// Reset prepares for the next request on a connection and keeps memory.
func (r *Request) Reset() {
	f, t := r.Fields, r.Trailer
	f.Reset()
	t.Reset()
	*r = Request{Fields: f, Trailer: t}
}

// Response is an answer as a pull source: a head, then one of three bodies,
// then trailers. The protocol server reads it after Session.Serve returns and
// calls Close exactly once when it is done with it, whatever happened.
type Response struct {
	Status   int       // 200..599, or 101 with Tunnel
	Prepared *Prepared // nil, or lines that come before Fields
	// Fields are added after Prepared's. Never Connection, Keep-Alive or
	// Transfer-Encoding: framing is the protocol's. A Content-Length here is
	// kept for HEAD and 304 only; elsewhere Length decides. Date is added by
	// the protocol when neither Prepared nor Fields has one.
	Fields Fields
	Length int64         // of the body in bytes, LengthUnknown when it is not known
	Bytes  []byte        // body in memory, not written to; else
	Body   io.ReadCloser // body as a stream, closed by Close; nil with Bytes nil = no body
	// Trailer is read when Body has returned io.EOF; nil = none.
	Trailer *Fields
	// Tunnel, with Status 101 (or a 200 to CONNECT), takes over the
	// connection: the server copies both ways until either side ends. On HTTP/2
	// and HTTP/3 it takes over the stream, which answers 200 for the 101.
	Tunnel io.ReadWriteCloser
	// EndConn asks the protocol to end the connection after this answer.
	EndConn bool
	// Release is called by Close: it gives back what Bytes or Prepared borrow.
	Release func()
	// Lender is Release for who would have to make a function for each answer.
	Lender Lender
	// Room is a Prepared for who makes one for this answer alone.
	Room Prepared
}

// FileBody is a Body that may lie in a file, so that the kernel can send it
// without it being read. Who cannot use that reads it.
type FileBody interface {
	io.ReadCloser
	// File returns where the n bytes that are not read yet begin in f, and what to
	// call when they are sent; f is nil where they are to be read. The position of
	// f is not to be used.
	File() (f *os.File, from, n int64, done func())
}

// Lender has lent memory to an answer; Release is called once by its Close.
type Lender interface{ Release() }

// Filed is a Lender whose memory may lie in a file, so that the kernel can send it
// without copying.
type Filed interface {
	Lender
	// File says where b, the answer's Bytes, lies: b[from:] begins at byte at of f;
	// f is nil where it lies in none. What the kernel has been told to send stays as
	// it is after Release.
	File(b []byte) (f *os.File, at int64, from int)
}

// Reset prepares for the next answer and keeps memory. It does not Close.
func (r *Response) Reset() {
	f := r.Fields
	f.Reset()
	*r = Response{Fields: f}
}

// Close releases body and borrowed memory. Calling it twice is harmless.
func (r *Response) Close() {
	if r.Body != nil {
		_ = r.Body.Close() // the reader is gone: nobody is left to tell
		r.Body = nil
	}
	if r.Tunnel != nil {
		_ = r.Tunnel.Close() // likewise
		r.Tunnel = nil
	}
	if r.Release != nil {
		r.Release()
		r.Release = nil
	}
	if r.Lender != nil {
		r.Lender.Release()
		r.Lender = nil
	}
	r.Bytes, r.Prepared = nil, nil
}

// Conn says where a request came from. One value per connection, read-only.
type Conn struct {
	Remote netip.AddrPort
	Local  netip.AddrPort
	TLS    *tls.ConnectionState // nil over plain TCP
}

// Handler is asked for the value that answers on a connection: once for
// HTTP/1.1; for HTTP/2 and HTTP/3 once per request in flight, and the value is
// used again when its request is done.
type Handler interface {
	Open(*Conn) Session
}

// Leaver is a Session that wants to know when its visitor has gone away while
// a request is served: Left is called, at most once and by another goroutine,
// maybe until shortly after Close. What the visitor asked for is in vain, and no
// further request will come.
type Leaver interface{ Left() }

// Stepper is a Session that can tell whether it has to wait. HTTP/2 and HTTP/3
// call Step for what came in one read, one request after the other, and send
// all that is done in one write.
type Stepper interface {
	Session
	// Step is Serve without waiting. It is not done when the answer takes
	// somebody else (an origin, a disk, the request's body): res is untouched
	// then, and Serve is called with the same req and res, by a goroutine that
	// may wait, and goes on where Step stopped. An answer of a Step that is done
	// may still have a Body that waits.
	Step(req *Request, res *Response) (done bool)
}

// Session answers requests, one at a time.
type Session interface {
	// Serve fills res for req. It may wait. It must not keep req's bytes
	// after Done.
	Serve(req *Request, res *Response)
	// Done is called once after each Serve, when the answer has left or could
	// not: sent counts body bytes, err is nil when the answer left whole. To
	// HTTP/2 an answer of a Step has left when all of it is in the one buffer
	// that is written next.
	// A request that was refused as malformed before Serve is reported by
	// Refused instead.
	Done(req *Request, res *Response, sent int64, err error)
	// Refused is told of a request that never reached Serve: status is the
	// answer that was sent (400, 408, 413, 414, 431, 501, 505), reason why.
	Refused(status int, reason error)
	// Close is called when no more requests come: the connection ends.
	Close()
}
