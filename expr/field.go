package expr

import "net/netip"

// Field numbers what an expression can ask about. Numbers are not stored
// anywhere: the text of a rule is.
type Field uint8

const (
	Host           Field = iota // http.host: lower-case, without port
	Path                        // http.request.uri.path, normalised as the zone asks
	PathExtension               // http.request.uri.path.extension: lower-case, without the dot; empty without one
	Query                       // http.request.uri.query: without '?'
	URI                         // http.request.uri: path and query
	FullURI                     // http.request.full_uri: scheme, host, path and query
	RawPath                     // raw.http.request.uri.path, as it came
	RawURI                      // raw.http.request.uri
	Method                      // http.request.method
	Version                     // http.request.version: HTTP/1.0, HTTP/1.1, HTTP/2, HTTP/3
	Cookie                      // http.cookie: the whole field
	Referer                     // http.referer
	UserAgent                   // http.user_agent
	AcceptLanguage              // http.request.accept_language
	Secure                      // ssl
	Client                      // ip.src
	Country                     // ip.src.country: ISO 3166-1 alpha-2, "XX" when unknown
	Network                     // ip.src.asnum, 0 when unknown
	fieldCount
)

// Type is what a field, a function or a literal is.
type Type uint8

const (
	Bool Type = iota
	Text
	Number
	Address
)

var typeNames = [...]string{Bool: "a boolean", Text: "a text", Number: "a number", Address: "an IP address"}

func (t Type) String() string { return typeNames[t] }

// Source answers what an expression asks of the thing being judged: a
// request, a query or a handshake. Each method is asked only for fields of its
// type; what is returned is not changed and not kept. A field that the source
// does not have is empty, zero or false.
type Source interface {
	Text(Field) []byte
	Number(Field) int64
	Flag(Field) bool
	Addr(Field) netip.Addr
}

type fieldInfo struct {
	name string
	typ  Type
}

// fields names every Field.
var fields = [fieldCount]fieldInfo{
	Host:           {"http.host", Text},
	Path:           {"http.request.uri.path", Text},
	PathExtension:  {"http.request.uri.path.extension", Text},
	Query:          {"http.request.uri.query", Text},
	URI:            {"http.request.uri", Text},
	FullURI:        {"http.request.full_uri", Text},
	RawPath:        {"raw.http.request.uri.path", Text},
	RawURI:         {"raw.http.request.uri", Text},
	Method:         {"http.request.method", Text},
	Version:        {"http.request.version", Text},
	Cookie:         {"http.cookie", Text},
	Referer:        {"http.referer", Text},
	UserAgent:      {"http.user_agent", Text},
	AcceptLanguage: {"http.request.accept_language", Text},
	Secure:         {"ssl", Bool},
	Client:         {"ip.src", Address},
	Country:        {"ip.src.country", Text},
	Network:        {"ip.src.asnum", Number},
}

// byName finds fields, older names included.
var byName = func() map[string]Field {
	m := map[string]Field{"ip.geoip.country": Country, "ip.geoip.asnum": Network}
	for id := range fieldCount {
		m[fields[id].name] = id
	}
	return m
}()

func (f Field) String() string { return fields[f].name }

// Type returns what the field holds.
func (f Field) Type() Type { return fields[f].typ }

// Fields lists every field, for documentation and for tests of sources.
func Fields() []Field {
	all := make([]Field, fieldCount)
	for id := range fieldCount {
		all[id] = id
	}
	return all
}
