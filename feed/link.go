package feed

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"hash"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// link is one connection of a subscriber to a parent.
type link struct {
	s        *Subscriber
	conn     *tls.Conn
	in       io.Reader
	parent   string
	progress bool           // owned by receive
	cursor   Cursor         // of the copy; owned by receive
	incoming *incoming      // the snapshot that is arriving, or nil; owned by receive
	applied  atomic.Uint64  // to acknowledge
	wake     chan struct{}  // there is something to acknowledge; capacity 1
	rejected chan rejection // full: receive waits
}

type rejection struct {
	seq    uint64
	reason string
}

// incoming is a snapshot that has begun and not ended.
type incoming struct {
	w    *SnapshotWriter
	rows uint64
	sum  hash.Hash
}

func newLink(s *Subscriber, raw net.Conn, parent string) *link {
	l := &link{
		s:        s,
		conn:     tls.Client(raw, s.cfg.Identity.ClientTLS(ALPNFeed)),
		parent:   parent,
		cursor:   s.cfg.Copy.Cursor(),
		wake:     make(chan struct{}, 1),
		rejected: make(chan rejection, 256),
	}
	l.in = aliveReader{l.conn, s.cfg.Silence}
	l.applied.Store(l.cursor.Seq)
	return l
}

// greet agrees on TLS, says hello and reads the welcome.
func (l *link) greet(ctx context.Context) error {
	handshake, cancel := context.WithTimeout(ctx, l.s.cfg.Silence)
	defer cancel()
	if err := l.conn.HandshakeContext(handshake); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if err := mustControl(l.conn.ConnectionState()); err != nil {
		return err
	}
	id := l.s.cfg.Identity
	h := hello{version: protoVersion, node: id.NodeID, colo: id.Colo, cursor: l.cursor}
	if err := l.say(frameHello, h.append(nil)); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	kind, p, err := readFrame(l.in, nil, maxUpFrame)
	if err != nil {
		return fmt.Errorf("welcome: %w", err)
	}
	if kind == frameError {
		return decodeRefusal(p)
	}
	w, err := decodeWelcome(p)
	if err != nil || kind != frameWelcome {
		return fmt.Errorf("welcome: frame of type %d: %w", kind, errFrame)
	}
	if w.resume != ResumeTail {
		l.applied.Store(0) // nothing of this parent's history, until its snapshot is stored
	}
	l.heard(w.head)
	l.s.update(func(st *Status) { st.Connected, st.Parent, st.Since, st.Resume = true, l.parent, time.Now(), w.resume })
	l.s.log.Info("feed connected", "parent", l.parent, "seq", l.cursor.Seq, "head", w.head.Seq, "resume", w.resume)
	return nil
}

func (l *link) say(kind byte, p []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.s.cfg.Silence)); err != nil {
		return err
	}
	return writeFrame(l.conn, kind, p)
}

func (l *link) heard(head Cursor) {
	l.s.update(func(st *Status) { st.Head, st.LastHeartbeat = head.Seq, time.Now() })
}

// receive handles frames until one is wrong or the connection ends.
func (l *link) receive(ctx context.Context) error {
	defer func() {
		if l.incoming != nil {
			l.incoming.w.Abort()
		}
	}()
	for {
		// Each payload has memory of its own: entries alias it, and whoever
		// hears of them may keep them.
		kind, p, err := readFrame(l.in, nil, maxDownFrame)
		if err != nil {
			return err
		}
		switch kind {
		case frameEntries:
			err = l.entries(ctx, p)
		case frameHeartbeat:
			var h heartbeat
			if h, err = decodeHeartbeat(p); err == nil {
				l.heard(h.head)
			}
		case frameBegin:
			err = l.begin(p)
		case frameRows:
			err = l.rows(p)
		case frameEnd:
			err = l.end(ctx, p)
		case frameError:
			err = decodeRefusal(p)
		default:
			err = fmt.Errorf("frame of type %d from a parent: %w", kind, errFrame)
		}
		if err != nil {
			return err
		}
		l.progress = true
	}
}

