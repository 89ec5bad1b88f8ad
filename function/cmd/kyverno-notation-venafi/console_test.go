package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/record"
	"github.com/nirmata/kyverno-notation-venafi/function"
)

// recordLine is the line of a denial in a namespace.
func recordLine(t *testing.T, id, namespace string) string {
	t.Helper()
	r := record.Record{ID: id, Time: time.Now().UTC(), Endpoint: "/checkimages", Object: core.Object{Kind: "Pod", Namespace: namespace, Name: "web"}, Outcome: "denied", Evidence: []record.Gathered{}}
	r.Verdict = core.Verdict{Message: "no image was asked about", Results: []core.Result{}}
	_, line, err := record.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(line)
}

const (
	firstID  = "01M8C95RNMTW6JAP53C04EWFKA"
	secondID = "01M8C95RNMTW6JAP53C04EWFKB"
)

// TestConsoleReadsLogs, chained or not, passes over what is no record, and over what is longer than any.
func TestConsoleReadsLogs(t *testing.T) {
	log := filepath.Join(t.TempDir(), "decisions.jsonl")
	chained := fmt.Sprintf(`{"chain":"c","previous":"p","record":%s,"sequence":2}`, recordLine(t, secondID, "billing"))
	text := strings.Join([]string{recordLine(t, firstID, "shop"), "no JSON", `{"chain":"c","sequence":1}`, `{"id":"x` + strings.Repeat("x", maxLine) + `"}`, chained}, "\n")
	if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	decisions := fileDecisions{log}
	heads, from, err := decisions.Recent(t.Context())
	if err != nil || len(heads) != 2 || heads[0].ID != firstID || heads[1].Object.Namespace != "billing" || !strings.Contains(from, log) {
		t.Errorf("%+v, %q, %v", heads, from, err)
	}
	if r, err := decisions.Find(t.Context(), secondID); err != nil || r.Object.Namespace != "billing" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, id := range []string{"01M8C95RNMTW6JAP53C04EWFKC", "../etc/passwd", ""} {
		if _, err := decisions.Find(t.Context(), id); !errors.Is(err, function.ErrNoDecision) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, _, err := (fileDecisions{log + ".absent"}).Recent(t.Context()); err == nil {
		t.Error("a file that is not there is read")
	}
}

// TestConsoleReadsTheEndOfALog that is longer than what is read at once.
func TestConsoleReadsTheEndOfALog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "decisions.jsonl")
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(file, recordLine(t, firstID, "shop"))
	filler := strings.Repeat(strings.Repeat(" ", 1023)+"\n", 1024)
	for range maxTail >> 20 {
		fmt.Fprint(file, filler)
	}
	fmt.Fprintln(file, recordLine(t, secondID, "billing"))
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	heads, from, err := fileDecisions{log}.Recent(t.Context())
	if err != nil || len(heads) != 1 || heads[0].ID != secondID || !strings.Contains(from, "the last 32 MiB of ") {
		t.Errorf("%+v, %q, %v", heads, from, err)
	}
}

// TestConsoleAsksAService with the token, and tells a decision that is not there from a service that fails.
func TestConsoleAsksAService(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			http.Error(w, "who are you", http.StatusUnauthorized)
		case r.URL.Path == "/decisions" && r.URL.Query().Get("limit") == "500":
			fmt.Fprintf(w, `{"decisions":[%s,{"id":7}]}`, recordLine(t, firstID, "shop"))
		case r.URL.Path == "/decisions/"+firstID:
			fmt.Fprint(w, recordLine(t, firstID, "shop"))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(service.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	known := serviceDecisions{&serviceOptions{url: service.URL, tokenFile: token}}
	if heads, from, err := known.Recent(t.Context()); err != nil || len(heads) != 1 || heads[0].ID != firstID || !strings.Contains(from, service.URL) {
		t.Errorf("%+v, %q, %v", heads, from, err)
	}
	if r, err := known.Find(t.Context(), firstID); err != nil || r.ID != firstID {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := known.Find(t.Context(), secondID); !errors.Is(err, function.ErrNoDecision) {
		t.Errorf("a decision that is not there: %v", err)
	}
	stranger := serviceDecisions{&serviceOptions{url: service.URL}}
	if _, _, err := stranger.Recent(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without a token: %v", err)
	}
	if _, err := stranger.Find(t.Context(), firstID); err == nil || errors.Is(err, function.ErrNoDecision) {
		t.Errorf("without a token, one decision: %v", err)
	}
}

// TestConsoleCommand serves pages at the address that it prints until it is ended, and refuses what it cannot do.
func TestConsoleCommand(t *testing.T) {
	log := filepath.Join(t.TempDir(), "decisions.jsonl")
	if err := os.WriteFile(log, []byte(recordLine(t, firstID, "shop")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	printed, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- execute(ctx, program, []string{"console", "--trustDir", t.TempDir(), "--records", log, "--consoleAddress", "127.0.0.1:0"}, stdout, io.Discard)
		stdout.Close()
	}()
	line, err := bufio.NewReader(printed).ReadString('\n')
	address, found := strings.CutPrefix(strings.TrimSpace(line), "the console is at ")
	if err != nil || !found {
		t.Fatalf("it prints %q, %v", line, err)
	}
	for path, want := range map[string]string{"": "Overview", "decisions": "Pod shop/web", "decisions/" + firstID: "The chain", "running": "--kubeconfig"} {
		response, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			t.Errorf("/%s: %d %s", path, response.StatusCode, text)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
	for sentence, args := range map[string][]string{
		"an argument":             {"--trustDir", t.TempDir(), "argument"},
		"standard input":          {"--trustDir", t.TempDir(), "--records", "-"},
		"two sources":             {"--trustDir", t.TempDir(), "--records", log, "--service", "http://localhost"},
		"an address for everyone": {"--trustDir", t.TempDir(), "--consoleAddress", "0.0.0.0:0"},
		"users without a cluster": {"--trustDir", t.TempDir(), "--consoleUsers", "auditor"},
	} {
		if err := execute(t.Context(), program, append([]string{"console"}, args...), io.Discard, io.Discard); err == nil {
			t.Errorf("%s: it is not refused", sentence)
		}
	}
}
