package feed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// fetcher is one connection of a Replica to a parent; it is used by one
// goroutine.
type fetcher struct {
	r      *Replica
	unpack *unpacker
	conn   *tls.Conn // nil for none
	parent int       // of conn
	since  time.Time // of conn
	buf    []byte
}

const (
	fetchQuiet  = 5 * time.Minute // without a question, before a connection is closed
	fetchReturn = time.Minute     // before an earlier parent is tried again
	fetchWait   = 10 * time.Second
)

// Why an answer does not do.
var (
	errBehindHere = errors.New("the relay stands before this number")
	errGone       = errors.New("the relay has newer values alone")
	errWrong      = errors.New("the relay's value is not the one that the entry had")
	errNoParent   = errors.New("no relay can be had")
)

// passing reports whether the same question may have an answer in a moment.
func passing(err error) bool { return errors.Is(err, errBehindHere) || errors.Is(err, errGone) }

// fetcher answers questions until ctx ends.
func (r *Replica) fetcher(ctx context.Context) {
	f := &fetcher{r: r, unpack: newUnpacker()}
	defer f.close()
	quiet := time.NewTicker(fetchQuiet)
	defer quiet.Stop()
	used := false
	for {
		select {
		case q := <-r.asks:
			used = true
			q.rows, q.err = f.answer(ctx, q)
			r.answered(q)
		case <-quiet.C:
			if !used {
				f.close()
			}
			used = false
		case <-ctx.Done():
			return
		}
	}
}

