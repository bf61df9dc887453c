package feed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Entries come while the copy is read: what is compared is one moment's.
func TestVerifyOfACopyInUse(t *testing.T) {
	c := memCopy(t, vfs.NewMem())
	defer func() { _ = c.Close() }()
	var big strings.Builder
	big.WriteString(strings.Repeat("x", 64<<10))
	for i := range 64 {
		apply(t, c, put(fmt.Sprintf("key/%d", i), big.String()))
	}
	var work sync.WaitGroup
	stop := make(chan struct{})
	work.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				apply(t, c, put(fmt.Sprintf("key/%d", i%7), fmt.Sprint(i)))
			}
		}
	})
	for range 20 {
		if err := c.Verify(t.Context(), 0); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	work.Wait()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Verify(ended, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("at the end of its context: %v", err)
	}
	if err := c.Damage(); err != nil {
		t.Errorf("a whole copy counts as damaged: %v", err)
	}
}

// A reader that is in the middle is waited for, and one that comes later is told.
func TestClosingWaitsForReaders(t *testing.T) {
	c := memCopy(t, vfs.NewMem())
	apply(t, c, put("a", "1"), put("b", "2"))
	inside, closed := make(chan struct{}), make(chan error, 1)
	var seen []string
	err := c.Scan("", func(key string, _ []byte, _ uint64) error {
		if seen = append(seen, key); len(seen) == 1 {
			go func() { close(inside); closed <- c.Close() }()
			<-inside
		}
		return nil
	})
	if err != nil || len(seen) != 2 {
		t.Errorf("read %v, %v", seen, err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := c.Scan("", func(string, []byte, uint64) error { return nil }); !errors.Is(err, ErrBroken) {
		t.Errorf("a closed copy is read: %v", err)
	}
	if err := c.Verify(t.Context(), 0); !errors.Is(err, ErrBroken) {
		t.Errorf("a closed copy is verified: %v", err)
	}
}

func TestHistoryHasTheVersionsThatAreKept(t *testing.T) {
	c := memCopy(t, vfs.NewMem())
	defer func() { _ = c.Close() }()
	apply(t, c, put("zone/1/a", "1"), put("zone/1/b", "1"), put("zone/2/a", "no"))
	for i := 2; i < 7; i++ {
		apply(t, c, put("zone/1/b", fmt.Sprint(i)))
	}
	apply(t, c, Change{Op: Delete, Key: "zone/1/a"})
	var got []string
	err := c.History("zone/1/", func(key string, value []byte, seq uint64, deleted bool) error {
		got = append(got, fmt.Sprintf("%s=%s@%d", strings.TrimPrefix(key, "zone/1/"), value, seq))
		if deleted != (seq == 7) {
			t.Errorf("%s at %d: deleted %t", key, seq, deleted)
		}
		return nil
	})
	if want := "a=@7 a=1@1 b=6@6 b=5@5 b=4@4 b=3@3"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v, %v; want %s", got, err, want)
	}
}
