package feed

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
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
	cursor Cursor // owned by run
	buf    []byte // owned by run
}

const (
	helloTimeout = 10 * time.Second
	// upSilence ends a connection whose subscriber has not acknowledged for so
	// long; it does each second.
	upSilence = 15 * time.Second
	// grace is how long the last words to a subscriber may take.
	grace = time.Second
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
		s.counters.refused.Add(1)
		return tell(conn, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x := &session{server: s, conn: conn, peer: peer, since: time.Now(), cancel: cancel, cursor: h.cursor}
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
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	s.register(x)
	defer s.unregister(x)
	s.log.Info("subscriber connected", "node", peer.Node, "colo", h.colo, "seq", h.cursor.Seq, "resume", resume)
	return x.serve(ctx, resume)
}

// greet reads the hello and judges who says it.
func (s *Server) greet(ctx context.Context, conn *tls.Conn, peer Peer) (hello, error) {
	kind, p, err := readFrame(conn, nil, maxUpFrame)
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

// resume decides how the subscriber continues. Its cursor's hash is compared
// with the log's at the same number, so that equal means equal history. The
// log here is the root's: a cursor past its end is of a history that was lost.
func (x *session) resume(ctx context.Context) (Resume, error) {
	log, c := x.server.cfg.Log, x.cursor
	seq, hash := log.Head()
	switch {
	case c.Seq > seq:
		return ResumeAhead, nil
	case c.Seq == seq && c.Hash == hash:
		return ResumeTail, nil
	case c.Seq == seq:
		return ResumeFork, nil
	case c.Seq == 0:
		return ResumeFresh, nil
	}
	next, err := log.Read(ctx, c.Seq, 1)
	switch {
	case errors.Is(err, ErrCompacted):
		return ResumeCompacted, nil
	case err != nil:
		return 0, fmt.Errorf("resume after %d: %w", c.Seq, err)
	case len(next) == 0:
		return 0, fmt.Errorf("resume after %d: the log has nothing though it ends at %d", c.Seq, seq)
	case next[0].Prev != c.Hash:
		return ResumeFork, nil
	}
	return ResumeTail, nil
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
	buf := make([]byte, maxUpFrame)
	for {
		if err := setReadDeadline(ctx, x.conn, upSilence); err != nil {
			return err
		}
		kind, p, err := readFrame(x.conn, buf, maxUpFrame)
		if err != nil {
			return err
		}
		if kind == frameAnnounce {
			if err := x.announced(p); err != nil {
				return err
			}
			continue
		}
		seq, rejected := uint64(0), ""
		switch kind {
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
		if err != nil {
			return err
		}
		if x.server.cfg.OnAck != nil {
			x.server.cfg.OnAck(x.snapshotInfo(), seq, rejected)
		}
	}
}

func (x *session) announced(p []byte) error {
	a, err := decodeAnnouncement(p)
	if err == nil && x.server.cfg.OnAnnounce != nil {
		x.server.cfg.OnAnnounce(x.snapshotInfo(), a)
	}
	return err
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
	seq, hash := s.cfg.Log.Head()
	w := welcome{head: Cursor{seq, hash}, at: time.Now(), resume: resume}
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
		x.cursor = to
		return true, moved, nil
	}
	if x.cursor.Seq >= end.Seq {
		return false, moved, nil
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
		var to Cursor
		if x.buf, to, err = encodeEntries(x.buf[:0], x.cursor, entries[:n]); err != nil {
			return false, nil, err
		}
		s.counters.encodes.Add(1)
		if err := x.send(ctx, x.buf); err != nil {
			return false, nil, err
		}
		x.cursor, entries, sent = to, entries[n:], true
	}
	return sent, moved, nil
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
	for to = b.to; next != nil && next.from == to && len(x.buf)+len(next.frame) <= x.server.cfg.BatchBytes; next, _, _ = x.server.tail.after(to.Seq) {
		x.buf = append(x.buf, next.frame[frameHead:]...)
		to = next.to
	}
	return endFrame(x.buf, 0), to
}

func (x *session) heartbeat(ctx context.Context) error {
	seq, hash := x.server.cfg.Log.Head()
	return x.frame(ctx, frameHeartbeat, heartbeat{Cursor{seq, hash}, time.Now()}.append(nil))
}

const rowsFrameBytes = 256 << 10

// snapshot streams the whole state. It waits its turn, with heartbeats, so that
// a fleet that comes back at once cannot hold the log by hundreds of readers.
func (x *session) snapshot(ctx context.Context, why Resume, beat <-chan time.Time) error {
	s := x.server
	for waiting := true; waiting; {
		select {
		case s.snapshots <- struct{}{}:
			waiting = false
		case <-beat:
			if err := x.heartbeat(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer func() { <-s.snapshots }()
	s.counters.snapshots.Add(1)
	if err := x.frame(ctx, frameBegin, []byte{byte(why)}); err != nil {
		return err
	}
	var end snapshotEnd
	sum := sha256.New()
	buf := beginFrame(x.buf[:0], frameRows)
	flush := func() error {
		if len(buf) == frameHead {
			return nil
		}
		sum.Write(buf[frameHead:])
		err := x.send(ctx, endFrame(buf, 0))
		buf = beginFrame(buf[:0], frameRows)
		return err
	}
	seq, hash, err := s.cfg.Log.Snapshot(ctx, func(key string, value []byte, seq uint64) error {
		if err := (&Change{Op: Set, Key: key, Value: value}).check(); err != nil {
			return err
		}
		if len(buf)+rowHead+len(key)+len(value) > rowsFrameBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		buf = appendRow(buf, key, value, seq)
		end.rows++
		return nil
	})
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	if err := flush(); err != nil {
		return err
	}
	x.buf = buf
	end.cursor = Cursor{seq, hash}
	end.sum = [32]byte(sum.Sum(nil))
	x.cursor = end.cursor
	return x.frame(ctx, frameEnd, end.append(nil))
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
