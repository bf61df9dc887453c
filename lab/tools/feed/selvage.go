package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// selvageHello is where a control plane is reached, and where its log stood when it
// started: subscribers begin there, since each would get the values of earlier
// rounds otherwise.
type selvageHello struct {
	API, Token, Feed string
	Head             feed.Cursor
}

// selvage is a whole control plane on SQLite. Changes are written as its API
// writes them, in one transaction with an outbox row each, and numbered by its
// leader; what is left out is HTTP and the judgement of the change, which the
// peers do not have either.
type selvage struct {
	control *control.Control
	publish *publish.Publisher
	metrics string // URL
	stop    context.CancelFunc
	ended   chan error
}

func newSelvage(ctx context.Context, first json.RawMessage) (role, error) {
	var o struct{ Dir string }
	if err := json.Unmarshal(first, &o); err != nil {
		return nil, err
	}
	addrs := map[string]string{}
	ready := make(chan struct{}, 2)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c, err := control.New(ctx, control.Config{
		State: o.Dir, API: "127.0.0.1:0", Feed: "127.0.0.1:0", Retain: 250_000,
		Listen: func(ctx context.Context, name, network, addr string) (net.Listener, error) {
			ln, err := new(net.ListenConfig).Listen(ctx, network, addr)
			if err == nil {
				addrs[name] = ln.Addr().String()
				ready <- struct{}{}
			}
			return ln, err
		},
	}, log)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &selvage{control: c, publish: c.Publisher(), stop: cancel, ended: make(chan error, 1)}
	go func() { s.ended <- c.Run(ctx) }()
	for range 2 {
		select {
		case <-ready:
		case err := <-s.ended:
			return nil, err
		}
	}
	s.metrics = "http://" + addrs["api"] + "/metrics"
	token, err := os.ReadFile(filepath.Join(o.Dir, "token"))
	if err != nil {
		return nil, err
	}
	hello := selvageHello{API: "http://" + addrs["api"] + "/client/v4", Token: strings.TrimSpace(string(token)), Feed: addrs["feed"]}
	hello.Head.Seq, hello.Head.Hash = s.publish.Head()
	return &server{put: s.put, hello: hello, stop: s.close, more: s.more}, nil
}

func (s *selvage) put(ctx context.Context, key string, value []byte) error {
	seq, err := s.publish.Write(ctx, publish.Action{Actor: "bench", Name: "bench.put", Object: key},
		func(*store.Tx) (publish.Written, error) {
			return publish.Written{Changes: []feed.Change{{Op: feed.Set, Key: key, Value: value}}}, nil
		})
	if err == nil && seq == 0 {
		err = errors.New("a change got no number in time")
	}
	return err
}

func (s *selvage) close() error {
	s.stop()
	return <-s.ended
}

// head is where the log ends.
type head struct {
	Seq  uint64
	Hash string
}

func (s *selvage) more(ctx context.Context, order json.RawMessage) (any, error) {
	var o struct {
		Changes int // to write at once, each an entry
		Value   int
		Zones   int // to have
	}
	if err := json.Unmarshal(order, &o); err != nil {
		return nil, err
	}
	size := int64(0)
	if o.Changes > 0 {
		if err := s.changes(ctx, o.Changes, o.Value); err != nil {
			return nil, err
		}
	}
	if o.Zones > 0 {
		var err error
		if size, err = s.zones(ctx, o.Zones); err != nil {
			return nil, err
		}
	}
	seq, hash := s.publish.Head()
	sent, err := s.sent(ctx)
	return grown{head{seq, hex.EncodeToString(hash[:])}, size, sent}, err
}

// sent is what the metric of bytes that were sent to subscribers says.
func (s *selvage) sent(ctx context.Context) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.metrics, nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "selvage_feed_sent_bytes_total "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.New("the control plane does not say what it sent")
}

// changes writes outbox rows by the thousand and has them numbered.
func (s *selvage) changes(ctx context.Context, n, size int) error {
	before, _ := s.publish.Head()
	for done := 0; done < n-1; {
		some := min(1000, n-1-done)
		err := s.publish.Store.Write(ctx, func(tx *store.Tx) error {
			for i := range some {
				box := feed.Seal([32]byte{}, 1, time.Now(), []feed.Change{
					{Op: feed.Set, Key: fmt.Sprintf("%s%06d", prefix, (done+i)%(2*keys)), Value: newValue(size, time.Time{})}})
				if _, err := tx.PutEvent(ctx, store.Event{Actor: "bench", Action: "bench.put", Changes: feed.AppendEntry(nil, &box), Created: time.Now()}, store.Step{}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		done += some
	}
	if err := s.publish.NumberLeft(ctx); err != nil {
		return err
	}
	if err := s.put(ctx, prefix+"last", newValue(size, time.Time{})); err != nil {
		return err
	}
	if now, _ := s.publish.Head(); now < before+uint64(n) {
		return fmt.Errorf("the log goes to %d after %d changes from %d on", now, n, before)
	}
	return nil
}

// zones puts zones into the state that snapshots are made of, without their
// history, and returns how many bytes of keys and values these are.
func (s *selvage) zones(ctx context.Context, n int) (size int64, err error) {
	for done := 0; done < n; {
		some, bytes := min(2000, n-done), int64(0)
		err := s.publish.Store.Write(ctx, func(tx *store.Tx) error {
			bytes = 0 // it may be run again
			for i := range some {
				rows, err := newZone(done + i)
				if err != nil {
					return err
				}
				for _, r := range rows {
					if err := tx.SetKey(ctx, r.Key, r.Value, 1); err != nil {
						return err
					}
					bytes += int64(len(r.Key) + len(r.Value))
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		done, size = done+some, size+bytes
	}
	return size, s.put(ctx, prefix+"last", newValue(100, time.Time{}))
}

// newZone is a zone of three names as the control plane publishes it.
func newZone(n int) (rows []feed.Change, err error) {
	var id [16]byte
	hexed := func() string {
		_, _ = rand.Read(id[:]) // never fails (crypto/rand)
		return hex.EncodeToString(id[:])
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC).Add(time.Duration(n) * time.Second)
	zoneID, name := fmt.Sprintf("%08x", n)+hexed()[8:], fmt.Sprintf("zone-%07d.test", n)
	add := func(key string, value any) {
		text, merr := json.Marshal(value)
		err = errors.Join(err, merr)
		rows = append(rows, feed.Change{Op: feed.Set, Key: key, Value: text})
	}
	rows = append(rows, feed.Change{Op: feed.Set, Key: zone.NameKey(name), Value: []byte(zoneID)})
	add(zone.MetaKey(zoneID), zone.Meta{
		ID: zoneID, Name: name, Account: "0123456789abcdef0123456789abcdef", Status: "active", Created: at, Changed: at,
		NameServers: []string{"ns1.selvage.invalid", "ns2.selvage.invalid"},
	})
	for i, host := range []string{name, "www." + name, "api." + name} {
		add(zone.DNSKey(zoneID, host), []zone.Record{{
			ID: hexed(), Name: host, Type: "A", Content: fmt.Sprintf("198.51.%d.%d", n>>8&255, n&255), TTL: 1, Proxied: i < 2,
			Tags: []string{}, Created: at, Changed: at,
		}})
	}
	return rows, err
}
