package function

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

const monitoring = "../config/monitoring/"

// TestTheMetricsOfAlertsAndDashboardExist holds each name of a metric in config/monitoring against /metrics of a service in a cluster.
func TestTheMetricsOfAlertsAndDashboardExist(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(`{"clusters":[{"name":"a","cluster":{"server":"http://127.0.0.1:1"}}],"contexts":[{"name":"a","context":{"cluster":"a"}}],"current-context":"a"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	settings, _, err := LoadSettings("test", []string{"--kubeconfig", kubeconfig, "--sharedCache", "redis://127.0.0.1:1"}, func(string) (string, bool) { return "", false }, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(settings, os.LookupEnv, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	f.metrics.observe(pathVerify, &call{}, 200, time.Second, core.Verdict{Results: []core.Result{{Code: reason.Verified}}})
	exposed := scraped(f, "text/plain") + describedMetrics(newAuditorCollector(&Auditor{})) + describedMetrics(&limitsCollector{})
	for _, file := range []string{"prometheusrule.yaml", "dashboard.json"} {
		text, err := os.ReadFile(monitoring + file)
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile(namespace+`_[a-z0-9_]+`).FindAllString(string(text), -1)
		if len(named) == 0 {
			t.Errorf("%s names no metric", file)
		}
		slices.Sort(named)
		for _, name := range slices.Compact(named) {
			if !strings.Contains(exposed, "\n"+name+" ") && !strings.Contains(exposed, "\n"+name+"{") {
				t.Errorf("%s names %s, which the service does not have", file, name)
			}
		}
	}
}

// describedMetrics gives the names of a collector's metrics, of which some have no value before there is something to count, as a
// service exposes them.
func describedMetrics(c prometheus.Collector) (names string) {
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		c.Describe(descriptions)
	}()
	for d := range descriptions {
		name := regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]
		names += "\n" + name + " \n" + name + "_bucket "
	}
	return names
}

// TestEachAlertHasARunbook at the address that it gives.
func TestEachAlertHasARunbook(t *testing.T) {
	text, err := os.ReadFile(monitoring + "prometheusrule.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rule struct {
		Spec struct {
			Groups []struct {
				Rules []struct {
					Alert       string            `json:"alert"`
					Labels      map[string]string `json:"labels"`
					Annotations map[string]string `json:"annotations"`
				} `json:"rules"`
			} `json:"groups"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(text, &rule); err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(monitoring + "README.md")
	if err != nil {
		t.Fatal(err)
	}
	var told, alerts []string
	for _, heading := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(string(readme), -1) {
		told = append(told, heading[1])
	}
	for _, group := range rule.Spec.Groups {
		for _, r := range group.Rules {
			if r.Alert == "" {
				continue
			}
			alerts = append(alerts, r.Alert)
			if want := "https://github.com/nirmata/kyverno-notation-venafi/blob/main/config/monitoring/README.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
				t.Errorf("%s: the runbook is at %s, want %s", r.Alert, r.Annotations["runbook_url"], want)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || !slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) {
				t.Errorf("%s: annotations %v, labels %v", r.Alert, r.Annotations, r.Labels)
			}
		}
	}
	if !slices.Equal(told, alerts) || len(alerts) == 0 {
		t.Errorf("the alerts are %q, the runbooks %q", alerts, told)
	}
}
