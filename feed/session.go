package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// session is one subscriber's connection. It owns nothing but a cursor: what it
// sends comes from the tail or the log, and a subscriber that takes nothing for
// WriteTimeout, or says nothing for silence, is cut off.
type session struct {
	server *Server
	conn   *tls.Conn
	peer   Peer
	since  time.Time
	acked  atomic.Uint64
	cancel context.CancelCauseFunc
	queue  chan []byte // frames that Send and Broadcast give
	// Which refusals of signals were logged, a bit each; owned by read.
	grumbled uint
	cursor   Cursor  // owned by run
	have     partial // of a snapshot; owned by run
	thin     string  // rows with this prefix go out as stubs; "" for none
	raw      []byte  // a payload before it is packed; owned by run
	buf      []byte  // a frame; owned by run
}

const (
	helloTimeout = 10 * time.Second
	// upSilence ends a connection whose subscriber has not acknowledged for so
	// long; it does each second.
	upSilence = 15 * time.Second
	// grace is how long the last words to a subscriber may take.
	grace = time.Second
	// maxKeptFrame is how large a frame's memory may be to be kept for the next.
	maxKeptFrame = 64 << 10
)

func (x *session) snapshotInfo() NodeInfo {
	return NodeInfo{Node: x.peer.Node, Colo: x.peer.Colo, Addr: addrOf(x.conn), Since: x.since, Acked: x.acked.Load()}
}

