// Package client is the Go client of Selvage's public API. It promises that a
// refusal comes back with the API's own codes and sentences, that a write
// returns the sequence number under which edges will see it, and that lists are
// read to their last page.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/selvage-edge/selvage/fault"
)

// Limits of one conversation with the API.
const (
	maxAnswer      = 32 << 20 // bytes of one answer; a larger one is an error
	requestTimeout = 30 * time.Second
	pageSize       = 100
	maxPages       = 100_000
)

// Config says where the API is and who asks.
type Config struct {
	API   string // URL that ends in /client/v4; http or https
	Token string // bearer token
	// HTTP sends the requests; nil is a client of its own with a time-out of 30 s.
	HTTP *http.Client
	// Rollout says how changes go out: RolloutRings, RolloutAll, or empty for what the
	// API does by itself.
	Rollout string
	// Trace, when set, is called after each call, also a failed one.
	Trace func(Call)
}

// Call is one request to the API and its outcome, as Trace sees it.
type Call struct {
	Method string
	Path   string // with the query, relative to the host
	Body   []byte // as sent; nil when there was none or it is no JSON
	Status int    // 0 when no answer came
	Seq    uint64 // of a write that was accepted
	Err    error
}

// Client speaks to one control plane. It is safe for concurrent use.
type Client struct {
	api   *url.URL
	token string
	http  *http.Client
	trace func(Call)

	rollout string
	stage   atomic.Uint64 // of the last change
}

// New checks the address and returns a client; it sends nothing.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.API)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("api: %q is no URL of the form http://host:port/client/v4", c.API)
	}
	if c.Token == "" || strings.ContainsAny(c.Token, " \r\n\t") {
		return nil, errors.New("token: one word without spaces is needed")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if u.Path == "" {
		u.Path = "/client/v4"
	}
	cl := &Client{api: u, token: c.Token, http: c.HTTP, trace: c.Trace, rollout: c.Rollout}
	if cl.http == nil {
		cl.http = &http.Client{Timeout: requestTimeout}
	}
	return cl, nil
}

// Problem is one reason for a refusal.
type Problem struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Error is a refusal by the API.
type Error struct {
	Method, Path string
	Status       int // of HTTP
	Problems     []Problem
}

func (e *Error) Error() string {
	if len(e.Problems) == 0 {
		return fmt.Sprintf("%s %s was answered with status %d and no reason", e.Method, e.Path, e.Status)
	}
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s (code %d)", p.Message, p.Code)
	}
	return b.String()
}

// Code returns the first reason's code, 0 when none was given.
func (e *Error) Code() int {
	if len(e.Problems) == 0 {
		return 0
	}
	return e.Problems[0].Code
}

// envelope is what every answer under /client/v4 is wrapped in.
type envelope struct {
	Success bool            `json:"success"`
	Errors  []Problem       `json:"errors"`
	Result  json.RawMessage `json:"result"`
	Info    struct {
		Page       int `json:"page"`
		TotalPages int `json:"total_pages"`
	} `json:"result_info"`
}

// call is one request before it is sent.
type call struct {
	method string
	path   string // below /client/v4, or from the root when it starts with "/selvage/"
	query  url.Values
	body   []byte
	kind   string // Content-Type of body
}

// answer is one reply, read whole.
type answer struct {
	status int
	seq    uint64
	body   []byte
}

// json sends v (nil for none) and decodes the envelope's result into out.
func (c *Client) json(ctx context.Context, method, path string, v, out any) (uint64, error) {
	k := call{method: method, path: path}
	if v != nil {
		body, err := encode(v)
		if err != nil {
			return 0, err
		}
		k.body, k.kind = body, "application/json"
	}
	_, seq, err := c.result(ctx, k, out)
	return seq, err
}

