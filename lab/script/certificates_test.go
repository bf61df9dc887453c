package script

import (
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
		eventually(t, 40*time.Second, fmt.Sprintf("edge %d to serve certificate %d", edge, want), func() error {
			got, err := serial(n.Edges[edge].HTTPS, "cert.test")
			if err == nil && got != want {
				err = fmt.Errorf("it serves %d", got)
			}
			return err
		})
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
}
