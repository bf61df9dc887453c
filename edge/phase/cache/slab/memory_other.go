//go:build !linux

package slab

import "errors"

func systemMemory(uintptr) (memory, error) {
	return nil, errors.New("no mapped memory on this system")
}
