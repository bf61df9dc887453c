package request

import (
	"math"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/wire/msg"
)

func TestGRPCTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1S": time.Second, "200m": 200 * time.Millisecond, "0n": 0, "12345678u": 12345678 * time.Microsecond, "3M": 3 * time.Minute, "2H": 2 * time.Hour,
		"99999999n": 99999999 * time.Nanosecond,
		"":          -1, "S": -1, "1": -1, "1s": -1, "-1S": -1, "1.5S": -1, "123456789S": -1, " 1S": -1,
	} {
		r := &Request{In: new(msg.Request)}
		if text != "" {
			r.In.Fields.Add([]byte("Grpc-Timeout"), []byte(text))
		}
		got, ok := r.GRPCTimeout()
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
	r := &Request{In: new(msg.Request)}
	r.In.Fields.Add([]byte("grpc-timeout"), []byte("99999999H"))
	if got, ok := r.GRPCTimeout(); !ok || got < 100*365*24*time.Hour {
		t.Errorf("longest: %v, %v", got, ok)
	}
}

func FuzzGRPCTimeout(f *testing.F) {
	for _, seed := range []string{"1S", "99999999H", "00000000n", "9", "\x00m"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := &Request{In: new(msg.Request)}
		r.In.Fields.Add([]byte("grpc-timeout"), []byte(text))
		if got, ok := r.GRPCTimeout(); got < 0 || !ok && got != 0 || got > math.MaxInt64/2+1 {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	})
}