func (s *Server) subscribe(ctx context.Context, conn *tls.Conn) error {
	peer, err := PeerOf(conn.ConnectionState())
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	h, err := s.greet(ctx, conn, peer)
	if err != nil {
		if !errors.Is(err, io.EOF) { // who only looks whether it would be served says no hello
			s.counters.refused.Add(1)
		}
		return tell(conn, err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x := &session{server: s, conn: conn, peer: peer, since: time.Now(), cancel: cancel, cursor: h.cursor, have: h.partial, thin: h.thin, queue: make(chan []byte, queueDown)}
	x.peer.Colo = h.colo
	resume, err := x.resume(ctx)
	if err != nil {
		s.counters.refused.Add(1)
		return tell(conn, err)
	}
	switch resume {
	case ResumeTail:
		x.acked.Store(h.cursor.Seq) // of another history it would be a false promise
	case ResumeFork, ResumeAhead:
		s.log.Warn("subscriber stands in another history, as after a restore from a backup; it gets a snapshot",
			"node", peer.Node, "colo", h.colo, "seq", h.cursor.Seq, "because", resume)
	}
	s.register(x)
	defer s.unregister(x)
	s.log.Info("subscriber connected", "node", peer.Node, "colo", h.colo, "seq", h.cursor.Seq, "resume", resume)
	return x.serve(ctx, resume)
}

// greet reads the hello and judges who says it.
func (s *Server) greet(ctx context.Context, conn *tls.Conn, peer Peer) (hello, error) {
	kind, p, err := readFrame(conn, nil, maxHelloFrame)
	if err != nil {
		return hello{}, err
	}
	if kind != frameHello {
		return hello{}, Refuse(ReasonMalformed, "frame of type %d, want hello", kind)
	}
	h, err := decodeHello(p)
	if err != nil {
		return h, err
	}
	if h.version != protoVersion {
		return h, Refuse(ReasonVersion, "version %d, here is %d", h.version, protoVersion)
	}
	if h.node != peer.Node {
		return h, Refuse(ReasonUnknown, "hello says %s, the certificate %s", h.node, peer.Node)
	}
	return h, s.known(ctx, peer.Node)
}

// resume decides how the subscriber continues. A relay that cannot tell yet
// says so each heartbeat until it can: the subscriber has time for its other
// parents.
func (x *session) resume(ctx context.Context) (Resume, error) {
	for {
		resume, err := x.judge(ctx)
		if resume != 0 || err != nil {
			return resume, err
		}
		if err := x.frame(ctx, frameWait, x.server.pulse().append(nil)); err != nil {
			return 0, err
		}
		wait(ctx, x.server.cfg.Heartbeat)
		if ctx.Err() != nil {
			return 0, &Refusal{Reason: ReasonDraining}
		}
	}
}

// judge compares the cursor's hash with the log's at the same number, so that
// equal means equal history. It is 0 where only a relay that has caught up with
// its parent could tell.
func (x *session) judge(ctx context.Context) (Resume, error) {
	s, c := x.server, x.cursor
	seq, hash := s.cfg.Log.Head()
	switch head := (Cursor{seq, hash}); {
	case c.Seq > seq:
		return x.orWait(ResumeAhead), nil
	case c == head && c.Seq > 0:
		return ResumeTail, nil
	case c == head: // nothing here and nothing there
		return x.orWait(ResumeTail), nil
	case c.Seq == seq:
		return x.orWait(ResumeFork), nil
	case c.Seq == 0:
		return ResumeFresh, nil
	}
	holds, err := s.holds(ctx, c)
	switch {
	case errors.Is(err, ErrCompacted):
		return ResumeCompacted, nil
	case err != nil:
		return 0, fmt.Errorf("resume after %d: %w", c.Seq, err)
	case !holds:
		return x.orWait(ResumeFork), nil
	}
	return ResumeTail, nil
}

// aheadAfter is how long a relay hears of a root that has not reached a
// subscriber's cursor before it says that there is no such entry. What it hears
// is a heartbeat old for each relay above it, so it must be longer than the
// longest chain has seconds.
const aheadAfter = 10 * time.Second

// rootAheadAfter is the same for a control plane, which may be one of several
// and learn of the newest entries from their database.
const rootAheadAfter = 2 * time.Second

// orWait is a judgement that takes a subscriber's history from it, or 0 while
// this is a relay that may be behind its parent.
func (x *session) orWait(r Resume) Resume {
	s := x.server
	if s.cfg.Upstream == nil {
		if r == ResumeAhead && time.Since(x.since) < rootAheadAfter {
			return 0
		}
		return r
	}
	up := s.cfg.Upstream()
	seq, _ := s.cfg.Log.Head()
	if !up.Connected || seq < up.Head.Seq {
		return 0
	}
	if r == ResumeAhead && (time.Since(x.since) < aheadAfter || time.Since(up.Since) < aheadAfter) {
		return 0
	}
	return r
}

// holds reports whether the log has the position in its history, with all that
// follows it; ErrCompacted where it cannot know any more.
func (s *Server) holds(ctx context.Context, c Cursor) (bool, error) {
	seq, hash := s.cfg.Log.Head()
	if c.Seq >= seq {
		return c == Cursor{seq, hash}, nil
	}
	next, err := s.cfg.Log.Read(ctx, c.Seq, 1)
	if err != nil {
		return false, err
	}
	if len(next) == 0 {
		return false, fmt.Errorf("the log has nothing after %d though it ends at %d", c.Seq, seq)
	}
	return next[0].Prev == c.Hash, nil
}

// pulse is the heartbeat: the newest position that is known of, and the time at
// the root when that was so.
func (s *Server) pulse() heartbeat {
	seq, hash := s.cfg.Log.Head()
	h := heartbeat{Cursor{seq, hash}, s.began.Add(time.Since(s.since))}
	if s.cfg.Upstream == nil {
		return h
	}
	up := s.cfg.Upstream()
	if h.at = up.At; up.Head.Seq > seq {
		h.head = up.Head
	}
	return h
}

// serve runs the connection: this goroutine writes, one other reads.
func (x *session) serve(ctx context.Context, resume Resume) error {
	raw := x.conn.NetConn()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Now().Add(grace)) })
	defer stop()
	var reader sync.WaitGroup
	defer reader.Wait()
	defer func() { _ = raw.Close() }()
	reader.Go(func() { x.cancel(x.read(ctx)) })
	err := x.write(ctx, resume)
	if ctx.Err() == nil {
		return err
	}
	if err = context.Cause(ctx); errors.Is(err, context.Canceled) {
		err = &Refusal{Reason: ReasonDraining}
	}
	_ = x.conn.SetWriteDeadline(time.Now().Add(grace))
	return tell(x.conn, err)
}

