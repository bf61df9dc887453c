package cache

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// What lies in the slab may point to nothing that the collector would free.
func TestObjectsHoldNoPointersIntoTheHeap(t *testing.T) {
	held := map[string]string{
		"zone": "held by its ledger until the object's last reference is given back",
		"next": "in the slab", "prev": "in the slab", "more": "in the slab", "large": "in the slab", "derived": "in the slab",
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[object](), reflect.TypeFor[derived]()} {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if held[f.Name] == "" && !pointerFree(f.Type) {
				t.Errorf("%s.%s is a %s: the collector does not see it; put its bytes behind the object (parts)", typ.Name(), f.Name, f.Type)
			}
		}
	}
	if objectSize > 120 || objectSize%8 != 0 {
		t.Errorf("an object takes %d bytes beside its own, want at most 120", objectSize)
	}
}

func pointerFree(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.Name != "next" && f.Name != "prev" && !pointerFree(f.Type) {
				return false
			}
		}
		return true
	case reflect.Array:
		return t.Len() == 0 || pointerFree(t.Elem())
	}
	return t.Kind() >= reflect.Bool && t.Kind() <= reflect.Complex128
}

// testObject makes an object outside of any store.
func testObject(e *Engine, text string, body int) *object {
	z, _ := e.marks.Acquire(testZone)
	defer z.Release()
	o := e.makeObject(z, &parts{key: []byte(text), head: []byte("A: b\r\n"), room: body})
	o.seal(e, o.inner())
	return o
}

// The index against a map, over hashes of which many have the same tag.
func TestIndexFindsWhatIsThere(t *testing.T) {
	g := newRig(t, Config{}, nil)
	for _, spread := range []uint64{3, 1000, 1 << 40} {
		x := index{slab: g.e.slab}
		rng := rand.New(rand.NewPCG(spread, 1))
		chains := map[uint64][]*object{} // by tag, newest first
		for range 20_000 {
			hash := rng.Uint64N(spread)<<40 | rng.Uint64N(4)<<60
			tag := tagOf(hash)
			if list := chains[tag]; len(list) > 0 && rng.IntN(3) > 0 {
				i := rng.IntN(len(list))
				o := list[i]
				x.remove(hash, o)
				chains[tag] = append(append([]*object{}, list[:i]...), list[i+1:]...)
				o.Release()
				continue
			}
			o := testObject(g.e, fmt.Sprint(hash), 0)
			if !x.add(hash, o) {
				t.Fatal("no memory for the index")
			}
			chains[tag] = append([]*object{o}, chains[tag]...)
			checkChain(t, &x, hash, chains[tag])
		}
		used := 0
		for tag, list := range chains {
			if len(list) > 0 {
				used++
			}
			checkChain(t, &x, tag<<40, list)
			for _, o := range list {
				x.remove(tag<<40, o)
				o.Release()
			}
		}
		if used == 0 || x.used != 0 {
			t.Errorf("%d chains, %d slots used after all were removed", used, x.used)
		}
		x.shut()
	}
}

func checkChain(t *testing.T, x *index, hash uint64, want []*object) {
	t.Helper()
	o := x.first(hash)
	for _, w := range want {
		if o != w {
			t.Fatalf("hash %x finds %p, want %p", hash, o, w)
		}
		o = o.more
	}
	if o != nil {
		t.Fatalf("hash %x finds more than was added", hash)
	}
}

func TestVaryListIsRead(t *testing.T) {
	list := []varyField{
		{id: msg.AcceptEncoding, value: []byte("gzip"), sent: []byte("GZIP")},
		{id: msg.Unknown, name: []byte("x-kind"), value: []byte{}},
		{id: msg.Unknown, name: []byte("x-absent")},
		{id: msg.AcceptLanguage, value: []byte("de"), language: []byte("de")},
	}
	rest := varyList(appendVary(nil, list))
	for i, want := range list {
		var got varyField
		got, rest = rest.next()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("field %d: %+v, want %+v", i, got, want)
		}
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes left", len(rest))
	}
	a, b := varyList(appendVary(nil, list)), varyList(appendVary(nil, list[:2]))
	if !sameVariant(a, a) || sameVariant(a, b) || sameVariant(b, a) || !sameVariant(nil, nil) {
		t.Error("sameVariant compares wrongly")
	}
}

// Bodies of all sizes, of known and unknown length, come back whole from the
// slab, before and after a 304 renewed the object.
func TestBodiesOfAllSizes(t *testing.T) {
	sizes := []int{0, 1, 15, 16, 17, 1000, smallBody - 1, smallBody, smallBody + 1, 40_000, 300_000, 1<<20 + 5, 3 << 20}
	g := newRig(t, Config{Bytes: 64 << 20, MaxObject: 4 << 20}, nil)
	g.serve = func(r *request.Request) error {
		if r.In.Fields.Has(msg.IfNoneMatch) {
			return reply(r, 304, "", `ETag: "1"`, "Cache-Control: max-age=60")
		}
		var n int
		var known string
		if _, err := fmt.Sscanf(string(r.In.Path), "/%d/%s", &n, &known); err != nil {
			t.Error(err)
		}
		err := reply(r, 200, pattern(n), `ETag: "1"`, "Cache-Control: max-age=60")
		if known == "unknown" {
			r.Out.Length = msg.LengthUnknown
		}
		return err
	}
	for _, known := range []string{"known", "unknown"} {
		for _, n := range sizes {
			line := fmt.Sprintf("GET /%d/%s", n, known)
			for _, want := range []string{"MISS", "HIT", "REVALIDATED", "HIT"} {
				if want == "REVALIDATED" {
					g.sleep(61e9)
				}
				a := g.run(line)
				if a.cache != want || a.body != pattern(n) {
					t.Errorf("%s: %s with %d bytes, want %s", line, a.cache, len(a.body), want)
				}
			}
			g.sleep(-61e9)
		}
	}
	checkStore(t, g.e)
}

func pattern(n int) string { return strings.Repeat("0123456789abcde", n/15+1)[:n] }

// A reader that holds an answer sees its bytes however the store changes.
func TestAnswersKeepTheirBytes(t *testing.T) {
	g := newRig(t, Config{Bytes: 2 << 20, Shards: 1}, nil)
	g.serve = func(r *request.Request) error {
		return reply(r, 200, pattern(20_000)+string(r.In.Path), "Cache-Control: max-age=60", "X: "+string(r.In.Path))
	}
	g.run("GET /held")
	held := ask(t.Context(), "GET /held")
	_, _ = g.e.Run(&g.plan, held)
	for i := range 1000 {
		g.run(fmt.Sprintf("GET /%d", i))
	}
	if a := g.run("GET /held"); a.cache != "MISS" {
		t.Fatalf("it was not evicted: %s", a.cache)
	}
	a := readAnswer(held)
	if a.body != pattern(20_000)+"/held" || a.get("X") != "/held" {
		t.Errorf("the answer changed: %q, %d bytes", a.get("X"), len(a.body))
	}
	held.Out.Close()
	g.e.PurgeAll(1, 0)
	g.e.Close()
	if st := g.e.slab.Stats(); st.Blocks != int64(len(g.e.shards)) { // the indexes
		t.Errorf("blocks left: %+v", st)
	}
}
