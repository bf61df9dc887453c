package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/selvage-edge/selvage/feed"
)

// follower is a subscriber of the feed as feed/DESIGN.md describes the protocol,
// that stores nothing: 330 copies with a disk each are not this machine's to
// have. It checks each entry's hash and the chain, and acknowledges as an edge
// does: what one frame brought at once.
type follower struct {
	conn   *tls.Conn
	in     *bufio.Reader
	unpack *zstd.Decoder
	cursor feed.Cursor
	wake   chan struct{}
	acked  chan error

	mu    sync.Mutex
	reach uint64 // guarded by mu
}

const (
	frameHello     = 1
	frameWelcome   = 2
	frameEntries   = 3
	frameHeartbeat = 4
	frameBegin     = 5
	frameRows      = 6
	frameEnd       = 7
	frameAck       = 8
	frameWait      = 20
	frameHead      = 5
	cursorBytes    = 8 + 32
	maxPayload     = feed.MaxEntryBytes + 64<<10
	ackEvery       = time.Second
	ackGather      = 100 * time.Millisecond
)

// follow connects and says hello, as who has everything up to a cursor.
func follow(ctx context.Context, addr string, id *feed.Identity, from feed.Cursor, unpack *zstd.Decoder) (*follower, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	f := &follower{conn: tls.Client(raw, id.ClientTLS(feed.ALPNFeed)), unpack: unpack, cursor: from, wake: make(chan struct{}, 1), acked: make(chan error, 1)}
	f.in = bufio.NewReaderSize(f.conn, 32<<10)
	if err := f.conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	hello := binary.BigEndian.AppendUint16(nil, 2)
	hello = append(binary.BigEndian.AppendUint64(hello, from.Seq), from.Hash[:]...)
	hello = append(append(hello, byte(len(id.NodeID))), id.NodeID...)
	hello = append(append(hello, byte(len(id.Colo))), id.Colo...)
	hello = append(hello, make([]byte, cursorBytes+2)...)
	if err := f.say(frameHello, hello); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	go func() { f.acked <- f.acknowledge(ctx) }()
	return f, nil
}

func (f *follower) say(kind byte, payload []byte) error {
	p := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	_, err := f.conn.Write(append(append(p, kind), payload...))
	return err
}

func (f *follower) close() error {
	err := f.conn.Close()
	<-f.acked // it ends with the connection
	return err
}

// acknowledge says what was reached, when it moved and each second, as edges do: at
// once after a pause, else each ackGather.
func (f *follower) acknowledge(ctx context.Context) error {
	tick := time.NewTicker(ackEvery)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-f.wake:
			select {
			case <-time.After(time.Until(last.Add(ackGather))):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		last = time.Now()
		f.mu.Lock()
		seq := f.reach
		f.mu.Unlock()
		if err := f.say(frameAck, binary.BigEndian.AppendUint64(nil, seq)); err != nil {
			return err
		}
	}
}

func (f *follower) reached() {
	f.mu.Lock()
	f.reach = f.cursor.Seq
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// next takes in one frame and hands its entries on, when they are checked.
func (f *follower) next(got func(*feed.Entry) error) error {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.in, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxPayload {
		return fmt.Errorf("frame of %d bytes", n)
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(f.in, p); err != nil {
		return err
	}
	switch head[4] {
	case frameEntries:
		return f.entries(p, got)
	case frameEnd:
		if len(p) < cursorBytes {
			return fmt.Errorf("end of a snapshot with %d bytes", len(p))
		}
		f.cursor = feed.Cursor{Seq: binary.BigEndian.Uint64(p), Hash: [32]byte(p[8:cursorBytes])}
		f.reached()
		return nil
	case frameWelcome, frameHeartbeat, frameBegin, frameRows, frameWait:
		return nil
	}
	return fmt.Errorf("frame of type %d: %.200q", head[4], p)
}

func (f *follower) entries(p []byte, got func(*feed.Entry) error) error {
	if len(p) < 4 || binary.BigEndian.Uint32(p) > maxPayload {
		return fmt.Errorf("frame of entries with %d bytes", len(p))
	}
	p, err := f.unpack.DecodeAll(p[4:], make([]byte, 0, binary.BigEndian.Uint32(p)))
	for err == nil && len(p) > 0 {
		var e feed.Entry
		var n int
		if e, n, err = feed.DecodeEntry(p); err != nil {
			return err
		}
		if err := e.Follows(f.cursor); err != nil {
			return err
		}
		f.cursor = feed.Cursor{Seq: e.Seq, Hash: e.Hash}
		p = p[n:]
		err = got(&e)
	}
	f.reached()
	return err
}
