package tools

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// controlPlane is a running selvage control.
type controlPlane struct {
	API   string `json:"api"`
	File  string `json:"token_file"`
	token string
}

func binary(t *testing.T) string {
	t.Helper()
	if bin := os.Getenv("SELVAGE_BIN"); bin != "" {
		return bin
	}
	bin := filepath.Join(t.TempDir(), "selvage")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/selvage")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build selvage: %v\n%s", err, out)
	}
	return bin
}

// startControl runs selvage control until the test ends, and checks that it
// ends cleanly.
func startControl(t *testing.T) *controlPlane {
	t.Helper()
	dir := t.TempDir()
	ctx, kill := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, binary(t), "control", "--state", dir, "--api", "127.0.0.1:0", "--feed", "127.0.0.1:0", "--name-server", "ns1.edge.test")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(stderr)
		said <- string(text)
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		text := <-said
		if err := cmd.Wait(); err != nil {
			t.Errorf("selvage control: %v\n%s", err, text)
		}
		kill()
	})
	c := &controlPlane{}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for {
		text, err := os.ReadFile(filepath.Join(dir, "control.json"))
		if err == nil && json.Unmarshal(text, c) == nil {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("selvage control did not become ready within 30 s")
		}
	}
	token, err := os.ReadFile(c.File)
	if err != nil {
		t.Fatal(err)
	}
	c.token = strings.TrimSpace(string(token))
	return c
}
