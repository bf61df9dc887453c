package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// plane is a running `selvage control`.
type plane struct {
	API       string `json:"api"`
	TokenFile string `json:"token_file"`

	cmd    *exec.Cmd
	log    *bytes.Buffer // read after the end of cmd
	token  string
	client *http.Client
}

const startTimeout = 30 * time.Second

// start adds a control plane with a state folder of its own. The first one
// makes the zones; others have its identity.
func (s *site) start(ctx context.Context, binary, state, database string) error {
	args := []string{"control", "--state", state, "--api", "127.0.0.1:0", "--feed", "127.0.0.1:0"}
	if database != "" {
		args = append(args, "--db", database)
	}
	if len(s.planes) > 0 {
		first := filepath.Dir(s.planes[0].TokenFile)
		if err := os.CopyFS(filepath.Join(state, "identity"), os.DirFS(filepath.Join(first, "identity"))); err != nil {
			return err
		}
	}
	p := &plane{cmd: exec.CommandContext(ctx, binary, args...), log: &bytes.Buffer{}} //nolint:gosec // our own program
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	s.planes = append(s.planes, p)
	if err := p.ready(ctx, state); err != nil {
		return fmt.Errorf("start control in %s: %w", state, err)
	}
	p.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: writers}}
	for i := len(s.zones); i < writers; i++ {
		var zone struct{ ID string }
		if err := p.call(ctx, "POST", "/zones", map[string]any{"name": fmt.Sprintf("zone%d.test", i)}, &zone); err != nil {
			return err
		}
		s.zones = append(s.zones, zone.ID)
	}
	return nil
}

func (p *plane) ready(ctx context.Context, state string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		text, err := os.ReadFile(filepath.Join(state, "control.json"))
		if err == nil && json.Unmarshal(text, p) == nil {
			tick.Stop()
			token, err := os.ReadFile(p.TokenFile)
			p.token = strings.TrimSpace(string(token))
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return errors.Join(errors.New("it does not become ready"), err)
		}
	}
}

// stop ends a control plane that runs.
func (p *plane) stop() error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	if werr := p.cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("control: %w: %s", werr, p.log))
	}
	return err
}

func (p *plane) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // that it was killed is no news
	return err
}

// record adds a DNS record and is an error unless it has its number.
func (p *plane) record(ctx context.Context, zone, name string) error {
	return p.call(ctx, "POST", "/zones/"+zone+"/dns_records", map[string]any{"type": "A", "name": name, "content": "192.0.2.1", "ttl": 300}, nil)
}

// records is how many of the records that record added a zone has.
func (p *plane) records(ctx context.Context, zone string) (n int, err error) {
	for page := 1; ; page++ {
		var all []struct{ Name string }
		if err := p.call(ctx, "GET", fmt.Sprintf("/zones/%s/dns_records?per_page=5000&page=%d", zone, page), nil, &all); err != nil {
			return 0, err
		}
		if n += len(all); len(all) == 0 {
			return n, nil
		}
	}
}

func (p *plane) call(ctx context.Context, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, p.API+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var envelope struct {
		Success bool
		Errors  json.RawMessage
		Result  json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&envelope); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if !envelope.Success {
		return fmt.Errorf("%s %s: %d %s", method, path, res.StatusCode, envelope.Errors)
	}
	if seq := res.Header.Get("Selvage-Seq"); method != http.MethodGet && (seq == "" || seq == "0") {
		return fmt.Errorf("%s %s: no number within the time", method, path)
	}
	if into != nil {
		return json.Unmarshal(envelope.Result, into)
	}
	return nil
}
