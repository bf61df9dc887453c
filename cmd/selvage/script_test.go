package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata/script")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"selvage": func() { os.Exit(program()) }})
}

// TestScripts runs the command lines in testdata/script against the real
// program. `api` starts an API that answers from files of the script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv("SELVAGE_API", "")
			env.Setenv("SELVAGE_TOKEN", "")
			env.Setenv("SELVAGE_STATE", "")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"api":  startAPI,
			"exit": expectExit,
		},
	})
}

// expectExit runs selvage and wants an exit code: exit CODE ARG...
func expectExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exit CODE ARG...")
	}
	err := ts.Exec("selvage", args[1:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// startAPI serves a folder: "METHOD path" is answered by the file METHOD/path
// with its "/" as "_", the first line of which is status and seq; with a query by
// the file of that name with it, where there is one.
func startAPI(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: api FOLDER")
	}
	dir := ts.MkAbs(args[0])
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("Authorization") != "Bearer secret" {
			refuse(w, http.StatusForbidden, 9109, "Invalid access token")
			return
		}
		name := r.Method + strings.ReplaceAll(r.URL.Path, "/", "_")
		text, err := os.ReadFile(filepath.Join(dir, name+"?"+r.URL.RawQuery))
		if err != nil {
			text, err = os.ReadFile(filepath.Join(dir, name))
		}
		if err != nil {
			refuse(w, http.StatusNotFound, 7003, "no answer "+name)
			return
		}
		first, body, _ := strings.Cut(string(text), "\n")
		var status int
		var seq string
		if _, err := fmt.Sscan(first, &status, &seq); err != nil {
			refuse(w, http.StatusInternalServerError, 1, "first line of "+name)
			return
		}
		if seq != "0" {
			w.Header().Set("Selvage-Seq", seq)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	ts.Defer(s.Close)
	ts.Setenv("SELVAGE_API", s.URL+"/client/v4")
	ts.Setenv("SELVAGE_TOKEN", "secret")
}

func refuse(w http.ResponseWriter, status, code int, message string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"success": false, "errors": []any{map[string]any{"code": code, "message": message}}, "messages": []any{}, "result": nil,
	})
}

// TestSignalEndsTheProgram: what Ctrl-C does to a command that waits.
func TestSignalEndsTheProgram(t *testing.T) {
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(hang)
		<-r.Context().Done()
	}))
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var out, errText strings.Builder
	a := &app{out: &out, err: &errText, getenv: func(string) string { return "" }}
	done := make(chan int)
	go func() { done <- a.run(ctx, []string{"zone", "list", "--api", s.URL, "--token", "secret"}) }()
	<-hang
	cancel()
	if code := <-done; code == exitOK || !strings.HasPrefix(errText.String(), "selvage: ") {
		t.Errorf("exit code %d, stderr %q", code, errText.String())
	}
}
