package room

import "testing"

func TestRoomIsKnown(t *testing.T) {
	free, total := Disk(t.TempDir())
	if total == 0 || free > total {
		t.Errorf("disk: %d of %d bytes free", free, total)
	}
	if free, total := Disk("/nowhere/at/all"); free != 0 || total != 0 {
		t.Errorf("a path that is not there has %d of %d bytes free", free, total)
	}
	used, free := Memory()
	if used < 1<<20 || free < 1<<20 {
		t.Errorf("memory: %d bytes used, %d free", used, free)
	}
	if got := field("/proc/self/status", "NoSuchLine:"); got != 0 {
		t.Errorf("a line that is not there says %d", got)
	}
}
