package control_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control"
	"github.com/selvage-edge/selvage/control/store/storetest"
)

// running is a control plane of a test.
type running struct {
	API       string `json:"api"`
	Feed      string `json:"feed"`
	TokenFile string `json:"token_file"`
	token     string
	stop      func()
	wallets   map[string]*wallet // by node
}

func start(t *testing.T, dir string) *running {
	t.Helper()
	return startOn(t, dir, storetest.Beside(t, dir))
}

func startOn(t *testing.T, dir, database string) *running {
	t.Helper()
	return startWaiting(t, dir, database, 200*time.Millisecond)
}

// startWaiting starts one that waits so long for nodes that lack a certificate.
func startWaiting(t *testing.T, dir, database string, wait time.Duration) *running {
	t.Helper()
	c, err := control.New(t.Context(), control.Config{State: dir, Database: database, API: "127.0.0.1:0", Feed: "127.0.0.1:0", AutoCertificate: true, CertificateWait: wait}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	r := &running{wallets: map[string]*wallet{}, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}}
	t.Cleanup(r.stop)
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(filepath.Join(dir, "control.json"))
		if err == nil && json.Unmarshal(text, r) == nil {
			break
		}
		select {
		case <-deadline:
			t.Fatal("control plane did not become ready")
		case <-tick.C:
		}
	}
	token, err := os.ReadFile(r.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	r.token = strings.TrimSpace(string(token))
	return r
}

func (r *running) do(t *testing.T, method, url, body string) (int, string, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("Selvage-Seq"), out
}

func TestStateSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir)
	status, seq, out := r.do(t, "POST", r.API+"/zones", `{"name":"kept.test"}`)
	if status != 200 || seq != "2" { // the zone, and its certificate
		t.Fatalf("create: %d, seq %q, %v", status, seq, out)
	}
	if _, err := control.New(t.Context(), control.Config{State: dir}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another control plane runs") {
		t.Errorf("second control plane in one folder: %v", err)
	}
	token := r.token
	r.stop()
	if _, err := os.Stat(filepath.Join(dir, "control.json")); !os.IsNotExist(err) {
		t.Errorf("control.json after a clean exit: %v", err)
	}
	r = start(t, dir)
	if r.token != token {
		t.Error("the token changed at restart")
	}
	_, _, out = r.do(t, "GET", r.API+"/zones", "")
	if list := out["result"].([]any); len(list) != 1 {
		t.Errorf("zones after restart: %v", list)
	}
	base := strings.TrimSuffix(r.API, "/client/v4") + "/selvage/v1"
	if status, _, out := r.do(t, "GET", base+"/changes/1", ""); status != 200 {
		t.Errorf("changes/1: %d %v", status, out)
	}
	for _, n := range []string{"0", "3", "x"} {
		if status, _, out := r.do(t, "GET", base+"/changes/"+n, ""); status/100 != 4 {
			t.Errorf("changes/%s: %d %v", n, status, out)
		}
	}
}