// answer asks one parent after the other, the connected one first unless one
// before it may be back.
func (f *fetcher) answer(ctx context.Context, q *question) ([]piece, error) {
	r := f.r
	if f.conn != nil && f.parent > 0 && time.Since(f.since) > fetchReturn {
		f.close()
	}
	first := 0
	if f.conn != nil {
		first = f.parent
	}
	var failed []error
	for i := range r.cfg.Parents {
		at := (first + i) % len(r.cfg.Parents)
		if time.Now().UnixNano() < r.rest[at].Load() {
			continue
		}
		rows, err := f.from(ctx, at, q)
		if err == nil {
			r.told.Store(false)
			return rows, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", r.cfg.Parents[at], err))
		if ctx.Err() != nil {
			return nil, errors.Join(failed...)
		}
		if passing(err) {
			continue
		}
		f.close()
		if errors.Is(err, ErrLimit) || Refused(err, ReasonWide) {
			return nil, err // the question's fault, not the parent's
		}
		r.failed(at, err)
	}
	if len(failed) == 0 {
		return nil, errNoParent
	}
	return nil, errors.Join(failed...)
}

// failed rests a parent, so that those who come next do not wait for it.
func (r *Replica) failed(at int, err error) {
	rest := r.cfg.Rest
	if errors.Is(err, errWrong) || Refused(err, ReasonNoCopy) || Refused(err, ReasonRevoked) {
		rest *= 30
	}
	r.rest[at].Store(time.Now().Add(rest).UnixNano())
	r.counters.away.Add(1)
	if !r.told.Swap(true) {
		r.log.Warn("values cannot be fetched from a parent", "parent", r.cfg.Parents[at], "error", err)
	}
}

// from asks one parent. A connection that lay idle may have been closed
// meanwhile, so a new one is tried then.
func (f *fetcher) from(ctx context.Context, at int, q *question) ([]piece, error) {
	if f.conn != nil && f.parent == at {
		rows, err := f.exchange(ctx, q)
		if _, refused := errors.AsType[*Refusal](err); err == nil || passing(err) || refused || ctx.Err() != nil {
			return rows, err
		}
	}
	f.close()
	if err := f.connect(ctx, at); err != nil {
		return nil, err
	}
	return f.exchange(ctx, q)
}

func (f *fetcher) close() {
	if f.conn != nil {
		_ = f.conn.NetConn().Close()
		f.conn = nil
	}
}

// connect agrees on TLS with a parent; a relay that was shut out is none.
func (f *fetcher) connect(ctx context.Context, at int) error {
	cfg := &f.r.cfg
	ctx, cancel := context.WithTimeout(ctx, cfg.Connect)
	defer cancel()
	raw, err := cfg.Dial.dial(ctx, cfg.Parents[at])
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	conn := tls.Client(raw, cfg.Identity.ClientTLS(ALPNFetch))
	if err = conn.HandshakeContext(ctx); err == nil {
		err = mayServe(conn, cfg.Copy)
	}
	if err != nil {
		_ = raw.Close()
		return fmt.Errorf("handshake: %w", err)
	}
	f.conn, f.parent, f.since = conn, at, time.Now()
	return nil
}

// mayServe judges a parent by its certificate and by what the copy says of it.
func mayServe(conn *tls.Conn, c *Copy) error {
	peer, err := PeerOf(conn.ConnectionState())
	if err != nil || peer.Control {
		return err
	}
	if !peer.Relay {
		return fmt.Errorf("feed: the other side is node %s, which is no relay", peer.Node)
	}
	if _, _, revoked, err := c.Get(RevokedKey(peer.Node)); err != nil || revoked {
		return errors.Join(err, fmt.Errorf("feed: the other side is relay %s, which was revoked", peer.Node))
	}
	return nil
}

// exchange puts the question on the connection and reads the answer.
func (f *fetcher) exchange(ctx context.Context, q *question) ([]piece, error) {
	raw := f.conn.NetConn()
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	until := time.Now().Add(fetchWait)
	if err := f.conn.SetDeadline(until); err != nil {
		return nil, err
	}
	if err := writeFrame(f.conn, frameFetch, q.ask.append(nil)); err != nil {
		return nil, fmt.Errorf("ask: %w", err)
	}
	m := matcher{want: q.stubs}
	in := deadlineReader{raw: f.conn, silence: f.r.cfg.Connect + fetchPatience, until: until}
	for {
		kind, p, err := readFrame(in, f.buf, maxFetchFrame)
		if err != nil {
			return nil, fmt.Errorf("answer: %w", err)
		}
		if cap(p) > cap(f.buf) && cap(p) <= maxKeptBuffer {
			f.buf = p[:0]
		}
		switch kind {
		case frameValues:
			if p, err = f.unpack.unpack(p); err == nil {
				err = m.take(p)
			}
			if err != nil {
				return nil, fmt.Errorf("answer: %w", err)
			}
		case frameFetched:
			return m.end(p)
		case frameError:
			return nil, decodeRefusal(p)
		default:
			return nil, fmt.Errorf("answer: frame of type %d: %w", kind, errFrame)
		}
	}
}

// deadlineReader wants a byte within silence, and all before until.
type deadlineReader struct {
	raw     net.Conn
	silence time.Duration
	until   time.Time
}

func (r deadlineReader) Read(p []byte) (int, error) {
	d := time.Now().Add(r.silence)
	if d.After(r.until) {
		d = r.until
	}
	_ = r.raw.SetReadDeadline(d) // where it fails the read does
	return r.raw.Read(p)
}

// matcher finds among the rows of an answer those that were asked for: the very
// versions, by key, number and sum. Others are passed over, as the prefix may
// have more.
type matcher struct {
	want  []piece // not found yet; in the order of keys
	found []piece
	last  string
	rows  uint32
	bytes int
	gone  bool
}

// take judges the rows of one frame, whose memory is theirs.
func (m *matcher) take(p []byte) error {
	for m.bytes += len(p); len(p) > 0; m.rows++ {
		row, rest, err := cutRow(p)
		if err != nil {
			return err
		}
		if row.stub || row.key <= m.last {
			return fmt.Errorf("row %.64q: %w", row.key, errFrame)
		}
		if m.bytes > maxFetchBytes || m.rows == maxFetchRows {
			return fmt.Errorf("over %d bytes or %d rows: %w", maxFetchBytes, maxFetchRows, ErrLimit)
		}
		m.last, p = row.key, rest
		for len(m.want) > 0 && m.want[0].key < row.key {
			m.gone, m.want = true, m.want[1:]
		}
		if len(m.want) == 0 || m.want[0].key != row.key {
			continue
		}
		w := m.want[0]
		m.want = m.want[1:]
		if w.seq != row.seq {
			m.gone = true
			continue
		}
		if sumOf(row.value) != w.sum {
			return fmt.Errorf("%s at %d: %w", w.key, w.seq, errWrong)
		}
		w.value = row.value
		m.found = append(m.found, w)
	}
	return nil
}

// end returns what was found, where that is all.
func (m *matcher) end(p []byte) ([]piece, error) {
	f, err := decodeFetched(p)
	switch {
	case err != nil:
		return nil, fmt.Errorf("answer: %w", err)
	case f.status == fetchBehind:
		return nil, errBehindHere
	case f.status == fetchAbsent:
		return nil, fmt.Errorf("the relay: %w", ErrElsewhere)
	case f.rows != m.rows:
		return nil, fmt.Errorf("answer of %d rows arrived with %d: %w", f.rows, m.rows, ErrTorn)
	case m.gone || len(m.want) > 0:
		return nil, errGone
	}
	return m.found, nil
}
