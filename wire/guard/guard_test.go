package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/selvage-edge/selvage/fault"
)

func TestEveryFormOfAnInsideAddressIsRefused(t *testing.T) {
	g := New(Config{})
	for _, text := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "100.100.100.200",
		"127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.1.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255",
		"198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::7f00:1", "::127.0.0.1", "::8.8.8.8",
		"::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:0:127.0.0.1",
		"64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "64:ff9b:1::8.8.8.8",
		"2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:101::", "2002:a9fe:a9fe::1",
		"2001:0:808:808:0:0:80ff:fffe", "2001:0:7f00:1::f7f7:f7f7",
		"2a00:1450:4001:81b:0:5efe:10.0.0.1", "2a00:1450:4001:81b:200:5efe:127.0.0.1",
		"2001:db8::1", "2001:db8::5efe:8.8.8.8", "2001:2::1", "2001:20::1", "3fff::1", "5f00::1", "100::1",
		"fc00::1", "fd00:ec2::254", "fdff:ffff::1", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1",
		"ff02::1", "ff0e::1", "2a00:1450:4001:81b::200e%eth0", "4000::1",
	} {
		if err := check(g, netip.MustParseAddr(text)); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: got %v, want forbidden", text, err)
		}
	}
	if err := check(g, netip.Addr{}); !fault.Is(err, fault.Forbidden) {
		t.Errorf("no address: got %v, want forbidden", err)
	}
}

func check(g *Guard, a netip.Addr) error { return g.Check(netip.AddrPortFrom(a, 0)) }

func TestOutsideAddressesPass(t *testing.T) {
	g := New(Config{})
	for _, text := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"172.15.255.255", "172.32.0.0", "192.0.1.1", "192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255",
		"::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7",
		"2a00:1450:4001:81b::200e", "2606:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:81b:0:5efe:8.8.8.8",
	} {
		if err := check(g, netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAllowedNetworksPassExceptOurOwnListeners(t *testing.T) {
	own := []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.1:8443"),
		netip.MustParseAddrPort("9.9.9.9:0"),
		netip.MustParseAddrPort("0.0.0.0:8080"),
		netip.MustParseAddrPort("[::1]:53"),
	}
	g := New(Config{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("0.0.0.0/8")},
		Own:   func() []netip.AddrPort { return own },
		Interfaces: func() ([]net.Addr, error) {
			return []net.Addr{&net.IPNet{IP: net.IPv4(10, 1, 0, 5), Mask: net.CIDRMask(16, 32)}}, nil
		},
	})
	for _, c := range []struct {
		to     string
		refuse bool
	}{
		{"127.0.0.1:9000", false},
		{"[::ffff:127.0.0.1]:9000", false},
		{"[::1]:9000", false},
		{"10.1.2.3:80", false},
		{"10.2.0.1:80", true},
		{"127.0.0.1:8443", true},
		{"[::ffff:127.0.0.1]:8443", true},
		{"0.0.0.0:8443", true},    // arrives at 127.0.0.1
		{"127.0.0.2:8443", false}, // nobody of ours listens there
		{"9.9.9.9:80", true},
		{"9.9.9.9:65535", true},
		{"[64:ff9b::9.9.9.9]:80", true},
		{"[2002:909:909::1]:80", true},
		{"127.5.5.5:8080", true}, // 0.0.0.0:8080 listens on all of loopback
		{"10.1.0.5:8080", true},  // and on this interface
		{"10.1.0.6:8080", false},
		{"[::1]:53", true},
		{"8.8.8.8:443", false},
	} {
		err := g.Check(netip.MustParseAddrPort(c.to))
		if got := fault.Is(err, fault.Forbidden); got != c.refuse || (err != nil) != c.refuse {
			t.Errorf("%s: got %v, want refused %v", c.to, err, c.refuse)
		}
	}
}

