package selvage

import (
	"maps"
	"sync"
	"time"
)

// kept is how many acknowledgements and rejections are remembered of a node.
const kept = 256

// Progress remembers how far each node has come. It lives in memory: a node
// that reconnects tells its number anew. The zero value is ready.
type Progress struct {
	mu    sync.Mutex
	nodes map[string]*progress // guarded by mu
}

type ack struct {
	seq uint64
	at  time.Time
}

type progress struct {
	applied  uint64
	acks     []ack             // the last ones, oldest first
	rejected map[uint64]string // the last ones
	order    []uint64          // of rejected, oldest first
}

// Note hears that a node reached seq, or that it could not use entry seq.
func (p *Progress) Note(node string, seq uint64, rejected string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.nodes == nil {
		p.nodes = map[string]*progress{}
	}
	n := p.nodes[node]
	if n == nil {
		n = &progress{rejected: map[uint64]string{}}
		p.nodes[node] = n
	}
	if rejected != "" {
		n.reject(seq, rejected)
	}
	n.applied = max(n.applied, seq)
	n.acks = append(n.acks, ack{seq, at})
	if len(n.acks) > kept {
		n.acks = n.acks[1:]
	}
}

func (n *progress) reject(seq uint64, reason string) {
	if _, ok := n.rejected[seq]; !ok {
		n.order = append(n.order, seq)
	}
	n.rejected[seq] = reason
	if len(n.order) > kept {
		delete(n.rejected, n.order[0])
		n.order = n.order[1:]
	}
}

// Applied is the number of the newest entry that a node is known to have applied,
// 0 when it was not heard of.
func (p *Progress) Applied(node string) uint64 { return p.of(node).applied }

// of returns a copy of what is known of a node.
func (p *Progress) of(node string) progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.nodes[node]
	if n == nil {
		return progress{}
	}
	return progress{applied: n.applied, acks: append([]ack(nil), n.acks...), rejected: maps.Clone(n.rejected)}
}

// reached is when the node was first heard to have seq, as far as is remembered.
func (n progress) reached(seq uint64) time.Time {
	for _, a := range n.acks {
		if a.seq >= seq {
			return a.at
		}
	}
	return time.Time{}
}
