package table

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSizeIsTheTerminals(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	if rows, cols := TerminalSize(tty); rows != 24 || cols != 80 {
		t.Errorf("a terminal that does not know its size has %d by %d", rows, cols)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 132}); err != nil {
		t.Fatal(err)
	}
	if rows, cols := TerminalSize(tty); rows != 50 || cols != 132 {
		t.Errorf("%d by %d, want 50 by 132", rows, cols)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if rows, _ := TerminalSize(null); rows != 0 {
		t.Error("/dev/null is a terminal")
	}
	if rows, _ := TerminalSize(&bytes.Buffer{}); rows != 0 {
		t.Error("a buffer is a terminal")
	}
}
