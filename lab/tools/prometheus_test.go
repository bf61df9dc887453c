package tools

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func promtool(t *testing.T, stdin []byte, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Dir = filepath.Join("..", "..", "deploy", "prometheus")
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// The alert rules are well-formed, fire when they should and not otherwise, and
// ask for metrics that exist.
func TestAlertRules(t *testing.T) {
	promtool(t, nil, "check", "rules", "--lint-fatal", "selvage.rules.yml")
	promtool(t, nil, "test", "rules", "selvage.rules.test.yml")
	rules, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", "selvage.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	known, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`selvage_[a-z_]+`).FindAllString(string(rules), -1)
	if len(names) < 6 {
		t.Errorf("only the metrics %v are asked for", names)
	}
	for _, name := range names {
		if name = strings.TrimSuffix(name, "_bucket"); !strings.Contains(string(known), "`"+name+"`") {
			t.Errorf("the alert rules ask for %s, which docs/reference/metrics.md does not tell of", name)
		}
	}
}

// What a control plane exports is as Prometheus wants it.
func TestMetricsOfControl(t *testing.T) {
	c := startControl(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(c.API, "/client/v4")+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var text bytes.Buffer
	if _, err := text.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"selvage_control_delay_seconds_bucket", "selvage_control_lag_seconds", "selvage_control_leads 1", "selvage_control_rejected_total", "selvage_control_nodes_connected 0"} {
		if !strings.Contains(text.String(), "\n"+name) {
			t.Errorf("/metrics has no %s", name)
		}
	}
	promtool(t, text.Bytes(), "check", "metrics")
}
