package msg

import "testing"

func TestWhatIsACallOfGRPC(t *testing.T) {
	for kind, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC": true, "application/grpc; a=b": true, "application/grpc;a=b": true,
		"": false, "application/grp": false, "application/grpc-web": false, "application/grpc-web+proto": false, "application/grpcx": false, "text/html": false,
	} {
		r := new(Request)
		if kind != "" {
			r.Fields.AddID(ContentType, []byte(kind))
		}
		if got := r.CallsGRPC(); got != want {
			t.Errorf("%q: %v", kind, got)
		}
	}
}
