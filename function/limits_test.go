package function_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
)

// TestFailingPluginsAreLeftAlone holds that a plugin is not run again after five failures, and that this is a failure and
// no denial.
func TestFailingPluginsAreLeftAlone(t *testing.T) {
	b := start(t, registrytest.Options{}, "verify-signature:crash", nil)
	reference, _ := b.publish(t, "plugin-signed")
	before := b.processes(t)
	var answer reply
	for range 8 {
		if answer = b.post(t, "/checkimages", pod(reference)); answer.status != http.StatusBadGateway {
			t.Fatalf("answer %d %s", answer.status, answer.text)
		}
	}
	if !strings.Contains(answer.text, "exit status 2") || !strings.Contains(answer.text, "is left alone from") {
		t.Errorf("the last answer is %s", answer.text)
	}
	if n := b.processes(t) - before; n != 5 {
		t.Errorf("%d processes for 8 requests; want 5", n)
	}
}

// TestMetricsMeasureLimitsWithoutHosts holds that the metrics of the limits have no host in their labels.
func TestMetricsMeasureLimitsWithoutHosts(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	reference, _ := b.publish(t, "plugin-signed")
	if answer := b.post(t, "/checkimages", pod(reference)); answer.status != http.StatusOK {
		t.Fatalf("answer %d %s", answer.status, answer.text)
	}
	text := b.metrics(t)
	for _, line := range []string{
		`registry_requests_total{outcome="ok"} 4`, `registry_requests_total{outcome="failed"} 0`, "registry_retries_total 0",
		"registry_hosts 1", "registry_reads 0", "registry_reads_waiting 0", "registry_mirrored_total 0", "registry_paused 0",
		`plugin_calls_total{event="started"} 2`, `plugin_calls_total{event="left_alone"} 0`, "plugin_processes 0", "plugin_circuits_open 0",
	} {
		if !strings.Contains(text, "kyverno_notation_venafi_"+line+"\n") {
			t.Errorf("the metrics have no line %q", line)
		}
	}
	if strings.Contains(text, b.registry.Host()) {
		t.Error("the metrics name the registry")
	}
}

// TestMetricsMeasureTheBudgetOfARegistry that the operator named: what it says is left, and that it wants no requests, of which none is
// sent then.
func TestMetricsMeasureTheBudgetOfARegistry(t *testing.T) {
	b := start(t, registrytest.Options{}, "", nil)
	first, _ := b.publish(t, "signed")
	second, _ := b.publish(t, "plugin-signed")
	b.registry.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		w.Header().Set("RateLimit-Limit", "100;w=21600")
		w.Header().Set("RateLimit-Remaining", "36;w=21600")
		next.ServeHTTP(w, r)
	})
	holds := func(lines ...string) {
		t.Helper()
		text := b.metrics(t)
		for _, line := range lines {
			if !strings.Contains(text, "\nkyverno_notation_venafi_"+line+"\n") {
				t.Errorf("the metrics have no line %q:\n%s", line, regexp.MustCompile("(?m)^kyverno_notation_venafi_registry.*$").FindAllString(text, -1))
			}
		}
	}
	remaining := fmt.Sprintf("registry_limit_remaining{registry=%q} ", b.registry.Host())
	if text := b.metrics(t); strings.Contains(text, "registry_limit_remaining{") {
		t.Errorf("a limit is told before the registry told one: %s", text)
	}
	if answer := b.post(t, "/checkimages", pod(first)); answer.status != http.StatusOK {
		t.Fatalf("answer %d %s", answer.status, answer.text)
	}
	holds(remaining+"36", "registry_paused 0", `registry_requests_total{outcome="limited"} 0`)
	b.registry.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		w.Header().Set("Retry-After", "30")
		w.Header().Set("RateLimit-Remaining", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	for range 3 { // the first of them has the registry refuse a request
		if answer := b.post(t, "/checkimages", pod(second)); answer.status != http.StatusBadGateway && answer.status != http.StatusGatewayTimeout {
			t.Fatalf("answer %d %s", answer.status, answer.text)
		}
	}
	holds(remaining+"0", "registry_paused 1", `registry_requests_total{outcome="limited"} 1`, `registry_requests_total{outcome="ok"} 4`)
	if answer := b.post(t, "/checkimages", pod(first)); answer.status != http.StatusOK { // what is kept needs no registry
		t.Fatalf("answer %d %s", answer.status, answer.text)
	}
}
