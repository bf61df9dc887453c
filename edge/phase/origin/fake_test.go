package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/internal/arena"
	"github.com/selvage-edge/selvage/wire/msg"
	"github.com/selvage-edge/selvage/zone"
)

// world is a Dialer that knows names and counts who was called.
type world struct {
	mu    sync.Mutex
	hosts map[string]func() (net.Conn, error)
	calls []string
}

func (w *world) Dial(_ context.Context, host string, port uint16) (net.Conn, error) {
	w.mu.Lock()
	to := fmt.Sprintf("%s:%d", host, port)
	w.calls = append(w.calls, to)
	open := w.hosts[to]
	w.mu.Unlock()
	if open == nil {
		return nil, &fault.Error{Op: "world", Side: fault.Origin, Kind: fault.Refused, Retry: true}
	}
	return open()
}

func (w *world) called() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.calls, " ")
}

// serve starts an origin on loopback and returns how to reach it.
func serve(t *testing.T, h http.Handler) func() (net.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	var work sync.WaitGroup
	work.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { _ = s.Close(); work.Wait() })
	addr := l.Addr().String()
	return func() (net.Conn, error) { return net.Dial("tcp", addr) }
}

// scripted returns an origin that runs f on each connection, the n-th from 0.
func scripted(t *testing.T, f func(n int, nc net.Conn)) func() (net.Conn, error) {
	t.Helper()
	var count atomic.Int32
	var work sync.WaitGroup
	t.Cleanup(work.Wait)
	return func() (net.Conn, error) {
		near, far := net.Pipe()
		n := int(count.Add(1)) - 1
		work.Go(func() {
			defer func() { _ = far.Close() }()
			f(n, far)
		})
		t.Cleanup(func() { _ = near.Close() })
		return near, nil
	}
}

// newEngine returns an engine on w; change may adjust its Config.
func newEngine(t *testing.T, w *world, change func(*Config)) *Engine {
	t.Helper()
	c := Config{Dial: w.Dial}
	if change != nil {
		change(&c)
	}
	e := New(c)
	t.Cleanup(e.Close)
	return e
}

const zoneID = "0123456789abcdef0123456789abcdef"

// plan compiles a zone with one proxied name, shop.test.
func plan(t testing.TB, ssl string, contents ...string) *Plan {
	t.Helper()
	spec := &zone.Spec{Meta: zone.Meta{ID: zoneID, Name: "shop.test"}, Settings: zone.Settings{"ssl": []byte(`"` + ssl + `"`)}}
	for _, c := range contents {
		kind := "CNAME"
		if a, err := netip.ParseAddr(c); err == nil {
			if kind = "A"; a.Is6() {
				kind = "AAAA"
			}
		}
		spec.Records = append(spec.Records, zone.Record{Name: "shop.test", Type: kind, Content: c, Proxied: true})
	}
	p, err := Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask builds a visitor's request; lines are "Name: value".
func ask(t testing.TB, method, target string, body io.Reader, lines ...string) *request.Request {
	in := &msg.Request{
		MethodText: []byte(method), Method: msg.MethodOf([]byte(method)), Scheme: msg.HTTPS,
		Authority: []byte("Shop.test:8443"), Target: []byte(target), Path: []byte(target), Proto: msg.HTTP11,
	}
	in.Fields.Add([]byte("Host"), in.Authority)
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		in.Fields.Add([]byte(name), []byte(value))
	}
	r := &request.Request{
		In: in, Out: new(msg.Response), Ctx: t.Context(), Arena: new(arena.Arena),
		Ray: 0x0123456789abcdef, Client: netip.MustParseAddr("192.0.2.7"), Geo: request.Geo{Country: [2]byte{'D', 'E'}},
		Host: []byte("shop.test"), ZoneID: zoneID, Colo: "FRA",
	}
	if body != nil {
		in.Body, in.Length = io.NopCloser(body), msg.LengthUnknown
		r.Body = request.NewBody(in.Body, in.Length)
	}
	return r
}

// read returns the whole body and closes the answer.
func read(t *testing.T, r *request.Request) string {
	t.Helper()
	defer r.Out.Close()
	if r.Out.Body == nil {
		return ""
	}
	b, err := io.ReadAll(r.Out.Body)
	if err != nil {
		t.Fatalf("body: %v", err)
	}
	return string(b)
}

func run(t *testing.T, e *Engine, p *Plan, r *request.Request) string {
	t.Helper()
	verdict, err := e.Run(p, r)
	if err != nil {
		t.Fatalf("run: %v", err)
	}
	if verdict != request.Respond {
		t.Fatalf("verdict %d, want respond", verdict)
	}
	return read(t, r)
}

func wantKind(t *testing.T, err error, side fault.Side, kind fault.Kind) {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Side != side || f.Kind != kind {
		t.Errorf("got %v (%T), want side %s, kind %s", err, err, side, kind)
	}
}

// fieldsOf renders fields sorted, for comparison.
func fieldsOf(f *msg.Fields) string {
	var lines []string
	for _, l := range f.All() {
		lines = append(lines, string(l.Name)+": "+string(l.Value))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
