package report

import (
	"encoding/json"
	"fmt"
)

// Audit is what a node did, or what befell it, that must be known afterwards.
type Audit struct {
	Version int    `json:"v"`                // of this form: 1
	Action  string `json:"action"`           // "zone.rejected"
	Object  string `json:"object,omitempty"` // what it was done to
	Seq     uint64 `json:"seq,omitempty"`    // of the feed's entry it is about
	Detail  string `json:"detail,omitempty"` // a sentence
}

// Limits of an Audit, in bytes; what is longer is cut.
const (
	AuditVersion   = 1
	MaxAuditAction = 64
	MaxAuditObject = 256
	MaxAuditDetail = 1024
	maxAuditBytes  = 4 << 10
)

// Unreadable is the action under which is kept what a node said in a form that is
// not known here.
const Unreadable = "unreadable"

// Encode writes a.
func (a Audit) Encode() ([]byte, error) {
	a.Version = AuditVersion
	a.cut()
	return json.Marshal(a)
}

func (a *Audit) cut() {
	a.Action, a.Object, a.Detail = plain(a.Action, MaxAuditAction), plain(a.Object, MaxAuditObject), plain(a.Detail, MaxAuditDetail)
}

// ReadAudit reads what Encode wrote. What cannot be read is not lost: it becomes
// the detail of an event named Unreadable.
func ReadAudit(p []byte) Audit {
	var a Audit
	err := json.Unmarshal(p, &a)
	if err == nil && (len(p) > maxAuditBytes || a.Version < 1 || a.Action == "") {
		err = fmt.Errorf("version %d, action %.20q, %d bytes", a.Version, a.Action, len(p))
	}
	if err != nil {
		a = Audit{Version: AuditVersion, Action: Unreadable, Detail: err.Error() + ": " + string(p)}
	}
	a.cut()
	return a
}