func (x *session) read(ctx context.Context) error {
	var buf []byte // as large as what came, which mostly is acknowledgements
	for {
		if err := setReadDeadline(ctx, x.conn, upSilence); err != nil {
			return err
		}
		kind, p, err := readFrame(x.conn, buf, maxUpFrame)
		if err != nil {
			return err
		}
		buf = p[:0]
		if err := x.hear(kind, p); err != nil {
			return err
		}
	}
}

// hear handles one frame of the subscriber's.
func (x *session) hear(kind byte, p []byte) (err error) {
	seq, rejected := uint64(0), ""
	switch kind {
	case frameAnnounce:
		return x.announced(p)
	case frameSignals:
		return x.signals(p)
	case KindCertificateWanted:
		return x.knock(kind, p)
	case frameProgress, frameBelow:
		return x.relayed(kind, p)
	case frameAck:
		if seq, err = decodeAck(p); err == nil {
			x.acked.Store(seq)
		}
	case frameRejected:
		seq, rejected, err = decodeRejected(p)
	case frameError:
		return decodeRefusal(p)
	default:
		err = fmt.Errorf("frame of type %d from a subscriber: %w", kind, errFrame)
	}
	if err == nil {
		x.server.acked(x.snapshotInfo(), seq, rejected)
	}
	return err
}

// acked passes on what a subscriber reached or rejected.
func (s *Server) acked(n NodeInfo, seq uint64, rejected string) {
	if s.cfg.Upstream != nil {
		s.below.reached(n, seq, rejected)
	}
	if s.cfg.OnAck != nil {
		s.cfg.OnAck(n, seq, rejected)
	}
}

func (x *session) announced(p []byte) error {
	a, err := decodeAnnouncement(p)
	if err == nil {
		x.server.announced(x.snapshotInfo(), a, p)
	}
	return err
}

func (s *Server) announced(n NodeInfo, a Announcement, text []byte) {
	if s.cfg.Upstream != nil {
		s.below.announced(n.Node, text)
	}
	if s.cfg.OnAnnounce != nil {
		s.cfg.OnAnnounce(n, a)
	}
}

// setReadDeadline leaves the deadline alone once the session is ending.
func setReadDeadline(ctx context.Context, c net.Conn, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.SetReadDeadline(time.Now().Add(d))
}

func (x *session) write(ctx context.Context, resume Resume) error {
	s := x.server
	now := s.pulse()
	w := welcome{head: now.head, at: now.at, resume: resume}
	if err := x.frame(ctx, frameWelcome, w.append(nil)); err != nil {
		return err
	}
	beat := time.NewTicker(s.cfg.Heartbeat)
	defer beat.Stop()
	if resume != ResumeTail {
		if err := x.snapshot(ctx, resume, beat.C); err != nil {
			return err
		}
	}
	for {
		sent, moved, err := x.more(ctx)
		if errors.Is(err, ErrCompacted) {
			err = x.snapshot(ctx, ResumeCompacted, beat.C)
			sent = true
		}
		if err != nil {
			return err
		}
		if sent {
			moved = closed
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-beat.C:
			err = x.heartbeat(ctx)
		case frame := <-x.queue:
			err = x.send(ctx, frame)
		case <-moved:
		}
		if err != nil {
			return err
		}
	}
}

