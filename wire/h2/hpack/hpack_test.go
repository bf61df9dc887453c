package hpack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/wire/head"
	"github.com/selvage-edge/selvage/wire/msg"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func section(limit int) *Section { return &Section{Fields: &msg.Fields{}, Limit: limit} }

// text is a section as lines, names in lower case.
func text(s *Section) string {
	var b strings.Builder
	for p := Method; p < pseudos; p++ {
		if s.Has(p) {
			fmt.Fprintf(&b, "%s: %s\n", p, s.Get(p))
		}
	}
	for _, l := range s.Fields.All() {
		fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(string(l.Name)), l.Value)
	}
	return b.String()
}

// The examples of RFC 7541 appendix C.
func TestExamplesOfTheRFC(t *testing.T) {
	first := ":method: GET\n:scheme: http\n:authority: www.example.com\n:path: /\n"
	third := ":method: GET\n:scheme: https\n:authority: www.example.com\n:path: /index.html\ncustom-key: custom-value\n"
	answer := func(status, date string) string {
		return ":status: " + status + "\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:" + date + " GMT\nlocation: https://www.example.com\n"
	}
	last := answer("200", "22") + "content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n"
	for name, c := range map[string]struct {
		limit int
		block []string
		want  []string
		size  int
	}{
		"C.2.1": {4096, []string{"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"}, []string{"custom-key: custom-header\n"}, 55},
		"C.2.2": {4096, []string{"040c 2f73 616d 706c 652f 7061 7468"}, []string{":path: /sample/path\n"}, 0},
		"C.2.3": {4096, []string{"1008 7061 7373 776f 7264 0673 6563 7265 74"}, []string{"password: secret\n"}, 0},
		"C.2.4": {4096, []string{"82"}, []string{":method: GET\n"}, 0},
		"C.3": {4096, []string{
			"8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
			"8286 84be 5808 6e6f 2d63 6163 6865",
			"8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
		}, []string{first, first + "cache-control: no-cache\n", third}, 164},
		"C.4": {4096, []string{
			"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
			"8286 84be 5886 a8eb 1064 9cbf",
			"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
		}, []string{first, first + "cache-control: no-cache\n", third}, 164},
		"C.5": {256, []string{
			"4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
			"4803 3330 37c1 c0bf",
			"88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
		}, []string{answer("302", "21"), answer("307", "21"), last}, 215},
		"C.6": {256, []string{
			"4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
			"4883 640e ffc1 c0bf",
			"88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
		}, []string{answer("302", "21"), answer("307", "21"), last}, 215},
	} {
		d := NewDecoder()
		d.t.limit = c.limit
		for i, block := range c.block {
			s := section(1 << 16)
			if err := d.Decode(unhex(t, block), s); err != nil || s.Err != nil {
				t.Errorf("%s.%d: %v, %v", name, i+1, err, s.Err)
			}
			if got := text(s); got != c.want[i] {
				t.Errorf("%s.%d: got\n%swant\n%s", name, i+1, got, c.want[i])
			}
		}
		if d.t.size != c.size {
			t.Errorf("%s: table counts %d, want %d", name, d.t.size, c.size)
		}
	}
}

