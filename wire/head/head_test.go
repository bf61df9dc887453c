package head

import (
	"errors"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/wire/msg"
)

// build feeds lines written "name: value", pseudo-headers included.
func build(text string, ended bool, maxBody int64) (*msg.Request, *Builder, error) {
	req, b := &msg.Request{}, &Builder{}
	b.Start(req)
	for line := range strings.SplitSeq(text, "\n") {
		at := strings.Index(line[min(1, len(line)):], ":") + 1
		if err := b.Add([]byte(line[:at]), []byte(strings.TrimPrefix(line[at+1:], " "))); err != nil {
			return req, b, err
		}
	}
	return req, b, b.End(ended, maxBody, func(n int) []byte { return make([]byte, n) })
}

const plain = ":method: GET\n:scheme: https\n:authority: www.example.com\n:path: /a?b=c\n"

func TestRequestIsMade(t *testing.T) {
	req, b, err := build(plain+"user-agent: x\ncookie: a=1\ncookie: b=2\npriority: u=1, i\nte: trailers", true, 0)
	if err != nil {
		t.Fatal(err)
	}
	if req.Method != msg.GET || string(req.Target) != "/a?b=c" || string(req.Path) != "/a" || string(req.Query) != "b=c" ||
		string(req.Authority) != "www.example.com" || req.Length != 0 {
		t.Errorf("%+v", req)
	}
	if got := string(req.Fields.Get(msg.Cookie)); got != "a=1; b=2" || req.Fields.Count(msg.Cookie) != 1 {
		t.Errorf("cookies %q, %d lines", got, req.Fields.Count(msg.Cookie))
	}
	if string(req.Fields.Get(msg.Host)) != "www.example.com" || string(b.Priority) != "u=1, i" {
		t.Errorf("host %q, priority %q", req.Fields.Get(msg.Host), b.Priority)
	}
}

func TestLengthOfTheBody(t *testing.T) {
	post := strings.Replace(plain, "GET", "POST", 1)
	for _, c := range []struct {
		extra  string
		ended  bool
		length int64
		expect bool
	}{
		{"accept: */*", true, 0, false},
		{"accept: */*", false, msg.LengthUnknown, false},
		{"content-length: 0", true, 0, false},
		{"content-length: 0", false, 0, false},
		{"content-length: 5", false, 5, false},
		{"content-length: 5\nexpect: 100-continue", false, 5, true},
		{"expect: 100-continue", true, 0, false},
	} {
		req, b, err := build(post+c.extra, c.ended, 0)
		if err != nil || req.Length != c.length || b.Expect != c.expect {
			t.Errorf("%q, ended %v: length %d, expect %v, error %v", c.extra, c.ended, req.Length, b.Expect, err)
		}
	}
}

func TestExtendedConnectIsAnUpgrade(t *testing.T) {
	req, _, err := build(":method: CONNECT\n:protocol: websocket\n:scheme: https\n:authority: a.test\n:path: /chat\nsec-websocket-version: 13", false, 0)
	if err != nil {
		t.Fatal(err)
	}
	if req.Method != msg.GET || string(req.MethodText) != "GET" || string(req.Upgrade) != "websocket" || req.Length != 0 {
		t.Errorf("%+v", req)
	}
}

func TestHostStandsInForAuthority(t *testing.T) {
	req, _, err := build(":method: GET\n:scheme: https\n:path: /\nhost: a.test", true, 0)
	if err != nil || string(req.Authority) != "a.test" {
		t.Errorf("authority %q, %v", req.Authority, err)
	}
}

