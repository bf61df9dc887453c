package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// openOrigin starts the origin of all: an nginx on CPU 1 with the objects as
// files, and an answer of 1 KiB for each address below /miss/.
func (f *field) openOrigin() error {
	own := filepath.Join(f.dir, "origin")
	root := filepath.Join(own, "root")
	if err := os.MkdirAll(filepath.Join(root, "disk"), 0o755); err != nil {
		return err
	}
	for path, size := range sizes {
		if err := os.WriteFile(filepath.Join(root, path), text(size), 0o600); err != nil {
			return err
		}
	}
	for i := range diskSet {
		if err := os.WriteFile(filepath.Join(root, "disk", strconv.Itoa(i)), text(100*kib), 0o600); err != nil {
			return err
		}
	}
	addr, err := f.freeAddr()
	if err != nil {
		return err
	}
	conf := fmt.Sprintf(nginxHead+`
	access_log off;
	add_header Cache-Control max-age=3600;
	default_type text/plain;
	server {
		listen %s;
		root %s;
		location /miss/ { return 200 "%s"; }
	}
}
`, user(), own, addr, root, text(kib))
	stop, err := f.nginx("origin", "1", own, conf)
	if err != nil {
		return err
	}
	f.stops = append(f.stops, stop)
	f.origin = addr
	return f.await(func() error { return f.listens(addr) })
}

func text(size int) []byte { return bytes.Repeat([]byte("selvage "), size/8) }

// user keeps nginx from changing to a user that cannot read the folder.
func user() string {
	if os.Getuid() == 0 {
		return "user root;"
	}
	return ""
}

// nginxHead is what Debian ships, reduced to what takes part, with one worker
// and connections that live as long as the load.
const nginxHead = `%[1]s
worker_processes 1;
worker_rlimit_nofile 4096;
pid %[2]s/nginx.pid;
error_log %[2]s/error.log;
events { worker_connections 2048; }
http {
	sendfile on;
	tcp_nopush on;
	types_hash_max_size 2048;
	keepalive_requests 100000000;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/proxy;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
`

const nginxPeer = `
	default_type application/octet-stream;
	access_log %[2]s/access.log;
	proxy_cache_path %[2]s/cache levels=1:2 keys_zone=bench:64m use_temp_path=off;
	upstream origin { server %[5]s; keepalive 64; keepalive_requests 100000000; }
	server {
		listen %[3]s;
		listen %[4]s ssl http2;
		ssl_certificate %[6]s;
		ssl_certificate_key %[7]s;
		ssl_protocols TLSv1.3;
		ssl_ecdh_curve X25519;
		location / {
			proxy_pass http://origin;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache bench;
			add_header CF-Cache-Status $upstream_cache_status;
		}
	}
}
`

func startNginx(f *field, name string) (*server, func(), error) {
	plain, secure, err := f.site()
	if err != nil {
		return nil, nil, err
	}
	own := filepath.Join(f.dir, name)
	stop, err := f.nginx(name, "0", own, fmt.Sprintf(nginxHead+nginxPeer, user(), own, plain, secure, f.origin, f.cert, f.key))
	if err != nil {
		return nil, nil, err
	}
	s := &server{name: name, http: plain, https: secure, tells: true, warm: map[string]bool{}}
	s.pids = func() ([]int, error) {
		// The workers' time counts; the master only watches them.
		master, err := pidIn(filepath.Join(own, "nginx.pid"))
		if err != nil {
			return nil, err
		}
		return childrenOf(master)
	}
	return f.started(s, stop, own)
}

// nginx starts one from a configuration.
func (f *field) nginx(name, cpu, own, conf string) (stop func(), err error) {
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(own, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return f.start(own, name, "taskset", "-c", cpu, program("nginx"), "-c", file, "-g", "daemon off;")
}

// program finds what only root looks for by default.
func program(name string) string {
	if _, err := exec.LookPath(name); err != nil {
		return "/usr/sbin/" + name
	}
	return name
}

func (f *field) site() (plain, secure string, err error) {
	if err := f.certificate(); err != nil {
		return "", "", err
	}
	if plain, err = f.freeAddr(); err != nil {
		return "", "", err
	}
	secure, err = f.freeAddr()
	return plain, secure, err
}

// started waits until a server accepts connections.
func (f *field) started(s *server, stop func(), dir string) (*server, func(), error) {
	if err := f.await(func() error {
		if err := f.listens(s.http); err != nil {
			return err
		}
		_, err := s.pids()
		return err
	}); err != nil {
		stop()
		return nil, nil, fmt.Errorf("start %s: %w\n%s", s.name, err, logOf(dir, s.name))
	}
	return s, stop, nil
}

func pidIn(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// startVarnish runs varnishd as Debian ships it, with memory for its objects.
// Its access log goes to shared memory; nobody reads it here.
func startVarnish(f *field, name string) (*server, func(), error) {
	addr, err := f.freeAddr()
	if err != nil {
		return nil, nil, err
	}
	own := filepath.Join(f.dir, name)
	if err := os.Mkdir(own, 0o755); err != nil {
		return nil, nil, err
	}
	stop, err := f.start(own, name, "taskset", "-c", "0", program("varnishd"), "-F", "-j", "none", "-n", filepath.Join(own, "work"), "-P", filepath.Join(own, "pid"),
		"-a", addr, "-b", f.origin, "-s", "malloc,256m", "-t", "3600")
	if err != nil {
		return nil, nil, err
	}
	s := &server{name: name, http: addr, warm: map[string]bool{}}
	s.pids = func() ([]int, error) {
		manager, err := pidIn(filepath.Join(own, "pid"))
		if err != nil {
			return nil, err
		}
		return childrenOf(manager)
	}
	return f.started(s, stop, own)
}

const h2oConf = `num-threads: 1
pid-file: %[1]s/pid
error-log: %[1]s/error.log
access-log: %[1]s/access.log
%[2]shosts:
  default:
    paths:
      "/":
        file.dir: %[3]s
listen:
  host: 127.0.0.1
  port: %[4]s
listen:
  host: 127.0.0.1
  port: %[5]s
  ssl:
    certificate-file: %[6]s
    key-file: %[7]s
    minimum-version: TLSv1.3
`

// startH2O serves the origin's files: h2o caches what it has opened.
func startH2O(f *field, name string) (*server, func(), error) {
	plain, secure, err := f.site()
	if err != nil {
		return nil, nil, err
	}
	own := filepath.Join(f.dir, name)
	if err := os.Mkdir(own, 0o755); err != nil {
		return nil, nil, err
	}
	run := ""
	if os.Getuid() == 0 {
		run = "user: root\n"
	}
	_, plainPort, _ := strings.Cut(plain, ":")
	_, securePort, _ := strings.Cut(secure, ":")
	file := filepath.Join(own, "h2o.conf")
	conf := fmt.Sprintf(h2oConf, own, run, filepath.Join(f.dir, "origin", "root"), plainPort, securePort, f.cert, f.key)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, nil, err
	}
	stop, err := f.start(own, name, "taskset", "-c", "0", program("h2o"), "-c", file)
	if err != nil {
		return nil, nil, err
	}
	s := &server{name: name, http: plain, https: secure, warm: map[string]bool{}}
	s.pids = func() ([]int, error) {
		pid, err := pidIn(filepath.Join(own, "pid"))
		return []int{pid}, err
	}
	return f.started(s, stop, own)
}
