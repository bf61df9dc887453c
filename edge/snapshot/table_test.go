package snapshot

import (
	"fmt"
	"sync"
	"testing"
)

func TestFindTakesTheLongestZone(t *testing.T) {
	tab := NewTable()
	for _, name := range []string{"example.com", "sub.example.com", "test"} {
		tab.Publish(&Zone{ID: "id-" + name, Name: name})
	}
	for host, want := range map[string]string{
		"example.com": "example.com", "www.example.com": "example.com", "a.b.sub.example.com": "sub.example.com", "sub.example.com": "sub.example.com",
		"x.test": "test", "notexample.com": "", "com": "", "": "", ".": "", "example.org": "",
	} {
		got := ""
		if z := tab.Find([]byte(host)); z != nil {
			got = z.Name
		}
		if got != want {
			t.Errorf("Find(%q) = %q, want %q", host, got, want)
		}
	}
	if z := tab.Withdraw("id-sub.example.com"); z == nil || tab.Len() != 2 {
		t.Errorf("withdrawn %v, %d left", z, tab.Len())
	}
	if z := tab.Find([]byte("sub.example.com")); z == nil || z.Name != "example.com" {
		t.Errorf("after the withdrawal: %v", z)
	}
	tab.Publish(&Zone{ID: "id-test", Name: "renamed"})
	if tab.Find([]byte("x.test")) != nil || tab.Find([]byte("renamed")) == nil {
		t.Error("a renamed zone is still found under its old name")
	}
	tab.Publish(&Zone{ID: "again", Name: "example.com"}) // deleted and made again, seen in the other order
	if z := tab.Withdraw("id-example.com"); z == nil || tab.Find([]byte("www.example.com")) == nil {
		t.Error("withdrawing the older zone of a name took the newer one out")
	}
	if tab.Withdraw("never") != nil {
		t.Error("withdrew a zone that was not there")
	}
}

func TestReadersNeverSeeATornTable(t *testing.T) {
	tab := NewTable()
	tab.Publish(&Zone{ID: "stays", Name: "stays.test"})
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if z := tab.Find([]byte("www.stays.test")); z == nil || z.ID != "stays" {
					t.Error("a zone that was never withdrawn is not found")
					return
				}
			}
		})
	}
	for i := range 2000 {
		id := fmt.Sprint(i % 50)
		tab.Publish(&Zone{ID: id, Name: "z" + id + ".test", Seq: uint64(i)})
		if i%3 == 0 {
			tab.Withdraw(id)
		}
	}
	close(stop)
	readers.Wait()
}

func BenchmarkFind(b *testing.B) {
	tab := NewTable()
	for i := range 10_000 {
		tab.Publish(&Zone{ID: fmt.Sprint(i), Name: fmt.Sprintf("zone%d.test", i)})
	}
	host := []byte("www.zone777.test")
	b.ReportAllocs()
	for b.Loop() {
		if tab.Find(host) == nil {
			b.Fatal("not found")
		}
	}
}
