package h3

import (
	"sync/atomic"
)

// Reason is why a connection or a stream was ended by us.
type Reason uint8

const (
	None          Reason = iota
	Protocol             // a rule of RFC 9114 was broken, beside those below
	Compression          // a field section that cannot be decoded, or a rule of RFC 9204
	Malformed            // a request that is not one
	HeadSize             // a field section over its limits
	Refused              // a request behind a GOAWAY
	ResetFlood           // requests given up, or broken, too fast
	UnknownFlood         // frames and streams of unknown types
	PriorityFlood        // PRIORITY_UPDATE
	SlowHead             // a field section or control frame did not come whole in time
	SlowBody             // a request body did not go on in time
	SlowReader           // what we send is not taken
	Idle                 // no request for IdleTimeout
	reasons
)

var reasonText = [reasons]string{
	"none", "protocol", "compression", "malformed", "head_size", "refused", "reset_flood", "unknown_flood", "priority_flood",
	"slow_head", "slow_body", "slow_reader", "idle",
}

func (r Reason) String() string { return reasonText[r] }

// Stats counts what a Server did. All fields only grow, but Open.
type Stats struct {
	Connections uint64 // taken
	Requests    uint64 // that reached a session
	Inline      uint64 // of them, answered without waiting
	Early       uint64 // of them, that came in early data
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
	connections, requests, inline, early atomic.Uint64
	ended                                [reasons]atomic.Uint64
}

func (c *counters) end(r Reason) {
	if r != None {
		c.ended[r].Add(1)
	}
}

// failure ends a connection.
type failure struct {
	code   code
	reason Reason
	text   string
}

func (f *failure) Error() string { return "h3: " + f.text }

func broken(c code, text string) *failure { return &failure{c, Protocol, text} }

// The failures are values so that failing allocates nothing.
var (
	errFrameOrder    = broken(codeFrameUnexpected, "frame out of place")
	errFrameLength   = broken(codeFrame, "frame of the wrong length")
	errFrameCut      = broken(codeFrame, "stream ended within a frame")
	errControlLong   = &failure{codeExcessiveLoad, Protocol, "control frame too long"}
	errNoSettings    = broken(codeMissingSettings, "control stream without SETTINGS")
	errSettingsFrame = broken(codeFrame, "SETTINGS cut short")
	errSettingsMany  = &failure{codeExcessiveLoad, Protocol, "too many settings"}
	errSettingsTwice = broken(codeSettings, "setting sent twice")
	errSettingsOld   = broken(codeSettings, "setting of HTTP/2")
	errSettingsValue = broken(codeSettings, "setting out of range")
	errStreamTwice   = broken(codeStreamCreation, "second stream of a critical type")
	errStreamPush    = broken(codeStreamCreation, "push stream from a client")
	errClosed        = broken(codeClosedCritical, "critical stream closed")
	errGoAwayID      = broken(codeID, "GOAWAY with a larger id")
	errPushID        = broken(codeID, "push id that was not promised, or smaller than before")
	errPriorityID    = broken(codeID, "priority of a stream that cannot be")
	errNoControl     = broken(codeStreamCreation, "no room for a control stream")
	errEncoder       = &failure{codeEncoderStream, Compression, "instruction to a table without capacity"}
	errDecoder       = &failure{codeDecoderStream, Compression, "acknowledgement of what was not sent"}
	errResetFlood    = &failure{codeExcessiveLoad, ResetFlood, "requests given up too fast"}
	errUnknownFlood  = &failure{codeExcessiveLoad, UnknownFlood, "too many frames or streams of unknown types"}
	errPriorityFlood = &failure{codeExcessiveLoad, PriorityFlood, "too many changes of priority"}
	errSlowControl   = &failure{codeExcessiveLoad, SlowHead, "control frame not whole in time"}
	errIdle          = &failure{codeNone, Idle, "no request"}
	errDropped       = &failure{codeNone, None, "ended without an answer, as asked"}
	errDrained       = &failure{codeNone, None, "drained"}
)

// reject ends one stream: a request that is not served. A status other than 0
// is answered, otherwise the stream is reset with the code.
type reject struct {
	code   code
	status int
	reason Reason
	text   string
}

func (e *reject) Error() string { return "h3: " + e.text }

var (
	errIncomplete = &reject{codeIncomplete, 0, Malformed, "stream ended before the request was whole"}
	errSlowHead   = &reject{codeIncomplete, 408, SlowHead, "head not whole in time"}
	errHeadLong   = &reject{codeExcessiveLoad, 431, HeadSize, "field section too long"}
	errFieldCount = &reject{codeExcessiveLoad, 431, HeadSize, "too many field lines"}
	errBodyLarge  = &reject{codeExcessiveLoad, 413, HeadSize, "body too large"}
	errBodyLength = &reject{codeMessage, 0, Malformed, "body of another length than declared"}
	errRejected   = &reject{codeRequestRejected, 0, Refused, "request behind GOAWAY"}
)
