package h1

import (
	"bytes"

	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

// refusal is input that is not accepted: the status that a visitor is
// answered with, and the reason. From an origin it means Malformed.
type refusal struct {
	status int
	reason string
}

func (e *refusal) Error() string { return "h1: " + e.reason }

func bad(reason string) *refusal { return &refusal{400, reason} }

// The refusals are values so that refusing allocates nothing.
var (
	errLineBareLF   = bad("line not ended by CRLF")
	errLineLong     = &refusal{431, "field line too long"}
	errURILong      = &refusal{414, "request line too long"}
	errHeadLong     = &refusal{431, "head too long"}
	errFieldCount   = &refusal{431, "too many field lines"}
	errFold         = bad("line folding")
	errFieldName    = bad("invalid field name")
	errFieldValue   = bad("invalid byte in field value")
	errLength       = bad("invalid Content-Length")
	errLengthTwice  = bad("several Content-Length lines")
	errLengthCoding = bad("Content-Length with Transfer-Encoding")
	errCoding       = bad("invalid Transfer-Encoding")
	errCodingOther  = &refusal{501, "transfer coding other than chunked"}
	errCodingOld    = bad("Transfer-Encoding in HTTP/1.0")
	errFieldDouble  = bad("field name that imitates a framing field")
)

// scan finds the end of a head or trailer section that arrives in pieces,
// looking at each byte once. Its offsets count from the section's start.
type scan struct {
	at    int // bytes looked at
	line  int // start of the current line
	lines int // whole lines seen
	start int // 1 when the first line is a start line, 0 in trailers
}

// end returns the length of the section with its empty line, 0 when more is
// needed. p is the section as far as it has arrived.
func (s *scan) end(p []byte, l *bounds) (int, *refusal) {
	for {
		i := bytes.IndexByte(p[s.at:], '\n')
		if i < 0 {
			s.at = len(p)
			return 0, s.over(len(p)-s.line-1, len(p), l)
		}
		i += s.at
		if i == s.line || p[i-1] != '\r' {
			return 0, errLineBareLF
		}
		if i == s.line+1 {
			return i + 1, s.over(0, i+1, l)
		}
		s.lines++
		if err := s.over(i-1-s.line, i+1, l); err != nil {
			return 0, err
		}
		s.at, s.line = i+1, i+1
	}
}

func (s *scan) over(line, all int, l *bounds) *refusal {
	switch {
	case line > l.line && s.line == 0 && s.start == 1:
		return errURILong
	case line > l.line:
		return errLineLong
	case all > l.head:
		return errHeadLong
	case s.lines-s.start > l.fields:
		return errFieldCount
	}
	return nil
}

// parseFields reads whole field lines, each ended by CRLF, into f, whose
// names and values are then slices of p (RFC 9112 §5).
func parseFields(p []byte, f *msg.Fields) *refusal {
	for len(p) > 0 {
		i := 0
		for i < len(p) && head.Token.Has(p[i]) {
			i++
		}
		if i == 0 && (p[0] == ' ' || p[0] == '\t') {
			return errFold
		}
		if i == 0 || i == len(p) || p[i] != ':' {
			return errFieldName
		}
		from := i + 1
		for from < len(p) && (p[from] == ' ' || p[from] == '\t') {
			from++
		}
		to := from
		for to < len(p) && head.Value.Has(p[to]) {
			to++
		}
		if to+1 >= len(p) || p[to] != '\r' || p[to+1] != '\n' {
			return errFieldValue
		}
		next := to + 2
		for to > from && (p[to-1] == ' ' || p[to-1] == '\t') {
			to--
		}
		f.Add(p[:i:i], p[from:to:to])
		if f.At(f.Len()-1).ID == msg.Unknown && head.Imitates(p[:i]) {
			return errFieldDouble
		}
		p = p[next:]
	}
	return nil
}

// framing is what the fields say about where a message ends (RFC 9112 §6).
type framing struct {
	length  int64 // of Content-Length; -1 when there is none
	chunked bool
}

func parseFraming(f *msg.Fields, proto msg.Proto) (framing, *refusal) {
	fr := framing{length: -1}
	coded, sized := f.Has(msg.TransferEncoding), f.Has(msg.ContentLength)
	if !coded && !sized {
		return fr, nil
	}
	switch {
	case coded && proto == msg.HTTP10:
		return fr, errCodingOld
	case coded && sized:
		return fr, errLengthCoding
	case coded:
		fr.chunked = true
		return fr, checkCoding(f)
	case f.Count(msg.ContentLength) > 1:
		return fr, errLengthTwice
	}
	n, ok := head.Length(f.Get(msg.ContentLength))
	if !ok {
		return fr, errLength
	}
	fr.length = n
	return fr, nil
}

// checkCoding accepts one line that says chunked and nothing else. A list
// that ends in one chunked is well-formed but beyond us.
func checkCoding(f *msg.Fields) *refusal {
	if f.Count(msg.TransferEncoding) > 1 {
		return errCoding
	}
	value := f.Get(msg.TransferEncoding)
	if msg.EqualFold(value, "chunked") {
		return nil
	}
	for n, chunked := 0, false; ; n++ {
		var coding []byte
		coding, value = msg.NextToken(value)
		switch {
		case coding == nil && chunked && n > 1:
			return errCodingOther
		case coding == nil || chunked || !head.Token.All(coding):
			return errCoding
		}
		chunked = msg.EqualFold(coding, "chunked")
	}
}

// keepAlive reports whether the sender allows the connection to go on.
func keepAlive(f *msg.Fields, proto msg.Proto) bool {
	if proto == msg.HTTP10 {
		return f.HasToken(msg.Connection, "keep-alive") && !f.HasToken(msg.Connection, "close")
	}
	return !f.HasToken(msg.Connection, "close")
}