func TestUnknownInterfacesCountAsOurs(t *testing.T) {
	g := New(Config{
		Own:        func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("[::]:443")} },
		Interfaces: func() ([]net.Addr, error) { return nil, errors.New("no netlink") },
	})
	if err := g.Check(netip.MustParseAddrPort("8.8.8.8:443")); !fault.Is(err, fault.Forbidden) {
		t.Errorf("got %v, want forbidden", err)
	}
}

// script answers each look-up of a name with its next list.
type script struct {
	mu      sync.Mutex
	asked   int
	answers [][]string
	err     error
	gate    chan struct{} // nil, or waited for before answering
}

func (s *script) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	s.mu.Lock()
	n := s.asked
	s.asked++
	s.mu.Unlock()
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.err != nil {
		return nil, s.err
	}
	var list []netip.Addr
	for _, text := range s.answers[n%len(s.answers)] {
		list = append(list, netip.MustParseAddr(text))
	}
	return list, nil
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// recorder is a Connect that notes where it was sent and fails as told.
type recorder struct {
	mu   sync.Mutex
	to   []string
	fail map[string]error
}

func (r *recorder) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = append(r.to, to.String())
	if err := r.fail[to.Addr().String()]; err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	_ = far.Close()
	return near, nil
}

func TestRebindingCannotReachTheInside(t *testing.T) {
	resolver := &script{answers: [][]string{{"8.8.8.8"}, {"127.0.0.1"}, {"169.254.169.254"}, {"::ffff:10.0.0.1"}}}
	conns := &recorder{}
	// Nothing is kept, so that each Dial sees the next answer.
	g := New(Config{Resolver: resolver, Connect: conns.connect, FoundTTL: -1, MissingTTL: -1})
	for i := range 40 {
		nc, err := g.Dial(t.Context(), "rebind.test", 80)
		if i%4 == 0 {
			if err != nil {
				t.Fatalf("dial %d: %v", i, err)
			}
			_ = nc.Close()
			continue
		}
		if f := fault.As(err); f.Kind != fault.Forbidden || f.Side != fault.Origin {
			t.Fatalf("dial %d: got %v, want forbidden by the origin's side", i, err)
		}
	}
	if got := resolver.count(); got != 40 {
		t.Errorf("resolved %d times in 40 dials, want once each", got)
	}
	for _, to := range conns.to {
		if to != "8.8.8.8:80" {
			t.Errorf("connected to %s, which was never the checked answer", to)
		}
	}
}

func TestInsideAddressesOfAMixedAnswerArePassedOver(t *testing.T) {
	resolver := &script{answers: [][]string{{"127.0.0.1", "::ffff:192.168.1.1", "8.8.4.4", "fe80::1"}}}
	conns := &recorder{}
	g := New(Config{Resolver: resolver, Connect: conns.connect})
	nc, err := g.Dial(t.Context(), "mixed.test", 443)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Close()
	if got := fmt.Sprint(conns.to); got != "[8.8.4.4:443]" {
		t.Errorf("connected to %s", got)
	}
}

func TestLiteralsAreCheckedWithoutResolving(t *testing.T) {
	resolver := &script{err: errors.New("must not be asked")}
	g := New(Config{Resolver: resolver, Connect: (&recorder{}).connect})
	for host, want := range map[string]bool{"8.8.8.8": true, "2606:4700::1111": true, "127.0.0.1": false, "::1": false, "::ffff:10.0.0.1": false, "fe80::1%lo": false} {
		nc, err := g.Dial(t.Context(), host, 80)
		if (err == nil) != want {
			t.Errorf("%s: got %v", host, err)
		}
		if nc != nil {
			_ = nc.Close()
		}
	}
	if resolver.count() != 0 {
		t.Errorf("the resolver was asked for a literal")
	}
}

// Names that a C library reads as numbers are judged by what they resolve to.
func TestNumericNamesAreJudgedAfterResolution(t *testing.T) {
	g := New(Config{Resolver: &script{answers: [][]string{{"127.0.0.1"}}}, Connect: (&recorder{}).connect})
	for _, host := range []string{"127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "LOCALHOST."} {
		if _, err := g.Dial(t.Context(), host, 80); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: got %v, want forbidden", host, err)
		}
	}
}

