package function_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

// TestRegistriesAreToldTheTraceOnlyWhenAsked looks at the headers that a registry gets.
func TestRegistriesAreToldTheTraceOnlyWhenAsked(t *testing.T) {
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(collector.Close)
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprint(told), func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
			b := start(t, registrytest.Options{}, "", func(s *function.Settings) { s.TraceRegistries = told })
			reference, _ := b.publish(t, "signed")
			var mu sync.Mutex
			seen := map[string]bool{} // traceparent
			b.registry.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				mu.Lock()
				seen[r.Header.Get("Traceparent")] = true
				mu.Unlock()
				next.ServeHTTP(w, r)
			})
			if verdict := b.verdict(t, pod(reference)); !verdict.Verified {
				t.Fatal(verdict.Message)
			}
			mu.Lock()
			defer mu.Unlock()
			if told == seen[""] || told && len(seen) != 4 { // one span for each lookup
				t.Errorf("the registry saw %v", seen)
			}
		})
	}
}

// TestProfilesAreOnTheirOwnAddress looks for profiles there, and nowhere else.
func TestProfilesAreOnTheirOwnAddress(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	log := make(addresses, 8)
	b.log = slog.New(slog.NewTextHandler(log, nil))
	b.serve(t, func(s *function.Settings) { s.PprofAddress = ":0" })
	status := func(url string) int {
		response, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	at := <-log
	if !strings.HasPrefix(at, "127.0.0.1:") {
		t.Errorf("profiles are at %s", at)
	}
	for path, want := range map[string]int{"": 200, "heap": 200, "goroutine?debug=1": 200, "profile?seconds=1": 200, "profile?seconds=600": 400, "cmdline": 404} {
		if got := status("http://" + at + "/debug/pprof/" + path); got != want {
			t.Errorf("%s: status %d, want %d", path, got, want)
		}
	}
	if got := status(b.url + "/debug/pprof/"); got != 404 {
		t.Errorf("the service's own address answers %d", got)
	}
	if got := status("http://" + at + "/checkimages"); got != 404 {
		t.Errorf("the address of profiles answers %d to requests", got)
	}
}

// addresses is a log whose lines about profiles give their address.
type addresses chan string

// Write is part of io.Writer.
func (a addresses) Write(line []byte) (int, error) {
	if found := regexp.MustCompile(`serving profiles" address=(\S+)`).FindSubmatch(line); found != nil {
		a <- string(found[1])
	}
	return len(line), nil
}
