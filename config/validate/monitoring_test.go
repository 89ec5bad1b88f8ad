package validate

import (
	"strings"
	"testing"
)

// TestMonitoringSelectsTheService renders config/monitoring, and holds what it selects against the pods of the installation.
func TestMonitoringSelectsTheService(t *testing.T) {
	const label = "app.kubernetes.io/name: kyverno-notation-venafi\n"
	text := string(render(t, "monitoring"))
	if n := strings.Count(text, "      "+label); n < 2 {
		t.Errorf("%d selectors by the label of the pods:\n%s", n, text)
	}
	if !strings.Contains(string(read(t, plainFile)), "        "+label) {
		t.Error("the pods do not have that label")
	}
	for _, part := range []string{"kind: PodMonitor\n", "kind: PrometheusRule\n", "kind: NetworkPolicy\n", "grafana_dashboard: \"1\"\n", "portNumber: 8080\n"} {
		if strings.Count(text, part) != 1 {
			t.Errorf("%q occurs %d times", part, strings.Count(text, part))
		}
	}
	if strings.Count(text, "\n  namespace: kyverno-notation-venafi\n") != 4 {
		t.Errorf("the objects are not in the service's namespace:\n%s", text)
	}
}

// TestMonitoringSelectsTheAuditor holds what config/monitoring/auditor selects against the pods of the certificate manager.
func TestMonitoringSelectsTheAuditor(t *testing.T) {
	const label = "app.kubernetes.io/name: kyverno-notation-venafi-certmanager\n"
	text := string(render(t, "monitoring/auditor"))
	if n := strings.Count(text, "      "+label); n != 2 {
		t.Errorf("%d selectors by the label of the pods:\n%s", n, text)
	}
	if !strings.Contains(string(render(t, "auditor/plain")), "        "+label) {
		t.Error("the pods do not have that label")
	}
	if strings.Count(text, "\n  namespace: kyverno-notation-venafi\n") != 2 {
		t.Errorf("the objects are not in the service's namespace:\n%s", text)
	}
}
