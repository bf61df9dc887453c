package store_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

const account = "acacacacacacacacacacacacacacacac"

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func write(t *testing.T, s *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := s.Write(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func TestZoneComesBackAsItWasSaved(t *testing.T) {
	dir := storetest.Place(t)
	s := open(t, dir)
	now := store.Now()
	z := &store.Zone{
		Meta: zone.Meta{ID: "z1", Name: "a.test", Account: account, Status: "active", Paused: true, Created: now, Changed: now, NameServers: []string{"ns1", "ns2"}},
		Settings: map[string]store.Setting{
			"ssl":              {Value: []byte(`"\u0066ull"`), Changed: now},
			"development_mode": {Value: []byte(`"on"`), Changed: now, Expires: now.Add(time.Hour)},
		},
		Records: []zone.Record{
			{ID: "r1", Name: "a.test", Type: "MX", Content: "Mail  x", TTL: 300, Priority: new(uint16(10)), Comment: "é", Tags: []string{"a:b"}, Created: now, Changed: now},
			{ID: "r2", Name: "a.test", Type: "CAA", Content: "c", TTL: 1, Data: []byte(`{ "flags" : 0 }`), Proxied: true, Tags: []string{}, Created: now, Changed: now},
		},
		Rulesets:     []store.Ruleset{{ID: "s1", Phase: "p", Version: 3, Body: []byte("{ \"rules\" :\t[] }\n"), Changed: now}},
		Certificates: []store.Certificate{{Certificate: zone.Certificate{ID: "c1", Chain: "PEM", Hosts: []string{"a.test"}, Expires: now, Sealed: []byte{1, 0, 255}, Managed: true}, DataKey: []byte{9}, Issuer: "i", Signature: "s", Bundle: "force", Created: now, Changed: now}},
	}
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.PutAccount(t.Context(), store.Account{ID: account, Name: "n", Created: now}), tx.SaveZone(t.Context(), nil, z))
	})
	check := func(want *store.Zone) {
		t.Helper()
		if err := s.Read(t.Context(), func(tx *store.Tx) error {
			got, err := tx.Zone(t.Context(), "z1")
			if err == nil && !reflect.DeepEqual(store.Bare(got), store.Bare(want)) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	check(z)
	replaced := z.Clone()
	replaced.Certificates[0] = store.Certificate{Certificate: zone.Certificate{ID: "c1", Chain: "PEM2", Hosts: []string{"b.a.test"}, Expires: now.Add(time.Hour), Sealed: []byte{2}}, DataKey: []byte{8}, Issuer: "j", Signature: "t", Bundle: "optimal", Created: now, Changed: now.Add(time.Second)}
	write(t, s, func(tx *store.Tx) error { return tx.SaveZone(t.Context(), z, replaced) })
	check(replaced)
	z = replaced
	after := z.Clone()
	after.Paused = false
	delete(after.Settings, "ssl")
	after.Records[1].Content = "changed"
	after.Records = append(after.Records[1:], zone.Record{ID: "r3", Name: "b.a.test", Type: "A", Tags: []string{}, Created: now, Changed: now})
	after.Rulesets[0].Version, after.Rulesets[0].Body = 4, []byte(`{}`)
	after.Certificates = nil
	write(t, s, func(tx *store.Tx) error { return tx.SaveZone(t.Context(), z, after) })
	check(after)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	check(after)
	write(t, s, func(tx *store.Tx) error { return tx.SaveZone(t.Context(), after, nil) })
	err := s.Read(t.Context(), func(tx *store.Tx) error { _, err := tx.Zone(t.Context(), "z1"); return err })
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted zone: %v", err)
	}
}

func TestFailedWriteLeavesNothing(t *testing.T) {
	s := open(t, storetest.Place(t))
	own := errors.New("mine")
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		if err := tx.PutAccount(t.Context(), store.Account{ID: "a"}); err != nil {
			return err
		}
		return own
	})
	if !errors.Is(err, own) {
		t.Errorf("got %v", err)
	}
	if err := s.Read(t.Context(), func(tx *store.Tx) error {
		all, err := tx.Accounts(t.Context())
		if len(all) != 0 {
			t.Errorf("accounts: %v", all)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestJoinTokenIsTakenOnce(t *testing.T) {
	s := open(t, storetest.Place(t))
	write(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.PutJoin(t.Context(), []byte("late"), time.Now().Add(-time.Minute)), tx.PutJoin(t.Context(), []byte("good"), time.Now().Add(time.Minute)))
	})
	for i, want := range []struct {
		hash string
		ok   bool
	}{{"late", false}, {"none", false}, {"good", true}, {"good", false}} {
		write(t, s, func(tx *store.Tx) error {
			ok, err := tx.TakeJoin(t.Context(), []byte(want.hash))
			if ok != want.ok {
				t.Errorf("step %d: token %s taken: %v", i, want.hash, ok)
			}
			return err
		})
	}
}
