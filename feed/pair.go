package feed

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// Pairs travel on a channel of their own, beside the log: what is staged is
// told down (KindCertificateStaged), a node says what it lacks and what it
// holds (KindCertificateWanted) and is sent each pair sealed to it
// (KindCertificate). The log has a certificate's chain and its pair's sum.

// Pair is a certificate's chain and its private key, sealed to one node.
type Pair struct {
	Zone    string // whose it is
	ID      string // of the certificate
	Chain   string // PEM, leaf first
	Sealed  []byte // PKCS#8 key, by EncryptKey under a data key
	DataKey []byte // that, by SealFor to the node
}

// PairRef names one pair of those that a certificate has over time.
type PairRef struct {
	ID  string // of the certificate: 1 to 64 letters, digits, '-' or '_'
	Sum PairSum
}

// PairSum is the SHA-256 over a certificate's id, chain and sealed key: the
// same on every node, while data keys are sealed to each.
type PairSum [sha256.Size]byte

// String is the sum in hex.
func (s PairSum) String() string { return hex.EncodeToString(s[:]) }

// ParsePairSum reads what String wrote.
func ParsePairSum(text string) (s PairSum, err error) {
	if len(text) != 2*len(s) {
		return s, fmt.Errorf("sum of a pair: %d characters, want %d", len(text), 2*len(s))
	}
	if _, err := hex.Decode(s[:], []byte(text)); err != nil {
		return s, fmt.Errorf("sum of a pair: %w", err)
	}
	return s, nil
}

const (
	pairVersion = 1
	pairInfo    = "selvage pair v1\x00"
	// MaxPairRefs is how many pairs one frame may name.
	MaxPairRefs = 512

	maxPairID     = 64
	maxPairChain  = 64 << 10
	maxPairSealed = 17 << 10
	maxDataKey    = 256
	nodeIDBytes   = 16
)

// SumPair is the sum of a certificate's pair.
func SumPair(id, chain string, sealed []byte) (s PairSum) {
	h := sha256.New()
	h.Write([]byte(pairInfo))
	for _, part := range []string{id, chain, string(sealed)} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // parts are short
		h.Write([]byte(part))
	}
	h.Sum(s[:0])
	return s
}

// Ref names the pair.
func (p *Pair) Ref() PairRef { return PairRef{p.ID, SumPair(p.ID, p.Chain, p.Sealed)} }

// Append appends the pair's bytes, see DESIGN.md.
func (p *Pair) Append(dst []byte) []byte {
	dst = append(dst, pairVersion)
	dst = appendName(dst, p.Zone)
	dst = appendName(dst, p.ID)
	for _, part := range []string{p.Chain, string(p.Sealed), string(p.DataKey)} {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(part))) //nolint:gosec // parts are short
		dst = append(dst, part...)
	}
	return dst
}

// DecodePair reads what Append wrote, all of it. Its parts are copies.
func DecodePair(p []byte) (*Pair, error) {
	bad := func(what string) (*Pair, error) { return nil, fmt.Errorf("pair: %s: %w", what, errFrame) }
	if len(p) < 1 || p[0] != pairVersion {
		return bad("version")
	}
	var pair Pair
	var ok bool
	p = p[1:]
	if pair.Zone, p, ok = cutName(p); !ok {
		return bad("zone")
	}
	if pair.ID, p, ok = cutName(p); !ok {
		return bad("certificate")
	}
	var chain, sealed, key []byte
	if chain, p, ok = cutPart(p, maxPairChain); !ok {
		return bad("chain")
	}
	if sealed, p, ok = cutPart(p, maxPairSealed); !ok {
		return bad("sealed key")
	}
	if key, p, ok = cutPart(p, maxDataKey); !ok || len(p) > 0 {
		return bad("data key")
	}
	pair.Chain, pair.Sealed, pair.DataKey = string(chain), append([]byte(nil), sealed...), append([]byte(nil), key...)
	return &pair, nil
}

// Key opens the private key (PKCS#8) with the node's own. The caller clears it.
func (p *Pair) Key(open func(certID string, sealed []byte) ([]byte, error)) ([]byte, error) {
	dataKey, err := open(p.ID, p.DataKey)
	if err != nil {
		return nil, err
	}
	defer clear(dataKey)
	return DecryptKey(dataKey, p.ID, p.Sealed)
}

// Staged is a frame of KindCertificateStaged: pairs that are to be fetched
// before the log names them. Node is who is told, "" for all.
type Staged struct {
	Node  string
	Pairs []PairRef
}

// Encode is the frame's payload.
func (s *Staged) Encode() []byte {
	p := appendNodeID(nil, s.Node)
	for _, r := range s.Pairs {
		p = r.append(p)
	}
	return p
}

