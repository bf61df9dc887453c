package control_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	shareIdentity(t, one, two)
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

// shareIdentity gives the control plane of one folder the identity of another.
func shareIdentity(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(to, "identity")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(to, "identity"), os.DirFS(filepath.Join(from, "identity"))); err != nil {
		t.Fatal(err)
	}
}

// A certificate that one control plane takes is staged at the nodes of both, and
// is published when those of both hold it, whoever leads.
func TestCertificateIsStagedAtTheNodesOfBoth(t *testing.T) {
	place := storetest.Postgres(t)
	one, two := t.TempDir(), t.TempDir()
	first := startWaiting(t, one, place, 10*time.Minute)
	shareIdentity(t, one, two)
	second := startWaiting(t, two, place, 10*time.Minute)
	_, _, _ = join(t, first, "FRA")
	id, _, seqs := join(t, second, "NRT")
	far := second.wallets[id.NodeID]
	zoneOf := func(r *running, name string) (certificates string, seq string) {
		t.Helper()
		status, seq, out := r.do(t, "POST", r.API+"/zones", `{"name":"`+name+`"}`)
		if status != 200 {
			t.Fatalf("%d %v", status, out)
		}
		return "/zones/" + out["result"].(map[string]any)["id"].(string) + "/custom_certificates", seq
	}
	status := func(r *running, path string) any {
		t.Helper()
		_, _, out := r.do(t, "GET", r.API+path, "")
		all, ok := out["result"].([]any)
		if !ok || len(all) != 1 {
			t.Fatalf("certificates: %v", out)
		}
		return all[0].(map[string]any)["status"]
	}
	becomesActive := func(r *running, path string) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		late := time.After(20 * time.Second)
		for status(r, path) != "active" {
			select {
			case <-tick.C:
			case <-late:
				t.Fatal("all nodes hold the certificate, and it is not published")
			}
		}
	}
	for i, r := range []*running{first, second} {
		path, seq := zoneOf(r, fmt.Sprintf("of%d.test", i))
		await(t, seqs, seq)
		becomesActive(first, path)
		becomesActive(second, path)
	}
	far.setDeaf(true)
	path, _ := zoneOf(first, "waits.test")
	for _, r := range []*running{first, second} {
		if got := status(r, path); got != "pending" {
			t.Errorf("while a node of the second control plane lacks it, the certificate is %v", got)
		}
	}
	far.setDeaf(false)
	becomesActive(first, path)
}
