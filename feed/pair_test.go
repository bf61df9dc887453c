package feed

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"reflect"
	"strings"
	"testing"
)

const testNode = "0123456789abcdef0123456789abcdef"

func testPair() *Pair {
	return &Pair{Zone: "z1", ID: "c1", Chain: "PEM", Sealed: []byte{1, 2, 3}, DataKey: []byte{4, 5}}
}

// What is written is read back the same, and nothing shorter or longer is.
func TestPairFramesAreReadAsWritten(t *testing.T) {
	pair := testPair()
	ref := pair.Ref()
	other := PairRef{ID: "c2", Sum: SumPair("c2", "x", []byte("y"))}
	staged := Staged{Pairs: []PairRef{ref, other}}
	wanted := Wanted{Node: testNode, Asked: []PairRef{ref}, Held: []PairRef{other}}
	delivery := Delivery{Node: testNode, PairRef: ref, Pair: pair.Append(nil)}
	if got, err := DecodePair(delivery.Pair); err != nil || !reflect.DeepEqual(got, pair) {
		t.Errorf("pair: %+v, %v", got, err)
	}
	if got, err := DecodeStaged(staged.Encode()); err != nil || !reflect.DeepEqual(got, staged) {
		t.Errorf("staged: %+v, %v", got, err)
	}
	if got, err := DecodeWanted(wanted.Encode()); err != nil || !reflect.DeepEqual(got, wanted) {
		t.Errorf("wanted: %+v, %v", got, err)
	}
	if got, err := DecodeDelivery(delivery.Encode()); err != nil || !reflect.DeepEqual(got, delivery) {
		t.Errorf("delivery: %+v, %v", got, err)
	}
	for n := range delivery.Pair {
		if got, err := DecodePair(delivery.Pair[:n]); err == nil {
			t.Errorf("%d bytes of a pair are read as %+v", n, got)
		}
	}
	if _, err := DecodePair(append(delivery.Pair, 0)); err == nil {
		t.Error("a pair with a byte behind it is read")
	}
}

func TestPairFramesOverTheirLimitsAreRefused(t *testing.T) {
	many := make([]PairRef, MaxPairRefs+1)
	for i := range many {
		many[i] = PairRef{ID: "c"}
	}
	if _, err := DecodeStaged((&Staged{Pairs: many}).Encode()); err == nil {
		t.Error("a list of too many staged pairs is read")
	}
	if _, err := DecodeWanted((&Wanted{Node: testNode, Asked: many}).Encode()); err == nil {
		t.Error("a list of too many wanted pairs is read")
	}
	if _, err := DecodeWanted((&Wanted{Asked: many[:1]}).Encode()); err == nil {
		t.Error("a wish of nobody is read")
	}
	if n := len((&Wanted{Node: testNode, Asked: longRefs()}).Encode()); n > MaxUpPayload {
		t.Errorf("a full wish has %d bytes, a frame up has room for %d", n, MaxUpPayload)
	}
	for name, change := range map[string]func(*Pair){
		"chain":       func(p *Pair) { p.Chain = strings.Repeat("x", maxPairChain+1) },
		"key":         func(p *Pair) { p.Sealed = make([]byte, maxPairSealed+1) },
		"data key":    func(p *Pair) { p.DataKey = make([]byte, maxDataKey+1) },
		"no key":      func(p *Pair) { p.Sealed = nil },
		"id":          func(p *Pair) { p.ID = "../../etc/passwd" },
		"zone's id":   func(p *Pair) { p.Zone = "" },
		"id too long": func(p *Pair) { p.ID = strings.Repeat("a", maxPairID+1) },
	} {
		p := testPair()
		change(p)
		if _, err := DecodePair(p.Append(nil)); err == nil {
			t.Errorf("%s: a pair over its limit is read", name)
		}
	}
	p := testPair()
	p.Chain, p.Sealed, p.DataKey = strings.Repeat("x", maxPairChain), make([]byte, maxPairSealed), make([]byte, maxDataKey)
	if n := len((&Delivery{Node: testNode, PairRef: p.Ref(), Pair: p.Append(nil)}).Encode()); n > MaxDownPayload {
		t.Errorf("the largest pair has %d bytes, a frame down has room for %d", n, MaxDownPayload)
	}
}

func longRefs() []PairRef {
	refs := make([]PairRef, MaxPairRefs)
	for i := range refs {
		refs[i].ID = strings.Repeat("a", maxPairID)
	}
	return refs
}

// Only the node that a pair is sealed to opens its key.
func TestPairOpensForItsNodeOnly(t *testing.T) {
	open := func() (pub []byte, fn func(string, []byte) ([]byte, error)) {
		raw, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, err := hpkeKEM().NewPrivateKey(raw.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		return raw.PublicKey().Bytes(), func(id string, sealed []byte) ([]byte, error) { return openFor(key, id, sealed) }
	}
	pub, ours := open()
	_, theirs := open()
	der, dataKey := []byte("private"), NewDataKey()
	sealed, err := EncryptKey(dataKey, "c1", der)
	if err != nil {
		t.Fatal(err)
	}
	forNode, err := SealFor(pub, "c1", dataKey)
	if err != nil {
		t.Fatal(err)
	}
	p := &Pair{Zone: "z1", ID: "c1", Chain: "PEM", Sealed: sealed, DataKey: forNode}
	if got, err := p.Key(ours); err != nil || !bytes.Equal(got, der) {
		t.Errorf("our key: %q, %v", got, err)
	}
	if _, err := p.Key(theirs); err == nil {
		t.Error("another node opened the key")
	}
	p.ID = "c2"
	if _, err := p.Key(ours); err == nil {
		t.Error("the key opened under another certificate's name")
	}
}

func FuzzPairFrames(f *testing.F) {
	pair := testPair()
	f.Add(pair.Append(nil))
	f.Add((&Staged{Node: testNode, Pairs: []PairRef{pair.Ref()}}).Encode())
	f.Add((&Wanted{Node: testNode, Asked: []PairRef{pair.Ref()}, Held: []PairRef{pair.Ref()}}).Encode())
	f.Add((&Delivery{Node: testNode, PairRef: pair.Ref(), Pair: pair.Append(nil)}).Encode())
	f.Fuzz(func(t *testing.T, p []byte) {
		if got, err := DecodePair(p); err == nil && !bytes.Equal(got.Append(nil), p) {
			t.Error("a pair is read from what is not its writing")
		}
		if got, err := DecodeStaged(p); err == nil && !bytes.Equal(got.Encode(), p) {
			t.Error("a list of staged pairs is read from what is not its writing")
		}
		if got, err := DecodeWanted(p); err == nil && len(got.Encode()) != len(p) {
			t.Error("a wish is read from what is not its writing") // asked and held may come mixed
		}
		if got, err := DecodeDelivery(p); err == nil && !bytes.Equal(got.Encode(), p) {
			t.Error("a delivery is read from what is not its writing")
		}
	})
}
