package feed

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func spool(t *testing.T, disk vfs.FS) *Spool {
	t.Helper()
	s, err := OpenSpool("audit", SpoolOptions{FS: disk, Bytes: MinSpoolBytes})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t *testing.T, s *Spool, texts ...string) {
	t.Helper()
	var all [][]byte
	for _, x := range texts {
		all = append(all, []byte(x))
	}
	if err := s.Add(all...); err != nil {
		t.Fatal(err)
	}
}

// sends is what goes up next, of all that waits.
func sends(t *testing.T, s *Spool) (texts []string, ids []AuditID) {
	t.Helper()
	s.again()
	for p := s.peek(); p != nil; p = s.peek() {
		id, at, text, err := CutAudit(p)
		if err != nil || at.IsZero() {
			t.Fatalf("%v, %v", at, err)
		}
		texts, ids = append(texts, string(text)), append(ids, id)
		s.next()
	}
	return texts, ids
}

func TestSpoolKeepsWhatWasNotTaken(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s := spool(t, disk)
	add(t, s, "a", "b")
	add(t, s, "c", "")
	texts, ids := sends(t, s)
	if fmt.Sprint(texts) != "[a b c ]" {
		t.Fatalf("sends %q", texts)
	}
	if err := s.taken([]AuditID{ids[1], ids[1], {1, 1}}); err != nil {
		t.Fatal(err)
	}
	// The machine stops at once: nothing that is not synced is there.
	disk = disk.CrashClone(vfs.CrashCloneCfg{})
	again := spool(t, disk)
	if d := again.Damage(); d != nil {
		t.Errorf("damage: %v", d)
	}
	add(t, again, "d")
	texts, after := sends(t, again)
	if fmt.Sprint(texts) != "[a b c  d]" { // b again: that it was taken is not written down
		t.Fatalf("after a crash sends %q", texts)
	}
	if !slices.Equal(after[:4], ids) || after[4].Run == ids[0].Run {
		t.Errorf("names %v, before %v", after, ids)
	}
	if err := again.taken(after[:4]); err != nil {
		t.Fatal(err)
	}
	if n, _, refused := again.Waiting(); n != 1 || refused != 0 {
		t.Errorf("%d wait and %d were refused, want d alone", n, refused)
	}
	names, err := disk.List("audit")
	if err != nil || len(names) != 1 {
		t.Errorf("files %v, %v; want that of this run", names, err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := again.Add([]byte("late")); err == nil {
		t.Error("a closed spool takes signals")
	}
}

// When the disk that it may have is full it says so; what is taken makes room.
func TestSpoolIsBounded(t *testing.T) {
	s := spool(t, vfs.NewMem())
	text := strings.Repeat("x", 1000)
	n := 0
	var err error
	for ; err == nil; n++ {
		err = s.Add([]byte(text))
	}
	n--
	if !errors.Is(err, ErrSpoolFull) || n < 900 || n > 1024 {
		t.Fatalf("%v after %d signals of 1 kB in 1 MiB", err, n)
	}
	if signals, bytes, refused := s.Waiting(); signals != n || refused != 1 || bytes > MinSpoolBytes+4096 {
		t.Errorf("%d wait in %d bytes, %d refused", signals, bytes, refused)
	}
	for got := 0; got < n; {
		texts, ids := sends(t, s)
		if len(texts) > inFlight || len(texts) == 0 {
			t.Fatalf("%d on their way at once, want 1 to %d", len(texts), inFlight)
		}
		got += len(ids)
		if err := s.taken(ids); err != nil {
			t.Fatal(err)
		}
	}
	if _, bytes, _ := s.Waiting(); bytes > spoolPart {
		t.Errorf("%d bytes of disk for nothing", bytes)
	}
	add(t, s, text)
	if err := s.Add(make([]byte, MaxAuditBytes+1)); !errors.Is(err, ErrLimit) {
		t.Errorf("a signal that is too long: %v", err)
	}
	if err := s.Add(slices.Repeat([][]byte{[]byte(text)}, 300)...); !errors.Is(err, ErrLimit) {
		t.Errorf("too many at once: %v", err)
	}
	if texts, _ := sends(t, s); len(texts) != 1 {
		t.Errorf("%d wait, want what was added whole", len(texts))
	}
}

// A torn end is no damage, for Add had not returned; anything else is named.
func TestSpoolNamesDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p []byte) []byte
		texts  string
		damage int
	}{
		{"nothing", func(p []byte) []byte { return p }, "[first second third]", 0},
		{"a torn end", func(p []byte) []byte { return p[:len(p)-3] }, "[first second]", 0},
		{"half a head", func(p []byte) []byte { return p[:len(p)-20] }, "[first second]", 0},
		{"zeros behind", func(p []byte) []byte { return append(p, make([]byte, 4096)...) }, "[first second third]", 0},
		{"a wrong byte in the middle", func(p []byte) []byte { p[spoolHead+5+spoolHead] ^= 1; return p }, "[first]", 1},
		{"a wrong length", func(p []byte) []byte { p[0] = 0xff; return p }, "[]", 1},
		{"empty", func([]byte) []byte { return nil }, "[]", 0},
	} {
		disk := vfs.NewMem()
		s := spool(t, disk)
		add(t, s, "first", "second", "third")
		path := s.write.path
		p := make([]byte, s.write.size)
		if err := s.read(s.write, p, 0); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := disk.Create(path, "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(c.change(p)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		other, err := disk.Create("audit/notes.txt", "test")
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		s = spool(t, disk)
		if texts, _ := sends(t, s); fmt.Sprint(texts) != c.texts || len(s.Damage()) != c.damage {
			t.Errorf("%s: %v, damage %v; want %s", c.name, texts, s.Damage(), c.texts)
		}
	}
}

