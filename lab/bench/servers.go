package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const startLimit = 30 * time.Second

// The RAM tiers: large for what is to be in memory, small for the disk set.
const (
	ramBytes      = "256MiB"
	smallRAMBytes = "64MiB"
	diskBytes     = "2GiB"
)

// startSelvage runs dev with one edge on CPU 0 and onboards the origin. Only
// the edge's CPU time counts: the control plane is not on a request's path.
func startSelvage(f *field, name string) (*server, func(), error) {
	dir, err := os.MkdirTemp(f.dir, name+"-")
	if err != nil {
		return nil, nil, err
	}
	state := filepath.Join(dir, "state")
	args := []string{
		"taskset", "-c", "0", f.o.binary, "dev", "--state", state, "--no-demo", "--edges", "1",
		"--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0",
	}
	if name == "selvage-disk" {
		args = append(args, "--cache-bytes", smallRAMBytes, "--cache-disk-bytes", diskBytes)
	} else {
		args = append(args, "--cache-bytes", ramBytes)
	}
	stop, err := f.start(dir, name, args...)
	if err != nil {
		return nil, nil, err
	}
	var ready struct {
		Ready bool
		Edges []struct {
			HTTP, HTTPS string
			PID         int
		}
	}
	err = f.await(func() error {
		text, err := os.ReadFile(filepath.Join(state, "dev.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &ready)
	})
	if err == nil && len(ready.Edges) != 1 {
		err = fmt.Errorf("dev.json names %d edges, want 1", len(ready.Edges))
	}
	if err == nil {
		var out []byte
		if out, err = exec.CommandContext(f.ctx, f.o.binary, "zone", "add", host, "--origin", "http://"+f.origin, "--state", state).CombinedOutput(); err != nil {
			err = fmt.Errorf("zone add: %w: %s", err, out)
		}
	}
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("start %s: %w\n%s", name, err, logOf(dir, name))
	}
	edge := ready.Edges[0]
	s := &server{name: name, http: edge.HTTP, https: edge.HTTPS, tells: true, warm: map[string]bool{}}
	s.pids = func() ([]int, error) { return []int{edge.PID}, nil }
	return s, stop, nil
}

// start runs a program in the background, its output in dir/NAME.out; stop
// ends it gently and waits.
func (f *field) start(dir, name string, args ...string) (stop func(), err error) {
	out, err := os.Create(filepath.Join(dir, name+".out"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(f.ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 40 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		_ = cmd.Wait()                          // how it ended is in its output
		_ = out.Close()
	}, nil
}

// await polls until ok returns nil, for at most startLimit.
func (f *field) await(ok func() error) error {
	ctx, cancel := context.WithTimeout(f.ctx, startLimit)
	defer cancel()
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %s: %w", startLimit, err)
		}
	}
}

// listens is a condition for await: somebody accepts connections at addr.
func (f *field) listens(addr string) error {
	c, err := new(net.Dialer).DialContext(f.ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

func (f *field) freeAddr() (string, error) {
	l, err := new(net.ListenConfig).Listen(f.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func logOf(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name+".out"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// childrenOf lists the processes whose parent is pid.
func childrenOf(pid int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for f := range strings.FieldsSeq(string(text)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, n)
	}
	return pids, nil
}

// certificate makes the peers' certificate, of the kind that Selvage issues.
func (f *field) certificate() error {
	if f.cert != "" {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	f.cert, f.key = filepath.Join(f.dir, "cert.pem"), filepath.Join(f.dir, "key.pem")
	return errors.Join(
		os.WriteFile(f.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600),
	)
}
