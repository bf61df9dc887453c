package accept

import (
	"fmt"
	"net"
	"syscall"
	"testing"
)

func TestPasses(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.EMFILE: true, syscall.ENFILE: true, syscall.ECONNABORTED: true,
		net.ErrClosed: false, syscall.EINVAL: false,
	} {
		if got := Passes(fmt.Errorf("accept tcp: %w", err)); got != want {
			t.Errorf("%v passes: %v, want %v", err, got, want)
		}
	}
}
