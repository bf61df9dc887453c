package expr

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// request is a source whose fields are what the test says.
type request struct {
	text    map[Field]string
	number  map[Field]int64
	flag    map[Field]bool
	address netip.Addr
}

func (r *request) Text(f Field) []byte   { return []byte(r.text[f]) }
func (r *request) Number(f Field) int64  { return r.number[f] }
func (r *request) Flag(f Field) bool     { return r.flag[f] }
func (r *request) Addr(Field) netip.Addr { return r.address }

var sample = &request{
	text: map[Field]string{
		Host: "www.example.com", Path: "/Static/img/logo.PNG", PathExtension: "png", Query: "a=1&b=2",
		URI: "/Static/img/logo.PNG?a=1&b=2", FullURI: "https://www.example.com/Static/img/logo.PNG?a=1&b=2",
		Method: "GET", Country: "DE", UserAgent: `Mozilla "5.0" \x`,
	},
	number:  map[Field]int64{Network: 64500},
	flag:    map[Field]bool{Secure: true},
	address: netip.MustParseAddr("::ffff:192.0.2.7"),
}

func TestMatch(t *testing.T) {
	for src, want := range map[string]bool{
		"true": true, " true\n": true, "false": false, "not false": true, "!false": true, "not not true": true, "! ! true": true,
		"ssl": true, "not ssl": false, "ssl eq true": true, "ssl == false": false, "ssl ne false": true, "ssl != true": false,
		`http.host eq "www.example.com"`: true, `http.host == "www.example.co"`: false, `http.host ne "x"`: true, `http.host != "www.example.com"`: false,
		`http.host eq "WWW.example.com"`: false, `upper(http.host) eq "WWW.EXAMPLE.COM"`: true, `lower(http.request.uri.path) eq "/static/img/logo.png"`: true,
		`lower(http.request.uri.path) contains "IMG"`: false, `lower(http.request.uri.path) contains "static/img/logo.png"`: true,
		`http.request.uri.path contains "/img/"`: true, `http.request.uri.path contains "/IMG/"`: false, `http.request.uri.path contains ""`: true,
		`starts_with(http.request.uri.path, "/Static/")`: true, `starts_with(http.request.uri.path,"/static/")`: false, `starts_with(lower(http.request.uri.path), "/static/")`: true,
		`ends_with(http.request.uri.path, ".PNG")`: true, `ends_with(lower(http.request.uri.path), ".png")`: true, `ends_with(http.host, "a.www.example.com")`: false,
		`http.request.uri.path.extension in {"jpg" "png" "gif"}`: true, `http.request.uri.path.extension in {"jpg"}`: false,
		`http.request.uri.path.extension in {"1" "2" "3" "4" "5" "6" "7" "8" "9" "png"}`: true, `http.request.uri.path.extension in {"1" "2" "3" "4" "5" "6" "7" "8" "9" "pn"}`: false,
		`upper(http.request.uri.path.extension) in {"1" "2" "3" "4" "5" "6" "7" "8" "9" "PNG"}`: true, `upper(http.request.uri.path.extension) in {"1" "2" "3" "4" "5" "6" "7" "8" "9" "png"}`: false,
		`http.request.uri.query eq "a=1&b=2"`: true, `http.request.uri eq "/Static/img/logo.PNG?a=1&b=2"`: true,
		`http.request.full_uri wildcard "https://*.EXAMPLE.com/*"`: true, `http.request.full_uri strict wildcard "https://*.EXAMPLE.com/*"`: false,
		`http.request.full_uri strict wildcard "https://*.example.com/*"`: true, `http.host wildcard "*"`: true, `http.host wildcard "www.example.com"`: true,
		`http.host wildcard "www.example.com*"`: true, `http.host wildcard "*www.example.com"`: true, `http.host wildcard "w*w.e*e.c*m"`: true,
		`http.host wildcard "w*w*www.example.com"`: false, `http.host wildcard "*.example.org"`: false, `http.request.uri.query wildcard r"a=\**"`: false,
		`http.request.method in {"GET" "HEAD"} and ssl`: true, `ip.src.country eq "DE"`: true, `ip.geoip.country in {"FR" "DE"}`: true,
		`ip.src.asnum eq 64500`: true, `ip.src.asnum in {1 64496..64511}`: true, `ip.src.asnum in {1 2..3}`: false, `ip.src.asnum >= 64501`: false, `ip.src.asnum lt 64501`: true,
		`ip.src.asnum gt -1`: true, `ip.src.asnum ne 5`: true, `ip.src.asnum le 64500`: true,
		`ip.src eq 192.0.2.7`: true, `ip.src ne 192.0.2.7`: false, `ip.src in {10.0.0.0/8 192.0.2.0/24}`: true, `ip.src in {2001:db8::/32 192.0.2.8}`: false, `ip.src == ::ffff:192.0.2.7`: true,
		`len(http.host) eq 15`: true, `len(lower(http.host)) gt 15`: false, `http.host lt "wwx"`: true, `http.host ge "www.example.com"`: true, `http.host gt "www.example.com"`: false, `http.host le "www"`: false,
		`http.user_agent eq "Mozilla \"5.0\" \\x"`: true, `http.user_agent eq r#"Mozilla "5.0" \x"#`: true, `http.user_agent contains r"\x"`: true, `http.request.method eq "\x47ET"`: true,
		`http.referer eq ""`: true,
		// and before xor before or; not before all
		"true or true and false": true, "(true or true) and false": false, "true xor true and false": true, "true or true xor true": true,
		"not true or true": true, "not (true or true)": false, "true && false || true ^^ true": false, "true xor true xor true": true,
		"true and true and true and false": false, "false or false or false or true": true,
		"((((true))))": true, `not(http.host eq "x")and(ssl)`: true, "ssl\tor\nssl": true,
	} {
		p, err := Compile(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
		} else if got := p.Match(sample); got != want {
			t.Errorf("%s is %v", src, got)
		}
	}
}

