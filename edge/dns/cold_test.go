package dns

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/edge/hot"
)

// coldServer knows no zone yet: load is asked for each.
func coldServer(t *testing.T, address string, generic bool, load func(ctx context.Context, name string) (*Plan, error)) (*Server, string) {
	t.Helper()
	names := &hot.Names{}
	if err := names.Build(3, func(add func(uint64)) error {
		for _, wire := range []string{"\x07example\x03com\x00", "\x04slow\x04test\x00", "\x06broken\x04test\x00"} {
			var n name
			n.set(wire)
			add(n.hashes[0])
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return startAt(t, address, Config{Generic: generic, Names: names, Ctx: t.Context(), Load: load}, nil)
}

func TestColdZoneIsAnswered(t *testing.T) {
	p := mustCompile(t, testSpec())
	for _, mode := range modes {
		for _, network := range []string{"udp", "tcp"} {
			var asked atomic.Int64
			_, address := coldServer(t, "127.0.0.1:0", mode.generic, func(_ context.Context, name string) (*Plan, error) {
				switch name {
				case "example.com":
					asked.Add(1)
					return p, nil
				case "broken.test":
					return nil, errors.New("cannot be read")
				}
				return nil, nil
			})
			for name, want := range map[string]int{"mail.example.com": dns.RcodeSuccess, "nope.example.com": dns.RcodeNameError, "www.other.test": dns.RcodeRefused, "broken.test": dns.RcodeServerFailure, "a.broken.test": dns.RcodeServerFailure} {
				r := exchange(t, network, address, question(name, dns.TypeA))
				if r.Rcode != want || (want == dns.RcodeSuccess && len(r.Answer) != 1) {
					t.Errorf("%s %s %s: %v", mode.name, network, name, r)
				}
			}
			if asked.Load() != 2 {
				t.Errorf("%s %s: the zone was asked for %d times by 2 queries", mode.name, network, asked.Load())
			}
		}
	}
}

// A query that waits holds nobody else up; who comes when as many wait as may is
// answered SERVFAIL; all are counted once.
func TestFullDeskFailsAndHotIsAnswered(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			release := make(chan struct{})
			s, address := coldServer(t, "127.0.0.1:0", mode.generic, func(ctx context.Context, name string) (*Plan, error) {
				if !strings.HasSuffix(name, "slow.test") {
					return nil, nil
				}
				select {
				case <-release:
				case <-ctx.Done():
				}
				return nil, ctx.Err()
			})
			s.Set("example.com", mustCompile(t, testSpec()))
			registry := prometheus.NewPedanticRegistry()
			if err := registry.Register(s); err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			// None is answered while it waits, so that the first answer is of one
			// that found no place. The kernel may drop some of what is sent.
			buf := make([]byte, 1500)
			m := new(dns.Msg)
			read := func() {
				n, err := conn.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Unpack(buf[:n]); err != nil {
					t.Fatal(err)
				}
			}
			full := make(chan struct{})
			sent := make(chan error, 1)
			go func() {
				msg := packed(t, question("www.slow.test", dns.TypeA))
				for {
					select {
					case <-full:
						sent <- nil
						return
					default:
						if _, err := conn.Write(msg); err != nil {
							sent <- err
							return
						}
					}
				}
			}()
			read()
			if m.Rcode != dns.RcodeServerFailure || m.Question[0].Name != "www.slow.test." {
				t.Errorf("over the limit: %v", m)
			}
			close(full)
			if err := <-sent; err != nil {
				t.Error(err)
			}
			if r := exchange(t, "udp", address, question("mail.example.com", dns.TypeA)); len(r.Answer) != 1 {
				t.Errorf("a hot zone beside cold ones: %v", r)
			}
			close(release)
			// What was counted as answered and what was timed come to the same.
			for deadline := time.Now().Add(10 * time.Second); ; {
				timed, answered := sums(t, registry)
				if timed == answered && answered > coldQueue && len(s.workers()) > 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%v queries answered, %v timed", answered, timed)
				}
			}
		})
	}
}

func sums(t *testing.T, registry *prometheus.Registry) (timed, answered float64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch f.GetName() {
			case "selvage_dns_answer_seconds":
				timed += float64(m.GetHistogram().GetSampleCount())
			case "selvage_dns_queries_total":
				answered += m.GetCounter().GetValue()
			}
		}
	}
	return timed, answered
}

func TestColdAnswersLeaveFromTheAddressAsked(t *testing.T) {
	if !batched {
		return // only the batched loop promises it
	}
	p := mustCompile(t, testSpec())
	cases := []struct{ listen, ask string }{{"0.0.0.0:0", "127.0.0.2"}}
	if probe, err := net.ListenPacket("udp6", "[::1]:0"); err == nil { // a machine may be without IPv6
		probe.Close()
		cases = append(cases, struct{ listen, ask string }{"[::]:0", "127.0.0.3"}, struct{ listen, ask string }{"[::]:0", "::1"})
	}
	for _, c := range cases {
		_, address := coldServer(t, c.listen, false, func(_ context.Context, name string) (*Plan, error) {
			if name == "example.com" {
				return p, nil
			}
			return nil, nil
		})
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		// A connected socket takes datagrams from the address it asked only.
		if r := exchange(t, "udp", net.JoinHostPort(c.ask, port), question("mail.example.com", dns.TypeA)); len(r.Answer) != 1 {
			t.Errorf("%s by %s: %v", c.listen, c.ask, r)
		}
	}
}
