//go:build unix && !solaris && !illumos && !aix

package dns

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

const sharesPorts = true

// reusePort lets several sockets share a port, each with its own queue.
func reusePort(_, _ string, raw syscall.RawConn) error {
	var err error
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(controlErr, err)
}
