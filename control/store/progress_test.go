package store_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
)

func progressOf(t *testing.T, s *store.Store) (all []store.Progress, rejects []store.Rejection) {
	t.Helper()
	if err := s.Read(t.Context(), func(tx *store.Tx) (err error) {
		if all, err = tx.Progress(t.Context()); err == nil {
			rejects, err = tx.Rejections(t.Context())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all, rejects
}

func TestProgressOfSeveralControls(t *testing.T) {
	s := open(t, storetest.Place(t))
	at := time.Unix(1000, 0).UTC()
	put := func(control string, all ...store.Progress) {
		t.Helper()
		write(t, s, func(tx *store.Tx) error { return tx.PutProgress(t.Context(), control, all) })
	}
	var many []store.Progress
	for i := range 330 {
		many = append(many, store.Progress{Node: strings.Repeat(string(rune('a'+i%26)), 1+i/26), Colo: "FRA", Applied: 5, At: at, Since: at})
	}
	put("x", many...)
	if all, _ := progressOf(t, s); len(all) != 330 || all[0].Control != "x" || all[0].Applied != 5 {
		t.Errorf("%d rows, first %+v", len(all), all[0])
	}
	up := store.Progress{Node: "a", Colo: "FRA", Applied: 7, At: at.Add(time.Second), Connected: true, Since: at}
	put("y", up)
	// The one that it left hears late that it has gone.
	put("x", store.Progress{Node: "a", Colo: "FRA", Applied: 6, At: at, Since: at.Add(time.Minute)})
	all, _ := progressOf(t, s)
	if got := all[0]; got.Control != "y" || got.Applied != 7 || got.Connected || !got.Since.Equal(up.At) {
		t.Errorf("of a process that never said that it lives: %+v", got)
	}
	write(t, s, func(tx *store.Tx) error { return tx.LiveControl(t.Context(), "y", time.Hour) })
	all, _ = progressOf(t, s)
	want := up
	want.Control = "y"
	if !reflect.DeepEqual(all[0], want) {
		t.Errorf("got  %+v\nwant %+v", all[0], want)
	}
	write(t, s, func(tx *store.Tx) error { return tx.LiveControl(t.Context(), "y", -time.Hour) })
	if all, _ = progressOf(t, s); all[0].Connected {
		t.Error("connected to a process that died")
	}
	put("y", store.Progress{Node: "a", Colo: "FRA", Applied: 7, At: at, Since: at.Add(time.Hour)})
	if all, _ = progressOf(t, s); !all[0].Since.Equal(at.Add(time.Hour)) {
		t.Errorf("gone since %s", all[0].Since)
	}
	// Who is dead for long is forgotten, and its nodes are not connected.
	write(t, s, func(tx *store.Tx) error { return tx.LiveControl(t.Context(), "y", -25*time.Hour) })
	write(t, s, func(tx *store.Tx) error {
		holder, err := tx.LeaseHolder(t.Context(), "control/y")
		if holder != "" {
			t.Errorf("%q holds what has expired", holder)
		}
		return err
	})
}

func TestRejectionsAreBounded(t *testing.T) {
	s := open(t, storetest.Place(t))
	at := time.Unix(1000, 0).UTC()
	for i := range 3 {
		var all []store.Rejection
		for n := range store.KeptRejections {
			all = append(all, store.Rejection{Node: "a", Seq: uint64(1 + i*store.KeptRejections/2 + n), Reason: "why", At: at})
		}
		all = append(all, store.Rejection{Node: "b", Seq: 3, Reason: "é", At: at})
		write(t, s, func(tx *store.Tx) error { return tx.PutRejections(t.Context(), all) })
	}
	_, got := progressOf(t, s)
	if len(got) != store.KeptRejections+1 || got[0].Seq != store.KeptRejections+1 || !reflect.DeepEqual(got[len(got)-1], store.Rejection{Node: "b", Seq: 3, Reason: "é", At: at}) {
		t.Errorf("%d, first %+v, last %+v", len(got), got[0], got[len(got)-1])
	}
}

func TestLogSize(t *testing.T) {
	s := open(t, storetest.Place(t))
	write(t, s, func(tx *store.Tx) error {
		for seq := uint64(1); seq <= 3; seq++ {
			if err := tx.PutLog(t.Context(), store.LogRow{Seq: seq, Time: time.Unix(1, 0), Payload: make([]byte, 100), Hash: []byte{1}}); err != nil {
				return err
			}
		}
		entries, bytes, err := tx.LogSize(t.Context())
		if entries != 3 || bytes != 300 {
			t.Errorf("%d entries of %d bytes", entries, bytes)
		}
		return err
	})
}
