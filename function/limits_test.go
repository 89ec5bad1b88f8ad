package function_test

import (
	"io"
	"net/http"
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
	response, err := http.Get(b.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`registry_requests_total{outcome="ok"} 4`, `registry_requests_total{outcome="failed"} 0`, "registry_retries_total 0",
		"registry_hosts 1", "registry_reads 0", "registry_reads_waiting 0", "registry_mirrored_total 0", "registry_paused 0",
		`plugin_calls_total{event="started"} 2`, `plugin_calls_total{event="left_alone"} 0`, "plugin_processes 0", "plugin_circuits_open 0",
	} {
		if !strings.Contains(string(text), "kyverno_notation_venafi_"+line+"\n") {
			t.Errorf("the metrics have no line %q", line)
		}
	}
	if strings.Contains(string(text), b.registry.Host()) {
		t.Error("the metrics name the registry")
	}
}
