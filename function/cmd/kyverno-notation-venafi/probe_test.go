package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

func TestProbe(t *testing.T) {
	var asked atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ready")) })
	mux.HandleFunc("/never", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not yet", http.StatusServiceUnavailable) })
	mux.HandleFunc("/soon", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	})
	mux.Handle("/elsewhere", http.RedirectHandler("/ready", http.StatusFound))
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for sentence, c := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"an address that answers":           {[]string{"--caFile", ca, server.URL + "/ready"}, exitAnswered, "ready\n"},
		"one that answers at the second":    {[]string{"--caFile", ca, server.URL + "/soon"}, exitAnswered, "\n"},
		"one that is never ready":           {[]string{"--caFile", ca, "--timeout", "5s", server.URL + "/never"}, exitUnanswered, `no 200 within 5s: ` + server.URL + `/never answers 503 Service Unavailable: "not yet\n"`},
		"a redirect, which is not followed": {[]string{"--caFile", ca, "--timeout", "5s", server.URL + "/elsewhere"}, exitUnanswered, "302 Found"},
		"a server that nobody vouches for":  {[]string{"--timeout", "5s", server.URL + "/ready"}, exitUnanswered, "certificate signed by unknown authority"},
		"a CA that is none":                 {[]string{"--caFile", os.Args[0], server.URL}, 2, "holds no PEM certificate"},
		"a CA that is not there":            {[]string{"--caFile", ca + ".none", server.URL}, 2, "no such file"},
		"no address":                        {nil, 2, "probe takes one address"},
		"a flag behind the address":         {[]string{server.URL + "/ready", "--caFile=" + ca}, exitAnswered, "ready"},
		"two addresses":                     {[]string{server.URL, server.URL}, 2, "probe takes one address"},
		"an address of another kind":        {[]string{"ftp://example.com"}, 2, "probe takes one address"},
		"help":                              {[]string{"-h"}, exitAnswered, "--caFile"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr strings.Builder
			status := run(program, append([]string{"probe"}, c.args...), &stdout, &stderr)
			if said := stdout.String() + stderr.String(); status != c.status || !strings.Contains(said, c.says) {
				t.Errorf("status %d, %q; want %d, %q", status, said, c.status, c.says)
			}
		})
	}
}
