package errors

import (
	"strconv"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/msg"
)

// RenderGRPC fills r.Out with what tells a caller of gRPC that its call failed: a
// head alone, which holds the trailers (PROTOCOL-HTTP2, "Trailers-Only"). code
// is the gRPC status, status and f are what Render would show. r.Out has been
// reset by the caller.
func (e *Engine) RenderGRPC(r *request.Request, code, status int, f *fault.Error) {
	out := r.Out
	out.Status = 200
	fields := &out.Fields
	fields.AddID(msg.ContentType, []byte(msg.MediaGRPC))
	fields.Add([]byte("Grpc-Status"), strconv.AppendInt(nil, int64(code), 10))
	// Titles have no byte that would have to be percent-encoded.
	text := pageOf(status, f).title + " (error " + strconv.Itoa(status) + ", ray " + r.Ray.String() + ")"
	fields.Add([]byte("Grpc-Message"), []byte(text))
}
