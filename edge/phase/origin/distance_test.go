package origin

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

func TestDistanceIsTheTimeToConnectWithTheNameKnown(t *testing.T) {
	var dialled []string
	slow := 40 * time.Millisecond
	e := New(Config{Dial: func(_ context.Context, host string, port uint16) (net.Conn, error) {
		dialled = append(dialled, host)
		if host == "198.51.100.9" {
			return nil, errors.New("refused")
		}
		<-time.After(slow)
		slow = 0
		a, b := net.Pipe()
		t.Cleanup(func() { _ = b.Close() })
		return a, nil
	}})
	defer e.Close()
	record := func(name, content string) zone.Record {
		return zone.Record{ID: name, Name: name, Type: "A", Content: content, TTL: 1, Proxied: true}
	}
	spec := &zone.Spec{Meta: zone.Meta{Name: "site.test"}, Records: []zone.Record{record("b.site.test", "198.51.100.2"), record("a.site.test", "198.51.100.1")}}
	p, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	far, err := e.Distance(t.Context(), p, "site.test")
	if err != nil || far >= 40*time.Millisecond || far <= 0 || len(dialled) != 2 || dialled[0] != "198.51.100.1" {
		t.Errorf("%s, %v after dialling %q", far, err, dialled)
	}
	dialled = nil
	if p.rules, err = rulesOf([]zone.Ruleset{{Phase: Phase, Body: []byte(`{"rules":[{"expression":"true","action":"route","action_parameters":{"origin":{"host":"198.51.100.7","port":8080}}}]}`)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Distance(t.Context(), p, "site.test"); err != nil || dialled[0] != "198.51.100.7" {
		t.Errorf("with a rule: dialled %q, %v", dialled, err)
	}
	if _, err := e.Distance(t.Context(), nil, "site.test"); !fault.Is(err, fault.NotFound) {
		t.Errorf("of nothing: %v", err)
	}
	spec.Records = []zone.Record{record("site.test", "198.51.100.9"), record("a.site.test", "198.51.100.1")}
	if p, err = Compile(spec); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Distance(t.Context(), p, "site.test"); err == nil || fault.As(err).Side != fault.Origin {
		t.Errorf("of who refuses: %v", err)
	}
}