func TestKindsOfFailure(t *testing.T) {
	wrapped := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
	}
	for _, c := range []struct {
		name string
		err  error
		side fault.Side
		kind fault.Kind
	}{
		{"refused", wrapped(syscall.ECONNREFUSED), fault.Origin, fault.Refused},
		{"reset", wrapped(syscall.ECONNRESET), fault.Origin, fault.Refused},
		{"no route", wrapped(syscall.EHOSTUNREACH), fault.Origin, fault.Unreachable},
		{"no network", wrapped(syscall.ENETUNREACH), fault.Origin, fault.Unreachable},
		{"kernel timeout", wrapped(syscall.ETIMEDOUT), fault.Origin, fault.ConnectTime},
		{"our timeout", context.DeadlineExceeded, fault.Origin, fault.ConnectTime},
		{"no descriptors", wrapped(syscall.EMFILE), fault.Edge, fault.Limit},
		{"else", errors.New("odd"), fault.Origin, fault.Other},
	} {
		conns := &recorder{fail: map[string]error{"8.8.8.8": c.err}}
		g := New(Config{Connect: conns.connect})
		_, err := g.Dial(t.Context(), "8.8.8.8", 80)
		if f := fault.As(err); f.Kind != c.kind || f.Side != c.side || !f.Retry || !errors.Is(err, c.err) {
			t.Errorf("%s: got side %s kind %s retry %v (%v)", c.name, f.Side, f.Kind, f.Retry, err)
		}
	}
	g := New(Config{Resolver: &script{err: &net.DNSError{Err: "no such host", IsNotFound: true}}})
	for _, host := range []string{"gone.test", "", string(make([]byte, 300))} {
		if _, err := g.Dial(t.Context(), host, 80); !fault.Is(err, fault.Resolve) {
			t.Errorf("%.20q: got %v, want resolve", host, err)
		}
	}
	if _, err := g.Dial(t.Context(), "8.8.8.8", 0); !fault.Is(err, fault.Forbidden) {
		t.Errorf("port 0: got %v, want forbidden", err)
	}
}

func TestNextAddressIsTriedWhenOneFails(t *testing.T) {
	conns := &recorder{fail: map[string]error{"8.8.8.8": syscall.ECONNREFUSED, "1.0.0.1": syscall.ENETUNREACH}}
	resolver := &script{answers: [][]string{{"8.8.8.8", "1.0.0.1", "1.1.1.1"}}}
	g := New(Config{Resolver: resolver, Connect: conns.connect})
	nc, err := g.Dial(t.Context(), "several.test", 80)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.Close()
	if got := fmt.Sprint(conns.to); got != "[8.8.8.8:80 1.0.0.1:80 1.1.1.1:80]" {
		t.Errorf("tried %s", got)
	}
}

func TestASilentAddressLeavesTimeForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			if to.Addr().String() == "8.8.8.8" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			near, _ := net.Pipe()
			return near, nil
		}
		g := New(Config{Resolver: &script{answers: [][]string{{"8.8.8.8", "1.1.1.1"}, {"8.8.8.8"}}}, Connect: silent, FoundTTL: -1})
		start := time.Now()
		nc, err := g.Dial(t.Context(), "half.test", 80)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.Close()
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("the next address was tried after %s, want half of the 10 s", took)
		}
		start = time.Now()
		if _, err = g.Dial(t.Context(), "half.test", 80); !fault.Is(err, fault.ConnectTime) {
			t.Errorf("got %v, want connect timeout", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("gave up after %s, want 10 s", took)
		}
	})
}

func TestCallerWhoLeavesIsNotTheOriginsFault(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := New(Config{Connect: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) { return nil, ctx.Err() }})
	if f := fault.As(dialError(g.Dial(ctx, "8.8.8.8", 80))); f.Side != fault.Visitor || f.Kind != fault.Closed {
		t.Errorf("got %v on side %s", f, f.Side)
	}
}

