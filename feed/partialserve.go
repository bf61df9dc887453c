package feed

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// A partial replica asks for values on connections of their own, protocol
// selvage-fetch/1: so it can wait for one while it applies an entry, and values
// wait for no snapshot. One question is under way on each.

const (
	maxFetchBytes   = 64 << 20 // of rows in one answer
	maxFetchRows    = 1 << 17
	maxFetchFrame   = 256<<10 + rowHead + MaxKeyBytes + MaxValueBytes + 64<<10 // of values, packed
	maxFetches      = 64                                                       // answers at a time
	maxNodeFetchers = 8                                                        // connections of one node
	fetchIdle       = 10 * time.Minute                                         // without a question, before a connection is closed
	fetchLimit      = 30 * time.Second                                         // for an answer whose reader is slow
	fetchPatience   = 500 * time.Millisecond                                   // until the copy reaches a number that is asked for
)

// ask is what a partial replica asks for: the values of the keys with a prefix,
// or of the one key, as they were at a number.
type ask struct {
	at     uint64
	exact  bool
	prefix string
}

func (a ask) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, a.at)
	if a.exact {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(a.prefix)))
	return append(dst, a.prefix...)
}

func decodeAsk(p []byte) (a ask, err error) {
	if len(p) < 9 || p[8] > 1 {
		return a, errFrame
	}
	a.at, a.exact = binary.BigEndian.Uint64(p), p[8] == 1
	if a.prefix, p, err = cutKey(p[9:]); err != nil || len(p) > 0 || strings.IndexByte(a.prefix, 0) >= 0 {
		return a, errFrame
	}
	return a, nil
}

// wide reports whether a question is for more than one group has. Who asks for
// all there is can have a snapshot.
func (a ask) wide() bool {
	if a.exact {
		return a.prefix == ""
	}
	return strings.Count(a.prefix, "/") < 2
}

// fetched closes an answer.
type fetched struct {
	status byte
	at     uint64 // where the copy that answers stands
	rows   uint32
}

const (
	fetchWhole  = 0
	fetchBehind = 1 // the copy stands before the number
	fetchAbsent = 2 // the copy has not all values itself

	fetchedBytes = 1 + 8 + 4
)

func (f fetched) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, f.status), f.at)
	return binary.BigEndian.AppendUint32(dst, f.rows)
}

func decodeFetched(p []byte) (f fetched, err error) {
	if len(p) != fetchedBytes || p[0] > fetchAbsent {
		return f, errFrame
	}
	return fetched{p[0], binary.BigEndian.Uint64(p[1:]), binary.BigEndian.Uint32(p[9:])}, nil
}

// serveFetches answers one connection's questions until it ends.
func (s *Server) serveFetches(ctx context.Context, conn *tls.Conn) error {
	peer, err := PeerOf(conn.ConnectionState())
	if err == nil {
		err = s.fetcherComes(peer)
	}
	if err != nil {
		return s.turnFetcherAway(conn, err)
	}
	defer s.fetcherGoes(peer)
	stop := context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() })
	defer stop()
	var buf []byte
	for {
		if err := conn.SetReadDeadline(time.Now().Add(fetchIdle)); err != nil {
			return err
		}
		kind, p, err := readFrame(conn, nil, maxHelloFrame)
		if errors.Is(err, ErrLimit) {
			return s.refuseFetch(conn, err)
		}
		if err != nil {
			return io.EOF // it is done asking
		}
		if buf, err = s.answer(ctx, conn, buf, peer, kind, p); err != nil {
			return s.refuseFetch(conn, err)
		}
	}
}

// turnFetcherAway says why, once there is a question to answer.
func (s *Server) turnFetcherAway(conn *tls.Conn, why error) error {
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	if _, _, err := readFrame(conn, nil, maxHelloFrame); err != nil {
		return err
	}
	return s.refuseFetch(conn, why)
}

func (s *Server) refuseFetch(conn *tls.Conn, why error) error {
	s.counters.refused.Add(1)
	if err := conn.SetWriteDeadline(time.Now().Add(grace)); err != nil {
		return err
	}
	return tell(conn, why)
}

