// Package api is what the control plane's HTTP interfaces share: bearer tokens,
// the Cloudflare v4 envelope, strict reading of bodies and the one place where
// an error becomes a status and a code. It promises that every answer but a
// zone file's is the envelope and that a refused call has changed nothing.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
)

// SeqHeader carries the feed number of a write.
const SeqHeader = "Selvage-Seq"

// StageHeader carries the number of the stage that a write became, where it was
// asked to go by rings.
const StageHeader = "Selvage-Stage"

// Call is one authenticated request.
type Call struct {
	*http.Request
	Token store.Token
	// ByRings is not nil where the change was asked to go by rings.
	ByRings *publish.ByRings
}

// Answer is what a handler gives back.
type Answer struct {
	Status int // 0 for 200
	Result any
	Info   *PageInfo
	Seq    uint64 // of a write; 0 for a read
	// Text, when not nil, is the whole answer as text/plain, no envelope.
	Text []byte
}

// PageInfo is result_info of a list.
type PageInfo struct {
	Page       int `json:"page"`
	PerPage    int `json:"per_page"`
	Count      int `json:"count"`
	TotalCount int `json:"total_count"`
	TotalPages int `json:"total_pages"`
}

// Handler answers one kind of call.
type Handler func(ctx context.Context, c *Call) (Answer, error)

// Gate lets authenticated calls through to handlers.
type Gate struct {
	Store *store.Store
	Log   *slog.Logger
	// Quotas bound the changes that accounts make; nil bounds nothing.
	Quotas *Quotas
}

// Handle makes an http.Handler of h, which answers a method and a path of one
// API, behind the bearer token.
func (g *Gate) Handle(method, path string, h Handler) http.Handler {
	staged, operator, counted := goesByRings(method, path), operates(method, path), countsAsChange(method, path)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := g.let(w, r, staged, operator)
		if err == nil && counted {
			err = g.Quotas.take(c.Token.Account)
		}
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		a, err := h(r.Context(), c)
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		write(w, a, c.ByRings)
	})
}

// let lets a call through that may be made.
func (g *Gate) let(w http.ResponseWriter, r *http.Request, staged, operator bool) (*Call, error) {
	token, err := g.authenticate(r)
	if err != nil {
		return nil, err
	}
	byRings, err := rolloutOf(r, staged, operator)
	if err != nil {
		return nil, err
	}
	r.Body = http.MaxBytesReader(w, r.Body, MaxUpload)
	return &Call{Request: r, Token: token, ByRings: byRings}, nil
}

// maxToken is the longest secret that is hashed and looked up.
const maxToken = 512

func (g *Gate) authenticate(r *http.Request) (store.Token, error) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	secret = strings.TrimSpace(secret)
	if !strings.EqualFold(scheme, "Bearer") || secret == "" || len(secret) > maxToken {
		return store.Token{}, &Problem{Status: http.StatusUnauthorized, Code: CodeAuthentication,
			Message: "Authentication error: send the API token as the header Authorization: Bearer TOKEN"}
	}
	var t store.Token
	err := g.Store.Read(r.Context(), func(tx *store.Tx) (err error) {
		t, err = tx.Token(r.Context(), store.HashToken(secret))
		return err
	})
	if fault.Is(err, fault.NotFound) || err == nil && t.Status != "active" {
		return store.Token{}, &Problem{Status: http.StatusForbidden, Code: CodeToken, Message: "Invalid access token"}
	}
	return t, err
}

// NoRoute answers what no pattern matches.
func (g *Gate) NoRoute(w http.ResponseWriter, r *http.Request) {
	g.refuse(w, r, &Problem{Status: http.StatusNotFound, Code: CodeNoRoute, Message: "No route for that URI"})
}

// Serve answers by mux, and in the envelope what mux has no pattern for.
func (g *Gate) Serve(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	if _, pattern := mux.Handler(r); pattern != "" {
		mux.ServeHTTP(w, r)
		return
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := mux.Handler(&other); pattern != "" {
			g.refuse(w, r, &Problem{Status: http.StatusMethodNotAllowed, Code: CodeNoMethod, Message: limit(r.Method) + " is not available for that URI"})
			return
		}
	}
	g.NoRoute(w, r)
}

func limit(s string) string { return s[:min(len(s), 20)] }

func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := AsProblem(err)
	if p.Status >= 500 && !errors.Is(err, context.Canceled) {
		g.Log.Error("API call failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	send(w, p.Status, envelope{Errors: []*Problem{p}, Messages: []note{}})
}

type envelope struct {
	Success  bool       `json:"success"`
	Errors   []*Problem `json:"errors"`
	Messages []note     `json:"messages"`
	Result   any        `json:"result"`
	Info     *PageInfo  `json:"result_info,omitempty"`
}

func write(w http.ResponseWriter, a Answer, r *publish.ByRings) {
	messages := []note{}
	if r != nil && r.Stage > 0 {
		w.Header().Set(StageHeader, strconv.FormatUint(r.Stage, 10))
		messages = append(messages, staged(r))
	}
	if a.Seq > 0 {
		w.Header().Set(SeqHeader, strconv.FormatUint(a.Seq, 10))
	}
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	if a.Text != nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Text) // the client has gone: nobody to tell
		return
	}
	send(w, a.Status, envelope{Success: true, Errors: []*Problem{}, Messages: messages, Result: a.Result, Info: a.Info})
}

// Verbatim is JSON text that goes into an answer byte for byte, where
// encoding/json would compact and escape it.
type Verbatim []byte

func send(w http.ResponseWriter, status int, e envelope) {
	raw, verbatim := e.Result.(Verbatim)
	if verbatim {
		e.Result = json.RawMessage(`0`)
	}
	body, err := json.Marshal(e)
	if err != nil {
		status = http.StatusInternalServerError
		body = []byte(`{"success":false,"errors":[{"code":1000,"message":"the answer could not be encoded"}],"messages":[],"result":null}`)
	} else if verbatim {
		// The envelope ends in "result":0} here: result_info is for lists.
		body = append(append(body[:len(body)-2], raw...), '}')
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client has gone: nobody to tell
}
