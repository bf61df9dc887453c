package script

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"github.com/selvage-edge/selvage/wire/h3/h3test"
	"github.com/selvage-edge/selvage/wire/h3/qpack"
	"github.com/selvage-edge/selvage/wire/msg"
)

// early connects by early data alone. It is nil when the server takes none.
func (v *visitor3) early(t *testing.T, name string) *quic.Conn {
	t.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	held := &h3test.EarlyConn{PacketConn: udp}
	held.Hold.Store(true)
	tr := &quic.Transport{Conn: held}
	config := v.tls.Clone()
	config.ServerName, config.NextProtos = name, []string{"h3"}
	addr, err := net.ResolveUDPAddr("udp", v.addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	qc, err := tr.DialEarly(ctx, addr, config, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = qc.CloseWithError(0, "")
		_ = tr.Close()
		_ = udp.Close()
	})
	return qc
}

// ask sends a request and returns what came: status and all bytes.
func ask(t *testing.T, qc *quic.Conn, method, name, path string) (status, all string, err error) {
	t.Helper()
	st, err := qc.OpenStream()
	if err != nil {
		return "", "", err
	}
	section := qpack.AppendPrefix(nil)
	for _, l := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", name}, {":path", path}} {
		section = qpack.AppendField(section, &msg.Field{Name: []byte(l[0]), Value: []byte(l[1])})
	}
	if _, err := st.Write(append(quicvarint.Append([]byte{1}, uint64(len(section))), section...)); err != nil {
		return "", "", err
	}
	if err := st.Close(); err != nil {
		return "", "", err
	}
	if err := st.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", "", err
	}
	text, err := io.ReadAll(st)
	if err != nil || len(text) < 2 {
		return "", "", err
	}
	length, n, err := quicvarint.Parse(text[1:])
	if err != nil {
		return "", "", err
	}
	var r qpack.Reader
	if err := r.Start(text[1+n : 1+n+int(length)]); err != nil {
		return "", "", err
	}
	_, value, err := r.Next()
	return string(value), string(text), err
}

func TestEarlyDataIsForSafeRequests(t *testing.T) {
	var posts atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		if r.URL.Path == "/later" && r.Header.Get("Early-Data") == "1" {
			w.Header().Set("Cache-Control", "max-age=600")
			w.WriteHeader(http.StatusTooEarly)
			return
		}
		io.WriteString(w, "early: "+r.Header.Get("Early-Data")+";")
	}))
	defer origin.Close()
	n := dev(t, t.TempDir(), "--edges", "1")
	n.onboard(t, "early.test", origin)
	v := newVisitor3(t, n.Edges[0].HTTPS, n.CA)
	// ticket makes a full handshake, whose ticket the next connection uses.
	ticket := func() {
		v.tls.ClientSessionCache = tls.NewLRUClientSessionCache(10)
		c := v.connect(t)
		get(t, c, "https://early.test/page")
		eventually(t, 10*time.Second, "a ticket", func() error {
			if _, ok := v.tls.ClientSessionCache.Get("early.test"); !ok {
				return io.ErrNoProgress
			}
			return nil
		})
	}
	t.Run("off", func(t *testing.T) {
		ticket()
		if status, _, err := ask(t, v.early(t, "early.test"), "GET", "early.test", "/page"); err == nil {
			t.Errorf("early data is answered %s", status)
		}
	})
	// early asks in early data, and once more where no answer came: about one in a
	// hundred hangs for a reason that is not known (ROADMAP.md).
	early := func(t *testing.T, method, path string) (status, text string, err error) {
		for range 2 {
			ticket()
			status, text, err = ask(t, v.early(t, "early.test"), method, "early.test", path)
			if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
				return status, text, err
			}
			t.Logf("%s %s had no answer: %v", method, path, err)
		}
		return status, text, err
	}
	n.setting(t, "early.test", "0rtt", "on")
	ticket()
	t.Run("a safe request is taken, and marked for the origin", func(t *testing.T) {
		status, text, err := early(t, "GET", "/page")
		if err != nil || status != "200" || !strings.Contains(text, "early: 1;") {
			t.Errorf("%s %q %v", status, text, err)
		}
	})
	t.Run("another is not", func(t *testing.T) {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
			if status, _, err := early(t, method, "/page"); err != nil || status != "425" {
				t.Errorf("%s: %s %v", method, status, err)
			}
		}
		if posts.Load() != 0 {
			t.Errorf("%d reached the origin", posts.Load())
		}
	})
	t.Run("the origin may refuse it, for this once", func(t *testing.T) {
		if status, text, err := early(t, "GET", "/later"); err != nil || status != "425" {
			t.Errorf("%s %q %v", status, text, err)
		}
		if a := get(t, v.connect(t), "https://early.test/later"); a.Status != 200 || a.Body != "early: ;" {
			t.Errorf("afterwards: %d %q", a.Status, a.Body)
		}
	})
}
