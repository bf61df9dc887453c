package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

// Earlier versions put certificates' keys, encrypted, into ordinary entries.
// They are moved out once: entries take them from the feed's state, the log is
// cut off before its newest entry, so that every copy is replaced by a snapshot
// that has none, and the database's files are rewritten.
const (
	factKeys   = "keys in the log"
	keysMoved  = "moved"  // out of the tables
	keysErased = "erased" // from the files too
	// movedKey is signalled by the newest entry: no edge keeps or obeys it.
	movedKey = "log/keys-moved"
	// moveBytes bounds an entry that replaces certificates, about.
	moveBytes = 4 << 20
)

var (
	sealedText = regexp.MustCompile(`"sealed":"[^"]*",?`)
	errEnough  = errors.New("all that was looked for was read")
)

// moveKeys does what is left to do of that. It is called by who leads, with
// every change numbered.
func (p *Publisher) moveKeys(ctx context.Context) error {
	if p.keysMoved {
		return nil
	}
	var done string
	if err := p.Store.Read(ctx, func(tx *store.Tx) (err error) {
		done, err = tx.KnownFact(ctx, factKeys)
		return err
	}); err != nil {
		return err
	}
	if done == "" {
		var err error
		if done, err = p.moveOut(ctx); err != nil {
			return fmt.Errorf("move certificates' keys out of the log: %w", err)
		}
	}
	if done == keysMoved {
		start := time.Now()
		if err := p.Store.Erase(ctx); err != nil {
			return err
		}
		if err := p.Store.Write(ctx, func(tx *store.Tx) error { return tx.PutFact(ctx, factKeys, keysErased) }); err != nil {
			return err
		}
		p.Log.Info("certificates' keys are erased from the log, the feed's state and the audit trail", "took", time.Since(start))
	}
	p.keysMoved = true
	return nil
}

// moveOut takes the keys out of the tables, in one transaction, and returns what
// is then known.
func (p *Publisher) moveOut(ctx context.Context) (done string, err error) {
	from, floor := p.position()
	head := from
	err = p.Store.Write(ctx, func(tx *store.Tx) error {
		head, done = from, keysErased // nothing to move: a new database
		if err := p.lease.hold(ctx, tx); err != nil {
			return err
		}
		m := &mover{p: p, tx: tx, head: from}
		if err := m.all(ctx); err != nil {
			return err
		}
		if m.head != from {
			done = keysMoved
			if m.head, err = p.enter(ctx, tx, m.head, []feed.Change{{Op: feed.Signal, Key: movedKey}}); err != nil {
				return err
			}
			if err := tx.TrimLog(ctx, m.head.Seq-1); err != nil {
				return err
			}
		}
		head = m.head
		if err := tx.RewriteEvents(ctx, `"sealed":"`, withoutSealed); err != nil {
			return err
		}
		return tx.PutFact(ctx, factKeys, done)
	})
	if err != nil {
		return "", err
	}
	if head != from {
		p.announce(head, max(floor, head.Seq-1), nil)
		p.Log.Info("certificates' keys moved out of the log; edges get a snapshot", "through", head.Seq)
	}
	return done, nil
}

// withoutSealed drops encrypted keys from a text of the audit trail.
func withoutSealed(text string) string {
	return strings.ReplaceAll(sealedText.ReplaceAllString(text, ""), ",}", "}")
}

// mover gathers changes and enters them in pieces.
type mover struct {
	p       *Publisher
	tx      *store.Tx
	head    feed.Cursor
	changes []feed.Change
	size    int
}

func (m *mover) all(ctx context.Context) error {
	var keys []string
	err := m.tx.Keys(ctx, zone.PrefixKey, func(key string, _ []byte, _ uint64) error {
		if !strings.HasPrefix(key, zone.PrefixKey) {
			return errEnough
		}
		keys = append(keys, key)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	type told struct {
		key   string
		value zone.Certificate
	}
	var certificates []told
	if err := m.tx.AllCertificates(ctx, func(zoneID string, c store.Certificate) error {
		certificates = append(certificates, told{zone.CertKey(zoneID, c.ID), pointer(&c)})
		return nil
	}); err != nil {
		return err
	}
	for _, c := range certificates {
		value, err := json.Marshal(c.value)
		if err != nil {
			return fmt.Errorf("encode %s: %w", c.key, err)
		}
		if err := m.add(ctx, feed.Change{Op: feed.Set, Key: c.key, Value: value}); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := m.add(ctx, feed.Change{Op: feed.Delete, Key: key}); err != nil {
			return err
		}
	}
	return m.flush(ctx)
}

func (m *mover) add(ctx context.Context, c feed.Change) error {
	m.changes = append(m.changes, c)
	m.size += len(c.Key) + len(c.Value)
	if len(m.changes) < splitChanges && m.size < moveBytes {
		return nil
	}
	return m.flush(ctx)
}

func (m *mover) flush(ctx context.Context) (err error) {
	if len(m.changes) == 0 {
		return nil
	}
	m.head, err = m.p.enter(ctx, m.tx, m.head, m.changes)
	m.changes, m.size = nil, 0
	return err
}
