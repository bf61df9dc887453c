package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/selvage-edge/selvage/client"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// load adds records to zones at an even rate. What is not acknowledged, as when
// the control plane is away, is not repeated.
type load struct {
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	acked  []string // keys of the feed; guarded by mu
	failed int      // guarded by mu
}

const loadWriters = 8

func startLoad(ctx context.Context, n *network, o options) (*load, error) {
	var zones []client.Zone
	for i := range o.zones {
		z, _, err := n.control.CreateZone(ctx, fmt.Sprintf("zone-%d.test", i), "")
		if err != nil {
			return nil, err
		}
		zones = append(zones, z)
	}
	l := &load{}
	ctx, l.cancel = context.WithCancel(ctx)
	jobs := make(chan int)
	l.work.Go(func() {
		defer close(jobs)
		tick := time.NewTicker(time.Second / time.Duration(o.rate))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			select {
			case jobs <- i:
			case <-ctx.Done():
				return
			}
		}
	})
	for range loadWriters {
		l.work.Go(func() {
			for i := range jobs {
				l.add(ctx, n.control, zones[i%len(zones)], i)
			}
		})
	}
	return l, nil
}

func (l *load) add(ctx context.Context, c *client.Client, z client.Zone, i int) {
	name := fmt.Sprintf("h%d.%s", i, z.Name)
	_, seq, err := c.CreateRecord(ctx, z.ID, client.NewRecord{Name: name, Type: "A", Content: fmt.Sprintf("192.0.2.%d", i%256), TTL: 300})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || seq == 0 {
		l.failed++
		return
	}
	l.acked = append(l.acked, zone.DNSKey(z.ID, name))
}

// end ends the load. A load of which nothing was acknowledged proves nothing.
func (l *load) end() error {
	l.cancel()
	l.work.Wait()
	fmt.Printf("  %d changes acknowledged, %d not\n", len(l.acked), l.failed)
	if len(l.acked) == 0 {
		return errors.New("no change was acknowledged")
	}
	return nil
}

// compare opens what is on the disks, when nothing runs any more: how many of the
// acknowledged changes some copy lacks, and how many copies are not the state of
// the log.
func (n *network) compare(l *load) (missing, different int, err error) {
	want, err := n.logState()
	if err != nil {
		return 0, 0, err
	}
	lacks := map[string]bool{}
	for _, p := range n.nodes() {
		c, err := feed.OpenCopy(copyDir(p.state), feed.CopyOptions{})
		if err != nil {
			return 0, 0, err
		}
		rows := map[string]bool{}
		got := newState()
		err = c.Scan("", func(key string, value []byte, seq uint64) error {
			rows[key] = true
			got.add(key, value, seq)
			return nil
		})
		got.at(c.Cursor())
		if err = errors.Join(err, c.Close()); err != nil {
			return 0, 0, err
		}
		for _, key := range l.acked {
			if !rows[key] {
				lacks[key] = true
			}
		}
		if got.sum() != want {
			fmt.Printf("  the copy of %s is at %s, the log at %s\n", p.name, got.sum(), want)
			different++
		}
	}
	return len(lacks), different, nil
}

// state sums up a cursor and the rows that stand there.
type state struct {
	cursor feed.Cursor
	rows   int
	hash   [32]byte
}

func newState() *state { return &state{} }

func (s *state) add(key string, value []byte, seq uint64) {
	h := sha256.Sum256(fmt.Appendf(s.hash[:], "%s\x00%d\x00%s", key, seq, value))
	s.hash = h
	s.rows++
}

func (s *state) at(c feed.Cursor) { s.cursor = c }

func (s *state) sum() string {
	return fmt.Sprintf("%d %s: %d rows %s", s.cursor.Seq, hex.EncodeToString(s.cursor.Hash[:6]), s.rows, hex.EncodeToString(s.hash[:6]))
}

// logState is what the control plane's database says.
func (n *network) logState() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := store.Open(ctx, n.all[0].state)
	if err != nil {
		return "", err
	}
	s := newState()
	err = db.Read(ctx, func(tx *store.Tx) error {
		_, last, err := tx.LogBounds(ctx)
		if err != nil {
			return err
		}
		if err := tx.Log(ctx, last-1, func(r store.LogRow) (bool, error) {
			s.at(feed.Cursor{Seq: r.Seq, Hash: [32]byte(r.Hash)})
			return false, nil
		}); err != nil {
			return err
		}
		return tx.Keys(ctx, "", func(key string, value []byte, seq uint64) error {
			s.add(key, value, seq)
			return nil
		})
	})
	return s.sum(), errors.Join(err, db.Close())
}
