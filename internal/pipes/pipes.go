// Package pipes is a listener whose connections are in memory, for tests. It
// promises that what is dialled is accepted, or refused when nobody listens.
package pipes

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Listener is a net.Listener. Safe for concurrent use.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	mu     sync.Mutex
	open   []net.Conn // guarded by mu
}

// New listens.
func New() *Listener { return &Listener{conns: make(chan net.Conn), closed: make(chan struct{})} }

// Dial connects, when somebody accepts.
func (l *Listener) Dial(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.conns <- a:
		l.mu.Lock()
		l.open = append(l.open, a)
		l.mu.Unlock()
		return b, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return &net.TCPAddr{} }

// Kill ends the listener and all its connections in the middle of whatever
// they do.
func (l *Listener) Kill() {
	_ = l.Close() // never fails
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		_ = c.Close() // what it says, nobody is there to hear
	}
}