func TestMalformedIsRefused(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"capital letter", plain + "Accept: x", "field name"},
		{"space in name", plain + "a b: x", "field name"},
		{"colon in name", plain + "a", "field name"},
		{"line feed", plain + "a: x\ry", "byte in field value"},
		{"zero", plain + "a: x\x00y", "byte in field value"},
		{"space in front", plain + "a:  x", "white space"},
		{"space behind", plain + "a: x ", "white space"},
		{"imitation", plain + "content_length: 5", "imitates"},
		{"connection", plain + "connection: close", "connection"},
		{"keep-alive", plain + "keep-alive: x", "connection"},
		{"proxy-connection", plain + "proxy-connection: x", "connection"},
		{"transfer-encoding", plain + "transfer-encoding: chunked", "connection"},
		{"upgrade", plain + "upgrade: websocket", "connection"},
		{"te", plain + "te: gzip", "TE"},
		{"unknown pseudo", ":status: 200\n" + strings.TrimSuffix(plain, "\n"), "unknown"},
		{"pseudo twice", ":path: /\n" + strings.TrimSuffix(plain, "\n"), "twice"},
		{"pseudo late", plain + "a: b\n:path: /", "behind"},
		{"no method", ":scheme: https\n:authority: a.test\n:path: /", "missing"},
		{"no scheme", ":method: GET\n:authority: a.test\n:path: /", "missing"},
		{"no path", ":method: GET\n:scheme: https\n:authority: a.test", "missing"},
		{"no authority", ":method: GET\n:scheme: https\n:path: /", "missing"},
		{"empty path", ":method: GET\n:scheme: https\n:authority: a.test\n:path: ", "path"},
		{"relative path", ":method: GET\n:scheme: https\n:authority: a.test\n:path: a", "path"},
		{"absolute path", ":method: GET\n:scheme: https\n:authority: a.test\n:path: https://b.test/", "path"},
		{"space in path", ":method: GET\n:scheme: https\n:authority: a.test\n:path: /a HTTP/1.1", "path"},
		{"asterisk for GET", ":method: GET\n:scheme: https\n:authority: a.test\n:path: *", "path"},
		{"space in method", ":method: GET /\n:scheme: https\n:authority: a.test\n:path: /", "method"},
		{"other scheme", ":method: GET\n:scheme: ftp\n:authority: a.test\n:path: /", "scheme"},
		{"user in authority", ":method: GET\n:scheme: https\n:authority: u@a.test\n:path: /", "authority"},
		{"two hosts", plain + "host: www.example.com\nhost: www.example.com", "Host"},
		{"other host", plain + "host: b.test", "Host"},
		{"length twice", plain + "content-length: 0\ncontent-length: 0", "Content-Length"},
		{"length list", plain + "content-length: 0, 0", "Content-Length"},
		{"length with the end", plain + "content-length: 5", "Content-Length"},
		{"protocol without connect", ":protocol: websocket\n" + strings.TrimSuffix(plain, "\n"), "protocol"},
		{"empty protocol", ":protocol: \n:method: CONNECT\n:scheme: https\n:authority: a.test\n:path: /", "protocol"},
		{"connect with a path", ":method: CONNECT\n:authority: a.test:443\n:path: /", "authority"},
	} {
		_, _, err := build(c.text, true, 0)
		refusal, ok := errors.AsType[*Refusal](err)
		if !ok || refusal.Status != 400 || !strings.Contains(refusal.Reason, c.want) {
			t.Errorf("%s: %v, want 400 that says %q", c.name, err, c.want)
		}
	}
}

func TestUnservedIsRefusedWithItsStatus(t *testing.T) {
	for _, c := range []struct {
		text   string
		status int
	}{
		{":method: CONNECT\n:authority: a.test:443", 501},
		{plain + "expect: miracles", 417},
		{plain + "content-length: 11", 413},
	} {
		_, _, err := build(c.text, false, 10)
		if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Status != c.status {
			t.Errorf("%q: %v, want %d", c.text, err, c.status)
		}
	}
}

func TestTrailers(t *testing.T) {
	var f msg.Fields
	if err := AddTrailer(&f, []byte("grpc-status"), []byte("0")); err != nil || f.Len() != 1 {
		t.Errorf("%v, %d lines", err, f.Len())
	}
	for name, value := range map[string]string{":path": "/", "Grpc": "x", "content-length": "5", "host": "a", "transfer-encoding": "chunked", "keep-alive": "x", "transfer_encoding": "x", "a": "x\ny"} {
		f.Reset()
		if AddTrailer(&f, []byte(name), []byte(value)) == nil {
			t.Errorf("trailer %q passes", name)
		}
	}
}

func TestAllValueIsValueAll(t *testing.T) {
	for at := range 11 {
		for c := range 256 {
			p := []byte("12345678901")
			p[at] = byte(c)
			if AllValue(p) != Value.All(p) {
				t.Errorf("octet %#x at %d: %v", c, at, AllValue(p))
			}
			p[0], p[1] = 0x20, 0xff
			if AllValue(p) != Value.All(p) {
				t.Errorf("octet %#x at %d behind others: %v", c, at, AllValue(p))
			}
		}
	}
}

