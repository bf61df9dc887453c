package report

import (
	"strings"
	"testing"
)

func TestAuditTravels(t *testing.T) {
	long := Audit{Action: strings.Repeat("a", 100), Object: strings.Repeat("o", 300), Seq: 7, Detail: strings.Repeat("d\n", 1000)}
	for _, c := range []struct{ in, want Audit }{
		{Audit{Action: "edge.start"}, Audit{Version: 1, Action: "edge.start"}},
		{long, Audit{1, strings.Repeat("a", 64), strings.Repeat("o", 256), 7, strings.Repeat("d ", 512)}},
	} {
		p, err := c.in.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got := ReadAudit(p); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

// What a node says that is not known here is kept, as it is.
func TestUnreadableAuditIsKept(t *testing.T) {
	for _, text := range []string{"", "{", `{"v":0,"action":"x"}`, `{"v":1}`, `{"v":1,"action":"x","detail":"` + strings.Repeat("x", 5000) + `"}`, "\x00\xff"} {
		got := ReadAudit([]byte(text))
		if got.Action != Unreadable || len(text) > 2 && !strings.Contains(got.Detail, text[:min(len(text), 15)]) && text[0] == '{' {
			t.Errorf("%.40q: %+v", text, got)
		}
	}
	if got := ReadAudit([]byte(`{"v":2,"action":"later","news":[1]}`)); got.Action != "later" {
		t.Errorf("of a newer version: %+v", got)
	}
}

func FuzzAudit(f *testing.F) {
	f.Add([]byte(`{"v":1,"action":"a","object":"b","seq":1,"detail":"c"}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		a := ReadAudit(p)
		if a.Action == "" && len(p) > 0 && a.Detail == "" || len(a.Action) > MaxAuditAction || len(a.Object) > MaxAuditObject || len(a.Detail) > MaxAuditDetail {
			t.Fatalf("%+v", a)
		}
		again, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if b := ReadAudit(again); a.Action != "" && (b.Action != a.Action || b.Detail != a.Detail || b.Object != a.Object || b.Seq != a.Seq) {
			t.Fatalf("%+v reads again as %+v", a, b)
		}
	})
}