func dialError(_ net.Conn, err error) error { return err }

func TestAnswersAreKeptForTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resolver := &script{answers: [][]string{{"8.8.8.8"}}}
		g := New(Config{Resolver: resolver})
		look := func() { _, _ = g.Resolve(t.Context(), "kept.test") }
		look()
		pass(29 * time.Second)
		look()
		if got := resolver.count(); got != 1 {
			t.Errorf("asked %d times within 30 s", got)
		}
		pass(2 * time.Second)
		look()
		if got := resolver.count(); got != 2 {
			t.Errorf("asked %d times after 31 s", got)
		}
		resolver.err = errors.New("servfail")
		pass(31 * time.Second)
		look()
		pass(4 * time.Second)
		look()
		if got := resolver.count(); got != 3 {
			t.Errorf("a failure was asked again within 5 s: %d", got)
		}
		resolver.err = nil
		pass(2 * time.Second)
		if _, err := g.Resolve(t.Context(), "kept.test"); err != nil {
			t.Errorf("a failure was kept beyond 5 s: %v", err)
		}
	})
}

func TestOneLookupServesAllWhoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resolver := &script{answers: [][]string{{"8.8.8.8"}}, gate: make(chan struct{})}
		g := New(Config{Resolver: resolver})
		first, leave := context.WithCancel(t.Context())
		var work sync.WaitGroup
		var failed, good atomic.Int32
		work.Go(func() {
			if _, err := g.Resolve(first, "busy.test"); err != nil {
				failed.Add(1)
			}
		})
		synctest.Wait()
		for range 50 {
			work.Go(func() {
				if _, err := g.Resolve(t.Context(), "busy.test"); err == nil {
					good.Add(1)
				}
			})
		}
		synctest.Wait()
		leave() // the leader leaves: one of the others asks instead
		synctest.Wait()
		close(resolver.gate)
		work.Wait()
		if failed.Load() != 1 || good.Load() != 50 || resolver.count() != 2 {
			t.Errorf("failed %d, good %d, asked %d; want 1, 50, 2", failed.Load(), good.Load(), resolver.count())
		}
	})
}

func TestKeptNamesAreBounded(t *testing.T) {
	g := New(Config{Resolver: &script{answers: [][]string{{"8.8.8.8"}}}, MaxNames: 10})
	for i := range 100 {
		if _, err := g.Resolve(t.Context(), fmt.Sprintf("n%d.test", i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(g.names.kept); got != 10 {
		t.Errorf("%d names kept, want 10", got)
	}
}

func TestDialReachesARealListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(nc, "hi")
		_ = nc.Close()
	})
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	g := New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	nc, err := g.Dial(t.Context(), "127.0.0.1", port)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(nc)
	_ = nc.Close()
	if string(got) != "hi" {
		t.Errorf("read %q", got)
	}
}

// Whatever 16 bytes an address has, the verdict on its mapped, NAT64 and 6to4
// forms is no milder than that on the IPv4 address inside.
func FuzzEmbeddedFormsAreNoMilder(f *testing.F) {
	f.Add([]byte{127, 0, 0, 1})
	f.Add([]byte{8, 8, 8, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 4 {
			return
		}
		g := New(Config{})
		plain := check(g, netip.AddrFrom4([4]byte(b))) != nil
		forms := [][16]byte{
			{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]},
			{0: 0, 1: 0x64, 2: 0xff, 3: 0x9b, 12: b[0], 13: b[1], 14: b[2], 15: b[3]},
			{0: 0x20, 1: 0x02, 2: b[0], 3: b[1], 4: b[2], 5: b[3]},
		}
		for _, form := range forms {
			a := netip.AddrFrom16(form)
			if (check(g, a) != nil) != plain {
				t.Errorf("%s judged otherwise than its IPv4 address", a)
			}
		}
	})
}

// pass lets the bubble's clock run.
func pass(d time.Duration) { <-time.After(d) }
