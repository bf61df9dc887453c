package tools

import (
	"context"
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"
)

// TestH2spec asks a running edge all that h2spec knows of RFC 9113's and RFC
// 7541's forebears, strictly. h2spec finds the edge by the edge's own DNS, so
// that it asks for a zone by its name.
func TestH2spec(t *testing.T) {
	const zone = "h2spec.test"
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintln(w, "some bytes")
	}))
	defer origin.Close()
	d := startDev(t)
	d.run(t, "zone", "add", zone, "--origin", origin.URL)

	system := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", d.Edges[0].DNS)
	}}
	defer func() { net.DefaultResolver = system }()
	_, port, err := net.SplitHostPort(d.Edges[0].HTTPS)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "report.xml")
	ok, err := h2spec.Run(&config.Config{
		Host: zone, Port: number, Path: "/", Timeout: 5 * time.Second, MaxHeaderLen: 4000,
		Strict: true, TLS: true, Insecure: true, JUnitReport: report,
	})
	if err != nil || !ok {
		t.Errorf("h2spec: passed %v, %v", ok, err)
	}
	judge(t, report, 146)
}

// judge wants at least so many cases, all of them run and passed.
func judge(t *testing.T, report string, atLeast int) {
	t.Helper()
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Suites []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Skipped  int    `xml:"skipped,attr"`
			Failures int    `xml:"failures,attr"`
			Errors   int    `xml:"errors,attr"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Fatal(err)
	}
	all := 0
	for _, s := range suites.Suites {
		all += s.Tests
		if s.Skipped+s.Failures+s.Errors > 0 {
			t.Errorf("%s: %d skipped, %d failed, %d errors", s.Name, s.Skipped, s.Failures, s.Errors)
		}
	}
	if t.Logf("%d cases", all); all < atLeast {
		t.Errorf("%d cases were run, want at least %d", all, atLeast)
	}
}
