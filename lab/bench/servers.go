package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const startLimit = 30 * time.Second

// origin serves the objects of the workloads; both servers ask it once each.
type origin struct {
	*http.Server
	Addr string
}

func startOrigin(ctx context.Context) (*origin, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for _, w := range workloads() {
		body := bytes.Repeat([]byte("selvage\n"), w.size/8)
		mux.HandleFunc("GET "+w.path, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=3600")
			rw.Header().Set("Content-Type", "text/plain")
			rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = rw.Write(body) // a reader that went away shows in its own figures
		})
	}
	o := &origin{&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, l.Addr().String()}
	go func() { _ = o.Serve(l) }() // ends with Close, and says only that
	return o, nil
}

// startSelvage runs dev with one edge on CPU 0 and onboards the origin. Only
// the edge's CPU time counts: the control plane is not on a request's path.
func startSelvage(ctx context.Context, binary, dir, originAddr string) (*server, func(), error) {
	state := filepath.Join(dir, "state")
	stop, err := start(ctx, dir, "selvage", "taskset", "-c", "0", binary, "dev", "--state", state, "--no-demo", "--edges", "1",
		"--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	var ready struct {
		Ready bool
		Edges []struct {
			HTTP string
			PID  int
		}
	}
	err = await(ctx, func() error {
		text, err := os.ReadFile(filepath.Join(state, "dev.json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &ready)
	})
	if err == nil && len(ready.Edges) != 1 {
		err = fmt.Errorf("dev.json names %d edges, want 1", len(ready.Edges))
	}
	if err == nil {
		var out []byte
		if out, err = exec.CommandContext(ctx, binary, "zone", "add", host, "--origin", "http://"+originAddr, "--state", state).CombinedOutput(); err != nil {
			err = fmt.Errorf("zone add: %w: %s", err, out)
		}
	}
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("start selvage: %w\n%s", err, logOf(dir, "selvage"))
	}
	edge := ready.Edges[0]
	return &server{"selvage", edge.HTTP, func() ([]int, error) { return []int{edge.PID}, nil }}, stop, nil
}

// nginxConf is what Debian ships, reduced to what takes part, with one worker
// and connections that live as long as the load.
const nginxConf = `%s
worker_processes 1;
pid %[2]s/nginx.pid;
error_log %[2]s/error.log;
events { worker_connections 768; }
http {
	sendfile on;
	tcp_nopush on;
	types_hash_max_size 2048;
	default_type application/octet-stream;
	access_log %[2]s/access.log;
	keepalive_requests 100000000;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	proxy_cache_path %[2]s/cache keys_zone=bench:10m;
	server {
		listen %[3]s;
		location / {
			proxy_pass http://%[4]s;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache bench;
			add_header CF-Cache-Status $upstream_cache_status;
		}
	}
}
`

func startNginx(ctx context.Context, dir, originAddr string) (*server, func(), error) {
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, nil, err
	}
	own := filepath.Join(dir, "nginx")
	if err := os.Mkdir(own, 0o755); err != nil {
		return nil, nil, err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	conf := filepath.Join(own, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, user, own, addr, originAddr), 0o644); err != nil {
		return nil, nil, err
	}
	program := "nginx"
	if _, err := exec.LookPath(program); err != nil {
		program = "/usr/sbin/nginx" // not in the path of users
	}
	stop, err := start(ctx, dir, "nginx", "taskset", "-c", "0", program, "-c", conf, "-g", "daemon off;")
	if err != nil {
		return nil, nil, err
	}
	var master int
	err = await(ctx, func() error {
		text, err := os.ReadFile(filepath.Join(own, "nginx.pid"))
		if err != nil {
			return err
		}
		if master, err = strconv.Atoi(string(bytes.TrimSpace(text))); err != nil {
			return err
		}
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("start nginx: %w\n%s", err, logOf(dir, "nginx"))
	}
	// The workers' time counts; the master only watches them.
	return &server{"nginx", addr, func() ([]int, error) { return childrenOf(master) }}, stop, nil
}

// start runs a program in the background, its output in dir/NAME.out; stop
// ends it gently and waits.
func start(ctx context.Context, dir, name string, args ...string) (stop func(), err error) {
	out, err := os.Create(filepath.Join(dir, name+".out"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 40 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		_ = cmd.Wait()                          // how it ended is in its output
		_ = out.Close()
	}, nil
}

// await polls until ok returns nil, for at most startLimit.
func await(ctx context.Context, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return fmt.Errorf("waited %s: %w", startLimit, err)
		}
	}
}

func freeAddr(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func logOf(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name+".out"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}