// What passes can be written as HTTP/1.1 without a byte that ends a line.
func FuzzBuilder(f *testing.F) {
	f.Add(":method: GET\n:scheme: https\n:authority: a.test\n:path: /\naccept: x")
	f.Add(":method: CONNECT\n:protocol: websocket\n:scheme: https\n:authority: a.test\n:path: /")
	f.Fuzz(func(t *testing.T, text string) {
		for line := range strings.SplitSeq(text, "\n") {
			if !strings.Contains(line[min(1, len(line)):], ":") {
				return
			}
		}
		req, _, err := build(text, true, 0)
		if err != nil {
			return
		}
		all := string(req.MethodText) + string(req.Target) + string(req.Authority) + string(req.Upgrade)
		for _, l := range req.Fields.All() {
			all += string(l.Name) + string(l.Value)
		}
		if strings.ContainsAny(all, "\r\n\x00") || len(req.Target) == 0 || len(req.Authority) == 0 || req.Fields.Count(msg.Host) != 1 {
			t.Errorf("%q passes as %+v", text, req)
		}
	})
}

func BenchmarkBuilder(b *testing.B) {
	req, builder := &msg.Request{}, &Builder{}
	lines := [][2][]byte{
		{[]byte(":method"), []byte("GET")}, {[]byte(":scheme"), []byte("https")}, {[]byte(":authority"), []byte("www.example.com")}, {[]byte(":path"), []byte("/index.html")},
		{[]byte("user-agent"), []byte("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")}, {[]byte("accept"), []byte("text/html,application/xhtml+xml")}, {[]byte("accept-encoding"), []byte("gzip, deflate, br, zstd")},
	}
	b.ReportAllocs()
	for b.Loop() {
		req.Reset()
		builder.Start(req)
		for _, l := range lines {
			if err := builder.Add(l[0], l[1]); err != nil {
				b.Fatal(err)
			}
		}
		if err := builder.End(true, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func TestParsePriority(t *testing.T) {
	was := Priority{Urgency: 5, Incremental: true}
	for text, want := range map[string]Priority{
		"": was, "u=0": {0, true}, "u=7, i=?0": {7, false}, "i": {5, true}, "i=?0": {5, false}, "u=8": was, "u=-1": was, "u=1.5": was, "u=\"1\"": was,
		"u=2;x=1;y, i=?0;z": {2, false}, "x=\"u=1, i\", u=3": {3, true}, "u=1 , i=?0": {1, false}, "U=1": was, "u=1,": was, ", u=1": was, "u=1 i": was,
		"u=1, u=2": {2, true}, "  u=4  ": {4, true}, "u": was, "x=1, u=1" + strings.Repeat(" ", 300): was,
	} {
		if got := ParsePriority([]byte(text), was); got != want {
			t.Errorf("%q gives %+v, want %+v", text, got, want)
		}
	}
}

func FuzzParsePriority(f *testing.F) {
	f.Add("u=1, i;x=\"a\\\"b\"")
	f.Fuzz(func(t *testing.T, text string) {
		if got := ParsePriority([]byte(text), DefaultPriority); got.Urgency > 7 {
			t.Errorf("%q gives %+v", text, got)
		}
	})
}

func TestPriorityOverTheDefault(t *testing.T) {
	for in, want := range map[string]Priority{
		"": {3, false}, "u=0": {0, false}, "u=7,i": {7, true}, "i, u=2": {2, true}, "i=?0": {3, false}, "i=?1": {3, true},
		"u=8": {3, false}, "u=-1": {3, false}, "u=1.5": {3, false}, "u": {3, false}, "x=\"a,b\", u=1": {1, false}, "u=1;q=2, i;x": {1, true},
		"u=1,": {3, false}, ",": {3, false}, "U=1": {3, false}, "u=1 i": {3, false}, "u=4, u=5": {5, false}, strings.Repeat("a,", 200) + "u=1": {3, false},
	} {
		if got := ParsePriority([]byte(in), DefaultPriority); got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
}

// Behind a change to such a protocol a visitor would speak HTTP to the origin
// past the edge.
func TestProtocolsThatCarryRequestsAreRefused(t *testing.T) {
	for _, protocol := range []string{"h2c", "H2C", "h2c-14", "h2", "http", "tls"} {
		_, _, err := build(":method: CONNECT\n:protocol: "+protocol+"\n:scheme: https\n:authority: a.test\n:path: /", false, 0)
		if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Status != 501 {
			t.Errorf("%s: %v, want 501", protocol, err)
		}
	}
	for _, protocol := range []string{"websocket", "connect-udp", "h3x", "tlsx"} {
		if Unseen([]byte(protocol)) {
			t.Errorf("%s is taken for one that carries requests", protocol)
		}
	}
}
