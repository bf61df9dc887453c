package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// settle is what a server gets to give back what it does not need any more.
const settle = 20 * time.Second

// idle opens n connections that have had one request each and returns the memory
// that each costs the server, in KiB.
func idle(loader string, n int) func(*field, *server) (float64, error) {
	return func(f *field, s *server) (float64, error) {
		if err := f.warm(s, "/1k"); err != nil {
			return 0, err
		}
		target := s.http
		if loader == "idle-h2" {
			target = s.https
		}
		before, err := resident(s)
		if err != nil {
			return 0, err
		}
		cmd := exec.CommandContext(f.ctx, "taskset", "-c", "1", os.Args[0], "-loader", loader, "-target", target, "-connections", strconv.Itoa(n))
		hold, err := cmd.StdinPipe()
		if err != nil {
			return 0, err
		}
		said, err := cmd.StdoutPipe()
		if err != nil {
			return 0, err
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		line, _ := bufio.NewReader(said).ReadString('\n') // what is missing shows in the line
		if strings.TrimSpace(line) != "open" {
			return 0, fmt.Errorf("%s did not open its connections: %q, %w", loader, line, cmd.Wait())
		}
		select {
		case <-time.After(settle):
		case <-f.ctx.Done():
		}
		after, err := resident(s)
		_ = hold.Close() // lets the loader end
		if waited := cmd.Wait(); err == nil {
			err = waited
		}
		return float64(after-before) / float64(n) / kib, err
	}
}

// stayIdle is the load: it opens connections, asks once on each, says "open" and
// holds them until its standard input ends.
func stayIdle(ctx context.Context, o options) error {
	limit := syscall.Rlimit{Cur: uint64(o.conns) + 100, Max: uint64(o.conns) + 100}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("allow %d open files: %w", limit.Cur, err)
	}
	open := openH1
	if o.loader == "idle-h2" {
		open = openH2
	}
	conns := make([]net.Conn, 0, o.conns)
	for range o.conns {
		nc, err := open(ctx, o.target)
		if err != nil {
			return fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		conns = append(conns, nc)
	}
	fmt.Println("open")
	_, err := io.Copy(io.Discard, os.Stdin)
	for _, nc := range conns {
		_ = nc.Close() // the figure is taken
	}
	return err
}

const askLimit = 10 * time.Second

func openH1(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Now().Add(askLimit)); err != nil {
		return nc, err
	}
	if _, err := io.WriteString(nc, "GET /1k HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return nc, err
	}
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return nc, err
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != kib {
		return nc, fmt.Errorf("%d bytes, %w", n, err)
	}
	return nc, nc.SetDeadline(time.Time{})
}

func openH2(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := (&tls.Dialer{Config: clientTLS("h2")}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Now().Add(askLimit)); err != nil {
		return nc, err
	}
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: host}, {Name: ":path", Value: "/1k"}} {
		if err := e.WriteField(f); err != nil {
			return nc, err
		}
	}
	out := bufio.NewWriter(nc)
	framer := http2.NewFramer(out, nc)
	_, _ = out.WriteString(http2.ClientPreface) // a failure comes back from Flush
	_ = framer.WriteSettings()                  // likewise
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	if err := out.Flush(); err != nil {
		return nc, err
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return nc, err
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = framer.WriteSettingsAck() // a failure comes back from Flush
				if err := out.Flush(); err != nil {
					return nc, err
				}
			}
		case *http2.GoAwayFrame:
			return nc, fmt.Errorf("the server said GOAWAY: %s", frame.ErrCode)
		case *http2.DataFrame:
			if frame.StreamEnded() {
				return nc, nc.SetDeadline(time.Time{})
			}
		}
	}
}