// closed is a channel that is always ready.
var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// more sends what follows the cursor, from the shared batches where it is at
// the start of one. When there is nothing it returns a channel to wait on.
func (x *session) more(ctx context.Context) (sent bool, moved <-chan struct{}, err error) {
	s := x.server
	b, end, moved := s.tail.after(x.cursor.Seq)
	if b != nil {
		if b.from.Hash != x.cursor.Hash {
			return false, nil, fmt.Errorf("%w: at %d", ErrFork, x.cursor.Seq)
		}
		frame, to := x.join(b)
		if err := x.send(ctx, frame); err != nil {
			return false, nil, err
		}
		if cap(x.buf) > maxKeptFrame {
			x.buf = nil // who was behind once is not to cost that for good
		}
		x.cursor = to
		return true, moved, nil
	}
	if x.cursor.Seq >= end.Seq {
		return false, moved, x.lost(end)
	}
	entries, err := s.cfg.Log.Read(ctx, x.cursor.Seq, s.cfg.BatchBytes)
	if err != nil {
		return false, nil, err
	}
	// Never past the tail: its next batch starts there, and is shared.
	for len(entries) > 0 && entries[0].Seq <= end.Seq {
		n := fit(entries, s.cfg.BatchBytes)
		for entries[n-1].Seq > end.Seq {
			n--
		}
		if err := x.entries(ctx, &x.cursor, entries[:n]); err != nil {
			return false, nil, err
		}
		entries, sent = entries[n:], true
	}
	return sent, moved, nil
}

// lost ends the session of a subscriber that stands where the log is not any
// more, as when a relay took over the state of a restored control plane: it is
// judged anew when it comes back.
func (x *session) lost(end Cursor) error {
	if x.server.cfg.Upstream == nil {
		return nil // a snapshot may be newer than what the root has told of yet
	}
	seq, _ := x.server.cfg.Log.Head()
	if x.cursor.Seq > max(seq, end.Seq) || x.cursor.Seq == end.Seq && x.cursor != end {
		return Refuse(ReasonDraining, "the log's history is another one now")
	}
	return nil
}

// entries sends one frame of entries that follow pos, and moves pos.
func (x *session) entries(ctx context.Context, pos *Cursor, entries []Entry) (err error) {
	to := *pos
	if x.raw, to, err = encodeEntries(x.raw[:0], to, entries); err != nil {
		return err
	}
	x.server.counters.encodes.Add(1)
	x.buf = x.server.packer.frame(x.buf[:0], frameEntries, x.raw)
	if err := x.send(ctx, x.buf); err != nil {
		return err
	}
	*pos = to
	return nil
}

// join returns the frame of b, or, for a subscriber that is several batches
// behind, one of its own with all that fit: what comes in one frame is compiled
// once.
func (x *session) join(b *batch) (frame []byte, to Cursor) {
	next, _, _ := x.server.tail.after(b.to.Seq)
	if next == nil {
		return b.frame, b.to
	}
	x.buf = append(x.buf[:0], b.frame...)
	for to = b.to; next != nil && next.from == to && rawLen(x.buf)+rawLen(next.frame) <= x.server.cfg.BatchBytes; next, _, _ = x.server.tail.after(to.Seq) {
		x.buf = joinPacked(x.buf, next.frame)
		to = next.to
	}
	return x.buf, to
}

func (x *session) heartbeat(ctx context.Context) error {
	return x.frame(ctx, frameHeartbeat, x.server.pulse().append(nil))
}

func (x *session) frame(ctx context.Context, kind byte, payload []byte) error {
	p := beginFrame(make([]byte, 0, frameHead+len(payload)), kind)
	return x.send(ctx, endFrame(append(p, payload...), 0))
}

// send writes in pieces, each of which must make progress in WriteTimeout: a
// slow line may take long for a large frame, a dead one is noticed.
func (x *session) send(ctx context.Context, p []byte) error {
	const piece = 64 << 10
	for len(p) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := x.conn.SetWriteDeadline(time.Now().Add(x.server.cfg.WriteTimeout)); err != nil {
			return err
		}
		n, err := x.conn.Write(p[:min(piece, len(p))])
		x.server.counters.sent.Add(uint64(n))
		if err != nil {
			return fmt.Errorf("subscriber does not take its frames: %w", err)
		}
		p = p[n:]
	}
	return nil
}
