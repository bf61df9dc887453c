package control_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// wallet is a node's part of the certificates' channel: it asks for what is
// staged, and what it is told to, and keeps what comes.
type wallet struct {
	id *feed.Identity
	up func(kind byte, payload []byte) bool

	mu    sync.Mutex
	deaf  bool                           // it does not ask; guarded by mu
	pairs map[feed.PairRef]*feed.Pair    // guarded by mu
	came  map[feed.PairRef]chan struct{} // guarded by mu; closed when it came or is gone
}

func newWallet(id *feed.Identity) *wallet {
	return &wallet{id: id, pairs: map[feed.PairRef]*feed.Pair{}, came: map[feed.PairRef]chan struct{}{}}
}

// setDeaf says whether it asks for what is staged.
func (w *wallet) setDeaf(deaf bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = deaf
}

func (w *wallet) onFrame(_ context.Context, kind byte, p []byte) error {
	if kind == feed.KindCertificateStaged {
		s, err := feed.DecodeStaged(p)
		w.mu.Lock()
		deaf := w.deaf
		w.mu.Unlock()
		if err == nil && !deaf {
			w.up(feed.KindCertificateWanted, (&feed.Wanted{Node: w.id.NodeID, Asked: s.Pairs}).Encode())
		}
		return err
	}
	d, err := feed.DecodeDelivery(p)
	if err != nil || d.Node != w.id.NodeID {
		return errors.Join(err, errors.New("it is for somebody else"))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(d.Pair) > 0 {
		if w.pairs[d.PairRef], err = feed.DecodePair(d.Pair); err != nil {
			return err
		}
		w.up(feed.KindCertificateWanted, (&feed.Wanted{Node: w.id.NodeID, Held: []feed.PairRef{d.PairRef}}).Encode())
	}
	if came := w.came[d.PairRef]; came != nil {
		close(came)
		delete(w.came, d.PairRef)
	}
	return nil
}

// fetch asks for a pair; nil where there is none.
func (w *wallet) fetch(t *testing.T, ref feed.PairRef) *feed.Pair {
	t.Helper()
	came := make(chan struct{})
	w.mu.Lock()
	w.came[ref] = came
	w.mu.Unlock()
	w.up(feed.KindCertificateWanted, (&feed.Wanted{Node: w.id.NodeID, Asked: []feed.PairRef{ref}}).Encode())
	select {
	case <-came:
	case <-t.Context().Done():
		t.Fatal("the pair did not come")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pairs[ref]
}

// opens checks that the key of the pair that a certificate's entry names opens
// at the node and fits the chain of both.
func (w *wallet) opens(t *testing.T, value []byte) error {
	t.Helper()
	var c zone.Certificate
	if err := json.Unmarshal(value, &c); err != nil {
		return err
	}
	sum, err := feed.ParsePairSum(c.Pair)
	if err != nil || len(c.Sealed) > 0 {
		return fmt.Errorf("entry of certificate %s: %w, with %d bytes of key", c.ID, err, len(c.Sealed))
	}
	p := w.fetch(t, feed.PairRef{ID: c.ID, Sum: sum})
	if p == nil || p.Chain != c.Chain || p.Ref().Sum != sum {
		return fmt.Errorf("certificate %s: pair %v", c.ID, p)
	}
	der, err := p.Key(w.id.OpenKey)
	if err != nil {
		return err
	}
	_, err = tls.X509KeyPair([]byte(c.Chain), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return err
}