func (l *link) entries(ctx context.Context, p []byte) error {
	if l.incoming != nil {
		return fmt.Errorf("entries inside a snapshot: %w", errFrame)
	}
	before := l.cursor.Seq
	err := l.store(ctx, p)
	if l.cursor.Seq != before { // also where a later one failed: these are stored
		l.s.cfg.OnBatch(func(seq uint64, why error) { l.reject(ctx, seq, why) })
		l.reached(l.cursor.Seq)
	}
	return err
}

// store puts the entries of a frame into the copy, one by one, and hands them on.
func (l *link) store(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		e, n, err := DecodeEntry(p)
		if err != nil {
			return err
		}
		p = p[n:]
		if err := l.s.cfg.Copy.Apply(&e); err != nil {
			return err
		}
		l.cursor = Cursor{e.Seq, e.Hash}
		if err := l.s.cfg.OnEntry(&e); err != nil {
			l.reject(ctx, e.Seq, err)
		}
	}
	return nil
}

// reject queues a rejection, before the number is noted as reached: it is said
// before the number is acknowledged.
func (l *link) reject(ctx context.Context, seq uint64, why error) {
	l.s.counters.rejected.Add(1)
	l.s.log.Error("entry rejected", "seq", seq, "error", why)
	select {
	case l.rejected <- rejection{seq, why.Error()}:
	case <-ctx.Done():
	}
}

// reached notes that everything up to seq is stored and handed on.
func (l *link) reached(seq uint64) {
	l.applied.Store(seq)
	l.s.update(func(st *Status) { st.Applied, st.Head = seq, max(st.Head, seq) })
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *link) begin(p []byte) error {
	if len(p) != 1 || l.incoming != nil {
		return fmt.Errorf("snapshot begin: %w", errFrame)
	}
	l.s.counters.snapshots.Add(1)
	l.s.log.Info("snapshot begins", "parent", l.parent, "seq", l.cursor.Seq, "because", Resume(p[0]))
	w, err := l.s.cfg.Copy.BeginSnapshot()
	if err != nil {
		return err
	}
	l.incoming = &incoming{w: w, sum: sha256.New()}
	return nil
}

func (l *link) rows(p []byte) error {
	in := l.incoming
	if in == nil {
		return fmt.Errorf("rows outside a snapshot: %w", errFrame)
	}
	in.sum.Write(p)
	for len(p) > 0 {
		r, rest, err := cutRow(p)
		if err != nil {
			return fmt.Errorf("snapshot row: %w", err)
		}
		if err := in.w.Add(r.key, r.value, r.seq); err != nil {
			return err
		}
		in.rows++
		p = rest
	}
	return nil
}

func (l *link) end(ctx context.Context, p []byte) error {
	in := l.incoming
	end, err := decodeSnapshotEnd(p)
	if err != nil || in == nil {
		return fmt.Errorf("snapshot end: %w", errFrame)
	}
	if in.rows != end.rows || end.sum != [32]byte(in.sum.Sum(nil)) {
		return fmt.Errorf("snapshot of %d rows arrived with %d: %w", end.rows, in.rows, ErrTorn)
	}
	if err := in.w.Commit(end.cursor); err != nil {
		return err
	}
	l.incoming, l.cursor = nil, end.cursor
	l.s.log.Info("snapshot stored", "seq", end.cursor.Seq, "rows", end.rows)
	if err := l.s.cfg.OnSnapshot(end.cursor.Seq); err != nil {
		l.reject(ctx, end.cursor.Seq, err)
	}
	l.reached(end.cursor.Seq)
	return nil
}

const ackEvery = time.Second

// announce says who this node is to others.
func (l *link) announce() error {
	a := l.s.cfg.Announce
	if a == nil {
		return nil
	}
	p, err := a.append(nil)
	if err != nil {
		return err
	}
	return l.say(frameAnnounce, p)
}

// up acknowledges what was done, in as few frames as keep pace, and at least
// each second, by which the parent knows that this side lives.
func (l *link) up(ctx context.Context) {
	if l.announce() != nil {
		return
	}
	tick := time.NewTicker(ackEvery)
	defer tick.Stop()
	for {
		applied := l.applied.Load()
		for more := true; more; {
			select {
			case r := <-l.rejected:
				if l.say(frameRejected, appendRejected(nil, r.seq, r.reason)) != nil {
					return
				}
			default:
				more = false
			}
		}
		if l.say(frameAck, appendAck(nil, applied)) != nil {
			return
		}
		select {
		case <-l.wake:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
