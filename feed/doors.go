package feed

import (
	"context"
	"fmt"
)

// Doors let other parts of the program send frames of their own kinds over the
// feed's connections. Up: wanted certificates, which ServerConfig.OnFrame hears
// and Subscriber.Up sends. Down: what answers them, which
// SubscriberConfig.OnFrame hears and Server.Send and Broadcast send.
// All queues are bounded, and a frame that finds one full is refused, not
// waited for. What is sent may be lost with its connection.
const (
	KindCertificateStaged = 15 // down
	KindCertificateWanted = 18 // up
	KindCertificate       = 19 // down

	// MaxUpPayload is the most that a frame up may carry, and MaxDownPayload
	// one down that Send and Broadcast take.
	MaxUpPayload   = maxUpFrame
	MaxDownPayload = 256 << 10

	queueDown = 64  // frames for one subscriber
	queueUp   = 256 // frames for the parent
)

func doorUp(kind byte) bool { return kind == KindCertificateWanted }

func doorDown(kind byte) bool {
	return kind == KindCertificateStaged || kind == KindCertificate
}

// Send queues a frame for a node, or for the relay by which it is reached, whose
// part it is to find the node in the payload and to send on. It is false where
// the node is not connected, the queue is full or the payload is over
// MaxDownPayload.
func (s *Server) Send(node string, kind byte, payload []byte) bool {
	frame, ok := downFrame(kind, payload)
	return ok && s.pass(node, frame)
}

// pass queues a frame for a node, or for the relay by which it is reached.
func (s *Server) pass(node string, frame []byte) bool {
	via := s.below.via(node)
	s.mu.Lock()
	x := s.sessions[node]
	if x == nil && via != "" {
		x = s.sessions[via]
	}
	s.mu.Unlock()
	return x != nil && x.offer(frame)
}

// Broadcast queues a frame for every subscriber of this server; relays among
// them are to pass it on. It returns to how many it was given.
func (s *Server) Broadcast(kind byte, payload []byte) (given int) {
	frame, ok := downFrame(kind, payload)
	if !ok {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.sessions {
		if x.offer(frame) {
			given++
		}
	}
	return given
}

// downFrame makes a frame that several sessions may share.
func downFrame(kind byte, payload []byte) ([]byte, bool) {
	if !doorDown(kind) || len(payload) > MaxDownPayload {
		return nil, false
	}
	return endFrame(append(beginFrame(make([]byte, 0, frameHead+len(payload)), kind), payload...), 0), true
}

func (x *session) offer(frame []byte) bool {
	select {
	case x.queue <- frame:
		return true
	default:
		x.server.counters.doorsFull.Add(1)
		return false
	}
}

// knock hands a frame of a subscriber's to who listens for its kind.
func (x *session) knock(kind byte, p []byte) error {
	on := x.server.cfg.OnFrame
	if on == nil {
		return fmt.Errorf("frame of type %d from a subscriber, which nobody here listens for: %w", kind, errFrame)
	}
	return on(kind, x.snapshotInfo(), p)
}

// via is the relay by which a node is reached; "" for none.
func (b *below) via(node string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.nodes[node]; n != nil && !n.own && !n.gone {
		return n.info.Via
	}
	return ""
}

// Up queues a frame for the parent, this one or the next. It is false where the
// queue is full or the payload is over MaxUpPayload.
func (s *Subscriber) Up(kind byte, payload []byte) bool {
	if !doorUp(kind) || len(payload) > MaxUpPayload {
		return false
	}
	frame := endFrame(append(beginFrame(make([]byte, 0, frameHead+len(payload)), kind), payload...), 0)
	select {
	case s.outbox <- frame:
		return true
	default:
		s.counters.doorsFull.Add(1)
		return false
	}
}

// opened hands a frame of the parent's to who listens for its kind. A kind that
// nobody listens for is passed over: a parent sends it to all.
func (l *link) opened(ctx context.Context, kind byte, p []byte) error {
	if l.s.cfg.OnFrame == nil {
		return nil
	}
	return l.s.cfg.OnFrame(ctx, kind, p)
}