// DecodeStaged reads what Encode wrote.
func DecodeStaged(p []byte) (s Staged, err error) {
	var ok bool
	if s.Node, p, ok = cutNodeID(p); !ok {
		return s, fmt.Errorf("staged pairs: %w", errFrame)
	}
	for len(p) > 0 {
		var r PairRef
		if r, p, ok = cutRef(p); !ok || len(s.Pairs) == MaxPairRefs {
			return s, fmt.Errorf("staged pairs: %w", errFrame)
		}
		s.Pairs = append(s.Pairs, r)
	}
	return s, nil
}

// Wanted is a frame of KindCertificateWanted: what a node asks for and what it
// holds of what was staged.
type Wanted struct {
	Node        string
	Asked, Held []PairRef
}

const (
	refAsked = 1
	refHeld  = 2
)

// Encode is the frame's payload.
func (w *Wanted) Encode() []byte {
	p := appendNodeID(nil, w.Node)
	for _, r := range w.Asked {
		p = r.append(append(p, refAsked))
	}
	for _, r := range w.Held {
		p = r.append(append(p, refHeld))
	}
	return p
}

// DecodeWanted reads what Encode wrote.
func DecodeWanted(p []byte) (w Wanted, err error) {
	bad := func() (Wanted, error) { return Wanted{}, fmt.Errorf("wanted pairs: %w", errFrame) }
	var ok bool
	if w.Node, p, ok = cutNodeID(p); !ok || w.Node == "" {
		return bad()
	}
	for n := 0; len(p) > 0; n++ {
		kind := p[0]
		var r PairRef
		if r, p, ok = cutRef(p[1:]); !ok || n == MaxPairRefs {
			return bad()
		}
		switch kind {
		case refAsked:
			w.Asked = append(w.Asked, r)
		case refHeld:
			w.Held = append(w.Held, r)
		default:
			return bad()
		}
	}
	return w, nil
}

// Delivery is a frame of KindCertificate: a pair for one node, or, without one,
// that there is none of this name any more.
type Delivery struct {
	Node string
	PairRef
	Pair []byte // as Pair.Append wrote it; a relay passes it on unread
}

// Encode is the frame's payload.
func (d *Delivery) Encode() []byte {
	return append(d.append(appendNodeID(nil, d.Node)), d.Pair...)
}

// DecodeDelivery reads what Encode wrote. Pair aliases p.
func DecodeDelivery(p []byte) (d Delivery, err error) {
	var ok bool
	if d.Node, p, ok = cutNodeID(p); ok && d.Node != "" {
		d.PairRef, d.Pair, ok = cutRef(p)
	}
	if !ok || d.Node == "" {
		return Delivery{}, fmt.Errorf("pair for a node: %w", errFrame)
	}
	return d, nil
}

func (r PairRef) append(p []byte) []byte { return append(appendName(p, r.ID), r.Sum[:]...) }

func cutRef(p []byte) (r PairRef, rest []byte, ok bool) {
	if r.ID, p, ok = cutName(p); !ok || len(p) < len(r.Sum) {
		return r, nil, false
	}
	return PairRef{r.ID, PairSum(p[:len(r.Sum)])}, p[len(r.Sum):], true
}

func appendName(p []byte, text string) []byte {
	return append(append(p, byte(len(text))), text...)
}

// cutName reads an id, which is good as the name of a file as well.
func cutName(p []byte) (name string, rest []byte, ok bool) {
	if len(p) < 1 || len(p) < 1+int(p[0]) {
		return "", nil, false
	}
	name, rest = string(p[1:1+p[0]]), p[1+p[0]:]
	return name, rest, ValidPairID(name)
}

// ValidPairID reports whether a certificate or zone of this id can have a pair.
func ValidPairID(id string) bool {
	return id != "" && len(id) <= maxPairID && !strings.ContainsFunc(id, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

func cutPart(p []byte, limit uint32) (part, rest []byte, ok bool) {
	if len(p) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(p)
	if p = p[4:]; n == 0 || n > limit || uint64(len(p)) < uint64(n) {
		return nil, nil, false
	}
	return p[:n], p[n:], true
}

func cutNodeID(p []byte) (node string, rest []byte, ok bool) {
	if len(p) < nodeIDBytes {
		return "", nil, false
	}
	if id := [nodeIDBytes]byte(p); id != [nodeIDBytes]byte{} {
		node = hex.EncodeToString(id[:])
	}
	return node, p[nodeIDBytes:], true
}

// Speaks reports whether a subscriber may speak of a node: it is that node, or
// a relay below which the node is.
func (s *Server) Speaks(subscriber, node string) bool {
	return subscriber == node || node != "" && s.below.via(node) == subscriber
}
