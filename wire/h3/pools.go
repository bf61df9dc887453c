package h3

import "sync"

const (
	smallBlock = 2 << 10
	// streamMax is how much of a body is pulled at a time.
	streamMax = 32 << 10
	// frameRoom is kept in front of it for the head of its DATA frame.
	frameRoom = 5
)

// block is what frames of a body are read into.
type block struct{ b [smallBlock]byte }

// chunk is what a body is pulled into.
type chunk struct{ b [frameRoom + streamMax]byte }

type pools struct{ small, stream sync.Pool }

func (p *pools) init() {
	p.small.New = func() any { return new(block) }
	p.stream.New = func() any { return new(chunk) }
}
