package publish_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

// dump is all that the database has of a zone, row by row, and what the feed says.
func dump(t *testing.T, s *store.Store, id string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := s.Read(t.Context(), func(tx *store.Tx) error {
		for _, q := range []string{
			`SELECT 'zone', id, account, name, status, paused, name_servers, created, changed FROM zones WHERE id = $1`,
			`SELECT 'record', id, position, name, type, content, ttl, proxied, priority, data, comment, tags, created, changed FROM records WHERE zone = $1`,
			`SELECT 'setting', name, value, changed, expires FROM settings WHERE zone = $1`,
			`SELECT 'ruleset', phase, id, version, body, changed FROM rulesets WHERE zone = $1`,
			`SELECT 'certificate', id, chain, hosts, issuer, signature, expires, sealed, data_key, bundle, managed, created, changed FROM certificates WHERE zone = $1`,
		} {
			rows, err := tx.QueryContext(t.Context(), q, id)
			if err != nil {
				return err
			}
			columns, err := rows.Columns()
			if err != nil {
				return err
			}
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			for rows.Next() {
				if err := rows.Scan(into...); err != nil {
					return err
				}
				all[fmt.Sprintf("%s %s", values[0], values[1])] = fmt.Sprintf("%q", values)
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				return err
			}
		}
		return tx.Keys(t.Context(), zone.PrefixZone, func(key string, value []byte, _ uint64) error {
			if strings.HasPrefix(key, zone.Prefix(id)) {
				all["feed "+key] = string(value)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// without leaves out rows of kinds.
func without(rows map[string]string, kinds ...string) map[string]string {
	all := maps.Clone(rows)
	maps.DeleteFunc(all, func(key, _ string) bool {
		return slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasPrefix(key, kind) })
	})
	return all
}

func compare(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for key := range want {
		if got[key] != want[key] {
			t.Errorf("%s: %s\n is %s\n was %s", what, key, got[key], want[key])
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%s: %s is there, and was not", what, key)
		}
	}
}

// texts are what JSON and SQL have trouble with.
var texts = []string{"", "plain", `"quoted" <b>&amp;</b> \u0041`, "ünï—𝄞\u2028\u0001\t", "'; DROP TABLE zones; --", strings.Repeat("long ", 900)}

// edit changes something of a zone by chance.
func edit(r *rand.Rand, n int) func(*store.Zone) error {
	pick := r.IntN(9)
	text := texts[r.IntN(len(texts))]
	index := r.Int()
	return func(z *store.Zone) error {
		now := store.Now()
		switch {
		case pick < 2:
			rec := zone.Record{ID: fmt.Sprintf("%032x", n), Name: fmt.Sprintf("n%d.%s", index%4, z.Name), Type: "TXT", Content: text, TTL: uint32(index % 100), Created: now, Changed: now, Comment: text}
			if index%2 == 0 {
				rec.Tags, rec.Priority, rec.Data = []string{text}, new(uint16(index)), json.RawMessage(`{ "a" : "<>" }`)
			}
			z.Records = append(z.Records, rec)
		case pick == 2 && len(z.Records) > 0:
			z.Records = slices.Delete(z.Records, index%len(z.Records), index%len(z.Records)+1)
		case pick == 3 && len(z.Records) > 0:
			rec := &z.Records[index%len(z.Records)]
			rec.Content, rec.Changed, rec.Name = text, now, "moved."+z.Name
		case pick == 4:
			value, err := json.Marshal(text)
			z.Settings[fmt.Sprintf("s%d", index%3)] = store.Setting{Value: append([]byte(" "), value...), Changed: now, Expires: now.Add(time.Hour)}
			return err
		case pick == 5:
			delete(z.Settings, fmt.Sprintf("s%d", index%3))
		case pick == 6:
			phase := fmt.Sprintf("p%d", index%2)
			body := json.RawMessage(fmt.Sprintf("{ \"rules\" : [ %d ] }\n", n))
			if old := z.Ruleset(phase); old != nil {
				*old = store.Ruleset{ID: old.ID, Phase: phase, Version: old.Version + 1, Body: body, Changed: now}
			} else {
				z.Rulesets = append(z.Rulesets, store.Ruleset{ID: fmt.Sprintf("%032x", n), Phase: phase, Version: 1, Body: body, Changed: now})
			}
		case pick == 7:
			z.NameServers, z.Changed = append(slices.Clone(z.NameServers), fmt.Sprintf("ns%d.test", n)), now
		default:
			z.Certificates = append(z.Certificates, store.Certificate{
				Certificate: zone.Certificate{ID: fmt.Sprintf("%032x", n), Chain: "chain " + text, Hosts: []string{z.Name}, Expires: now.Add(time.Hour), Sealed: []byte("secret sealed")},
				DataKey:     wrapped(z.Name), Issuer: text, Signature: "x", Bundle: "ubiquitous", Created: now, Changed: now,
			})
		}
		return nil
	}
}

// wrapped is a data key as the test's vault has it; no node asks for it.
func wrapped(name string) []byte { return []byte("secret wrapped " + name) }

func TestAnyKeptStateComesBackByteForByte(t *testing.T) {
	s := openStore(t, storetest.Place(t))
	p, _ := open(t, config(s))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	z := newZone("a.test")
	first, err := p.Create(t.Context(), by, z)
	if err != nil {
		t.Fatal(err)
	}
	states := map[uint64]map[string]string{first: dump(t, s, z.ID)}
	other := newZone("b.test")
	if _, err := p.Create(t.Context(), by, other); err != nil {
		t.Fatal(err)
	}
	for n := range 60 {
		id := z.ID
		if n%7 == 3 {
			id = other.ID // its entries stand in between
		}
		seq, err := p.Edit(t.Context(), id, by, edit(r, n))
		if err != nil {
			t.Fatal(err)
		}
		states[seq] = dump(t, s, z.ID)
	}
	back := func(to uint64) {
		t.Helper()
		what := fmt.Sprintf("back to %d", to)
		was := dump(t, s, z.ID)
		dry, err := p.Rollback(t.Context(), z.ID, by, publish.Rollback{To: to, Dry: true})
		compare(t, what+", dry", dump(t, s, z.ID), was)
		done, err2 := p.Rollback(t.Context(), z.ID, by, publish.Rollback{To: to})
		if (err == nil) != (err2 == nil) {
			t.Fatalf("%s: dry %v, in earnest %v", what, err, err2)
		}
		if _, ok := errors.AsType[*publish.Erased](err2); ok {
			compare(t, what+", refused", dump(t, s, z.ID), was)
			if done, err2 = p.Rollback(t.Context(), z.ID, by, publish.Rollback{To: to, Keep: true}); err2 != nil {
				t.Fatalf("%s, keeping certificates: %v", what, err2)
			}
			certificates := []string{"certificate", "feed " + zone.CertKey(z.ID, "")}
			compare(t, what, without(dump(t, s, z.ID), certificates...), without(states[to], certificates...))
			states[done.Seq] = dump(t, s, z.ID)
			return
		}
		if err2 != nil {
			t.Fatalf("%s: %v", what, err2)
		}
		compare(t, what, dump(t, s, z.ID), states[to])
		if len(dry.Diff.Records) != len(done.Diff.Records) || done.Diff.Empty() != (done.Seq != 0 && maps.Equal(was, states[to])) {
			t.Errorf("%s: %d records differ dry, %d in earnest; empty: %t", what, len(dry.Diff.Records), len(done.Diff.Records), done.Diff.Empty())
		}
		states[done.Seq] = dump(t, s, z.ID)
	}
	all := slices.Sorted(maps.Keys(states))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, to := range all[:30] {
		back(to)
	}
	// A zone that is gone comes back too, but for its certificates.
	before, _ := p.Head()
	states[before] = dump(t, s, z.ID)
	if _, err := p.Remove(t.Context(), z.ID, by); err != nil {
		t.Fatal(err)
	}
	back(before)
	back(first)
	compareHistory(t, s, z.ID)
}

// compareHistory looks for keys in what is kept, and for gaps.
func compareHistory(t *testing.T, s *store.Store, id string) {
	t.Helper()
	if err := s.Read(t.Context(), func(tx *store.Tx) error {
		version := int64(-1)
		return tx.History(t.Context(), id, 0, func(p *store.Past) (bool, error) {
			if version >= 0 && p.Version != version-1 {
				t.Errorf("version %d before %d", p.Version, version)
			}
			version = p.Version
			text, err := json.Marshal(p.Diff)
			if strings.Contains(string(text), "secret") || strings.Contains(string(text), "c2VjcmV0") {
				t.Errorf("change %d has a key: %.300s", p.Seq, text)
			}
			return true, err
		})
	}); err != nil {
		t.Fatal(err)
	}
}

func TestRollbackRefusesWhatItCannotDo(t *testing.T) {
	s := openStore(t, storetest.Place(t))
	c := config(s)
	c.RetainAudit = 5
	p, _ := open(t, c)
	z, other := newZone("a.test"), newZone("b.test")
	for _, each := range []*store.Zone{other, z} {
		if _, err := p.Create(t.Context(), by, each); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, r publish.Rollback, id string, ok func(error) bool, text string) {
		t.Helper()
		head, _ := p.Head()
		_, err := p.Rollback(t.Context(), id, by, r)
		if err == nil || !ok(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", what, err, text)
		}
		if now, _ := p.Head(); now != head {
			t.Errorf("%s: refused, and entry %d is new", what, now)
		}
	}
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	kind := func(k fault.Kind) func(error) bool { return func(err error) bool { return fault.Is(err, k) } }
	refused("before it was made", publish.Rollback{To: 1}, z.ID, is(publish.ErrNotThen), "did not exist")
	refused("not given out", publish.Rollback{To: 99}, z.ID, kind(fault.Malformed), "99 is not given out yet, the newest change is 2")
	refused("unknown", publish.Rollback{To: 1}, strings.Repeat("e", 32), is(store.ErrNoHistory), "no zone")
	stranger := errors.New("not yours")
	refused("of another account", publish.Rollback{To: 2, Own: func(string) error { return stranger }}, z.ID, is(stranger), "")
	seq, err := p.Edit(t.Context(), z.ID, by, addRecord("x"))
	if err != nil {
		t.Fatal(err)
	}
	refused("changed meanwhile", publish.Rollback{To: 2, From: 2}, z.ID, kind(fault.Conflict), "its newest change is 3")
	if _, err := p.Edit(t.Context(), z.ID, by, func(z *store.Zone) error { z.Paused = true; return nil }); err == nil {
		t.Fatal("the judge is not asked")
	}
	for i := range 8 {
		if seq, err = p.Edit(t.Context(), z.ID, by, addRecord(fmt.Sprintf("y%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	refused("forgotten", publish.Rollback{To: 3}, z.ID, is(store.ErrForgotten), "which begins with 6")
	if _, err := p.Rollback(t.Context(), z.ID, by, publish.Rollback{To: 6, From: seq}); err != nil {
		t.Errorf("the oldest state that is kept: %v", err)
	}
}

// Writers beside a rollback lose nothing: what came before its entry is taken back
// by it, what came after stands.
func TestRollbackBesideWriters(t *testing.T) {
	s := openStore(t, storetest.Place(t))
	p, _ := open(t, config(s))
	z := newZone("a.test")
	first, err := p.Create(t.Context(), by, z)
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]uint64{}
	var mu sync.Mutex
	var work sync.WaitGroup
	for w := range 4 {
		work.Go(func() {
			for i := range 10 {
				name := fmt.Sprintf("w%d-%d", w, i)
				seq, err := p.Edit(t.Context(), z.ID, by, addRecord(name))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				numbers[name+"."+z.Name] = seq
				mu.Unlock()
			}
		})
	}
	last := uint64(0)
	for range 5 {
		done, err := p.Rollback(t.Context(), z.ID, by, publish.Rollback{To: first})
		if err != nil {
			t.Fatal(err)
		}
		if !done.Diff.Empty() {
			last = done.Seq
		}
	}
	work.Wait()
	var now *store.Zone
	if err := s.Read(t.Context(), func(tx *store.Tx) (err error) { now, err = tx.Zone(t.Context(), z.ID); return err }); err != nil {
		t.Fatal(err)
	}
	want := 0
	for name, seq := range numbers {
		if seq > last {
			want++
			if !slices.ContainsFunc(now.Records, func(r zone.Record) bool { return r.Name == name }) {
				t.Errorf("%s of entry %d is gone, the last rollback was %d", name, seq, last)
			}
		}
	}
	if len(now.Records) != want {
		t.Errorf("%d records, want the %d of after the last rollback", len(now.Records), want)
	}
	compareHistory(t, s, z.ID)
}
