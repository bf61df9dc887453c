package script

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// upload is a certificate of a key of its own, as it is sent.
func upload(t *testing.T, serial int64, host string) map[string]string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return map[string]string{"certificate": text("CERTIFICATE", der), "private_key": text("PRIVATE KEY", private)}
}

// serial makes a handshake, in which the server proves that it has the leaf's
// key, and returns the leaf's serial number.
func serial(addr, host string) (int64, error) {
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

// servesSerial waits until an edge serves a host with the certificate of a number.
func servesSerial(t *testing.T, addr, host string, want int64) {
	t.Helper()
	eventually(t, 40*time.Second, fmt.Sprintf("%s to serve certificate %d", addr, want), func() error {
		got, err := serial(addr, host)
		if err == nil && got != want {
			err = fmt.Errorf("it serves %d", got)
		}
		return err
	})
}

// TestCertificatesAreSwitchedWhole replaces a certificate twenty times under
// handshakes, then with an edge that hears nothing and a control plane that is
// killed between stage and switch.
func TestCertificatesAreSwitchedWhole(t *testing.T) {
	n := dev(t, t.TempDir(), "--no-demo", "--edges", "2")
	var made struct {
		ID     string
		Status string
	}
	text, _ := n.call(t, "POST", "/zones", map[string]string{"name": "cert.test"})
	unmarshal(t, text, &made)
	path := "/zones/" + made.ID + "/custom_certificates"
	text, _ = n.call(t, "POST", path, upload(t, 1000, "cert.test"))
	unmarshal(t, text, &made)
	path += "/" + made.ID
	serves := func(edge int, want int64) {
		t.Helper()
		servesSerial(t, n.Edges[edge].HTTPS, "cert.test", want)
	}
	serves(0, 1000)
	serves(1, 1000)

	var shaken, failed atomic.Int64
	stop := make(chan struct{})
	var visitors sync.WaitGroup
	for i := range n.Edges {
		addr := n.Edges[i].HTTPS
		visitors.Go(func() {
			for last := int64(0); ; shaken.Add(1) {
				select {
				case <-stop:
					return
				default:
				}
				got, err := serial(addr, "cert.test")
				if err == nil && got < last {
					err = errors.New("an older certificate than before")
				}
				if err != nil {
					failed.Add(1)
					t.Errorf("handshake with edge %d after certificate %d: %d, %v", i, last, got, err)
				}
				last = got
			}
		})
	}
	began := time.Now()
	for i := range int64(20) {
		n.call(t, "PATCH", path, upload(t, 1001+i, "cert.test"))
	}
	took := time.Since(began)
	serves(0, 1020)
	serves(1, 1020)
	close(stop)
	visitors.Wait()
	t.Logf("20 certificates switched in %s (%s each) under %d handshakes, %d of them failed", took, took/20, shaken.Load(), failed.Load())

	stopped := n.Edges[1].PID
	if err := syscall.Kill(stopped, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(stopped, syscall.SIGCONT) })
	text, _ = n.call(t, "PATCH", path, upload(t, 2000, "cert.test"))
	if unmarshal(t, text, &made); made.Status != "pending" {
		t.Errorf("while an edge lacks it the certificate is %s, want pending", made.Status)
	}
	if err := syscall.Kill(n.Ctl.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	serves(0, 2000)
	if err := syscall.Kill(stopped, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	serves(1, 2000)
	eventually(t, 5*time.Second, "the metrics to say that nothing is on its way", func() error {
		m := get(t, http.DefaultClient, strings.TrimSuffix(n.API, "/client/v4")+"/metrics")
		if !strings.Contains(m.Body, "\nselvage_control_certificates_staged 0\n") {
			return errors.New("they do not")
		}
		return nil
	})
}

// An edge behind a relay gets its pairs through it; one that holds none of them,
// a partial replica that has just joined, fetches one within the first handshake.
// The key is in no file of any of them as it was uploaded.
func TestCertificateThroughARelayAndOnFirstUse(t *testing.T) {
	a := &apart{dir: t.TempDir(), feed: "127.0.0.1:0"}
	a.startControl(t)
	n := a.network()
	var c struct {
		API       string `json:"api"`
		TokenFile string `json:"token_file"`
	}
	waitJSON(t, filepath.Join(n.State, "control.json"), &c)
	token, err := os.ReadFile(c.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	n.API, n.Token = c.API, strings.TrimSpace(string(token))
	relay := a.joined(t, "relay", []string{"--relay"}, "--parent", a.feed, "--relay", "127.0.0.1:0")
	var at struct {
		Relay string `json:"relay"`
	}
	waitJSON(t, filepath.Join(a.dir, "relay", "edge.json"), &at)
	parents := []string{"--parent", at.Relay, "--parent", a.feed}
	below := a.joined(t, "below", nil, parents...)

	var made struct{ ID, Status string }
	text, _ := n.call(t, "POST", "/zones", map[string]string{"name": "cert.test"})
	unmarshal(t, text, &made)
	path := "/zones/" + made.ID + "/custom_certificates"
	sent := upload(t, 1, "cert.test")
	block, _ := pem.Decode([]byte(sent["private_key"]))
	text, _ = n.call(t, "POST", path, sent)
	unmarshal(t, text, &made)
	servesSerial(t, relay.HTTPS, "cert.test", 1)
	servesSerial(t, below.HTTPS, "cert.test", 1)
	began := time.Now()
	text, _ = n.call(t, "PATCH", path+"/"+made.ID, upload(t, 2, "cert.test"))
	unmarshal(t, text, &made)
	if made.Status != "active" {
		t.Errorf("with both connected the certificate is %s after %s, want active", made.Status, time.Since(began))
	}
	servesSerial(t, relay.HTTPS, "cert.test", 2)
	servesSerial(t, below.HTTPS, "cert.test", 2)
	for _, s := range []*server{relay, below} {
		if kept := s.metric(t, "selvage_edge_pairs_kept_total"); kept != 2 {
			t.Errorf("an edge kept %d pairs, want its own 2", kept)
		}
	}

	late := a.joined(t, "late", nil, append(parents, "--replica", "partial", "--replica-bytes", "16MiB")...)
	eventually(t, 20*time.Second, "the zone to be there", func() error {
		_, err := serial(late.HTTPS, "cert.test") // while there is no copy yet
		return err
	})
	if got, err := serial(late.HTTPS, "cert.test"); got != 2 || err != nil {
		t.Errorf("the partial replica serves %d, %v", got, err)
	}
	if waited := late.metric(t, "selvage_edge_pairs_awaited_total"); waited != 1 {
		t.Errorf("%d handshakes waited for the pair, want the first", waited)
	}
	if failed := late.metric(t, `selvage_tls_handshake_failures_total{reason="no_key"}`); failed > 0 {
		t.Errorf("%d handshakes failed for want of a key", failed)
	}
	scalar := block.Bytes[len(block.Bytes)-100:]
	if err := filepath.WalkDir(a.dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // removed meanwhile
		}
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, scalar) {
			t.Errorf("%s has the private key", file)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
