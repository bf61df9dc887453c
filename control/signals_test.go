package control_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/telemetry/report"
)

// What a node says on the road up is to be had at the API, and its audit is taken
// off its disk.
func TestSignalsOfNodes(t *testing.T) {
	r := start(t, t.TempDir())
	id, copied, _ := join(t, r, "FRA")
	spool, err := feed.OpenSpool(filepath.Join(t.TempDir(), "audit"), feed.SpoolOptions{})
	if err != nil {
		t.Fatal(err)
	}
	said, err := report.Audit{Action: "edge.start", Object: "it"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := spool.Add(said); err != nil {
		t.Fatal(err)
	}
	health, err := report.Health{State: report.Ready, Requests: 9, Problems: []string{"the disk is small"}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	up := feed.NewUp(spool)
	up.Offer(feed.ClassHealth, health)
	// It takes the place of the connection that join made.
	s := feed.NewSubscriber(feed.SubscriberConfig{Parents: []string{r.Feed}, Identity: id, Copy: copied, Signals: up})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		<-done
		if err := spool.Close(); err != nil {
			t.Error(err)
		}
	}()
	late := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, _, out := r.do(t, "GET", r.own("/audit?node="+id.NodeID), "")
		var events []any
		if page, ok := out["result"].(map[string]any); ok {
			events = page["events"].([]any)
		}
		told := 0
		for _, e := range events {
			if e := e.(map[string]any); e["action"] == "edge.start" && e["node"] == id.NodeID && e["colo"] == "FRA" && e["object"] == "it" {
				told++
			}
		}
		_, _, out = r.do(t, "GET", r.own("/feed"), "")
		node := list(out["result"].(map[string]any), "nodes")[0].(map[string]any)
		h, _ := node["health"].(map[string]any)
		if waits, _, _ := spool.Waiting(); told == 1 && waits == 0 && h != nil && h["requests"] == 9.0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			waits, _, _ := spool.Waiting()
			t.Fatalf("events %v, health %v, %d wait", events, h, waits)
		}
	}
}

func TestAuditRefusesBadQuestions(t *testing.T) {
	r := start(t, t.TempDir())
	for _, q := range []string{"node=x", "since=yesterday", "limit=0", "limit=1001", "limit=x", "before=1.2.3", "before=a.1.1.", "before=1.1.1.zz"} {
		if status, _, out := r.do(t, "GET", r.own("/audit?"+q), ""); status != 400 {
			t.Errorf("%s: %d, %v; want 400", q, status, out)
		}
	}
	if status, _, out := r.do(t, "GET", r.own("/audit?before=1.0.1.&limit=1"), ""); status != 200 {
		t.Errorf("a page before the first: %d, %v", status, out)
	}
}
