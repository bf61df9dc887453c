package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/internal/figure"
)

// A small network of real processes survives that each is killed. How fast is
// the command's to measure: a test must not depend on the machine.
func TestNothingIsLostWhereEachIsKilled(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "selvage")
	build := exec.Command("go", "build", "-o", binary, "github.com/selvage-edge/selvage/cmd/selvage")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	figures, err := run(t.Context(), options{
		binary: binary, relays: 1, edges: 3, rate: 20, zones: 4, bar: 10 * time.Minute, dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := figure.Missed(figures); err != nil || len(figures) != 6 {
		t.Errorf("%d figures, want 6: %v", len(figures), err)
	}
}
