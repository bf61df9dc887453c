package request

import (
	"bytes"
	"net/netip"

	"github.com/selvage-edge/selvage/expr"
	"github.com/selvage-edge/selvage/wire/msg"
)

var _ expr.Source = (*Request)(nil)

// RulePath is the path as rules see it: normalised where the zone asks for it.
func (r *Request) RulePath() []byte {
	if r.Path != nil {
		return r.Path
	}
	return r.In.Path
}

// Text answers an expression that asks for a text.
func (r *Request) Text(f expr.Field) []byte {
	switch f {
	case expr.Host:
		return r.Host
	case expr.Path:
		return r.RulePath()
	case expr.PathExtension:
		return r.extension()
	case expr.Query:
		return r.In.Query
	case expr.URI:
		return r.uri()
	case expr.FullURI:
		return r.fullURI()
	case expr.RawPath:
		return r.In.Path
	case expr.RawURI:
		return r.In.Target
	case expr.Method:
		return r.In.MethodText
	case expr.Version:
		return versionText(r.In.Proto)
	case expr.Cookie:
		return r.In.Fields.Get(msg.Cookie)
	case expr.Referer:
		return r.In.Fields.Lookup("referer")
	case expr.UserAgent:
		return r.In.Fields.Get(msg.UserAgent)
	case expr.AcceptLanguage:
		return r.In.Fields.Lookup("accept-language")
	case expr.Country:
		return r.country()
	}
	return nil
}

// Number answers an expression that asks for a number.
func (r *Request) Number(f expr.Field) int64 {
	if f == expr.Network {
		return int64(r.Geo.ASN)
	}
	return 0
}

// Flag answers an expression that asks whether something is so.
func (r *Request) Flag(f expr.Field) bool { return f == expr.Secure && r.In.Scheme == msg.HTTPS }

// Addr answers an expression that asks for an address.
func (r *Request) Addr(f expr.Field) netip.Addr {
	if f == expr.Client {
		return r.Client
	}
	return netip.Addr{}
}

var unknownCountry = []byte("XX")

func (r *Request) country() []byte {
	if r.Geo.Country == [2]byte{} {
		return unknownCountry
	}
	return r.Geo.Country[:]
}

var versions = [...][]byte{[]byte("HTTP/1.0"), []byte("HTTP/1.1"), []byte("HTTP/2"), []byte("HTTP/3")}

func versionText(p msg.Proto) []byte {
	switch p {
	case msg.HTTP10:
		return versions[0]
	case msg.HTTP2:
		return versions[2]
	case msg.HTTP3:
		return versions[3]
	}
	return versions[1]
}

// extension is what follows the last dot of the path's last segment, in lower
// case; nil without one.
func (r *Request) extension() []byte {
	ext := Extension(r.RulePath())
	for i, c := range ext {
		if c < 'A' || c > 'Z' {
			continue
		}
		small := r.Arena.Copy(ext)
		for ; i < len(small); i++ {
			if c := small[i]; 'A' <= c && c <= 'Z' {
				small[i] = c | 0x20
			}
		}
		return small
	}
	return ext
}

// Extension is what follows the last dot of a path's last segment, as it is
// written; nil without one.
func Extension(path []byte) []byte {
	last := path[bytes.LastIndexByte(path, '/')+1:]
	dot := bytes.LastIndexByte(last, '.')
	if dot < 0 {
		return nil
	}
	return last[dot+1:]
}

// uri is path and query; made once where it is not the target as sent.
func (r *Request) uri() []byte {
	if r.Path == nil {
		return r.In.Target
	}
	if r.uriText == nil {
		room := len(r.Path) + 1 + len(r.In.Query)
		r.uriText = appendURI(r.Arena.Alloc(room)[:0], r)
	}
	return r.uriText
}

func (r *Request) fullURI() []byte {
	if r.fullText == nil {
		const sep = "://"
		scheme := r.In.Scheme.String()
		room := len(scheme) + len(sep) + len(r.Host) + len(r.RulePath()) + 1 + len(r.In.Query)
		b := append(r.Arena.Alloc(room)[:0], scheme...)
		b = append(b, sep...)
		b = append(b, r.Host...)
		r.fullText = appendURI(b, r)
	}
	return r.fullText
}

func appendURI(b []byte, r *Request) []byte {
	b = append(b, r.RulePath()...)
	if r.In.Query != nil {
		b = append(b, '?')
		b = append(b, r.In.Query...)
	}
	return b
}
