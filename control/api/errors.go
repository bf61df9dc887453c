package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/fault"
)

// Error codes. Those of Cloudflare's API where a client is known to test for
// them, else in the same ranges.
const (
	CodeInternal       = 1000  // ours; the log has more
	CodeInvalidZone    = 1001  // no such zone
	CodeDNSValidation  = 9005  // a DNS record that cannot be
	CodeZoneName       = 1049  // not a name that can be a zone
	CodeZoneExists     = 1061  // a zone of this name exists
	CodePurge          = 1107  // a purge that cannot be
	CodeCertificate    = 1002  // a certificate or key that cannot be used
	CodeNoCertificate  = 1412  // no such certificate
	CodeSetting        = 1007  // a value that the setting cannot have
	CodeNoSetting      = 1006  // no such setting
	CodeUnset          = 1142  // a setting that has no value until it is given one
	CodeBadRequest     = 6003  // a parameter that cannot be
	CodeBody           = 6007  // a body that is not the JSON expected
	CodeTooLarge       = 10026 // a body over its limit
	CodeNoRoute        = 7000
	CodeNoMethod       = 7001
	CodeIdentifier     = 7003 // an identifier that is none
	CodeToken          = 9109
	CodeAuthentication = 10000
	CodeNoRuleset      = 10003
	CodeRuleset        = 20015 // a ruleset that cannot be
	CodeNoRecord       = 81044
	CodeRecordExists   = 81053 // an A, AAAA or CNAME with this name exists
	CodeCNAMEConflict  = 81054 // a CNAME with this name exists
	CodeRecordSame     = 81058 // an identical record exists
	CodeQuota          = 81045 // no more of them in this zone
	CodeQuotaRate      = 971   // more changes than the account may make
	CodeConflict       = 1409
	CodeForgotten      = 1410 // a state that is not kept any more
	CodeNoKill         = 1411 // no such kill switch, or it is not set
)

// Problem is an error as the API shows it.
type Problem struct {
	Status  int    `json:"-"`
	Code    int    `json:"code"`
	Message string `json:"message"` // begins with the field's name when there is one
	// RetryAfter is when to try again, in seconds; 0 for nothing to say.
	RetryAfter int `json:"-"`
}

func (p *Problem) Error() string { return p.Message }

// Invalid is a 400 that names a field.
func Invalid(code int, field, format string, args ...any) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: code, Message: field + ": " + fmt.Sprintf(format, args...)}
}

// Missing is a 404.
func Missing(code int, format string, args ...any) *Problem {
	return &Problem{Status: http.StatusNotFound, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Judged gives a refusal of the edges' compile the code of the resource that
// was being changed; other errors pass through.
func Judged(err error, code int) error {
	if r, ok := errors.AsType[*publish.Refusal](err); ok {
		return &Problem{Status: http.StatusBadRequest, Code: code, Message: r.Error()}
	}
	return err
}

// AsProblem decides status and code of any error: the only place that does.
func AsProblem(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if r, ok := errors.AsType[*publish.Refusal](err); ok {
		return &Problem{Status: http.StatusBadRequest, Code: CodeBadRequest, Message: r.Error()}
	}
	if m, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Problem{Status: http.StatusRequestEntityTooLarge, Code: CodeTooLarge, Message: fmt.Sprintf("body: more than %d bytes", m.Limit)}
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		if p := ofFault(f); p != nil {
			return p
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &Problem{Status: http.StatusServiceUnavailable, Code: CodeInternal, Message: "the call was given up before it was done; nothing was changed"}
	}
	return &Problem{Status: http.StatusInternalServerError, Code: CodeInternal, Message: "internal error; the control plane's log says more"}
}

// ofFault maps what a caller can do something about; nil for the rest.
func ofFault(f *fault.Error) *Problem {
	p := &Problem{Message: f.Error()}
	if f.Err != nil {
		p.Message = f.Err.Error()
	}
	switch f.Kind {
	case fault.NotFound:
		p.Status, p.Code = http.StatusNotFound, CodeIdentifier
		if f.Op == "store.zone" {
			p.Code, p.Message = CodeInvalidZone, "zone_id: no zone has this identifier"
		}
	case fault.Conflict:
		p.Status, p.Code = http.StatusConflict, CodeConflict
		if f.Op == "publish.create" {
			p.Code, p.Message = CodeZoneExists, "name: "+p.Message
		}
	case fault.Limit:
		if f.Op != "store.write" {
			return nil
		}
		p.Status, p.Code = http.StatusInsufficientStorage, CodeInternal
		p.Message = "the disk of the control plane is full; nothing was changed, free some space and try again"
	case fault.TooLarge:
		p.Status, p.Code = http.StatusRequestEntityTooLarge, CodeTooLarge
	default:
		return nil
	}
	return p
}
