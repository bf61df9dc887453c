//go:build !unix || solaris || illumos || aix

package dns

import "syscall"

const sharesPorts = false

func reusePort(_, _ string, _ syscall.RawConn) error { return nil }
