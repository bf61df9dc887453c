package control_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/control"
	"github.com/selvage-edge/selvage/control/store/storetest"
)

// Two control planes of one PostgreSQL and one identity: each takes changes and
// serves nodes, and both know all of it.
func TestControlPlanesShareADatabase(t *testing.T) {
	place := storetest.Postgres(t)
	one, two := t.TempDir(), t.TempDir()
	first := startOn(t, one, place)
	if _, err := control.New(t.Context(), control.Config{State: two, Database: place}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another identity") {
		t.Errorf("a control plane with another identity: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(two, "identity")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(two, "identity"), os.DirFS(filepath.Join(one, "identity"))); err != nil {
		t.Fatal(err)
	}
	second := startOn(t, two, place)
	_, _, seqs := join(t, second, "FRA")
	status, seq, out := first.do(t, "POST", first.API+"/zones", `{"name":"shared.test"}`)
	if status != 200 {
		t.Fatalf("%d %v", status, out)
	}
	await(t, seqs, seq)
	path := "/zones/" + out["result"].(map[string]any)["id"].(string) + "/settings/always_online"
	status, seq, out = second.do(t, "PATCH", second.API+path, `{"value":"off"}`)
	if status != 200 {
		t.Fatalf("%d %v", status, out)
	}
	await(t, seqs, seq)
	change := first.until(t, seq, func(c map[string]any) bool { return len(list(c, "acked")) == 1 })
	if change["text"] != "live in 1 of 1" {
		t.Errorf("the first does not know of a node of the second: %v", change)
	}
	if _, _, out := first.do(t, "GET", first.API+path, ""); out["result"].(map[string]any)["value"] != "off" {
		t.Errorf("the first does not know what the second took: %v", out)
	}
	first.stop()
	status, seq, out = second.do(t, "PATCH", second.API+path, `{"value":"on"}`)
	if status != 200 || seq == "" {
		t.Fatalf("after the first ended: %d %v", status, out)
	}
	await(t, seqs, seq)
}
