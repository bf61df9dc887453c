package feed

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func sample() Entry {
	return Seal([32]byte{1, 2}, 7, time.Unix(1700000000, 42), []Change{
		{Op: Set, Key: "zone/1/meta", Value: []byte(`{"id":"1"}`)},
		{Op: Delete, Key: "zone/1/dns/www"},
		{Op: Signal, Key: "purge/1", Value: []byte("{}")},
	})
}

func same(a, b *Entry) bool {
	return a.Seq == b.Seq && a.Time.Equal(b.Time) && a.Prev == b.Prev && a.Hash == b.Hash &&
		slices.EqualFunc(a.Changes, b.Changes, func(x, y Change) bool {
			return x.Op == y.Op && x.Key == y.Key && bytes.Equal(x.Value, y.Value)
		})
}

func TestEntryRoundTrip(t *testing.T) {
	e := sample()
	p := AppendEntry([]byte("head"), &e)[4:]
	if len(p) != e.Size() {
		t.Errorf("%d bytes, Size says %d", len(p), e.Size())
	}
	got, n, err := DecodeEntry(append(p, "rest"...))
	if err != nil || n != len(p) || !same(&got, &e) {
		t.Errorf("got %+v, %d, %v; want %+v, %d", got, n, err, e, len(p))
	}
}

// Each single damaged or missing byte must be noticed.
func TestEntryDamageIsNoticed(t *testing.T) {
	e := sample()
	p := AppendEntry(nil, &e)
	for i := range p {
		bad := bytes.Clone(p)
		bad[i] ^= 0x10
		if _, _, err := DecodeEntry(bad); err == nil {
			t.Errorf("byte %d changed: not noticed", i)
		}
		if _, _, err := DecodeEntry(p[:i]); !errors.Is(err, ErrTorn) {
			t.Errorf("cut at %d: %v, want ErrTorn", i, err)
		}
	}
}

func TestEntryLimits(t *testing.T) {
	long := strings.Repeat("k", MaxKeyBytes+1)
	big := make([]byte, MaxValueBytes)
	cases := []struct {
		name    string
		changes []Change
		want    string
	}{
		{"unknown operation", []Change{{Op: 9, Key: "a"}}, "unknown operation 9"},
		{"empty key", []Change{{Op: Set}}, "empty key"},
		{"long key", []Change{{Op: Set, Key: long}}, "key of 513 bytes"},
		{"NUL", []Change{{Op: Set, Key: "a\x00b"}}, "NUL"},
		{"large value", []Change{{Op: Set, Key: "a", Value: append(big, 1)}}, "a: value of"},
		{"delete with value", []Change{{Op: Delete, Key: "a", Value: []byte("x")}}, "delete with a value"},
		{"many changes", slices.Repeat([]Change{put("a", "")}, MaxChanges+1), "changes of at most"},
		{"large entry", slices.Repeat([]Change{{Op: Set, Key: "a", Value: big}}, 8), "bytes of at most"},
		{"all well", slices.Repeat([]Change{{Op: Set, Key: long[1:], Value: big[1000:]}}, 8), ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := Seal([32]byte{}, 1, time.Now(), c.changes)
			err := e.Check()
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check: %v, want %q", err, c.want)
			}
			if _, _, err := DecodeEntry(AppendEntry(nil, &e)); err == nil {
				t.Errorf("DecodeEntry accepts it")
			}
		})
	}
	if err := (&Entry{}).Check(); err == nil {
		t.Error("number 0 is accepted")
	}
}

