package feed

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
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
	relay    string         // the parent's node where it is no control plane
	progress bool           // owned by receive
	wrong    bool           // the parent sent what cannot be used; owned by receive
	begun    bool           // a snapshot arrives on this connection; owned by receive
	rootAt   time.Time      // the root's newest time; owned by receive
	moved    time.Time      // when that moved; owned by receive
	cursor   Cursor         // of the copy; owned by receive
	applied  atomic.Uint64  // to acknowledge
	wake     chan struct{}  // there is something to acknowledge; capacity 1
	rejected chan Rejection // full: receive waits
}

// Rejection is an entry that was stored and cannot be used.
type Rejection struct {
	Seq    uint64
	Reason string
}

// incoming is a snapshot that has begun and not ended, over as many connections
// as it takes: its rows up to the key last are here, each as it was at base or
// later.
type incoming struct {
	w *SnapshotWriter
	partial
	continued bool      // the entries since base come as well
	pos       Cursor    // of those entries
	rows      uint64    // of this connection
	sum       hash.Hash // of this connection
}

func newLink(s *Subscriber, raw net.Conn, parent string) *link {
	l := &link{
		s:        s,
		conn:     tls.Client(raw, s.cfg.Identity.ClientTLS(ALPNFeed)),
		parent:   parent,
		cursor:   s.cfg.Copy.resumes(),
		wake:     make(chan struct{}, 1),
		rejected: make(chan Rejection, 256),
	}
	l.in = aliveReader{l.conn, s.cfg.Silence}
	l.applied.Store(l.cursor.Seq)
	return l
}

// handshake agrees on TLS with a node that may be a parent.
func (l *link) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.s.cfg.Connect)
	defer cancel()
	if err := l.conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	peer, err := PeerOf(l.conn.ConnectionState())
	if err != nil {
		return err
	}
	if peer.Control {
		return nil
	}
	l.relay = peer.Node
	if !peer.Relay {
		return fmt.Errorf("feed: the other side is node %s, which is no relay", peer.Node)
	}
	if _, _, revoked, err := l.s.cfg.Copy.Get(RevokedKey(peer.Node)); err != nil || revoked {
		return errors.Join(err, fmt.Errorf("feed: the other side is relay %s, which was revoked", peer.Node))
	}
	return nil
}

// greet agrees on TLS, says hello and reads the welcome.
func (l *link) greet(ctx context.Context) error {
	if err := l.handshake(ctx); err != nil {
		return err
	}
	id := l.s.cfg.Identity
	h := hello{version: protoVersion, node: id.NodeID, colo: id.Colo, cursor: l.cursor, thin: l.s.cfg.Copy.opts.Thin}
	if in := l.s.incoming; in != nil {
		h.partial = in.partial
	}
	if err := l.say(frameHello, h.append(nil)); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	w, err := l.welcomed()
	if err != nil {
		return err
	}
	if w.resume != ResumeTail {
		l.applied.Store(0) // nothing of this parent's history, until its snapshot is stored
	}
	l.moved = time.Now()
	now := l.moved
	l.s.mu.Lock()
	l.s.up = Upstream{Connected: true, Since: now, Head: w.head, At: w.at}
	l.s.mu.Unlock()
	l.heard(heartbeat{w.head, w.at})
	l.s.update(func(st *Status) { st.Connected, st.Parent, st.Since, st.Resume = true, l.parent, now, w.resume })
	l.s.log.Info("feed connected", "parent", l.parent, "seq", l.cursor.Seq, "head", w.head.Seq, "resume", w.resume)
	if w.resume == ResumeTail {
		l.s.dropIncoming() // what is stored leads on after all
	}
	return nil
}

// welcomed reads the answer to the hello. A relay that cannot answer yet is
// waited for, unless there is another parent to try.
func (l *link) welcomed() (welcome, error) {
	in := aliveReader{l.conn, l.s.cfg.Connect} // it may have to wait for its turn
	for start := time.Now(); ; {
		kind, p, err := readFrame(in, nil, maxHelloFrame)
		if err != nil {
			return welcome{}, fmt.Errorf("welcome: %w", err)
		}
		switch kind {
		case frameError:
			return welcome{}, decodeRefusal(p)
		case frameWelcome:
			w, err := decodeWelcome(p)
			if err != nil {
				return w, fmt.Errorf("welcome: %w", err)
			}
			l.s.patience = l.s.cfg.Silence
			return w, nil
		case frameWait:
			if _, err := decodeHeartbeat(p); err != nil {
				return welcome{}, fmt.Errorf("wait: %w", err)
			}
		default:
			return welcome{}, fmt.Errorf("welcome: frame of type %d: %w", kind, errFrame)
		}
		if len(l.s.cfg.Parents) > 1 && time.Since(start) > l.s.patience {
			// The next time for longer: where all of them ask for it, one has to
			// be given the time to find out that the history is another one.
			l.s.patience = min(l.s.patience*2, maxStale)
			return welcome{}, errBehind
		}
	}
}