// auditRoot stores what it hears, once, and says so.
type auditRoot struct {
	mu     sync.Mutex
	server *Server           // guarded by mu
	deaf   bool              // guarded by mu
	stored map[string]string // by node and name; guarded by mu
	heard  int               // guarded by mu
}

func (a *auditRoot) read(r Report) error {
	id, _, text, err := CutAudit(r.Payload)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard++
	if !a.deaf {
		a.stored[fmt.Sprint(r.Node.Node[31:], id)] = r.Node.Node[31:] + string(text)
		a.server.Taken(r.Node.Node, []AuditID{id})
	}
	return nil
}

func (a *auditRoot) text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for _, x := range a.stored {
		all = append(all, x)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// Audit goes up through relays, past restarts of all of them, and is stored once.
func TestAuditArrivesOnceWhateverStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := &auditRoot{stored: map[string]string{}}
		w := newWorld(t, func(c *ServerConfig) { c.Readers = map[Class]Reader{ClassAudit: root.read} })
		root.server = w.server
		wires := newNetwork(w)
		w.log.set("a", "1")
		relayed := w.relay(wires, 1, "one", "root")
		disk := vfs.NewMem()
		s := spool(t, disk)
		run := func(s *Spool) *edge {
			return w.edge(2, func(c *SubscriberConfig) { c.Parents, c.Dial, c.Signals = []string{"one"}, wires.dial, NewUp(s) })
		}
		waiting := func() int { n, _, _ := s.Waiting(); return n }
		add(t, s, "a", "b")
		e := run(s)
		<-time.After(3 * time.Second)
		if got := root.text(); got != "2a 2b" || waiting() != 0 {
			t.Fatalf("stored %q, %d wait", got, waiting())
		}
		// The root stores nothing for a while: they are sent again.
		set := func(deaf bool) {
			root.mu.Lock()
			defer root.mu.Unlock()
			root.deaf = deaf
		}
		set(true)
		add(t, s, "c")
		<-time.After(5 * time.Second)
		if waiting() != 1 {
			t.Errorf("%d wait of what the root did not store, want 1", waiting())
		}
		set(false)
		<-time.After(overdue + 5*time.Second)
		if got := root.text(); got != "2a 2b 2c" || waiting() != 0 {
			t.Errorf("stored %q, %d wait", got, waiting())
		}
		// Its connections end while it is on its way, then the process.
		set(true)
		add(t, s, "d")
		<-time.After(time.Second)
		w.server.Drop(relayed.cfg.Identity.NodeID, ReasonInternal)
		relayed.server.Drop(nodeID(2), ReasonInternal)
		<-time.After(5 * time.Second)
		e.stop()
		set(false)
		again := spool(t, disk) // of another process: s was not closed
		run(again)
		s = again
		<-time.After(5 * time.Second)
		if got := root.text(); got != "2a 2b 2c 2d" || waiting() != 0 {
			t.Errorf("after a restart stored %q, %d wait", got, waiting())
		}
		root.mu.Lock()
		defer root.mu.Unlock()
		if len(root.stored) != 4 || root.heard < 6 {
			t.Errorf("%d stored of %d heard, want 4 and some twice", len(root.stored), root.heard)
		}
	})
}

// What is told to be stored is believed of what waits alone.
func TestHostileTaken(t *testing.T) {
	s := spool(t, vfs.NewMem())
	add(t, s, "a")
	id := AuditID{s.run, 1}
	w := &Subscriber{cfg: SubscriberConfig{Signals: NewUp(s), Identity: &Identity{NodeID: nodeID(2)}}}
	l := &link{s: w}
	frame := func(node string, tail ...byte) []byte { return append(appendNodeID(nil, node), tail...) }
	for _, c := range []struct {
		name string
		p    []byte
		ok   bool
	}{
		{"empty", nil, false},
		{"no names", frame(nodeID(2)), true},
		{"half a name", frame(nodeID(2), make([]byte, 8)...), false},
		{"of another", frame(nodeID(3), make([]byte, 16)...), true},
		{"not known", frame(nodeID(2), make([]byte, 16)...), true},
	} {
		if err := l.taken(c.p); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if n, _, _ := s.Waiting(); n != 1 {
			t.Fatalf("%s: %d wait, want 1", c.name, n)
		}
	}
	if err := s.taken([]AuditID{id}); err != nil {
		t.Fatal(err)
	}
}

func FuzzSpool(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		disk := vfs.NewMem()
		if err := disk.MkdirAll("audit", 0o700); err != nil {
			t.Fatal(err)
		}
		file, err := disk.Create("audit/0000000000000001-00000000.audit", "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		s := spool(t, disk)
		for x := s.peek(); x != nil; x = s.peek() {
			s.next()
		}
		add(t, s, "after")
		if texts, _ := sends(t, s); !slices.Contains(texts, "after") && len(texts) < inFlight {
			t.Fatalf("%q", texts)
		}
	})
}
