package h1

import (
	"bytes"

	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

var (
	errRequestLine  = bad("invalid request line")
	errMethod       = bad("invalid method")
	errTarget       = bad("invalid request target")
	errScheme       = bad("request target of another scheme")
	errVersion      = &refusal{505, "HTTP version not supported"}
	errHostMissing  = bad("no Host")
	errHostTwice    = bad("several Host lines")
	errHost         = bad("invalid Host")
	errHostMismatch = bad("Host differs from the request target's authority")
	errConnect      = &refusal{501, "CONNECT"}
	errExpect       = &refusal{417, "unknown expectation"}
	errBodyLarge    = &refusal{413, "body too large"}
	errUpgradeForm  = bad("invalid Upgrade")
)

// requestHead is what the server needs besides msg.Request.
type requestHead struct {
	keep   bool // the visitor allows another request
	expect bool // it waits for 100 (Continue)
}

// parseRequest reads a whole head, the empty line included, into req, whose
// slices are then slices of head. req has been reset.
func parseRequest(head []byte, req *msg.Request, maxBody int64) (requestHead, *refusal) {
	var h requestHead
	eol := bytes.IndexByte(head, '\n')
	if eol < 1 || len(head) < eol+3 {
		return h, errRequestLine
	}
	authority, err := parseRequestLine(head[:eol-1], req)
	if err != nil {
		return h, err
	}
	if err := parseFields(head[eol+1:len(head)-2], &req.Fields); err != nil {
		return h, err
	}
	if err := checkHost(req, authority); err != nil {
		return h, err
	}
	fr, err := parseFraming(&req.Fields, req.Proto)
	if err != nil {
		return h, err
	}
	switch {
	case req.Method == msg.CONNECT:
		return h, errConnect
	case fr.chunked:
		req.Length = msg.LengthUnknown
	case fr.length > 0:
		req.Length = fr.length
	}
	if maxBody > 0 && req.Length > maxBody {
		return h, errBodyLarge
	}
	if req.Fields.Has(msg.Expect) && req.Proto == msg.HTTP11 {
		if req.Fields.Count(msg.Expect) > 1 || !msg.EqualFold(req.Fields.Get(msg.Expect), "100-continue") {
			return h, errExpect
		}
		h.expect = req.Length != 0
	}
	h.keep = keepAlive(&req.Fields, req.Proto)
	return h, parseUpgrade(req)
}

// parseRequestLine reads method, target and version (RFC 9112 §3). It
// returns the authority of an absolute-form target, else nil.
func parseRequestLine(line []byte, req *msg.Request) (authority []byte, err *refusal) {
	sp := bytes.IndexByte(line, ' ')
	if sp < 1 || !head.Token.All(line[:sp]) {
		return nil, errMethod
	}
	req.MethodText = line[:sp:sp]
	req.Method = msg.MethodOf(req.MethodText)
	rest := line[sp+1:]
	end := len(rest) - len(" HTTP/1.1")
	if end < 1 || rest[end] != ' ' {
		return nil, errRequestLine
	}
	if req.Proto, err = parseVersion(rest[end+1:]); err != nil {
		return nil, err
	}
	target := rest[:end:end]
	if !head.Target.All(target) {
		return nil, errTarget
	}
	switch {
	case req.Method == msg.CONNECT:
		if !head.Authority(target) || bytes.IndexByte(target, ':') < 0 {
			return nil, errTarget
		}
		return target, nil
	case target[0] == '/':
		head.SetTarget(req, target)
	case len(target) == 1 && target[0] == '*':
		if req.Method != msg.OPTIONS {
			return nil, errTarget
		}
		req.Target, req.Path = target, target
	default:
		return absoluteForm(req, target)
	}
	return nil, nil
}

func parseVersion(p []byte) (msg.Proto, *refusal) {
	switch {
	case string(p) == "HTTP/1.1":
		return msg.HTTP11, nil
	case string(p) == "HTTP/1.0":
		return msg.HTTP10, nil
	case len(p) == 8 && string(p[:5]) == "HTTP/" && isDigit(p[5]) && p[6] == '.' && isDigit(p[7]):
		return 0, errVersion
	}
	return 0, errRequestLine
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

// absoluteForm takes "http://authority/path?query" apart (RFC 9112 §3.2.2).
// What is behind the authority becomes Target; the scheme is checked and
// dropped: how the visitor reached us is what counts.
func absoluteForm(req *msg.Request, target []byte) ([]byte, *refusal) {
	n := len("http://")
	if len(target) > n && target[4]|0x20 == 's' {
		n++
	}
	if len(target) <= n || !msg.EqualFold(target[:n], "https://"[:n]) && !msg.EqualFold(target[:n], "http://") {
		return nil, errScheme
	}
	end := bytes.IndexAny(target[n:], "/?")
	if end < 0 {
		end = len(target) - n
	}
	authority, rest := target[n:n+end:n+end], target[n+end:]
	if !head.Authority(authority) {
		return nil, errTarget
	}
	if len(rest) == 0 && req.Method == msg.OPTIONS {
		req.Target = []byte{'*'} // RFC 9112 §3.2.4
		req.Path = req.Target
		return authority, nil
	}
	if len(rest) == 0 || rest[0] == '?' {
		rest = append([]byte{'/'}, rest...)
	}
	head.SetTarget(req, rest)
	return authority, nil
}

// checkHost sets Authority (RFC 9112 §3.2): one valid Host, equal to an
// absolute-form target's authority; HTTP/1.0 may go without.
func checkHost(req *msg.Request, authority []byte) *refusal {
	switch req.Fields.Count(msg.Host) {
	case 0:
		if req.Proto != msg.HTTP10 {
			return errHostMissing
		}
		req.Authority = authority
		return nil
	case 1:
	default:
		return errHostTwice
	}
	host := req.Fields.Get(msg.Host)
	if !head.Authority(host) {
		return errHost
	}
	if authority != nil && !msg.EqualFold(host, authority) {
		return errHostMismatch
	}
	req.Authority = host
	return nil
}

// parseUpgrade sets Upgrade when one protocol is asked for properly (RFC 9110
// §7.8). Offers that we never take up are passed over, as the RFC allows: in
// HTTP/1.0, together with a body, several at once, and what would let a visitor
// speak to an origin unseen, such as h2c.
func parseUpgrade(req *msg.Request) *refusal {
	if !req.Fields.Has(msg.Upgrade) {
		return nil
	}
	value := req.Fields.Get(msg.Upgrade)
	for _, b := range value {
		if !head.Token.Has(b) && b != '/' && b != ',' && b != ' ' && b != '\t' {
			return errUpgradeForm
		}
	}
	one, rest := msg.NextToken(value)
	if one == nil || len(rest) > 0 || req.Fields.Count(msg.Upgrade) > 1 || bytes.IndexByte(one, ' ') >= 0 {
		return nil
	}
	if req.Proto != msg.HTTP11 || req.Length != 0 || head.Unseen(one) ||
		!req.Fields.HasToken(msg.Connection, "upgrade") {
		return nil
	}
	req.Upgrade = one
	return nil
}