// encode keeps <, > and & as they are: rules are compared byte for byte.
func encode(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok {
		return raw, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

func (c *Client) result(ctx context.Context, k call, out any) (*envelope, uint64, error) {
	a, err := c.send(ctx, k)
	if err != nil {
		return nil, 0, err
	}
	var e envelope
	if err := json.Unmarshal(a.body, &e); err != nil {
		return nil, 0, &fault.Error{Op: "client.decode", Side: fault.Control, Kind: fault.Malformed,
			Err: fmt.Errorf("answer to %s %s is no API envelope: %w", k.method, k.path, err)}
	}
	if out != nil {
		if err := json.Unmarshal(e.Result, out); err != nil {
			return nil, 0, &fault.Error{Op: "client.decode", Side: fault.Control, Kind: fault.Malformed,
				Err: fmt.Errorf("result of %s %s: %w", k.method, k.path, err)}
		}
	}
	return &e, a.seq, nil
}

// send does one call; an answer outside 2xx becomes an *Error.
func (c *Client) send(ctx context.Context, k call) (*answer, error) {
	u := c.address(k)
	a, err := c.roundTrip(ctx, k, u)
	if err == nil && (a.status < 200 || a.status > 299) {
		err = refusal(k.method, u.Path, a)
	}
	if c.trace != nil {
		t := Call{Method: k.method, Path: u.RequestURI(), Err: err}
		if strings.HasPrefix(k.kind, "application/json") {
			t.Body = k.body
		}
		if a != nil {
			t.Status, t.Seq = a.status, a.seq
		}
		c.trace(t)
	}
	return a, err
}

func (c *Client) address(k call) *url.URL {
	u := *c.api
	if strings.HasPrefix(k.path, "/selvage/") {
		// /selvage/v1 stands beside /client/v4, whatever prefix a proxy adds.
		u.Path = strings.TrimSuffix(u.Path, "/client/v4") + k.path
	} else {
		u.Path += k.path
	}
	u.RawQuery = k.query.Encode()
	return &u
}

func (c *Client) roundTrip(ctx context.Context, k call, u *url.URL) (*answer, error) {
	var body io.Reader
	if k.body != nil {
		body = bytes.NewReader(k.body)
	}
	req, err := http.NewRequestWithContext(ctx, k.method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", k.method, u.Path, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", "application/json")
	if k.kind != "" {
		req.Header.Set("Content-Type", k.kind)
	}
	if k.method != http.MethodGet {
		c.stage.Store(0)
		if c.rollout != "" {
			req.Header.Set("Selvage-Rollout", c.rollout)
		}
	}
	res, err := c.http.Do(req)
	if err != nil {
		// url.Error repeats method and URL; its cause is what matters.
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return nil, &fault.Error{Op: "client.send", Side: fault.Control, Kind: fault.Unreachable,
			Err: fmt.Errorf("no answer from %s://%s: %w", u.Scheme, u.Host, err)}
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, &fault.Error{Op: "client.read", Side: fault.Control, Kind: fault.Closed,
			Err: fmt.Errorf("answer to %s %s: %w", k.method, u.Path, err)}
	}
	if len(data) > maxAnswer {
		return nil, &fault.Error{Op: "client.read", Side: fault.Control, Kind: fault.TooLarge,
			Err: fmt.Errorf("answer to %s %s is over %d bytes", k.method, u.Path, maxAnswer)}
	}
	a := &answer{status: res.StatusCode, body: data}
	if a.seq, err = numberIn(res.Header, "Selvage-Seq"); err != nil {
		return nil, &fault.Error{Op: "client.read", Side: fault.Control, Kind: fault.Malformed, Err: fmt.Errorf("answer to %s %s: %w", k.method, u.Path, err)}
	}
	stage, err := numberIn(res.Header, "Selvage-Stage")
	if err != nil {
		return nil, &fault.Error{Op: "client.read", Side: fault.Control, Kind: fault.Malformed, Err: fmt.Errorf("answer to %s %s: %w", k.method, u.Path, err)}
	}
	if stage > 0 {
		c.stage.Store(stage)
	}
	return a, nil
}

// numberIn reads a number out of an answer's head; 0 where it is not there.
func numberIn(h http.Header, name string) (n uint64, err error) {
	v := h.Get(name)
	if v == "" {
		return 0, nil
	}
	if n, err = strconv.ParseUint(v, 10, 64); err != nil {
		return 0, fmt.Errorf("header %s: %w", name, err)
	}
	return n, nil
}

func refusal(method, path string, a *answer) *Error {
	e := &Error{Method: method, Path: path, Status: a.status}
	var env envelope
	if json.Unmarshal(a.body, &env) == nil {
		e.Problems = env.Errors
	}
	return e
}

// pages reads a list to its end. Results are decoded page by page into T.
func pages[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	all := []T{}
	if query == nil {
		query = url.Values{}
	}
	query.Set("per_page", strconv.Itoa(pageSize))
	for page := 1; page <= maxPages; page++ {
		query.Set("page", strconv.Itoa(page))
		var part []T
		e, _, err := c.result(ctx, call{method: http.MethodGet, path: path, query: query}, &part)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
		if len(part) == 0 || page >= e.Info.TotalPages {
			return all, nil
		}
	}
	return nil, &fault.Error{Op: "client.list", Side: fault.Control, Kind: fault.TooLarge,
		Err: fmt.Errorf("list %s has more than %d pages", path, maxPages)}
}
