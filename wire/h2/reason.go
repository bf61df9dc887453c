package h2

import (
	"sync/atomic"
)

// Reason is why a connection or a stream was ended by us.
type Reason uint8

const (
	None          Reason = iota
	Protocol             // a rule of RFC 9113 was broken, beside those below
	Compression          // an HPACK block that cannot be decoded
	Flow                 // a window was overrun or widened beyond 2^31-1
	Malformed            // a request that is not one
	HeadSize             // a field section over its limits
	Refused              // more requests at a time than allowed
	ResetFlood           // requests given up, or broken, too fast (CVE-2023-44487, CVE-2025-8671)
	PingFlood            // PING
	SettingsFlood        // SETTINGS
	EmptyFlood           // frames that carry nothing
	PriorityFlood        // PRIORITY and PRIORITY_UPDATE
	WindowFlood          // WINDOW_UPDATE
	HeadFlood            // CONTINUATION without end
	SlowPreface          // the first bytes did not come in time
	SlowHead             // a frame or section did not come whole in time
	SlowBody             // a request body did not go on in time
	SlowReader           // what we send is not taken
	Idle                 // no request for IdleTimeout
	reasons
)

var reasonText = [reasons]string{
	"none", "protocol", "compression", "flow_control", "malformed", "head_size", "refused",
	"reset_flood", "ping_flood", "settings_flood", "empty_flood", "priority_flood", "window_flood", "continuation_flood",
	"slow_preface", "slow_head", "slow_body", "slow_reader", "idle",
}

func (r Reason) String() string { return reasonText[r] }

// Stats counts what a Server did. All fields only grow, but Open and Serving.
type Stats struct {
	Connections uint64 // taken
	Requests    uint64 // that reached a session
	Open        int64  // connections now
	// Ended counts connections and streams that were ended by us, by reason.
	Ended [reasons]uint64
}

// Each calls f for every reason and its count.
func (s *Stats) Each(f func(Reason, uint64)) {
	for r := None + 1; r < reasons; r++ {
		f(r, s.Ended[r])
	}
}

type counters struct {
	connections, requests atomic.Uint64
	ended                 [reasons]atomic.Uint64
}

func (c *counters) end(r Reason) {
	if r != None {
		c.ended[r].Add(1)
	}
}
