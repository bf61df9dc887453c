package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

// fake answers calls "METHOD path?query" with what a test set, and records them.
type fake struct {
	t       *testing.T
	answers map[string]string // the envelope
	status  map[string]int
	seq     map[string]string
	bodies  map[string]string
	calls   []string
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Method + " " + r.URL.RequestURI()
	f.calls = append(f.calls, key)
	if got := r.Header.Get("Authorization"); got != "Bearer secret" {
		f.t.Errorf("%s: Authorization = %q", key, got)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Errorf("%s: %v", key, err)
	}
	f.bodies[key] = string(body)
	answer, ok := f.answers[key]
	if !ok {
		f.t.Errorf("unexpected call %s %s", key, body)
		w.WriteHeader(http.StatusTeapot)
		return
	}
	if s := f.seq[key]; s != "" {
		w.Header().Set("Selvage-Seq", s)
	}
	if s := f.status[key]; s != 0 {
		w.WriteHeader(s)
	}
	_, _ = io.WriteString(w, answer)
}

func newFake(t *testing.T) (*fake, *Client) {
	t.Helper()
	f := &fake{t: t, answers: map[string]string{}, status: map[string]int{}, seq: map[string]string{}, bodies: map[string]string{}}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	c, err := New(Config{API: s.URL + "/client/v4", Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return f, c
}

func ok(result string) string {
	return `{"success":true,"errors":[],"messages":[],"result":` + result + `}`
}

func page(result string, page, total int) string {
	return fmt.Sprintf(`{"success":true,"errors":[],"messages":[],"result":%s,"result_info":{"page":%d,"total_pages":%d}}`, result, page, total)
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for _, c := range []Config{
		{API: "", Token: "x"}, {API: "127.0.0.1:8787", Token: "x"}, {API: "ftp://h/", Token: "x"}, {API: "http://%zz", Token: "x"},
		{API: "http://h/client/v4", Token: ""}, {API: "http://h/client/v4", Token: "two words"}, {API: "http://h/client/v4", Token: "x\r\nHost: y"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func TestWritesReturnTheirSequenceNumber(t *testing.T) {
	f, c := newFake(t)
	f.answers["POST /client/v4/zones"] = ok(`{"id":"z1","name":"example.com","status":"active"}`)
	f.seq["POST /client/v4/zones"] = "41"
	z, seq, err := c.CreateZone(t.Context(), "example.com", "")
	if err != nil || z.ID != "z1" || seq != 41 {
		t.Fatalf("zone %+v, seq %d, err %v", z, seq, err)
	}
	if got, want := f.bodies["POST /client/v4/zones"], `{"name":"example.com"}`; got != want {
		t.Errorf("body = %s, want %s", got, want)
	}
	tests := []struct {
		call, body string
		do         func() (uint64, error)
	}{
		{"DELETE /client/v4/zones/z1", "", func() (uint64, error) { return c.DeleteZone(t.Context(), "z1") }},
		{"PATCH /client/v4/zones/z1/settings/ssl", `{"value":"full"}`, func() (uint64, error) { return c.PatchSetting(t.Context(), "z1", "ssl", "full") }},
		{"POST /client/v4/zones/z1/purge_cache", `{"files":["https://example.com/?a=1&b=<2>"]}`, func() (uint64, error) {
			return c.Purge(t.Context(), "z1", zone.Purge{Files: []string{"https://example.com/?a=1&b=<2>"}})
		}},
		{"POST /client/v4/zones/z1/purge_cache", `{"tags":["a"],"prefixes":["example.com/b"],"hosts":["c.example.com"]}`, func() (uint64, error) {
			return c.Purge(t.Context(), "z1", zone.Purge{Tags: []string{"a"}, Prefixes: []string{"example.com/b"}, Hosts: []string{"c.example.com"}})
		}},
		{"POST /selvage/v1/zones/z1/purge", `{"purge_everything":true,"soft":true}`, func() (uint64, error) {
			return c.Purge(t.Context(), "z1", zone.Purge{Everything: true, Soft: true})
		}},
		{"PATCH /selvage/v1/zones/z1/settings/tiered_caching", `{"value":"off"}`, func() (uint64, error) { return c.PatchSetting(t.Context(), "z1", "tiered_caching", "off") }},
		{"PUT /selvage/v1/zones/z1/topology", `{"mode":"custom","regional":false,"parents":["FRA"]}`, func() (uint64, error) {
			return c.PutTopology(t.Context(), "z1", zone.Topology{Mode: zone.TopologyCustom, Parents: []string{"FRA"}})
		}},
		{"PUT /client/v4/zones/z1/rulesets/phases/http_request_origin/entrypoint", `{ "rules" : [] }`, func() (uint64, error) {
			return c.PutEntrypoint(t.Context(), "z1", "http_request_origin", json.RawMessage(`{ "rules" : [] }`))
		}},
		{"POST /client/v4/zones/z1/dns_records/batch", `{"deletes":[{"id":"r1"}],"posts":[{"name":"a.example.com","type":"A","content":"192.0.2.1","ttl":1,"proxied":true}]}`, func() (uint64, error) {
			return c.Batch(t.Context(), "z1", Batch{Deletes: []RecordID{{"r1"}}, Posts: []NewRecord{{Name: "a.example.com", Type: "A", Content: "192.0.2.1", TTL: 1, Proxied: true}}})
		}},
		{"DELETE /client/v4/zones/z1/dns_records/r1", "", func() (uint64, error) { return c.DeleteRecord(t.Context(), "z1", "r1") }},
	}
	for _, tt := range tests {
		f.answers[tt.call], f.seq[tt.call] = ok(`{"id":"x"}`), "42"
		seq, err := tt.do()
		if err != nil || seq != 42 {
			t.Errorf("%s: seq %d, err %v", tt.call, seq, err)
		}
		if got := f.bodies[tt.call]; got != tt.body {
			t.Errorf("%s: body = %s, want %s", tt.call, got, tt.body)
		}
	}
}

func TestListsAreReadToTheirLastPage(t *testing.T) {
	f, c := newFake(t)
	f.answers["GET /client/v4/zones/z1/dns_records?page=1&per_page=100&type=A"] = page(`[{"id":"1"},{"id":"2"}]`, 1, 2)
	f.answers["GET /client/v4/zones/z1/dns_records?page=2&per_page=100&type=A"] = page(`[{"id":"3"}]`, 2, 2)
	records, err := c.Records(t.Context(), "z1", RecordFilter{Type: "A"})
	if err != nil || len(records) != 3 || records[2].ID != "3" {
		t.Errorf("records %+v, err %v", records, err)
	}
}

func TestListEndsAtAnEmptyPage(t *testing.T) {
	f, c := newFake(t)
	f.answers["GET /client/v4/zones?page=1&per_page=100"] = page(`[]`, 1, 9)
	zones, err := c.Zones(t.Context())
	if err != nil || zones == nil || len(zones) != 0 {
		t.Errorf("zones %v, err %v", zones, err)
	}
}

func TestAuditIsAskedFor(t *testing.T) {
	f, c := newFake(t)
	f.answers["GET /selvage/v1/audit?before=7.n&limit=2&node=n"] = ok(`{"events":[{"action":"kill.set"}],"next":"6.n"}`)
	events, next, err := c.Audit(t.Context(), AuditQuery{Node: "n", Limit: 2, Before: "7.n"})
	if err != nil || len(events) != 1 || events[0].Action != "kill.set" || next != "6.n" {
		t.Errorf("events %+v, next %q, err %v", events, next, err)
	}
}

func TestFindZone(t *testing.T) {
	f, c := newFake(t)
	f.answers["GET /client/v4/zones?name=example.com&page=1&per_page=100"] = page(`[{"id":"z1","name":"example.com"}]`, 1, 1)
	f.answers["GET /client/v4/zones?name=example.net&page=1&per_page=100"] = page(`[]`, 1, 0)
	if z, err := c.FindZone(t.Context(), "example.com"); err != nil || z.ID != "z1" {
		t.Errorf("zone %+v, err %v", z, err)
	}
	if _, err := c.FindZone(t.Context(), "example.net"); !fault.Is(err, fault.NotFound) {
		t.Errorf("err = %v, want kind not found", err)
	}
}

func TestRefusalCarriesCodesAndSentences(t *testing.T) {
	f, c := newFake(t)
	f.answers["GET /client/v4/user/tokens/verify"] = `{"success":false,"errors":[{"code":9109,"message":"Invalid access token"},{"code":7,"message":"and more"}],"messages":[],"result":null}`
	f.status["GET /client/v4/user/tokens/verify"] = http.StatusUnauthorized
	_, err := c.Verify(t.Context())
	e, isRefusal := errors.AsType[*Error](err)
	if !isRefusal || e.Status != 401 || e.Code() != 9109 {
		t.Fatalf("err = %#v", err)
	}
	if got, want := e.Error(), "Invalid access token (code 9109); and more (code 7)"; got != want {
		t.Errorf("text = %q, want %q", got, want)
	}
}

func TestAnswersThatAreNoEnvelope(t *testing.T) {
	f, c := newFake(t)
	f.answers["GET /client/v4/user/tokens/verify"] = `<html>`
	if _, err := c.Verify(t.Context()); !fault.Is(err, fault.Malformed) {
		t.Errorf("err = %v, want kind malformed", err)
	}
	f.status["GET /client/v4/user/tokens/verify"] = http.StatusBadGateway
	_, err := c.Verify(t.Context())
	if e, isRefusal := errors.AsType[*Error](err); !isRefusal || e.Status != 502 || e.Code() != 0 {
		t.Errorf("err = %v, want a refusal with status 502", err)
	}
}

func TestNoAnswerIsUnreachable(t *testing.T) {
	_, c := newFake(t)
	c.http = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no route")
	}}}
	if _, err := c.Verify(t.Context()); !fault.Is(err, fault.Unreachable) {
		t.Errorf("err = %v, want kind unreachable", err)
	}
}

func TestImportSendsTheFileAsAForm(t *testing.T) {
	_, c := newFake(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file, _, err := r.FormFile("file")
		if err != nil {
			t.Errorf("form: %v", err)
			return
		}
		text, err := io.ReadAll(file)
		if err != nil || string(text) != "a 300 IN A 192.0.2.1\n" || r.FormValue("proxied") != "true" {
			t.Errorf("file %q, proxied %q, err %v", text, r.FormValue("proxied"), err)
		}
		w.Header().Set("Selvage-Seq", "7")
		_, _ = io.WriteString(w, ok(`{"recs_added":1,"total_records_parsed":2}`))
	}))
	defer s.Close()
	c.api.Host = strings.TrimPrefix(s.URL, "http://")
	got, seq, err := c.Import(t.Context(), "z1", strings.NewReader("a 300 IN A 192.0.2.1\n"), true)
	if err != nil || seq != 7 || got != (Imported{Added: 1, Parsed: 2}) {
		t.Errorf("%+v, seq %d, err %v", got, seq, err)
	}
	if _, _, err := c.Import(t.Context(), "z1", io.LimitReader(zeros{}, MaxZoneFile+1), false); err == nil {
		t.Error("a file over the limit was sent")
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestTraceSeesEachCall(t *testing.T) {
	f, c := newFake(t)
	var seen []Call
	c.trace = func(t Call) { seen = append(seen, t) }
	f.answers["PATCH /client/v4/zones/z1/settings/ssl"] = ok(`{}`)
	f.seq["PATCH /client/v4/zones/z1/settings/ssl"] = "9"
	if _, err := c.PatchSetting(t.Context(), "z1", "ssl", "full"); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || seen[0].Method != "PATCH" || seen[0].Path != "/client/v4/zones/z1/settings/ssl" ||
		string(seen[0].Body) != `{"value":"full"}` || seen[0].Status != 200 || seen[0].Seq != 9 || seen[0].Err != nil {
		t.Errorf("trace = %+v", seen)
	}
}

// waiting runs Wait in a bubble against answers that change with each poll.
func waiting(t *testing.T, seq uint64, answer func(poll int) string) (missing []string, polls int, err error) {
	t.Helper()
	c, err := New(Config{API: "http://api.test/client/v4", Token: "secret", HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if got, want := r.URL.Path, "/selvage/v1/changes/5"; got != want {
			t.Errorf("path = %s, want %s", got, want)
		}
		polls++
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer(polls)))}, nil
	})}})
	if err != nil {
		t.Fatal(err)
	}
	reached, err := c.Wait(t.Context(), seq)
	return reached.Missing, polls, err
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestWaitReturnsWhenEveryConnectedEdgeHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing, polls, err := waiting(t, 5, func(poll int) string {
			return ok(fmt.Sprintf(`{"seq":5,"acked":[],"pending":[{"node":"a","colo":"FRA","connected":%t,"applied":4},{"node":"b","colo":"NRT","connected":false}],"rejected":[]}`, poll < 3))
		})
		if err != nil || len(missing) != 0 || polls != 3 {
			t.Errorf("missing %v after %d polls, err %v", missing, polls, err)
		}
	})
}

func TestWaitNamesTheMissingAfterItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing, _, err := waiting(t, 5, func(int) string {
			return ok(`{"seq":5,"acked":[{"node":"a","colo":"FRA"}],"pending":[{"node":"b","colo":"NRT","connected":true,"applied":4}],"rejected":[]}`)
		})
		if err != nil || len(missing) != 1 || missing[0] != "NRT (b)" {
			t.Errorf("missing %v, err %v", missing, err)
		}
	})
}

func TestWaitNamesThoseWhoRefuseAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing, polls, err := waiting(t, 5, func(int) string {
			return ok(`{"seq":5,"acked":[],"pending":[],"rejected":[{"node":"b","colo":"NRT","reason":"rules: bad"}]}`)
		})
		if err != nil || polls != 1 || len(missing) != 1 || missing[0] != "NRT (b) refused it: rules: bad" {
			t.Errorf("missing %v after %d polls, err %v", missing, polls, err)
		}
	})
}

func TestJoinToken(t *testing.T) {
	f, c := newFake(t)
	f.answers["POST /selvage/v1/join-tokens"] = ok(`{"token":"join-me","expires":"2026-11-22T07:00:00Z"}`)
	if token, err := c.JoinToken(t.Context(), false); err != nil || token != "join-me" {
		t.Errorf("token %q, err %v", token, err)
	}
}

func TestWaitForNothing(t *testing.T) {
	missing, polls, err := waiting(t, 0, func(int) string { return "" })
	if err != nil || missing != nil || polls != 0 {
		t.Errorf("missing %v after %d polls, err %v", missing, polls, err)
	}
}