func TestEntryFollows(t *testing.T) {
	e := sample()
	if err := e.Follows(Cursor{6, e.Prev}); err != nil {
		t.Error(err)
	}
	if err := e.Follows(Cursor{5, e.Prev}); !errors.Is(err, ErrGap) {
		t.Errorf("%v, want a gap", err)
	}
	if err := e.Follows(Cursor{6, [32]byte{9}}); !errors.Is(err, ErrFork) {
		t.Errorf("%v, want a fork", err)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	e := sample()
	f.Add(AppendEntry(nil, &e))
	empty := Seal([32]byte{}, 1, time.Time{}, nil)
	f.Add(AppendEntry(nil, &empty))
	f.Fuzz(func(t *testing.T, p []byte) {
		e, n, err := DecodeEntry(p)
		if err == nil {
			if again := AppendEntry(nil, &e); !bytes.Equal(again, p[:n]) || e.Check() != nil {
				t.Fatalf("decoded entry does not encode to the same bytes")
			}
		}
		// The hash keeps chance bytes from the changes, so they are tried alone.
		if len(p) > 2 {
			_, _ = decodeChanges(int(p[0])<<8|int(p[1]), p[2:])
		}
	})
}

func FuzzFrames(f *testing.F) {
	e := sample()
	f.Add(byte(frameHello), hello{version: protoVersion, node: nodeID(1), colo: "FRA"}.append(nil))
	f.Add(byte(frameHello), hello{version: protoVersion, node: nodeID(1), colo: "FRA", partial: partial{Cursor{Seq: 7}, "zone/a"}}.append(nil))
	f.Add(byte(frameHello), hello{version: protoVersion, node: nodeID(1), colo: "FRA", thin: "zone/"}.append(nil))
	f.Add(byte(frameFetch), ask{7, true, "zone/a/meta"}.append(nil))
	f.Add(byte(frameFetched), fetched{fetchBehind, 7, 3}.append(nil))
	f.Add(byte(frameRows), appendStub(nil, "zone/a/meta", []byte("v"), 1))
	f.Add(byte(frameWelcome), welcome{resume: ResumeTail}.append(nil))
	f.Add(byte(frameEntries), newPacker().frame(nil, frameEntries, AppendEntry(nil, &e))[frameHead:])
	f.Add(byte(frameRows), appendRow(nil, "k", []byte("v"), 1))
	f.Add(byte(frameBegin), snapshotBegin{ResumeFresh, true, Cursor{Seq: 7}}.append(nil))
	f.Add(byte(frameProgress), record{recordRejected, nodeID(1), "FRA", 7, time.Unix(7, 0), time.Unix(5, 0), "why"}.append(nil))
	f.Add(byte(frameEnd), snapshotEnd{rows: 3}.append(nil))
	f.Add(byte(frameRejected), appendRejected(nil, 1, "why"))
	f.Add(byte(frameError), (&Refusal{ReasonToken, "x"}).append(nil))
	packing, unpacking := newPacker(), newUnpacker()
	f.Fuzz(func(t *testing.T, kind byte, p []byte) {
		var b bytes.Buffer
		if err := writeFrame(&b, kind, p); err != nil {
			t.Fatal(err)
		}
		k, got, err := readFrame(&b, nil, maxDownFrame)
		if err != nil || k != kind || !bytes.Equal(got, p) {
			t.Fatalf("frame does not come back: %d %x %v", k, got, err)
		}
		_, _, _ = readFrame(bytes.NewReader(p), nil, maxUpFrame)
		if h, err := decodeHello(p); err == nil && h.version == protoVersion && !bytes.Equal(h.append(nil), p) {
			t.Fatalf("hello %+v does not come back", h)
		}
		if w, err := decodeWelcome(p); err == nil && !bytes.Equal(w.append(nil), p) {
			t.Fatalf("welcome %+v does not come back", w)
		}
		if s, err := decodeSnapshotEnd(p); err == nil && !bytes.Equal(s.append(nil), p) {
			t.Fatalf("end %+v does not come back", s)
		}
		if seq, why, err := decodeRejected(p); err == nil && !bytes.Equal(appendRejected(nil, seq, why), p) {
			t.Fatalf("rejection does not come back")
		}
		for q := p; ; {
			r, rest, err := cutRow(q)
			if err != nil {
				break
			}
			n := len(q) - len(rest)
			again := appendRow(nil, r.key, r.value, r.seq)
			if r.stub {
				again[10] |= stubBit >> 24
			}
			if !bytes.Equal(again, q[:n]) {
				t.Fatalf("row %+v does not come back", r)
			}
			q = rest
		}
		if a, err := decodeAsk(p); err == nil && !bytes.Equal(a.append(nil), p) {
			t.Fatalf("fetch %+v does not come back", a)
		}
		if e, err := decodeFetched(p); err == nil && !bytes.Equal(e.append(nil), p) {
			t.Fatalf("end of an answer %+v does not come back", e)
		}
		m := matcher{want: []piece{{key: "zone/a/meta", seq: 1}}}
		_ = m.take(p)
		if b, err := decodeSnapshotBegin(p); err == nil && !bytes.Equal(b.append(nil), p) {
			t.Fatalf("begin %+v does not come back", b)
		}
		for q := p; ; {
			r, rest, err := cutRecord(q)
			if err != nil {
				break
			}
			if n := len(q) - len(rest); !bytes.Equal(r.append(nil), q[:n]) {
				t.Fatalf("record %+v does not come back", r)
			}
			q = rest
		}
		if node, colo, rest, err := cutNode(p); err == nil && !bytes.Equal(append(appendNode(nil, node, colo), rest...), p) {
			t.Fatalf("node does not come back")
		}
		if raw, err := unpacking.unpack(p); err == nil {
			if again, err := unpacking.unpack(packing.frame(nil, kind, raw)[frameHead:]); err != nil || !bytes.Equal(again, raw) {
				t.Fatalf("payload does not come back: %v", err)
			}
		}
		_, _ = decodeAck(p)
		_ = decodeRefusal(p)
	})
}

func FuzzStored(f *testing.F) {
	key := appendDataKey(nil, 3, "a", 9)
	f.Add(key, appendValue(nil, key, kindValue, []byte("v")), meta{gen: 3, cursor: Cursor{Seq: 9}}.encode())
	f.Fuzz(func(t *testing.T, key, value, row []byte) {
		if v, err := parseVersion(key, value, 3); err == nil && !bytes.Equal(appendDataKey(nil, 3, v.key, v.seq), key) {
			t.Fatalf("version %+v does not come back", v)
		}
		if m, err := parseMeta(row); err == nil && !bytes.Equal(m.encode(), row) {
			t.Fatalf("meta does not come back")
		}
	})
}

func BenchmarkAppendEntry(b *testing.B) {
	e := Seal([32]byte{}, 1, time.Now(), []Change{{Op: Set, Key: "zone/0123456789abcdef0123456789abcdef/dns/www.example.com", Value: make([]byte, 1024)}})
	buf := make([]byte, 0, e.Size())
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEntry(buf[:0], &e)
	}
}

func BenchmarkDecodeEntry(b *testing.B) {
	e := Seal([32]byte{}, 1, time.Now(), []Change{{Op: Set, Key: "zone/0123456789abcdef0123456789abcdef/dns/www.example.com", Value: make([]byte, 1024)}})
	p := AppendEntry(nil, &e)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := DecodeEntry(p); err != nil {
			b.Fatal(err)
		}
	}
}
