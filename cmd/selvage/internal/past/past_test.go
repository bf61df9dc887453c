package past

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/client"
)

func TestSentencesSayWhatChanged(t *testing.T) {
	for _, c := range []struct{ part, before, after, want string }{
		{"dns_records/1", `null`, `{"type":"A","name":"a.test","content":"192.0.2.1","ttl":1,"proxied":true}`, "+ A a.test 192.0.2.1 ttl 1 proxied"},
		{"dns_records/1", `{"type":"A","name":"a.test","content":"192.0.2.1","ttl":1}`, `{"type":"A","name":"a.test","content":"192.0.2.2","ttl":60}`, "A a.test 192.0.2.1 ttl 1 → 192.0.2.2 ttl 60"},
		{"dns_records/1", `{"type":"TXT","name":"a.test","content":"` + strings.Repeat("é", 90) + `","ttl":1}`, `null`, "- TXT a.test " + strings.Repeat("é", 60) + "… ttl 1"},
		{"settings/ssl", `{"value":"\"full\""}`, `{"value":"\"strict\""}`, `ssl "full" → "strict"`},
		{"rulesets/p", `{"version":1}`, `{"version":2}`, "p version 1 → version 2"},
		{"custom_certificates/1", `{"hosts":["a.test"]}`, `null`, "- certificate a.test"},
		{"zone", `{"status":"active"}`, `{"status":"active","paused":true}`, "zone active → active paused"},
		{"zone", `{"status":"active"}`, `{"status":"active"}`, "zone changed"},
		{"new/1", `7`, `"what"`, "zone"},
	} {
		p := client.Part{Part: c.part, Before: json.RawMessage(c.before), After: json.RawMessage(c.after)}
		if got := sentence(&p); got != c.want {
			t.Errorf("%s: %q, want %q", c.part, got, c.want)
		}
	}
	parts := []client.Part{{Part: "zone"}, {Part: "zone"}, {Part: "zone"}, {Part: "zone"}}
	if got := summary(parts, 5, 3); got != "zone; zone; zone; and 6 more" {
		t.Errorf("summary %q", got)
	}
}