// errBehind leaves a relay that cannot say yet how the log goes on.
var errBehind = errors.New("the parent is behind and asks to wait")

func (l *link) say(kind byte, p []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.s.cfg.Silence)); err != nil {
		return err
	}
	return writeFrame(l.conn, kind, p)
}

func (l *link) heard(h heartbeat) {
	now := time.Now()
	if h.at.After(l.rootAt) { // of a ring of relays each may say another old time in turn
		l.rootAt, l.moved = h.at, now
		if l.progress {
			l.s.stale = l.s.cfg.Stale
		}
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.up.Head, l.s.up.At = h.head, h.at
	st := &l.s.status
	if st.Head, st.LastHeartbeat = h.head.Seq, now; st.Applied >= st.Head {
		st.Level = now
	}
}

// errStale leaves a parent that speaks and has heard nothing of the root itself.
var errStale = errors.New("the parent has heard nothing new of the root")

// stale says so of this parent, where there is another to try. Each time it
// does it has more patience, as when the root itself is gone.
func (l *link) stale() error {
	s := l.s
	if l.begun { // it brings no heartbeats, and is life
		l.moved = time.Now()
	}
	if len(s.cfg.Parents) == 1 || time.Since(l.moved) < s.stale {
		return nil
	}
	s.stale = min(s.stale*2, maxStale)
	return errStale
}

const maxStale = 2 * time.Minute

// receive handles frames until one is wrong or the connection ends.
func (l *link) receive(ctx context.Context) error {
	var buf []byte
	for {
		kind, p, err := readFrame(l.in, buf, maxDownFrame)
		if err != nil {
			return err
		}
		if cap(p) > cap(buf) && cap(p) <= maxKeptBuffer {
			buf = p[:0]
		}
		if err := l.handle(ctx, kind, p); err != nil {
			l.wrong = true
			return err
		}
		l.progress = true
		if err := l.stale(); err != nil {
			return err
		}
	}
}

const maxKeptBuffer = 1 << 20

// handle takes in one frame; p is not kept.
func (l *link) handle(ctx context.Context, kind byte, p []byte) (err error) {
	if kind == frameEntries || kind == frameRows {
		// It has memory of its own: entries alias it, and whoever hears of them
		// may keep them.
		if p, err = l.s.unpack.unpack(p); err != nil {
			return err
		}
	}
	switch kind {
	case frameEntries:
		if l.begun {
			return l.replay(ctx, p)
		}
		return l.entries(ctx, p)
	case frameHeartbeat:
		h, err := decodeHeartbeat(p)
		if err == nil {
			l.heard(h)
			err = l.s.cfg.Copy.Damage()
		}
		return err
	case frameBegin:
		return l.begin(p)
	case frameRows:
		return l.rows(ctx, p)
	case frameEnd:
		return l.end(ctx, p)
	case frameTaken:
		return l.taken(p)
	case KindCertificateStaged, KindCertificate:
		return l.opened(ctx, kind, p)
	case frameError:
		return decodeRefusal(p)
	}
	return fmt.Errorf("frame of type %d from a parent: %w", kind, errFrame)
}

func (l *link) entries(ctx context.Context, p []byte) error {
	before := l.cursor.Seq
	err := l.store(ctx, p)
	if l.cursor.Seq != before { // also where a later one failed: these are stored
		l.s.cfg.Copy.moved()
		l.s.cfg.OnBatch(func(seq uint64, why error) { l.reject(ctx, seq, why) })
		l.reached(l.cursor.Seq)
	}
	return err
}

// store puts the entries of a frame into the copy, in one batch on disk that is
// synced before anything is acknowledged, and hands them on one by one.
func (l *link) store(ctx context.Context, p []byte) error {
	entries, wrong := l.decode(p)
	if len(entries) == 0 {
		return wrong
	}
	n, err := l.s.cfg.Copy.apply(entries)
	for i := range entries[:n] {
		e := &entries[i]
		l.cursor = Cursor{e.Seq, e.Hash}
		if err := l.s.cfg.OnEntry(e); err != nil {
			l.reject(ctx, e.Seq, err)
		}
	}
	return cmp.Or(err, wrong)
}

// decode reads the entries of a frame up to its end or the first that is wrong.
// A relay is believed no further than the entry that takes its role away.
func (l *link) decode(p []byte) (entries []Entry, wrong error) {
	for len(p) > 0 {
		e, n, err := DecodeEntry(p)
		if err != nil {
			return entries, err
		}
		entries, p = append(entries, e), p[n:]
		if l.relay != "" && e.revokes(l.relay) {
			return entries, fmt.Errorf("parent is relay %s: %w", l.relay, &Refusal{Reason: ReasonRevoked})
		}
	}
	return entries, nil
}

// reject queues a rejection, before the number is noted as reached: it is said
// before the number is acknowledged.
func (l *link) reject(ctx context.Context, seq uint64, why error) {
	l.s.counters.rejected.Add(1)
	l.s.log.Error("entry rejected", "seq", seq, "error", why)
	select {
	case l.rejected <- Rejection{seq, why.Error()}:
	case <-ctx.Done():
	}
}

// reached notes that everything up to seq is stored and handed on.
func (l *link) reached(seq uint64) {
	l.applied.Store(seq)
	l.s.update(func(st *Status) {
		if st.Applied = seq; seq >= st.Head {
			st.Head, st.Level = seq, time.Now()
		}
	})
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *link) begin(p []byte) error {
	b, err := decodeSnapshotBegin(p)
	if err != nil || l.begun {
		return fmt.Errorf("snapshot begin: %w", errFrame)
	}
	s := l.s
	l.begun = true
	s.counters.snapshots.Add(1)
	if b.continued {
		in := s.incoming
		if in == nil {
			return fmt.Errorf("snapshot goes on that was not begun: %w", errFrame)
		}
		in.continued, in.pos, in.rows, in.sum = true, in.base, 0, sha256.New()
		s.log.Info("snapshot goes on", "parent", l.parent, "base", in.base.Seq, "seq", b.at.Seq)
		return nil
	}
	if s.incoming != nil {
		s.log.Warn("snapshot starts over: the parent cannot go on from what is here", "parent", l.parent, "base", s.incoming.base.Seq)
		s.dropIncoming()
	}
	s.log.Info("snapshot begins", "parent", l.parent, "seq", l.cursor.Seq, "because", b.why)
	w, err := s.cfg.Copy.BeginSnapshot()
	if err != nil {
		return err
	}
	s.incoming = &incoming{w: w, sum: sha256.New()}
	s.incoming.base = b.at
	return nil
}

func (l *link) rows(ctx context.Context, p []byte) error {
	in := l.s.incoming
	if !l.begun {
		return fmt.Errorf("rows outside a snapshot: %w", errFrame)
	}
	in.sum.Write(p)
	for len(p) > 0 {
		r, rest, err := cutRow(p)
		if err != nil {
			return fmt.Errorf("snapshot row: %w", err)
		}
		if r.key <= in.last {
			return fmt.Errorf("snapshot row %s after %s: %w", r.key, in.last, errFrame)
		}
		if r.stub {
			err = in.w.AddStub(ctx, r.key, stubSum(r.value), r.seq)
		} else {
			err = in.w.Add(ctx, r.key, r.value, r.seq)
		}
		if err != nil {
			return err
		}
		in.last = r.key
		in.rows++
		p = rest
	}
	return nil
}

// replay takes in entries that a continued snapshot brings: those since its
// first rows.
func (l *link) replay(ctx context.Context, p []byte) error {
	in := l.s.incoming
	if !in.continued {
		return fmt.Errorf("entries inside a snapshot: %w", errFrame)
	}
	for len(p) > 0 {
		e, n, err := DecodeEntry(p)
		if err != nil {
			return err
		}
		if err := e.Follows(in.pos); err != nil {
			return err
		}
		if err := in.w.Replay(ctx, &e); err != nil {
			return err
		}
		in.pos, p = Cursor{e.Seq, e.Hash}, p[n:]
	}
	return nil
}

func (l *link) end(ctx context.Context, p []byte) error {
	in := l.s.incoming
	end, err := decodeSnapshotEnd(p)
	if err != nil || !l.begun {
		return fmt.Errorf("snapshot end: %w", errFrame)
	}
	if in.rows != end.rows || end.sum != [32]byte(in.sum.Sum(nil)) {
		return fmt.Errorf("snapshot of %d rows arrived with %d: %w", end.rows, in.rows, ErrTorn)
	}
	if in.continued && in.pos != end.cursor {
		return fmt.Errorf("snapshot of %d arrived with entries up to %d: %w", end.cursor.Seq, in.pos.Seq, ErrTorn)
	}
	if err := in.w.Commit(ctx, end.cursor); err != nil {
		return err
	}
	l.s.incoming, l.begun, l.cursor = nil, false, end.cursor
	l.s.cfg.Copy.moved()
	l.s.log.Info("snapshot stored", "seq", end.cursor.Seq, "rows", end.rows)
	if err := l.s.cfg.OnSnapshot(end.cursor.Seq); err != nil {
		l.reject(ctx, end.cursor.Seq, err)
	}
	l.reached(end.cursor.Seq)
	return nil
}

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

const (
	// reportEvery is the least time between two reports of the nodes below.
	reportEvery = 250 * time.Millisecond
	// reportAll is how often all of them are told again.
	reportAll = 10 * time.Second
)

// up acknowledges what was done, the first after a pause at once, and at least
// each second, by which the parent knows that this side lives. A relay says
// what it heard of the nodes below it.
func (l *link) up(ctx context.Context) {
	if l.announce() != nil || l.sayStanding() != nil || l.sayApplied() != nil {
		return
	}
	tick := time.NewTicker(ackEvery)
	defer tick.Stop()
	var below *below
	var report, whole <-chan time.Time
	if l.s.cfg.Relay != nil {
		below = &l.s.cfg.Relay.below
		below.all(true)
		often, seldom := time.NewTicker(reportEvery), time.NewTicker(reportAll)
		defer often.Stop()
		defer seldom.Stop()
		report, whole = often.C, seldom.C
	}
	signals := pace{up: l.s.cfg.Signals}
	signals.begin()
	var ack ackPace
	for {
		if ack.now && l.sayApplied() != nil {
			return
		}
		ack.said()
		select {
		case <-l.wake: // before all else
			ack.wanted(len(l.rejected) > 0)
			continue
		default:
		}
		select {
		case <-l.wake:
			ack.wanted(len(l.rejected) > 0)
		case <-ack.due:
			ack.now = true
		case <-signals.wakes():
			signals.woken()
		case <-signals.due:
			if l.saySignals(&signals, below) != nil {
				return
			}
		case <-tick.C:
			signals.beat()
			ack.now = true
		case frame := <-l.s.outbox:
			if l.write(frame) != nil {
				return
			}
		case <-report:
			if l.sayBelow(below) != nil {
				return
			}
		case <-whole:
			below.all(false)
		case <-ctx.Done():
			return
		}
	}
}

func (l *link) sayRejected(r Rejection) error {
	return l.say(frameRejected, appendRejected(nil, r.Seq, r.Reason))
}

// sayStanding says again what an earlier connection may have lost.
func (l *link) sayStanding() error {
	if l.s.cfg.Standing == nil {
		return nil
	}
	for _, r := range l.s.cfg.Standing() {
		if err := l.sayRejected(r); err != nil {
			return err
		}
	}
	return nil
}

// sayApplied says what was reached, and before that what was rejected on the way.
func (l *link) sayApplied() error {
	applied := l.applied.Load()
	for {
		select {
		case r := <-l.rejected:
			if err := l.sayRejected(r); err != nil {
				return err
			}
			continue
		default:
		}
		return l.say(frameAck, appendAck(nil, applied))
	}
}

// saySignals says what waits of signals, after whose they are.
func (l *link) saySignals(p *pace, b *below) error {
	frame := p.take(l.s.cfg.Identity.NodeID)
	if frame == nil {
		return nil
	}
	if b != nil && b.news() { // looked at last: a node comes before its signals
		if err := l.sayBelow(b); err != nil {
			return err
		}
	}
	return l.write(frame)
}

func (l *link) sayBelow(b *below) error {
	for _, frame := range b.take() {
		if err := l.write(frame); err != nil {
			return err
		}
	}
	return nil
}

func (l *link) write(frame []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.s.cfg.Silence)); err != nil {
		return err
	}
	_, err := l.conn.Write(frame)
	return err
}
