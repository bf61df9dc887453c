package h1

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg/msgtest"
)

// rawCase is bytes in, status out. saw is what the handler was given; it is
// empty exactly when the request must not reach it.
type rawCase struct {
	name   string
	in     string
	status int
	saw    string
}

const h = "Host: a.test\r\n"

// requestCases come from RFC 9112 and RFC 9110 and from the published classes
// of request smuggling: CL.TE, TE.CL, TE.TE, CL.0, TE.0, 0.CL, TERM.EXT,
// EXT.TERM, header hiding by white space, by NUL, by line ends.
var requestCases = []rawCase{
	// What is well-formed.
	{"get", "GET / HTTP/1.1\r\n" + h + "\r\n", 200, "GET / @a.test|Host=a.test"},
	{"query", "GET /a?b=c?d HTTP/1.1\r\n" + h + "\r\n", 200, "GET /a?b=c?d @a.test|Host=a.test"},
	{"one leading CRLF", "\r\nGET / HTTP/1.1\r\n" + h + "\r\n", 200, "GET / @a.test|Host=a.test"},
	{"trimmed value", "GET / HTTP/1.1\r\n" + h + "X: \t a b \t \r\n\r\n", 200, "GET / @a.test|Host=a.test|X=a b"},
	{"empty value", "GET / HTTP/1.1\r\n" + h + "X:\r\nY: \t\r\n\r\n", 200, "GET / @a.test|Host=a.test|X=|Y="},
	{"obs-text value", "GET / HTTP/1.1\r\n" + h + "X: caf\xc3\xa9\xff\r\n\r\n", 200, "GET / @a.test|Host=a.test|X=caf\xc3\xa9\xff"},
	{"all tchar", "GET / HTTP/1.1\r\n" + h + "!#$%&'*+-.^_`|~09aZ: x\r\n\r\n", 200, "GET / @a.test|Host=a.test|!#$%&'*+-.^_`|~09aZ=x"},
	{"unknown method", "BREW / HTTP/1.1\r\n" + h + "\r\n", 200, "BREW / @a.test|Host=a.test"},
	{"method is case-sensitive", "get / HTTP/1.1\r\n" + h + "\r\n", 200, "get / @a.test|Host=a.test"},
	{"host port", "GET / HTTP/1.1\r\nHost: a.test:8080\r\n\r\n", 200, "GET / @a.test:8080|Host=a.test:8080"},
	{"host v4", "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", 200, "GET / @192.0.2.1|Host=192.0.2.1"},
	{"host v6", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", 200, "GET / @[2001:db8::1]:80|Host=[2001:db8::1]:80"},
	{"host final dot", "GET / HTTP/1.1\r\nHost: a.test.\r\n\r\n", 200, "GET / @a.test.|Host=a.test."},
	{"host underscore", "GET / HTTP/1.1\r\nHost: a_b.test\r\n\r\n", 200, "GET / @a_b.test|Host=a_b.test"},
	{"name in any case", "GET / HTTP/1.1\r\nhOsT: a.test\r\n\r\n", 200, "GET / @a.test|hOsT=a.test"},
	{"absolute-form", "GET http://a.test/x?y HTTP/1.1\r\n" + h + "\r\n", 200, "GET /x?y @a.test|Host=a.test"},
	{"absolute-form https", "GET HTTPS://A.test/x HTTP/1.1\r\n" + h + "\r\n", 200, "GET /x @a.test|Host=a.test"},
	{"absolute-form without path", "GET http://a.test HTTP/1.1\r\n" + h + "\r\n", 200, "GET / @a.test|Host=a.test"},
	{"absolute-form of the whole server", "OPTIONS http://a.test HTTP/1.1\r\n" + h + "\r\n", 200, "OPTIONS * @a.test|Host=a.test"},
	{"absolute-form with path", "OPTIONS http://a.test/ HTTP/1.1\r\n" + h + "\r\n", 200, "OPTIONS / @a.test|Host=a.test"},
	{"absolute-form query only", "GET http://a.test?q HTTP/1.1\r\n" + h + "\r\n", 200, "GET /?q @a.test|Host=a.test"},
	{"asterisk", "OPTIONS * HTTP/1.1\r\n" + h + "\r\n", 200, "OPTIONS * @a.test|Host=a.test"},
	{"1.0 without host", "GET / HTTP/1.0\r\n\r\n", 200, "GET / @"},
	{"1.0 absolute without host", "GET http://a.test/ HTTP/1.0\r\n\r\n", 200, "GET / @a.test"},
	{"1.0 with length", "POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", 200, "POST / @|Content-Length=2|body=ab"},
	{"length", "POST / HTTP/1.1\r\n" + h + "Content-Length: 3\r\n\r\nabc", 200, "POST / @a.test|Host=a.test|Content-Length=3|body=abc"},
	{"length zero", "POST / HTTP/1.1\r\n" + h + "Content-Length: 0\r\n\r\n", 200, "POST / @a.test|Host=a.test|Content-Length=0"},
	{"length with leading zeros", "POST / HTTP/1.1\r\n" + h + "Content-Length: 003\r\n\r\nabc", 200, "POST / @a.test|Host=a.test|Content-Length=003|body=abc"},
	{"length on GET", "GET / HTTP/1.1\r\n" + h + "Content-Length: 1\r\n\r\na", 200, "GET / @a.test|Host=a.test|Content-Length=1|body=a"},
	{"chunked", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, "POST / @a.test|Host=a.test|Transfer-Encoding=chunked|body=abc"},
	{"chunked in any case", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", 200, "POST / @a.test|Host=a.test|Transfer-Encoding=Chunked|body="},
	{"chunk sizes", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\n\r\n00a\r\n0123456789\r\nB\r\nabcdefghijk\r\n0000\r\n\r\n", 200, "POST / @a.test|Host=a.test|Transfer-Encoding=chunked|body=0123456789abcdefghijk"},
	{"chunk extensions", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\n\r\n1;a;b=c;d=\"e\\\"; f\"\r\nx\r\n0;z\r\n\r\n", 200, "POST / @a.test|Host=a.test|Transfer-Encoding=chunked|body=x"},
	{"trailers", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: 1\r\nB:2\r\n\r\n", 200, "POST / @a.test|Host=a.test|Transfer-Encoding=chunked|body=x|trailer A=1|trailer B=2"},
	{"expect", "POST / HTTP/1.1\r\n" + h + "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", 100, "POST / @a.test|Host=a.test|Expect=100-Continue|Content-Length=1|body=x"},
	{"odd but visible target", "GET /<>\"{}|\\^` HTTP/1.1\r\n" + h + "\r\n", 200, "GET /<>\"{}|\\^` @a.test|Host=a.test"},

	// Request line.
	{"two leading CRLF", "\r\n\r\nGET / HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"leading LF", "\nGET / HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"leading CR", "\rGET / HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"leading space", " GET / HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"two spaces", "GET  / HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"tab for space", "GET\t/ HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"space in target", "GET /a b HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"space before version", "GET /  HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"trailing space", "GET / HTTP/1.1 \r\n" + h + "\r\n", 400, ""},
	{"no target", "GET HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"no version", "GET /\r\n" + h + "\r\n", 400, ""},
	{"http 0.9", "GET /\r\n", 400, ""},
	{"method not a token", "GE{T / HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"method empty", " / HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"NUL in method", "GE\x00T / HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"version lower case", "GET / http/1.1\r\n" + h + "\r\n", 400, ""},
	{"version word", "GET / HTTPS/1.1\r\n" + h + "\r\n", 400, ""},
	{"version long", "GET / HTTP/1.10\r\n" + h + "\r\n", 400, ""},
	{"version without minor", "GET / HTTP/1\r\n" + h + "\r\n", 400, ""},
	{"version 1.2", "GET / HTTP/1.2\r\n" + h + "\r\n", 505, ""},
	{"version 2.0", "GET / HTTP/2.0\r\n" + h + "\r\n", 505, ""},
	{"version 0.9", "GET / HTTP/0.9\r\n" + h + "\r\n", 505, ""},
	{"http 2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, ""},
	{"tls hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, ""},
	{"ssh banner", "SSH-2.0-OpenSSH_9.2p1\r\n\r\n", 400, ""},
	{"line ended by LF", "GET / HTTP/1.1\n" + h + "\r\n", 400, ""},
	{"bare CR in line", "GET /\rx HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"NUL in target", "GET /\x00 HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"DEL in target", "GET /\x7f HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"tab in target", "GET /a\tb HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"raw non-ASCII", "GET /caf\xc3\xa9 HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"fragment", "GET /a#b HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"no slash", "GET a HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"asterisk for GET", "GET * HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"asterisk with more", "OPTIONS *x HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"authority-form for GET", "GET a.test:80 HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"connect", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 501, ""},
	{"connect origin-form", "CONNECT / HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"connect without port", "CONNECT a.test HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"connect host mismatch", "CONNECT b.test:443 HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"absolute-form other host", "GET http://b.test/ HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"absolute-form other port", "GET http://a.test:81/ HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"absolute-form other scheme", "GET ftp://a.test/ HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"absolute-form ws", "GET ws://a.test/ HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"absolute-form user", "GET http://u@a.test/ HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"absolute-form empty host", "GET http:///x HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"absolute-form one slash", "GET http:/a.test/ HTTP/1.1\r\n" + h + "\r\n", 400, ""},
	{"absolute-form no host line", "GET http://a.test/ HTTP/1.1\r\n\r\n", 400, ""},

	// Host.
	{"no host", "GET / HTTP/1.1\r\n\r\n", 400, ""},
	{"two hosts", "GET / HTTP/1.1\r\n" + h + "Host: b.test\r\n\r\n", 400, ""},
	{"two equal hosts", "GET / HTTP/1.1\r\n" + h + h + "\r\n", 400, ""},
	{"two hosts in 1.0", "GET / HTTP/1.0\r\n" + h + h + "\r\n", 400, ""},
	{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, ""},
	{"host list", "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", 400, ""},
	{"host with path", "GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n", 400, ""},
	{"host with user", "GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n", 400, ""},
	{"host with space", "GET / HTTP/1.1\r\nHost: a.test b\r\n\r\n", 400, ""},
	{"host non-ASCII", "GET / HTTP/1.1\r\nHost: caf\xc3\xa9.test\r\n\r\n", 400, ""},
	{"host percent", "GET / HTTP/1.1\r\nHost: a%2etest\r\n\r\n", 400, ""},
	{"host leading dot", "GET / HTTP/1.1\r\nHost: .a.test\r\n\r\n", 400, ""},
	{"host double dot", "GET / HTTP/1.1\r\nHost: a..test\r\n\r\n", 400, ""},
	{"host port word", "GET / HTTP/1.1\r\nHost: a.test:http\r\n\r\n", 400, ""},
	{"host port empty", "GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n", 400, ""},
	{"host port large", "GET / HTTP/1.1\r\nHost: a.test:65536\r\n\r\n", 400, ""},
	{"host port twice", "GET / HTTP/1.1\r\nHost: a.test:80:80\r\n\r\n", 400, ""},
	{"host v6 bare", "GET / HTTP/1.1\r\nHost: 2001:db8::1\r\n\r\n", 400, ""},
	{"host v6 open", "GET / HTTP/1.1\r\nHost: [2001:db8::1\r\n\r\n", 400, ""},
	{"host v6 zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25lo]\r\n\r\n", 400, ""},
	{"host v6 tail", "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", 400, ""},
	{"host brackets around v4", "GET / HTTP/1.1\r\nHost: [192.0.2.1]\r\n\r\n", 400, ""},
	{"host long", "GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 255) + "\r\n\r\n", 400, ""},

	// Field lines.
	{"space before colon", "GET / HTTP/1.1\r\n" + h + "X : y\r\n\r\n", 400, ""},
	{"tab before colon", "GET / HTTP/1.1\r\n" + h + "X\t: y\r\n\r\n", 400, ""},
	{"space in name", "GET / HTTP/1.1\r\n" + h + "X Y: z\r\n\r\n", 400, ""},
	{"no colon", "GET / HTTP/1.1\r\n" + h + "X\r\n\r\n", 400, ""},
	{"empty name", "GET / HTTP/1.1\r\n" + h + ": x\r\n\r\n", 400, ""},
	{"non-ASCII name", "GET / HTTP/1.1\r\n" + h + "X\xe9: y\r\n\r\n", 400, ""},
	{"NUL in name", "GET / HTTP/1.1\r\n" + h + "X\x00: y\r\n\r\n", 400, ""},
	{"fold by space", "GET / HTTP/1.1\r\n" + h + "X: y\r\n z\r\n\r\n", 400, ""},
	{"fold by tab", "GET / HTTP/1.1\r\n" + h + "X: y\r\n\tz\r\n\r\n", 400, ""},
	{"fold of nothing", "GET / HTTP/1.1\r\n " + h + "\r\n", 400, ""},
	{"line of a space", "GET / HTTP/1.1\r\n" + h + " \r\n\r\n", 400, ""},
	{"NUL in value", "GET / HTTP/1.1\r\n" + h + "X: a\x00b\r\n\r\n", 400, ""},
	{"escape in value", "GET / HTTP/1.1\r\n" + h + "X: a\x1bb\r\n\r\n", 400, ""},
	{"vertical tab in value", "GET / HTTP/1.1\r\n" + h + "X: a\x0bb\r\n\r\n", 400, ""},
	{"form feed in value", "GET / HTTP/1.1\r\n" + h + "X: a\x0cb\r\n\r\n", 400, ""},
	{"DEL in value", "GET / HTTP/1.1\r\n" + h + "X: a\x7fb\r\n\r\n", 400, ""},
	{"bare CR in value", "GET / HTTP/1.1\r\n" + h + "X: a\rb\r\n\r\n", 400, ""},
	{"bare CR hides a field", "GET / HTTP/1.1\r\n" + h + "X: a\rTransfer-Encoding: chunked\r\n\r\n", 400, ""},
	{"bare LF hides a field", "GET / HTTP/1.1\r\n" + h + "X: a\nTransfer-Encoding: chunked\r\n\r\n", 400, ""},
	{"CR CR LF", "GET / HTTP/1.1\r\n" + h + "X: a\r\r\n\r\n", 400, ""},
	{"head ended by LF LF", "GET / HTTP/1.1\n" + "Host: a.test\n\n", 400, ""},
	{"head ended by CRLF LF", "GET / HTTP/1.1\r\n" + h + "\n", 400, ""},
	{"head cut off", "GET / HTTP/1.1\r\nHost: a.te", 400, ""},

	// Framing.
	{"CL.TE", "POST / HTTP/1.1\r\n" + h + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", 400, ""},
	{"TE.CL", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n", 400, ""},
	{"TE.CL with zero", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", 400, ""},
	{"TE.TE two lines", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 400, ""},
	{"TE.TE cow", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n\r\n", 400, ""},
	{"chunked twice", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, ""},
	{"chunked, chunked", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked, chunked\r\n\r\n", 400, ""},
	{"chunked, identity", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked, identity\r\n\r\n", 400, ""},
	{"xchunked", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: xchunked\r\n\r\n", 400, ""},
	{"chunked with NUL", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: \x00chunked\r\n\r\n", 400, ""},
	{"chunked with VT", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: \x0bchunked\r\n\r\n", 400, ""},
	{"chunked quoted", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: \"chunked\"\r\n\r\n", 400, ""},
	{"chunked with parameter", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked;a=b\r\n\r\n", 400, ""},
	{"chunked with comma", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked,\r\n\r\n", 400, ""},
	{"chunked with no-break space", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: \xa0chunked\r\n\r\n", 400, ""},
	{"coding empty", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding:\r\n\r\n", 400, ""},
	{"coding identity", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: identity\r\n\r\n", 400, ""},
	{"coding gzip", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: gzip\r\n\r\n", 400, ""},
	{"coding gzip, chunked", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, ""},
	{"coding in 1.0", "POST / HTTP/1.0\r\n" + h + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ""},
	{"coding space before colon", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding : chunked\r\n\r\n", 400, ""},
	{"coding folded", "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding:\r\n chunked\r\n\r\n", 400, ""},
	{"coding with underscore", "POST / HTTP/1.1\r\n" + h + "Transfer_Encoding: chunked\r\n\r\n", 400, ""},
	{"length with underscore", "POST / HTTP/1.1\r\n" + h + "content_length: 5\r\n\r\n", 400, ""},
	{"lengths differ", "POST / HTTP/1.1\r\n" + h + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, ""},
	{"lengths equal", "POST / HTTP/1.1\r\n" + h + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400, ""},
	{"length list", "POST / HTTP/1.1\r\n" + h + "Content-Length: 1, 1\r\n\r\na", 400, ""},
	{"length empty", "POST / HTTP/1.1\r\n" + h + "Content-Length:\r\n\r\n", 400, ""},
	{"length negative", "POST / HTTP/1.1\r\n" + h + "Content-Length: -1\r\n\r\n", 400, ""},
	{"length plus", "POST / HTTP/1.1\r\n" + h + "Content-Length: +1\r\n\r\na", 400, ""},
	{"length hex", "POST / HTTP/1.1\r\n" + h + "Content-Length: 0x1\r\n\r\na", 400, ""},
	{"length fraction", "POST / HTTP/1.1\r\n" + h + "Content-Length: 1.0\r\n\r\na", 400, ""},
	{"length inner space", "POST / HTTP/1.1\r\n" + h + "Content-Length: 1 1\r\n\r\na", 400, ""},
	{"length underscore", "POST / HTTP/1.1\r\n" + h + "Content-Length: 1_0\r\n\r\na", 400, ""},
	{"length overflow", "POST / HTTP/1.1\r\n" + h + "Content-Length: 18446744073709551617\r\n\r\na", 400, ""},
	{"length quoted", "POST / HTTP/1.1\r\n" + h + "Content-Length: \"1\"\r\n\r\na", 400, ""},
	{"expect other", "POST / HTTP/1.1\r\n" + h + "Expect: 200-ok\r\nContent-Length: 1\r\n\r\na", 417, ""},
	{"expect list", "POST / HTTP/1.1\r\n" + h + "Expect: 100-continue, x\r\nContent-Length: 1\r\n\r\na", 417, ""},
	{"expect twice", "POST / HTTP/1.1\r\n" + h + "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na", 417, ""},
	{"upgrade with NUL-like form", "GET / HTTP/1.1\r\n" + h + "Connection: upgrade\r\nUpgrade: web(socket)\r\n\r\n", 400, ""},

	// Limits, as limited below.
	{"long target", "GET /" + strings.Repeat("a", 600) + " HTTP/1.1\r\n" + h + "\r\n", 414, ""},
	{"long line", "GET / HTTP/1.1\r\n" + h + "X: " + strings.Repeat("a", 600) + "\r\n\r\n", 431, ""},
	{"long line without end", "GET / HTTP/1.1\r\n" + h + "X: " + strings.Repeat("a", 600), 431, ""},
	{"long head", "GET / HTTP/1.1\r\n" + h + strings.Repeat("X: "+strings.Repeat("a", 400)+"\r\n", 6) + "\r\n", 431, ""},
	{"many fields", "GET / HTTP/1.1\r\n" + h + strings.Repeat("X:y\r\n", 20) + "\r\n", 431, ""},
	{"large body", "POST / HTTP/1.1\r\n" + h + "Content-Length: 1001\r\n\r\n", 413, ""},
}

// chunkCases are bodies whose framing breaks behind a good head: the handler
// gets an error from Read and the connection ends.
var chunkCases = []struct{ name, body string }{
	{"size minus", "-1\r\nx\r\n0\r\n\r\n"},
	{"size plus", "+1\r\nx\r\n0\r\n\r\n"},
	{"size 0x", "0x1\r\nx\r\n0\r\n\r\n"},
	{"size underscore", "1_0\r\nx\r\n0\r\n\r\n"},
	{"size empty", "\r\nx\r\n0\r\n\r\n"},
	{"size word", "g\r\nx\r\n0\r\n\r\n"},
	{"space before size", " 1\r\nx\r\n0\r\n\r\n"},
	{"space behind size", "1 \r\nx\r\n0\r\n\r\n"},
	{"tab behind size", "1\t\r\nx\r\n0\r\n\r\n"},
	{"size overflow", "10000000000000001\r\nx\r\n0\r\n\r\n"},
	{"size 64 bits", "ffffffffffffffff\r\nx\r\n0\r\n\r\n"},
	{"size 63 bits", "8000000000000000\r\nx\r\n0\r\n\r\n"},
	{"many zeros", "00000000000000001\r\nx\r\n0\r\n\r\n"},
	{"size line by LF", "1\nx\r\n0\r\n\r\n"},
	{"size line by CR", "1\rx\r\n0\r\n\r\n"},
	{"size line by CR CR LF", "1\r\r\nx\r\n0\r\n\r\n"},
	{"data by LF", "1\r\nx\n0\r\n\r\n"},
	{"data by nothing", "1\r\nx0\r\n\r\n"},
	{"data by CR", "1\r\nx\r0\r\n\r\n"},
	{"data too long", "1\r\nxy\r\n0\r\n\r\n"},
	{"last chunk by LF", "1\r\nx\r\n0\n\n"},
	{"end by LF", "1\r\nx\r\n0\r\n\n"},
	{"NUL behind size", "1\x00\r\nx\r\n0\r\n\r\n"},
	{"TERM.EXT bare LF in extension", "1;a\nb\r\nx\r\n0\r\n\r\n"},
	{"bare CR in extension", "1;a\rb\r\nx\r\n0\r\n\r\n"},
	{"NUL in extension", "1;a=\x00\r\nx\r\n0\r\n\r\n"},
	{"extension without name", "1;\r\nx\r\n0\r\n\r\n"},
	{"extension without value", "1;a=\r\nx\r\n0\r\n\r\n"},
	{"extension open quote", "1;a=\"b\r\nx\r\n0\r\n\r\n"},
	{"extension with space", "1 ;a\r\nx\r\n0\r\n\r\n"},
	{"extension long", "1;" + strings.Repeat("a", 2000) + "\r\nx\r\n0\r\n\r\n"},
	{"extensions many", strings.Repeat("1;"+strings.Repeat("a", 900)+"\r\nx\r\n", 20) + "0\r\n\r\n"},
	{"body too large", strings.Repeat("ff\r\n"+strings.Repeat("a", 255)+"\r\n", 4) + "0\r\n\r\n"},
	{"trailer folded", "0\r\nA: b\r\n c\r\n\r\n"},
	{"trailer with NUL", "0\r\nA: \x00\r\n\r\n"},
	{"trailer without colon", "0\r\nA\r\n\r\n"},
	{"trailer by LF", "0\r\nA: b\n\r\n"},
	{"trailer Content-Length", "0\r\nContent-Length: 5\r\n\r\n"},
	{"trailer Transfer-Encoding", "0\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"trailer Host", "0\r\nHost: b.test\r\n\r\n"},
	{"trailer many", "0\r\n" + strings.Repeat("A: b\r\n", 30) + "\r\n"},
	{"trailer long", "0\r\nA: " + strings.Repeat("b", 600) + "\r\n\r\n"},
	{"cut in size", "1"},
	{"cut in data", "5\r\nab"},
	{"cut before the end", "1\r\nx\r\n0\r\n"},
}

var limited = Limits{Line: 512, Head: 2048, Fields: 16, Body: 1000}

// next is a good request behind the case: if it is served, the connection was
// kept although it had to end, or the framing was not what we said it was.
const next = "GET /next HTTP/1.1\r\n" + h + "\r\n"

func TestRequestFraming(t *testing.T) {
	if n := len(requestCases) + len(chunkCases); n < 200 {
		t.Fatalf("only %d cases", n)
	}
	for _, tc := range requestCases {
		t.Run(tc.name, func(t *testing.T) {
			s := &msgtest.Site{Answer: msgtest.Describe}
			out := talk(t, s, limited, tc.in)
			if got := statusOf(out); got != tc.status {
				t.Fatalf("status = %d, want %d\n%q", got, tc.status, out)
			}
			if tc.saw == "" {
				refusedCheck(t, s, out, tc.status)
				return
			}
			if !strings.HasSuffix(out, "\r\n\r\n"+tc.saw) {
				t.Fatalf("answer %q, want it to end in %q", out, tc.saw)
			}
			// Byte by byte and followed by another, it reads the same.
			s = &msgtest.Site{Answer: msgtest.Describe}
			if again := dribble(t, s, tc.in+next); !strings.Contains(again, tc.saw) {
				t.Errorf("in pieces: %q", again)
			}
			want := 2
			if strings.Contains(tc.in, "HTTP/1.0") {
				want = 1
			}
			if s.Served != want {
				t.Errorf("served = %d with a request behind, want %d", s.Served, want)
			}
		})
	}
}

func refusedCheck(t *testing.T, s *msgtest.Site, out string, status int) {
	t.Helper()
	if s.Served != 0 {
		t.Errorf("the handler was called: %s", s.Calls())
	}
	if s.Status != status {
		t.Errorf("Refused(%d), want %d", s.Status, status)
	}
	if !strings.Contains(out, "\r\nConnection: close\r\n") {
		t.Errorf("the answer does not end the connection: %q", out)
	}
}

// TestNoMalformedByteReachesHandler sends each refused case in pieces of one
// byte and with a good request behind it: neither may be served.
func TestNoMalformedByteReachesHandler(t *testing.T) {
	for _, tc := range requestCases {
		if tc.saw != "" {
			continue
		}
		for _, tail := range []string{"", next} {
			s := &msgtest.Site{Answer: msgtest.Describe}
			if tc.name == "head cut off" && tail != "" {
				continue // with a tail it is another case
			}
			dribble(t, s, tc.in+tail)
			if s.Served != 0 {
				t.Errorf("%s (tail %q): %s", tc.name, tail, s.Calls())
			}
		}
	}
}

func TestChunkFraming(t *testing.T) {
	for _, tc := range chunkCases {
		t.Run(tc.name, func(t *testing.T) {
			in := "POST / HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\n\r\n" + tc.body
			if !strings.HasPrefix(tc.name, "cut") {
				in += next
			}
			for _, send := range []func(testing.TB, *msgtest.Site, string) string{dribble, atOnce} {
				s := &msgtest.Site{Answer: msgtest.Describe}
				out := send(t, s, in)
				if s.Served != 1 || !strings.HasSuffix(out, "|error") {
					t.Errorf("served %d requests: %q", s.Served, out)
				}
			}
		})
	}
}

func atOnce(t testing.TB, s *msgtest.Site, in string) string { return talk(t, s, limited, in) }

// dribble sends in through a window of one byte.
func dribble(t testing.TB, s *msgtest.Site, in string) string {
	t.Helper()
	visitor, ended := start(t, NewServer(s, limited), 1<<20)
	visitor.SetWindow(1)
	go func() {
		_, _ = visitor.Write([]byte(in)) // refused requests may end it
		_ = visitor.CloseWrite()
	}()
	var out bytes.Buffer
	if _, err := out.ReadFrom(visitor); err != nil {
		t.Fatal(err)
	}
	<-ended
	return out.String()
}

func statusOf(answer string) int {
	if len(answer) < 12 || !strings.HasPrefix(answer, "HTTP/1.1 ") {
		return 0
	}
	n, err := strconv.Atoi(answer[9:12])
	if err != nil {
		return 0
	}
	return n
}
