//go:build !linux

package supervise

import "syscall"

// dieWithParent has no counterpart outside Linux.
func dieWithParent(*syscall.SysProcAttr) {}
