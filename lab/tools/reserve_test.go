package tools

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestReserveInVersityGateway runs the suite of the cache reserve's stores
// against a real S3 server, built from the module in versitygw/.
func TestReserveInVersityGateway(t *testing.T) {
	dir := t.TempDir()
	server := filepath.Join(dir, "versitygw")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", server, "github.com/versity/versitygw/cmd/versitygw")
	build.Dir = "versitygw"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build versitygw: %v\n%s", err, out)
	}
	if err := os.MkdirAll(filepath.Join(dir, "buckets", "reserve"), 0o700); err != nil {
		t.Fatal(err)
	}
	addr := startGateway(t, server, filepath.Join(dir, "buckets"))
	suite := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-run", "TestS3", "./edge/phase/cache/reserve")
	suite.Dir = filepath.Join("..", "..")
	suite.Env = append(os.Environ(), "SELVAGE_TEST_S3=http://"+addr+"/reserve/some/prefix", "SELVAGE_TEST_S3_KEY=testkey", "SELVAGE_TEST_S3_SECRET=testsecret")
	if out, err := suite.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	stored, err := filepath.Glob(filepath.Join(dir, "buckets", "reserve", "some", "prefix", "*", "*"))
	if err != nil || len(stored) == 0 {
		t.Errorf("the bucket is empty, %v: another store was tested", err)
	}
}

// startGateway runs the server on a free port until the test ends.
func startGateway(t *testing.T, server, buckets string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, server, "--port", addr, "posix", buckets)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=testkey", "ROOT_SECRET_KEY=testsecret")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		time.AfterFunc(10*time.Second, kill)
		_ = cmd.Wait() // how a server of others' ends is not ours to judge
		kill()
	})
	for end := time.Now().Add(30 * time.Second); ; <-time.After(20 * time.Millisecond) {
		var d net.Dialer
		c, err := d.DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		if time.Now().After(end) {
			t.Fatalf("versitygw does not listen: %v", err)
		}
	}
}
