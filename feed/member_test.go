package feed

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnnouncementReachesTheParentEachTimeTheNodeConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := make(chan Announcement, 8)
		w := newWorld(t, func(c *ServerConfig) {
			c.OnAnnounce = func(n NodeInfo, a Announcement) {
				if n.Node != nodeID(1) {
					t.Errorf("announcement of %s", n.Node)
				}
				heard <- a
			}
		})
		want := Announcement{Peer: []string{"192.0.2.1:7844", "[2001:db8::1]:7844"}, Region: "eu-west", Hub: true}
		w.edge(1, func(c *SubscriberConfig) { c.Announce = &want })
		if got := <-heard; !reflect.DeepEqual(got, want) {
			t.Errorf("heard %+v, want %+v", got, want)
		}
		w.server.Drop(nodeID(1), ReasonReplaced)
		select {
		case <-heard:
		case <-time.After(time.Minute):
			t.Error("no announcement after the node came back")
		}
	})
}

func TestAnnouncementNamesWhatIsWrong(t *testing.T) {
	for want, a := range map[string]Announcement{
		"at most 4":    {Peer: []string{"a:1", "a:2", "a:3", "a:4", "a:5"}},
		"no host:port": {Peer: []string{"192.0.2.1"}},
		"from 1 to":    {Peer: []string{"192.0.2.1:0"}},
		"region":       {Region: "Europe"},
	} {
		if err := a.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", a, err, want)
		}
	}
	if err := (&Announcement{}).Check(); err != nil {
		t.Errorf("nothing to say: %v", err)
	}
}

// What is read from the network is either refused or can be said again.
func FuzzAnnouncement(f *testing.F) {
	f.Add([]byte(`{"peer":["192.0.2.1:7844"],"region":"eu","hub":true}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		a, err := decodeAnnouncement(p)
		if err != nil {
			return
		}
		again, err := a.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := decodeAnnouncement(again); err != nil || len(again) > maxUpFrame || !slices.Equal(a.Peer, b.Peer) || a.Region != b.Region || a.Hub != b.Hub {
			t.Errorf("%q becomes %q, %v", p, again, err)
		}
	})
}
