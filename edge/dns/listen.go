package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

const (
	listenTries   = 20
	receiveBuffer = 1 << 20 // bytes asked of the kernel per UDP socket, for bursts
)

// Listen opens what a server listens on at one address: UDP sockets that share
// the port (SO_REUSEPORT; one where the system has none), and a TCP listener on
// the same port. Port 0 picks one that is free for both.
func Listen(ctx context.Context, address string, sockets int) ([]*net.UDPConn, net.Listener, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, fmt.Errorf("dns listen: %w", err)
	}
	for try := 1; ; try++ {
		udp, tcp, err := listen(ctx, address, max(1, sockets))
		if err == nil {
			return udp, tcp, nil
		}
		// The port that TCP was given may be taken on UDP.
		if number, convErr := strconv.Atoi(port); convErr != nil || number != 0 || try == listenTries || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, nil, fmt.Errorf("dns listen: %w", err)
		}
	}
}

func listen(ctx context.Context, address string, sockets int) ([]*net.UDPConn, net.Listener, error) {
	var plain net.ListenConfig
	tcp, err := plain.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	shared := net.ListenConfig{Control: reusePort}
	if !sharesPorts {
		sockets = 1
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, errors.Join(err, tcp.Close())
	}
	at := net.JoinHostPort(host, strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port))
	var udp []*net.UDPConn
	for range sockets {
		conn, err := shared.ListenPacket(ctx, "udp", at)
		if err != nil {
			for _, open := range udp {
				err = errors.Join(err, open.Close())
			}
			return nil, nil, errors.Join(err, tcp.Close())
		}
		udp = append(udp, conn.(*net.UDPConn))
		// A smaller buffer serves as well, until a burst comes.
		_ = udp[len(udp)-1].SetReadBuffer(receiveBuffer)
	}
	return udp, tcp, nil
}
