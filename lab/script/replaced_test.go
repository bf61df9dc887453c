package script

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestAnEdgeIsReplacedUnderHTTP3 has an edge stopped, and killed, under visitors
// of HTTP/3: the socket stays with who supervises it.
func TestAnEdgeIsReplacedUnderHTTP3(t *testing.T) {
	const many = 8
	arrived, release := make(chan struct{}, many), make(chan struct{})
	origin, _ := page(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slow") {
			arrived <- struct{}{}
			<-release
		}
		io.WriteString(w, "finished")
	})
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "1")
	n.onboard(t, "three.test", origin)
	addr := n.Edges[0].HTTPS
	v := newVisitor3(t, addr, n.CA)
	v.tls.ClientSessionCache = nil // tickets are of one process: its client stumbles over early data that is refused
	fails := func(c *http.Client) error {
		c.Timeout = 2 * time.Second
		if a, err := fetch(c, "https://three.test/"); err == nil && a.Status == 200 {
			return errors.New("answered")
		}
		return nil
	}
	// again waits for another process to answer visitors on the same port.
	again := func(old int, c *http.Client) {
		t.Helper()
		c.Timeout = 2 * time.Second
		eventually(t, 15*time.Second, "another edge", func() error {
			a, err := fetch(c, "https://three.test/")
			if err == nil && a.Status != 200 {
				err = errors.New(a.Body)
			}
			return err
		})
		eventually(t, 15*time.Second, "dev.json to say so", func() error {
			if n.reload(t); n.Edges[0].PID == old || n.Edges[0].HTTPS != addr {
				return fmt.Errorf("edge %+v, where %d at %s was", n.Edges[0], old, addr)
			}
			return nil
		})
	}

	var flying sync.WaitGroup
	for i := range many {
		c := v.connect(t)
		flying.Go(func() {
			if a, err := fetch(c, fmt.Sprint("https://three.test/slow/", i)); err != nil || a.Status != 200 || a.Body != "finished" {
				t.Errorf("in flight while the edge is stopped: %d %q %v", a.Status, a.Body, err)
			}
		})
	}
	for range many {
		<-arrived
	}
	old := n.Edges[0].PID
	if err := syscall.Kill(old, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "new visitors to be turned away", func() error { return fails(v.connect(t)) })
	close(release)
	flying.Wait()
	c := v.connect(t)
	again(old, c)

	// Nobody tells those who were connected to an edge that was killed; what
	// they send next is answered by a stateless reset, and they connect anew.
	old = n.Edges[0].PID
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again(old, c)
}