func TestErrorsPointAtTheColumn(t *testing.T) {
	for src, want := range map[string]string{
		"":                                     `column 1: expected a field such as http.host, a function, true, false, not or "(", found nothing`,
		"  maybe":                              `column 3: expected a field such as http.host, a function, true, false, not or "(", found "maybe"`,
		"TRUE":                                 `column 1: expected a field`,
		"true true":                            `column 6: expected and, or, xor or the end, found "true"`,
		"true and":                             `column 9: expected a field`,
		"true and or":                          `column 10: expected a field such as http.host, a function, true, false, not or "(", found "or"`,
		"(true":                                `column 6: expected and, or, xor or ")", found nothing`,
		"true)":                                `column 5: expected and, or, xor or the end, found ")"`,
		"http.host":                            `column 10: expected eq, ne, lt, le, gt, ge, contains, in, wildcard or strict wildcard, found nothing`,
		`http.host matches "x"`:                `column 11: expected eq,`,
		`http.host eq 5`:                       `column 14: expected a text in double quotes, found "5"`,
		`http.host eq "x`:                      `column 16: expected the end of the text that begins at column 14, found nothing`,
		`http.host eq r#"x"`:                   `column 19: expected the end of the text that begins at column 14`,
		`http.host eq "\q"`:                    `column 15: expected \", \\ or \xHH`,
		`http.host in "x"`:                     `column 14: expected "{"`,
		`http.host in {}`:                      `column 15: expected a text in double quotes`,
		`http.host in {"x"`:                    `column 18: expected a text in double quotes`,
		`http.host in {"x",}`:                  `column 18: expected a text in double quotes, found ","`,
		`http.host strict "x"`:                 `column 18: expected wildcard after strict`,
		`http.host wildcard "a**b"`:            `column 20: expected a wildcard without two * in a row`,
		`http.host wildcard r"a\b"`:            `column 20: expected a wildcard in which \ is followed by * or \`,
		`ip.src eq 10.0.0.0/8`:                 `column 11: expected an IP address; networks stand in a list`,
		`ip.src in {10.0.0.0/33}`:              `column 12: expected an IP address or a network`,
		`ip.src contains "1"`:                  `column 8: expected eq, ne or in, found "contains"`,
		`ip.src.asnum eq 1..2`:                 `column 17: expected a whole number`,
		`ip.src.asnum in {2..1}`:               `column 18: expected a range that begins with its smaller number`,
		`ip.src.asnum contains 1`:              `column 14: expected eq, ne, lt, le, gt, ge or in`,
		`ssl eq "on"`:                          `column 8: expected true or false`,
		`starts_with http.host`:                `column 13: expected "(" after starts_with`,
		`starts_with(ssl, "x")`:                `column 13: expected a text field`,
		`starts_with(http.host "x")`:           `column 23: expected ","`,
		`starts_with(http.host, "x"`:           `column 27: expected ")"`,
		`lower(nope) eq "x"`:                   `column 7: expected a text field such as http.host, found "nope"`,
		`lower(ip.src) eq "x"`:                 `column 7: expected a text field`,
		strings.Repeat("(", MaxDepth+1):        `column 33: expected at most 32 levels`,
		strings.Repeat("not ", 40) + "true":    `column 129: expected at most 32 levels`,
		strings.Repeat("lower(", 40):           `expected at most 32 levels`,
		strings.Repeat(" ", MaxBytes+1):        `column 4097: expected at most 4096 bytes`,
		"\x00":                                 `column 1: expected a field such as http.host, a function, true, false, not or "(", found "\x00"`,
		"http.hos\xff":                         `column 1: expected a field`,
		strings.Repeat("x", 1000) + " eq true": `column 1: expected a field`,
	} {
		p, err := Compile(src)
		if _, ok := errors.AsType[*SyntaxError](err); !ok || p != nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 250 {
			t.Errorf("%.60q: %v\nwant %s", src, err, want)
		}
	}
}

func TestConstant(t *testing.T) {
	for src, want := range map[string][2]bool{"true": {true, true}, "not (true and false)": {true, true}, "ssl": {false, false}, "ssl or true": {false, false}, "false": {false, true}} {
		p, err := Compile(src)
		if err != nil {
			t.Fatal(err)
		}
		if value, ok := p.Constant(); value != want[0] || ok != want[1] {
			t.Errorf("%s: %v, %v", src, value, ok)
		}
	}
}

func TestEveryFieldHasANameAndAType(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Fields() {
		if f.String() == "" || seen[f.String()] {
			t.Errorf("field %d is called %q", f, f)
		}
		seen[f.String()] = true
	}
}

// TestWildcardAgainstTheObviousWay compares with a matcher that tries all ways.
func TestWildcardAgainstTheObviousWay(t *testing.T) {
	var slow func(p, s string) bool
	slow = func(p, s string) bool {
		if p == "" {
			return s == ""
		}
		if p[0] == '*' {
			return slow(p[1:], s) || s != "" && slow(p, s[1:])
		}
		return s != "" && s[0] == p[0] && slow(p[1:], s[1:])
	}
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func(from string, most int) string {
		b := make([]byte, rng.IntN(most))
		for i := range b {
			b[i] = from[rng.IntN(len(from))]
		}
		return string(b)
	}
	for range 20_000 {
		pat, s := draw("ab*", 8), draw("ab", 10)
		if checkWildcard(pat) != "" {
			continue
		}
		if got, want := newPattern(pat, &caseTables[asIs], true).match([]byte(s)), slow(pat, s); got != want {
			t.Fatalf("%q wildcard %q is %v", s, pat, got)
		}
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	p, err := Compile(`(lower(http.host) wildcard "*.example.com" and http.request.uri.path.extension in {"1" "2" "3" "4" "5" "6" "7" "8" "9" "png"}) xor not (ip.src in {10.0.0.0/8} or ip.src.asnum in {1..5}) or starts_with(lower(http.request.uri.path), "/x")`)
	if err != nil {
		t.Fatal(err)
	}
	var src Source = fixed("www.example.com")
	if n := testing.AllocsPerRun(100, func() { p.Match(src) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// fixed is a source that allocates nothing.
type fixed []byte

func (f fixed) Text(Field) []byte   { return f }
func (fixed) Number(Field) int64    { return 3 }
func (fixed) Flag(Field) bool       { return true }
func (fixed) Addr(Field) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, 1}) }

func FuzzCompile(f *testing.F) {
	for _, src := range []string{"true", " fal\x00se", `http.host eq "x" and not ssl`, `ip.src in {10.0.0.0/8 ::1}`, `len(http.host) in {1..5}`, `http.host wildcard r#"a*b\*"#`, `((true xor false))`, `starts_with(lower(http.host),"a\x41")`} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		p, err := Compile(src)
		if (p == nil) == (err == nil) {
			t.Fatalf("%q: program %v and error %v", src, p, err)
		}
		if err != nil {
			var s *SyntaxError
			if !errors.As(err, &s) || s.Column < 1 || s.Column > max(len(src), MaxBytes)+1 {
				t.Fatalf("%q: %v", src, err)
			}
			return
		}
		got := p.Match(sample)
		// An expression in parentheses, twice negated, means the same.
		again, err := Compile("not(not(" + src + "))")
		if err == nil && again.Match(sample) != got {
			t.Fatalf("%q changes its value in parentheses", src)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	for name, src := range map[string]string{
		"host":     `http.host eq "www.example.com"`,
		"three":    `http.host eq "www.example.com" and starts_with(http.request.uri.path, "www") and not ssl`,
		"wildcard": `http.request.full_uri wildcard "www.*.com"`,
	} {
		b.Run(name, func(b *testing.B) {
			p, err := Compile(src)
			if err != nil {
				b.Fatal(err)
			}
			var s Source = fixed("www.example.com")
			b.ReportAllocs()
			for b.Loop() {
				p.Match(s)
			}
		})
	}
}

func ExampleCompile() {
	p, err := Compile(`http.host eq "www.example.com" and not starts_with(http.request.uri.path, "/api/")`)
	fmt.Println(p.Match(sample), err)
	_, err = Compile(`http.host is "www.example.com"`)
	fmt.Println(err)
	// Output:
	// true <nil>
	// column 11: expected eq, ne, lt, le, gt, ge, contains, in, wildcard or strict wildcard, found "is"
}
