package request

import "github.com/selvage-edge/selvage/wire/msg"

// MediaGRPC is the media type of gRPC, alone or before "+" and the coding of its
// messages. What else begins so, as gRPC-Web, is another protocol.
const MediaGRPC = "application/grpc"

// CallsGRPC reports whether a request is a call of gRPC.
func (r *Request) CallsGRPC() bool {
	kind := r.In.Fields.Get(msg.ContentType)
	n := len(MediaGRPC)
	if len(kind) < n || !msg.EqualFold(kind[:n], MediaGRPC) {
		return false
	}
	return len(kind) == n || kind[n] == '+' || kind[n] == ';' || kind[n] == ' ' || kind[n] == '\t'
}
