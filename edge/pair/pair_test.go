package pair

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

const node = "0123456789abcdef0123456789abcdef"

// rows are a copy in memory.
type rows map[string]string

func (r rows) Get(key string) ([]byte, uint64, bool, error) {
	v, ok := r[key]
	return []byte(v), 1, ok, nil
}

func (r rows) Scan(prefix string, row func(string, []byte, uint64) error) error {
	for _, key := range slices.Sorted(maps.Keys(r)) {
		if strings.HasPrefix(key, prefix) {
			if err := row(key, []byte(r[key]), 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// open is a data key that is sealed by its first byte alone.
func open(_ string, sealed []byte) ([]byte, error) {
	if len(sealed) != feed.DataKeyBytes+1 || sealed[0] != 'n' {
		return nil, errors.New("sealed for another node")
	}
	return slices.Clone(sealed[1:]), nil
}

// made is a pair of a new key; wrong gives it another key than its chain's.
func made(t *testing.T, id string, wrong bool) *feed.Pair {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := key()
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	if wrong {
		k = key()
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dataKey := feed.NewDataKey()
	sealed, err := feed.EncryptKey(dataKey, id, private)
	if err != nil {
		t.Fatal(err)
	}
	return &feed.Pair{Zone: "z", ID: id, Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), Sealed: sealed, DataKey: append([]byte{'n'}, dataKey...)}
}

func count(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

type rig struct {
	*Keeper
	up      chan feed.Wanted
	arrived chan string
}

func newRig(t *testing.T, copied rows) *rig {
	t.Helper()
	r := &rig{up: make(chan feed.Wanted, 100), arrived: make(chan string, 100)}
	r.Keeper = New(Config{
		Dir: t.TempDir(), Node: node, Open: open, Copy: copied, Log: slog.New(slog.DiscardHandler),
		Up: func(_ byte, p []byte) bool {
			w, err := feed.DecodeWanted(p)
			if err != nil || w.Node != node {
				t.Errorf("frame up: %+v, %v", w, err)
			}
			r.up <- w
			return true
		},
		Arrived: func(zoneID string) { r.arrived <- zoneID },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func deliver(p *feed.Pair) feed.Delivery {
	return feed.Delivery{Node: node, PairRef: p.Ref(), Pair: p.Append(nil)}
}

func spec(p *feed.Pair) *zone.Spec {
	s := &zone.Spec{Meta: zone.Meta{ID: "z", Name: "a.test"}}
	s.Certificates = []zone.Certificate{{ID: p.ID, Chain: p.Chain, Pair: p.Ref().Sum.String()}}
	return s
}

// While the pair that an entry names has not come, the one before is served,
// chain and key; when it comes, the new one, and the old one's file goes.
func TestAnEntryWithoutItsPairServesThePairBefore(t *testing.T) {
	r := newRig(t, rows{})
	old, next := made(t, "c1", false), made(t, "c1", false)
	r.Want("z", old.Ref())
	<-r.up
	r.Deliver(deliver(old))
	<-r.arrived
	s := spec(old)
	if err := r.Fill(s); err != nil || s.Certificates[0].PrivateKey == nil {
		t.Fatalf("the pair that came is not served: %v", err)
	}
	s = spec(next)
	if err := r.Fill(s); err != nil || s.Certificates[0].Chain != old.Chain || belongs(old.Chain, s.Certificates[0].PrivateKey) != nil {
		t.Fatalf("without its pair: %v, chain of the old one: %t", err, s.Certificates[0].Chain == old.Chain)
	}
	if w := <-r.up; len(w.Asked) != 1 || w.Asked[0] != next.Ref() {
		t.Fatalf("asked for %v", w)
	}
	r.Deliver(deliver(next))
	<-r.arrived
	s = spec(next)
	if err := r.Fill(s); err != nil || s.Certificates[0].Chain != next.Chain || belongs(next.Chain, s.Certificates[0].PrivateKey) != nil {
		t.Fatalf("with its pair: %v", err)
	}
	if r.files.has(old.Ref()) || !r.files.has(next.Ref()) {
		t.Error("the old pair is kept, or the new one is not")
	}
	r.Drop("c1")
	if r.files.has(next.Ref()) {
		t.Error("a pair of a certificate that is gone is kept")
	}
}

func TestPairsThatAreNotWhatWasAskedForAreRefusedByName(t *testing.T) {
	good := made(t, "c1", false)
	foreign, torn := *good, deliver(good)
	foreign.DataKey = append([]byte{'x'}, good.DataKey[1:]...)
	torn.Pair = torn.Pair[:len(torn.Pair)-1]
	forged := deliver(made(t, "c1", false))
	forged.PairRef = good.Ref()
	half := made(t, "c1", true)
	for reason, d := range map[string]feed.Delivery{
		reasonUnasked: deliver(made(t, "c2", false)), reasonMalformed: torn, reasonSum: forged,
		reasonSealed: deliver(&foreign), reasonHalf: deliver(half),
	} {
		t.Run(reason, func(t *testing.T) {
			r := newRig(t, rows{})
			if reason != reasonUnasked {
				r.Want("z", d.PairRef)
				<-r.up
			}
			r.take(d)
			if got := count(t, r.refused.WithLabelValues(reason)); got != 1 {
				t.Errorf("%g refusals of this reason, want 1", got)
			}
			if r.files.has(d.PairRef) {
				t.Error("it is kept")
			}
		})
	}
}

// Of what is staged a node fetches what it lacks and acknowledges what it has.
func TestWhatIsStagedIsFetchedAndAcknowledged(t *testing.T) {
	r := newRig(t, rows{})
	p := made(t, "c1", false)
	r.Staged([]feed.PairRef{p.Ref()})
	if w := <-r.up; len(w.Asked) != 1 || len(w.Held) != 0 {
		t.Fatalf("said %+v", w)
	}
	r.Deliver(deliver(p))
	if w := <-r.up; len(w.Held) != 1 || w.Held[0] != p.Ref() {
		t.Fatalf("said %+v", w)
	}
	r.Staged([]feed.PairRef{p.Ref()}) // told again
	if w := <-r.up; len(w.Held) != 1 || len(w.Asked) != 0 {
		t.Fatalf("said %+v", w)
	}
	if n := len(r.arrived); n != 0 {
		t.Errorf("%d zones wait for a pair that no entry names", n)
	}
}

// Handshakes that need the same pair wait for it together; for one that is gone
// they do not.
func TestHandshakesWaitForTheirPair(t *testing.T) {
	r := newRig(t, rows{})
	p, gone := made(t, "c1", false), made(t, "c2", false)
	done := make(chan struct{}, 8)
	for range cap(done) {
		go func() { r.Await(t.Context(), "z", p.Ref()); done <- struct{}{} }()
	}
	if w := <-r.up; len(w.Asked) != 1 {
		t.Fatalf("asked for %v", w)
	}
	r.Deliver(deliver(p))
	for range cap(done) {
		<-done
	}
	if got := len(r.arrived); got != 1 {
		t.Errorf("the zone was compiled %d times, want once", got)
	}
	r.Want("z", gone.Ref())
	<-r.up
	r.Deliver(feed.Delivery{Node: node, PairRef: gone.Ref()})
	r.Await(t.Context(), "z", gone.Ref())
	if got := count(t, r.late); got != 0 {
		t.Errorf("%g handshakes waited in vain", got)
	}
}

// A copy of an earlier version has the key itself: it is taken over.
func TestKeysOfEarlierCopiesAreTakenOver(t *testing.T) {
	p := made(t, "c1", false)
	r := newRig(t, rows{zone.SealedKey("c1", node): string(p.DataKey)})
	s := &zone.Spec{Meta: zone.Meta{ID: "z", Name: "a.test"}, Certificates: []zone.Certificate{{ID: "c1", Chain: p.Chain, Sealed: p.Sealed}}}
	if err := r.Fill(s); err != nil || s.Certificates[0].PrivateKey == nil {
		t.Fatalf("an earlier version's certificate: %v", err)
	}
	s = spec(p) // what the new control plane publishes of it
	if err := r.Fill(s); err != nil || s.Certificates[0].PrivateKey == nil || len(r.up) != 0 {
		t.Errorf("its pointer: %v, %d wishes", err, len(r.up))
	}
}

func TestDamagedFileIsFetchedAgain(t *testing.T) {
	r := newRig(t, rows{})
	p := made(t, "c1", false)
	if err := r.files.put(p); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.files.path(p.Ref()), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := spec(p)
	if err := r.Fill(s); err != nil || s.Certificates[0].PrivateKey != nil {
		t.Errorf("a torn file: %v", err)
	}
	if w := <-r.up; len(w.Asked) != 1 || w.Asked[0] != p.Ref() {
		t.Errorf("asked for %v", w)
	}
}

// What was staged is forgotten when its entry comes or its certificate goes: else
// the bound would be reached in time, and nothing staged be acknowledged at once.
func TestWhatIsPublishedIsStagedNoMore(t *testing.T) {
	r := newRig(t, rows{})
	for range 3 {
		p, dropped := made(t, "c1", false), made(t, "c2", false)
		r.Staged([]feed.PairRef{p.Ref(), dropped.Ref()})
		r.Want("z", p.Ref())
		r.Drop("c2")
		r.mu.Lock()
		if n := len(r.staged); n != 0 {
			t.Errorf("%d are staged still", n)
		}
		r.mu.Unlock()
	}
}

// Pairs that are gone make room for those that come after them.
func TestPairsThatAreGoneMakeRoom(t *testing.T) {
	k := New(Config{Dir: t.TempDir(), Node: node, Copy: rows{}, Log: slog.New(slog.DiscardHandler)})
	for i := range maxAsked {
		k.wants[feed.PairRef{ID: "c", Sum: feed.PairSum{byte(i)}}] = &want{gone: time.Now().Add(-2 * goneFor)}
	}
	room := make(chan bool, 1)
	go func() { room <- k.vacant(t.Context()) }()
	k.ask()
	select {
	case ok := <-room:
		if !ok {
			t.Error("who waits for room is told that all is over")
		}
	case <-time.After(10 * time.Second):
		t.Error("who waits for room is not told that there is some")
	}
}
