package v4_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/api/selvage"
	"github.com/selvage-edge/selvage/control/api/v4"
	"github.com/selvage-edge/selvage/control/identity"
	"github.com/selvage-edge/selvage/control/progress"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/edge/snapshot"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

const secret = "test-secret"

// plane is the API over a real store and log.
type plane struct {
	t       *testing.T
	dir     string
	store   *store.Store
	publish *publish.Publisher
	server  *httptest.Server
	account string
	node    *ecdh.PrivateKey
	applied atomic.Uint64 // by every node
	held    atomic.Bool   // staged certificates are not published
}

// vault wraps with a key of its own.
type vault struct{ key []byte }

func (v vault) Wrap(name string, key []byte) ([]byte, error) {
	return feed.EncryptKey(v.key, name, key)
}

func (v vault) Unwrap(name string, wrapped []byte) ([]byte, error) {
	return feed.DecryptKey(v.key, name, wrapped)
}

func judge(spec *zone.Spec) error {
	_, err := snapshot.Compile(spec, &zone.Shared{})
	return err
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{t: t, dir: storetest.Place(t), account: strings.Repeat("ac", 16)}
	log := slog.New(slog.DiscardHandler)
	var err error
	if p.store, err = store.Open(t.Context(), p.dir); err != nil {
		t.Fatal(err)
	}
	if p.node, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if err := p.store.Write(t.Context(), func(tx *store.Tx) error {
		return errors.Join(
			tx.PutAccount(t.Context(), store.Account{ID: p.account, Name: "Test", Created: store.Now()}),
			tx.PutToken(t.Context(), store.Token{ID: strings.Repeat("70", 16), Account: p.account, Name: "root", Status: "active"}, store.HashToken(secret)),
			tx.PutToken(t.Context(), store.Token{ID: strings.Repeat("71", 16), Account: p.account, Name: "off", Status: "disabled"}, store.HashToken("off")),
			tx.PutAccount(t.Context(), store.Account{ID: strings.Repeat("ad", 16), Name: "Other", Created: store.Now().Add(1e9)}),
			tx.PutToken(t.Context(), store.Token{ID: strings.Repeat("72", 16), Account: strings.Repeat("ad", 16), Name: "other", Status: "active"}, store.HashToken("stranger")))
	}); err != nil {
		t.Fatal(err)
	}
	p.publish, err = publish.New(t.Context(), publish.Config{
		Store: p.store, Judge: judge, Vault: vault{feed.NewDataKey()}, Log: log,
		Colos: func(context.Context, *store.Tx) ([]string, error) { return []string{"FRA"}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- p.publish.Run(ctx) }()
	gate := &api.Gate{Store: p.store, Log: log}
	public := v4.New(v4.Config{Gate: gate, Store: p.store, Publish: p.publish, NameServers: []string{"ns1.edge.test", "ns2.edge.test"},
		Deploy: func(ctx context.Context, zoneID string, ref feed.PairRef) (uint64, error) {
			if p.held.Load() {
				return 0, nil
			}
			return p.publish.Switch(ctx, zoneID, ref)
		},
		Reached: func(_ context.Context, seq uint64) (bool, error) { return p.applied.Load() >= seq, nil }})
	mux := http.NewServeMux()
	mux.Handle("/", public)
	mux.Handle(selvage.Prefix+"/", selvage.New(selvage.Config{
		Gate: gate, Zones: public.Ours(), Rollouts: p.publish, Default: p.publish, Kill: p.publish, Timer: func() {},
		Progress: func(context.Context, uint64) ([]progress.Node, error) {
			return []progress.Node{{Node: identity.Node{Colo: "FRA"}}, {Node: identity.Node{Colo: "AMS"}}}, nil
		},
	}))
	p.server = httptest.NewServer(mux)
	t.Cleanup(func() {
		p.server.Close()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := p.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// answer is what a call got.
type answer struct {
	Status   int
	Seq      string
	Stage    string
	Body     []byte
	Success  bool            `json:"success"`
	Errors   []api.Problem   `json:"errors"`
	Messages json.RawMessage `json:"messages"`
	Result   json.RawMessage `json:"result"`
	Info     *api.PageInfo   `json:"result_info"`
}

// message is the first error's text.
func (a *answer) message() string {
	if len(a.Errors) == 0 {
		return ""
	}
	return a.Errors[0].Message
}

func (p *plane) raw(method, path, contentType, token, body string) *answer {
	p.t.Helper()
	a := p.with(nil, method, path, contentType, token, body)
	if strings.HasPrefix(string(a.Body), "{") && string(a.Messages) != "[]" && a.Messages != nil {
		p.t.Errorf("%s %s: messages = %s, want []", method, path, a.Messages)
	}
	return a
}

// with is a call with further fields in its head.
func (p *plane) with(head map[string]string, method, path, contentType, token, body string) *answer {
	p.t.Helper()
	if !strings.HasPrefix(path, selvage.Prefix) {
		path = v4.Prefix + path
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.server.URL+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", contentType)
	for name, value := range head {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	a := &answer{Status: res.StatusCode, Seq: res.Header.Get(api.SeqHeader), Stage: res.Header.Get(api.StageHeader), Body: text}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(text, a); err != nil {
			p.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return a
}

func (p *plane) call(method, path, body string) *answer {
	p.t.Helper()
	return p.raw(method, path, "application/json", secret, body)
}

// ok is a call that must succeed; its result is decoded into v when not nil.
func (p *plane) ok(method, path, body string, v any) *answer {
	p.t.Helper()
	a := p.call(method, path, body)
	if a.Status != 200 || !a.Success {
		p.t.Fatalf("%s %s %s: %d %s", method, path, body, a.Status, a.Body)
	}
	if v != nil {
		if err := json.Unmarshal(a.Result, v); err != nil {
			p.t.Fatalf("%s %s: %v in %s", method, path, err, a.Result)
		}
	}
	if method != "GET" && a.Seq == "" {
		p.t.Errorf("%s %s: no %s header", method, path, api.SeqHeader)
	}
	return a
}

// zone makes a zone and returns its path.
func (p *plane) zone(name string) string {
	p.t.Helper()
	var z struct{ ID string }
	p.ok("POST", "/zones", `{"name":"`+name+`"}`, &z)
	return "/zones/" + z.ID
}

// bad is a call that must be refused: status, code, and the message's start.
func (p *plane) bad(method, path, body string, status, code int, field string) {
	p.t.Helper()
	head, _ := p.publish.Head()
	a := p.call(method, path, body)
	if a.Status != status || a.Success || len(a.Errors) != 1 || a.Errors[0].Code != code || !strings.HasPrefix(a.message(), field) {
		p.t.Errorf("%s %s %.200s:\n got %d %s\nwant %d code %d, message %q…", method, path, body, a.Status, bytes.TrimSpace(a.Body), status, code, field)
	}
	if now, _ := p.publish.Head(); now != head {
		p.t.Errorf("%s %s: a refused call published entry %d", method, path, now)
	}
}