func TestConnectionErrors(t *testing.T) {
	for name, c := range map[string]struct {
		block string
		want  error
	}{
		"index zero":                   {"80", errIndex},
		"index beyond":                 {"be", errIndex},
		"name beyond":                  {"7e00", errIndex},
		"integer cut short":            {"ff", errInteger},
		"integer too large":            {"ffffffffffff7f", errInteger},
		"literal without name":         {"40", errString},
		"literal without value":        {"400161", errString},
		"name longer than block":       {"4005 6161", errString},
		"value cut short":              {"4001 6103 61", errString},
		"Huffman with end of string":   {"0184 ffff ffff", errHuffman},
		"Huffman padded with zeros":    {"0181 18", errHuffman},
		"Huffman padded with a byte":   {"0182 1fff", errHuffman},
		"update above the limit":       {"3fe2 1f", errResize},
		"update behind a line":         {"82 20", errResize},
		"three updates":                {"20 21 22", errResize},
		"update whose integer is huge": {"3fff ffff ffff 01", errInteger},
	} {
		d := NewDecoder()
		if err := d.Decode(unhex(t, c.block), section(1<<16)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestMalformedSections(t *testing.T) {
	lit := func(name, value string) []byte {
		return appendText(appendText([]byte{repAdd}, []byte(name), false), []byte(value), false)
	}
	cases := map[string]struct {
		block []byte
		want  error
	}{
		"capital":             {lit("Accept", "x"), errName},
		"empty name":          {lit("", "x"), errName},
		"space in name":       {lit("a b", "x"), errName},
		"colon in name":       {lit("a:b", "x"), errName},
		"high byte in name":   {lit("a\x80", "x"), errName},
		"imitated framing":    {lit("content_length", "1"), errName},
		"imitated coding":     {lit("transfer-encoding_", "1"), nil},
		"line feed":           {lit("a", "x\ny"), errValue},
		"carriage return":     {lit("a", "x\r"), errValue},
		"zero":                {lit("a", "\x00"), errValue},
		"leading space":       {lit("a", " x"), errValue},
		"trailing tab":        {lit("a", "x\t"), errValue},
		"empty value":         {lit("a", ""), nil},
		"connection":          {lit("connection", "close"), errConnection},
		"keep-alive":          {lit("keep-alive", "1"), errConnection},
		"proxy-connection":    {lit("proxy-connection", "1"), errConnection},
		"upgrade":             {lit("upgrade", "h2c"), errConnection},
		"transfer-encoding":   {lit("transfer-encoding", "chunked"), errConnection},
		"coding by index":     {unhex(t, "b9"), errConnection},
		"te":                  {lit("te", "gzip"), errConnection},
		"te trailers":         {lit("te", "trailers"), nil},
		"unknown pseudo":      {lit(":foo", "x"), errPseudo},
		"pseudo twice":        {unhex(t, "8283"), errTwice},
		"pseudo behind field": {append(lit("a", "x"), 0x82), errOrder},
		"value in pseudo":     {lit(":path", "/\n"), errValue},
	}
	for name, c := range cases {
		d := NewDecoder()
		s := section(1 << 16)
		if err := d.Decode(c.block, s); err != nil || !errors.Is(s.Err, c.want) {
			t.Errorf("%s: %v, %v, want %v", name, err, s.Err, c.want)
		}
		if c.want == nil || c.block[0] != repAdd || len(c.block) < 3 || c.want == errOrder {
			continue
		}
		// What was malformed once is malformed when it is named by its index.
		s.Reset()
		if err := d.Decode([]byte{repIndexed | 62}, s); err != nil || !errors.Is(s.Err, c.want) {
			t.Errorf("%s, by index: %v, %v, want %v", name, err, s.Err, c.want)
		}
	}
}

func TestNameOfAMalformedLineCanBeUsedAgain(t *testing.T) {
	d := NewDecoder()
	s := section(1 << 16)
	for i, c := range []struct {
		block []byte
		want  error
	}{
		{append([]byte{0x40, 2, 't', 'e', 4}, "gzip"...), errConnection},
		{append([]byte{0x7e, 8}, "trailers"...), nil},
		{append([]byte{0x7e, 2}, "x\n"...), errValue},
		{append([]byte{0x7e, 8}, "trailers"...), nil},
	} {
		s.Reset()
		if err := d.Decode(c.block, s); err != nil || !errors.Is(s.Err, c.want) {
			t.Errorf("%d: %v, %v, want %v", i, err, s.Err, c.want)
		}
	}
}

func TestTooLargeSectionKeepsTheTableRight(t *testing.T) {
	d := NewDecoder()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := range 50 {
		if err := e.WriteField(hpack.HeaderField{Name: "x-name", Value: strings.Repeat("v", i)}); err != nil {
			t.Fatal(err)
		}
	}
	s := section(500)
	if err := d.Decode(block.Bytes(), s); err != nil || !errors.Is(s.Err, ErrTooLarge) {
		t.Fatalf("%v, %v", err, s.Err)
	}
	if s.Fields.Len() > 500/39 || len(s.Mem) > 500 || s.size < 50*38 {
		t.Errorf("%d lines and %d bytes kept, counted %d", s.Fields.Len(), len(s.Mem), s.size)
	}
	block.Reset()
	if err := e.WriteField(hpack.HeaderField{Name: "x-name", Value: strings.Repeat("v", 40)}); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	if err := d.Decode(block.Bytes(), s); err != nil || s.Err != nil || text(s) != "x-name: "+strings.Repeat("v", 40)+"\n" {
		t.Errorf("%v, %v, %s", err, s.Err, text(s))
	}
}

func TestIndexedLinesOverTheLimitAreNotCopied(t *testing.T) {
	d := NewDecoder()
	big := appendText([]byte{0x40, 1, 'a'}, bytes.Repeat([]byte("b"), 4000), false)
	s := section(1 << 14)
	if err := d.Decode(big, s); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	if err := d.Decode(bytes.Repeat([]byte{repIndexed | 62}, 10000), s); err != nil || !errors.Is(s.Err, ErrTooLarge) {
		t.Fatalf("%v, %v", err, s.Err)
	}
	if len(s.Mem) > s.Limit {
		t.Errorf("%d bytes for 10,000 references", len(s.Mem))
	}
}

func TestCookieCrumbsAreJoined(t *testing.T) {
	d := NewDecoder()
	s := section(1 << 14)
	block := []byte{0x82}
	for _, c := range []string{"a=1", "b=2", "c=3"} {
		block = appendText(append(block, repAdd|32), []byte(c), false)
		block = append(block, repIndexed|19)
	}
	if err := d.Decode(block, s); err != nil || s.Err != nil {
		t.Fatal(err, s.Err)
	}
	if got := string(s.Fields.Get(msg.Cookie)); got != "a=1; b=2; c=3" || s.Fields.Count(msg.Cookie) != 1 || s.Fields.Len() != 4 {
		t.Errorf("cookie %q, %d lines", got, s.Fields.Len())
	}
}

func TestFieldsAreEncodedForEveryConnection(t *testing.T) {
	var f msg.Fields
	for _, l := range [][2]string{
		{"Content-Type", "text/html; charset=utf-8"}, {"ETag", `"abc"`}, {"X-Own-Name", "Value"}, {"CF-Ray", "8d1-SJC"},
		{"Access-Control-Allow-Origin", "*"}, {"Connection", "close"}, {"Set-Cookie", "a=b"}, {"Accept-Encoding", "gzip, deflate"},
		{"Empty", ""}, {"High", "\xff\xfe\xfd"}, {"Refresh", "1"}, {"refrain", "2"}, {strings.Repeat("Long", 40), strings.Repeat("long", 80)},
	} {
		f.Add([]byte(l[0]), []byte(l[1]))
	}
	for name, block := range map[string][]byte{"coded": AppendStatic(nil, &f), "plain": appendAll(&f)} {
		var got, want strings.Builder
		never := ""
		d := hpack.NewDecoder(0, func(l hpack.HeaderField) {
			fmt.Fprintf(&got, "%s: %s\n", l.Name, l.Value)
			if l.Sensitive {
				never += l.Name
			}
		})
		if _, err := d.Write(block); err != nil || d.Close() != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, l := range f.All() {
			if l.ID != msg.Connection {
				fmt.Fprintf(&want, "%s: %s\n", strings.ToLower(string(l.Name)), l.Value)
			}
		}
		if got.String() != want.String() || never != "set-cookie" {
			t.Errorf("%s: got\n%swant\n%snever indexed: %s", name, got.String(), want.String(), never)
		}
	}
}

func appendAll(f *msg.Fields) (p []byte) {
	for i := range f.Len() {
		if l := f.At(i); !head.OfConnection(l.ID) {
			p = AppendField(p, l)
		}
	}
	return p
}

func TestStatusesAndNumbers(t *testing.T) {
	for status := 100; status < 600; status++ {
		d := NewDecoder()
		s := section(1000)
		block := AppendNumber(AppendStatus(nil, status), msg.ContentLength, int64(status)*1e14)
		if err := d.Decode(block, s); err != nil || s.Err != nil {
			t.Fatal(err, s.Err)
		}
		if want := fmt.Sprintf(":status: %d\ncontent-length: %d00000000000000\n", status, status); text(s) != want {
			t.Errorf("got %q want %q", text(s), want)
		}
	}
	d, s := NewDecoder(), section(1000)
	if err := d.Decode(AppendNumber(nil, msg.Age, 0), s); err != nil || text(s) != "age: 0\n" {
		t.Errorf("%v: %q", err, text(s))
	}
}

func TestEncoderSharesWhatIsPublic(t *testing.T) {
	e, d := NewEncoder(), NewDecoder()
	var f msg.Fields
	f.AddID(msg.UserAgent, []byte("curl"))
	f.AddID(msg.CDNLoop, []byte("edge"))
	f.AddID(msg.Cookie, []byte("secret=1"))
	f.Add([]byte("X-Token"), []byte("other"))
	block := func() []byte {
		p := e.Begin(nil)
		p = e.Pseudo(p, Method, []byte("GET"))
		p = e.Pseudo(p, Scheme, []byte("https"))
		p = e.Pseudo(p, Authority, []byte("www.example.com"))
		p = e.Pseudo(p, Path, []byte("/a"))
		p = e.Pseudo(p, Protocol, []byte("websocket"))
		for i := range f.Len() {
			p = e.Field(p, f.At(i))
		}
		return p
	}
	want := ":method: GET\n:scheme: https\n:authority: www.example.com\n:path: /a\n:protocol: websocket\n" +
		"user-agent: curl\ncdn-loop: edge\ncookie: secret=1\nx-token: other\n"
	sizes := []int{}
	for round := range 4 {
		if round == 2 {
			e.Limit(100) // room for one line
			e.Limit(4096)
		}
		if round == 3 {
			e.Limit(0)
		}
		s := section(1000)
		p := block()
		if err := d.Decode(p, s); err != nil || s.Err != nil || text(s) != want {
			t.Fatalf("%d: %v, %v\n%s", round, err, s.Err, text(s))
		}
		if d.t.size != e.t.size || d.t.n != e.t.n {
			t.Errorf("%d: tables of %d and %d bytes", round, e.t.size, d.t.size)
		}
		sizes = append(sizes, len(p))
	}
	if sizes[1] >= sizes[0]-20 {
		t.Errorf("blocks of %v bytes: nothing was shared", sizes)
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	e, d := NewEncoder(), NewDecoder()
	var f msg.Fields
	f.AddID(msg.UserAgent, []byte("Mozilla/5.0 (X11; Linux x86_64)"))
	f.Add([]byte("X-Token"), []byte("other"))
	s := section(4096)
	var block []byte
	round := func() {
		block = e.Begin(block[:0])
		block = e.Pseudo(block, Authority, []byte("www.example.com"))
		for i := range f.Len() {
			block = e.Field(block, f.At(i))
		}
		s.Reset()
		if err := d.Decode(block, s); err != nil || s.Err != nil {
			t.Fatal(err, s.Err)
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
}