func (s *Server) fetcherComes(peer Peer) error {
	if s.cfg.Copy == nil {
		return &Refusal{Reason: ReasonNoCopy}
	}
	if peer.Control {
		return Refuse(ReasonRole, "a control plane asks for no values")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetchers[peer.Node] >= maxNodeFetchers {
		return Refuse(ReasonBusy, "at most %d ask for values at a time", maxNodeFetchers)
	}
	s.fetchers[peer.Node]++
	return nil
}

func (s *Server) fetcherGoes(peer Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetchers[peer.Node]--; s.fetchers[peer.Node] == 0 {
		delete(s.fetchers, peer.Node)
	}
}

// answer answers one question; buf is memory that is used again. The node is
// judged each time, as it may have been shut out since it connected.
func (s *Server) answer(ctx context.Context, conn *tls.Conn, buf []byte, peer Peer, kind byte, p []byte) ([]byte, error) {
	if kind != frameFetch {
		return buf, Refuse(ReasonMalformed, "frame of type %d, want fetch", kind)
	}
	a, err := decodeAsk(p)
	if err != nil {
		return buf, fmt.Errorf("fetch: %w", err)
	}
	if a.wide() {
		return buf, Refuse(ReasonWide, "%.64q is a part of the copy, not of one group", a.prefix)
	}
	if err := s.known(ctx, peer.Node); err != nil {
		return buf, err
	}
	s.counters.fetches.Add(1)
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	s.reaches(ctx, a.at)
	select {
	case s.fetches <- struct{}{}:
	case <-ctx.Done():
		return buf, context.Cause(ctx)
	}
	defer func() { <-s.fetches }()
	v := &valueSender{s: s, conn: conn, buf: buf[:0]}
	return v.send(ctx, a)
}

// reaches waits a moment for the copy to come to a number: the asker may hear of
// an entry by another parent first.
func (s *Server) reaches(ctx context.Context, seq uint64) {
	ctx, cancel := context.WithTimeout(ctx, fetchPatience)
	defer cancel()
	for {
		moved := s.cfg.Copy.Changed()
		if s.cfg.Copy.Cursor().Seq >= seq {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// valueSender gathers the rows of one answer into frames. A small answer is one
// write.
type valueSender struct {
	s     *Server
	conn  *tls.Conn
	raw   []byte
	buf   []byte
	end   fetched
	bytes int
}

func (v *valueSender) send(ctx context.Context, a ask) ([]byte, error) {
	err := v.s.cfg.Copy.rowsAt(a, func(key string, value []byte, seq uint64) error { return v.row(ctx, key, value, seq) })
	switch {
	case errors.Is(err, errBehindAsked):
		v.end.status = fetchBehind
	case errors.Is(err, ErrElsewhere):
		v.end.status = fetchAbsent
	case err != nil:
		return v.buf, fmt.Errorf("fetch %s: %w", a.prefix, err)
	}
	v.pack()
	v.end.at = v.s.cfg.Copy.Cursor().Seq
	at := len(v.buf)
	v.buf = endFrame(v.end.append(beginFrame(v.buf, frameFetched)), at)
	err = v.flush(ctx)
	if cap(v.buf) > maxKeptBuffer {
		v.buf = nil
	}
	return v.buf, err
}

func (v *valueSender) row(ctx context.Context, key string, value []byte, seq uint64) error {
	size := rowHead + len(key) + len(value)
	if v.bytes += size; v.bytes > maxFetchBytes || v.end.rows == maxFetchRows {
		return Refuse(ReasonWide, "over %d bytes or %d rows in one answer", maxFetchBytes, maxFetchRows)
	}
	if len(v.raw)+size > rowsFrameBytes && len(v.raw) > 0 {
		v.pack()
		if err := v.flush(ctx); err != nil {
			return err
		}
	}
	v.raw = appendRow(v.raw, key, value, seq)
	v.end.rows++
	return nil
}

func (v *valueSender) pack() {
	if len(v.raw) > 0 {
		v.buf = v.s.packer.frame(v.buf, frameValues, v.raw)
		v.raw = v.raw[:0]
	}
}

func (v *valueSender) flush(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := v.conn.SetWriteDeadline(time.Now().Add(v.s.cfg.WriteTimeout)); err != nil {
		return err
	}
	n, err := v.conn.Write(v.buf)
	v.s.counters.sent.Add(uint64(n))
	v.buf = v.buf[:0]
	return err
}
