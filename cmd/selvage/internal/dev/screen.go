package dev

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"
)

// Screen is what a person sees when everything is ready: where things listen,
// and lines to paste that work as they stand in the folder;
// command is how selvage is called there.
func Screen(state, folder, command string, s State, demo bool) string {
	state = short(folder, state)
	s.CA, s.Control.TokenFile = short(folder, s.CA), short(folder, s.Control.TokenFile)
	var b strings.Builder
	b.WriteString("Selvage is running: control plane, " + edgesText(len(s.Edges)))
	if demo {
		b.WriteString(", zone " + demoZone)
	}
	b.WriteString("\n\n")
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "  edge\thttp\thttps (tcp, udp)\tdns (udp, tcp)\tmetrics\n")
	for _, e := range s.Edges {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", e.Colo, e.HTTP, e.HTTPS, e.DNS, e.Metrics)
	}
	_ = w.Flush() // to memory
	fmt.Fprintf(&b, "\n  API    %s\n  token  %s\n  logs   %s\n", s.API, s.Control.TokenFile, filepath.Join(state, "log"))
	b.WriteString("\nPaste these:\n")
	for _, line := range Lines(s, demo) {
		b.WriteString("  " + line + "\n")
	}
	b.WriteString("\nYour own site: " + quote(command) + " zone add example.com --origin http://127.0.0.1:9000")
	if state != filepath.FromSlash(DefaultState) {
		b.WriteString(" --state " + quote(state))
	}
	b.WriteString("\nCtrl-C stops everything.\n")
	return b.String()
}

// DefaultState is the state folder of make run, below the current folder.
const DefaultState = ".state/dev"

// Lines are the commands of the screen: http, https, dig and the API.
func Lines(s State, demo bool) []string {
	api := fmt.Sprintf("curl -H \"Authorization: Bearer $(cat %s)\" %s/zones", quote(s.Control.TokenFile), s.API)
	if !demo {
		return []string{api}
	}
	e := s.Edges[0]
	httpHost, httpPort := split(e.HTTP)
	tlsHost, tlsPort := split(e.HTTPS)
	dnsHost, dnsPort := split(e.DNS)
	return []string{
		fmt.Sprintf("curl -i --resolve %[1]s:%[3]s:%[2]s http://%[1]s:%[3]s/", demoZone, httpHost, httpPort),
		fmt.Sprintf("curl -i --resolve %[1]s:%[3]s:%[2]s --cacert %[4]s https://%[1]s:%[3]s/", demoZone, tlsHost, tlsPort, quote(s.CA)),
		fmt.Sprintf("dig @%s -p %s %s A", strings.Trim(dnsHost, "[]"), dnsPort, demoZone),
		api,
	}
}

// short is the path from the current folder when it is below it.
func short(folder, path string) string {
	if rel, err := filepath.Rel(folder, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

func edgesText(n int) string {
	if n == 1 {
		return "one edge"
	}
	return fmt.Sprintf("%d edges", n)
}

// split returns host and port as curl's --resolve wants them.
func split(addr string) (host, port string) {
	host, port, err := net.SplitHostPort(reachable(addr))
	if err != nil {
		return addr, ""
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host, port
}

// reachable replaces the address "all of this machine" by one to connect to.
func reachable(addr string) string {
	a, err := netip.ParseAddrPort(addr)
	if err != nil || !a.Addr().IsUnspecified() {
		return addr
	}
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if a.Addr().Is6() {
		local = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(local, a.Port()).String()
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=-]+$`)

// quote makes a path one word for a shell.
func quote(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
