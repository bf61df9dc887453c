package publish_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// What an earlier version put into the log of a certificate's key is in no table
// and no file any more after the first start; every edge is sent a snapshot.
func TestKeysOfEarlierVersionsAreErased(t *testing.T) {
	place := storetest.Place(t)
	s := openStore(t, place)
	p, stop := open(t, config(s))
	id := strings.Repeat("c", 32)
	z := newZone("a.test")
	sealed, dataKey, err := p.Lock(id, []byte("private key"))
	if err != nil {
		t.Fatal(err)
	}
	cert := store.Certificate{Certificate: zone.Certificate{ID: id, Chain: "PEM", Sealed: sealed}, DataKey: dataKey, Created: store.Now(), Changed: store.Now()}
	z.Certificates = []store.Certificate{cert}
	if _, err := p.Create(t.Context(), by, z); err != nil {
		t.Fatal(err)
	}
	// The entries of an earlier version, told several times and in the audit trail.
	inEntry := base64.StdEncoding.EncodeToString(sealed)
	old := fmt.Sprintf(`{"id":%q,"certificate":"PEM","hosts":null,"sealed":%q}`, id, inEntry)
	var forNodes [][]byte
	for n := range 3 {
		key := make([]byte, 81)
		_, _ = rand.Read(key)
		forNodes = append(forNodes, key)
		if _, err := p.Write(t.Context(), by, func(*store.Tx) (publish.Written, error) {
			return publish.Written{After: `{"k":` + old + `}`, Changes: []feed.Change{
				{Op: feed.Set, Key: zone.SealedKey(id, fmt.Sprintf("%032x", n)), Value: key},
				{Op: feed.Set, Key: zone.CertKey(z.ID, id), Value: []byte(old)},
			}}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	at, _ := p.Head()
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	storetest.Exec(t, place, `DELETE FROM facts WHERE name = 'keys in the log'`)
	found := func() (n int) {
		for _, text := range storetest.Dump(t, place) {
			for _, secret := range append(forNodes, []byte(inEntry)) {
				if bytes.Contains(text, secret) {
					n++
				}
			}
		}
		return n
	}
	if storetest.Which() == "sqlite" && found() == 0 {
		t.Fatal("the state of an earlier version is not one")
	}

	s = openStore(t, place)
	p, stop = open(t, config(s))
	if _, err := p.Read(t.Context(), at, 1<<20); !errors.Is(err, feed.ErrCompacted) {
		t.Errorf("an edge at the old head reads on: %v", err)
	}
	var names string
	if err := p.Snapshot(t.Context(), "", func(feed.Cursor) error { return nil }, func(key string, value []byte, _ uint64) error {
		if strings.HasPrefix(key, zone.PrefixKey) || bytes.Contains(value, []byte("sealed")) {
			t.Errorf("the snapshot has %s: %s", key, value)
		}
		if key == zone.CertKey(z.ID, id) {
			names = string(value)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(names, cert.Ref().Sum.String()) {
		t.Errorf("the certificate's entry does not name its pair: %s", names)
	}
	head, _ := p.Head()
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := found(); n != 0 {
		t.Errorf("%d keys are still in the database's files", n)
	}

	s = openStore(t, place)
	p, _ = open(t, config(s))
	if again, _ := p.Head(); again != head {
		t.Errorf("the second start moved keys again: %d entries more", again-head)
	}
}
