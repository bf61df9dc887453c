package dev

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/selvage-edge/selvage/internal/atomicfile"
)

// StateFile is the name of the file in which other programs find what runs.
const StateFile = "dev.json"

// State is what dev.json holds while everything is ready.
type State struct {
	Ready   bool         `json:"ready"`
	API     string       `json:"api"` // URL that ends in /client/v4
	Token   string       `json:"token"`
	CA      string       `json:"ca"` // path of the certificate that signs sites' certificates
	Edges   []StateEdge  `json:"edges"`
	Control StateControl `json:"control"`
	Origin  *StateOrigin `json:"demo_origin,omitempty"`
	PID     int          `json:"pid"` // of dev itself
}

// StateEdge is one edge; addresses are host:port.
type StateEdge struct {
	Colo    string `json:"colo"`
	HTTP    string `json:"http"`
	HTTPS   string `json:"https"`
	DNS     string `json:"dns"` // UDP and TCP
	Metrics string `json:"metrics"`
	Peer    string `json:"peer"`
	PID     int    `json:"pid"`
	State   string `json:"state"` // its state folder
}

// StateControl is the control plane.
type StateControl struct {
	PID       int    `json:"pid"`
	API       string `json:"api"`
	Feed      string `json:"feed"`
	State     string `json:"state"`
	TokenFile string `json:"token_file"`
}

// StateOrigin is the demo site's own server.
type StateOrigin struct {
	PID  int    `json:"pid"`
	HTTP string `json:"http"`
}

// ControlFile is what a control plane writes as control.json.
type ControlFile struct {
	Ready     bool   `json:"ready"`
	PID       int    `json:"pid"`
	API       string `json:"api"`
	Feed      string `json:"feed"`
	TokenFile string `json:"token_file"`
	SiteCA    string `json:"site_ca"`
}

// Connection says where the API of a state folder is: one of dev while it
// runs, or one of a control plane.
func Connection(state string) (api, token string, err error) {
	var d State
	err = readJSON(filepath.Join(state, StateFile), &d)
	if err == nil {
		return d.API, d.Token, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	var c ControlFile
	if err := readJSON(filepath.Join(state, "control.json"), &c); err != nil {
		return "", "", err
	}
	token, err = readToken(c.TokenFile)
	return c.API, token, err
}

func (n *network) controlFile() (ControlFile, error) {
	var f ControlFile
	err := readJSON(n.control.file(), &f)
	return f, err
}

// describe collects what is running now.
func (n *network) describe() (State, error) {
	f, err := n.controlFile()
	if err != nil {
		return State{}, err
	}
	token, err := readToken(f.TokenFile)
	if err != nil {
		return State{}, err
	}
	s := State{
		Ready: true, API: f.API, Token: token, CA: f.SiteCA, PID: os.Getpid(),
		Control: StateControl{PID: int(n.control.pid.Load()), API: f.API, Feed: f.Feed, State: n.control.dir, TokenFile: f.TokenFile},
	}
	for _, e := range n.edges {
		s.Edges = append(s.Edges, StateEdge{
			Colo: e.colo, HTTP: e.addr("http"), HTTPS: e.addr("https"), DNS: e.addr("dns"), Metrics: e.addr("metrics"), Peer: e.addr("peer"),
			PID: int(e.pid.Load()), State: e.dir,
		})
	}
	if n.origin != nil {
		s.Origin = &StateOrigin{PID: int(n.origin.pid.Load()), HTTP: n.origin.addr("http")}
	}
	return s, nil
}

func writeState(dir string, s State) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", StateFile, err)
	}
	// 0600: the token is in it.
	return atomicfile.Write(filepath.Join(dir, StateFile), append(text, '\n'), 0o600)
}

func removeState(dir string) error {
	err := os.Remove(filepath.Join(dir, StateFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("API token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
