package validate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// root is that of the repository.
const root = "../../.."

// build builds commands into a folder, in the module that dir is in.
func build(t *testing.T, dir string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", append([]string{"build", "-C", dir}, args...)...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
}

// buildPrometheus gives the folder of prometheus and promtool. They are built without the ways to discover targets in clouds.
func buildPrometheus(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	build(t, ".", "-tags", "remove_all_sd", "-o", bin, "github.com/prometheus/prometheus/cmd/prometheus", "github.com/prometheus/prometheus/cmd/promtool")
	return bin
}

// writeRules writes the groups of the PrometheusRule as Prometheus reads them.
func writeRules(t *testing.T, dir, interval string) {
	t.Helper()
	var rule struct {
		Spec struct {
			Groups []map[string]any `yaml:"groups"`
		} `yaml:"spec"`
	}
	text, err := os.ReadFile("../prometheusrule.yaml")
	check(t, err)
	check(t, yaml.Unmarshal(text, &rule))
	for _, group := range rule.Spec.Groups {
		if interval != "" {
			group["interval"] = interval
		}
	}
	text, err = yaml.Marshal(map[string]any{"groups": rule.Spec.Groups})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "rules.yaml"), text, 0o600))
}

// TestTheAlerts has promtool check the rules and run the cases of testdata.
func TestTheAlerts(t *testing.T) {
	bin, dir := buildPrometheus(t), t.TempDir()
	writeRules(t, dir, "")
	cases, err := os.ReadFile("testdata/alerts.yaml")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "alerts.yaml"), cases, 0o600))
	for _, args := range [][]string{{"check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"}, {"test", "rules", "alerts.yaml"}} {
		command := exec.CommandContext(t.Context(), filepath.Join(bin, "promtool"), args...)
		command.Dir = dir
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, output)
		}
	}
	t.Run("a rule that is wrong is found", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(dir, "rules.yaml"))
		check(t, err)
		wrong := strings.Replace(string(text), "> 2.5", "> 25", 1)
		if wrong == string(text) {
			t.Fatal("the rules are as before")
		}
		check(t, os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(wrong), 0o600))
		command := exec.CommandContext(t.Context(), filepath.Join(bin, "promtool"), "test", "rules", "alerts.yaml")
		command.Dir = dir
		if output, err := command.CombinedOutput(); err == nil {
			t.Errorf("promtool passes: %s", output)
		}
	})
}

// withoutData are the metrics of a service in a cluster, with a shared cache, and with registries that tell their rate limits, which the
// demonstration does not have; parts of queries.
var withoutData = []string{"serving_certificate_not_after_seconds", "apiserver_connected", "shared_cache", "registry_limit_remaining"}

// TestTheDashboardOnARunningService has a real Prometheus read the demonstration, and evaluate all rules and all queries of the
// dashboard.
func TestTheDashboardOnARunningService(t *testing.T) {
	bin, dir := buildPrometheus(t), t.TempDir()
	build(t, root, "-o", filepath.Join(bin, "demo"), "./function/cmd/demo")
	build(t, root, "-o", filepath.Join(dir, "plugins/venafi-csp/notation-venafi-csp"), "./shell/plugin/plugintest/standin")
	service, prometheus := freeAddress(t), freeAddress(t)
	writeRules(t, dir, "1s")
	check(t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(`
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yaml]
scrape_configs:
- job_name: service
  static_configs:
  - targets: ["`+service+`"]
    labels: {namespace: kyverno-notation-venafi, pod: kyverno-notation-venafi-0}
`), 0o600))
	start(t, dir, filepath.Join(bin, "demo"), "--plainAddress", service, "--pluginDir", "plugins")
	start(t, dir, filepath.Join(bin, "prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address="+prometheus)
	p := client{"http://" + prometheus}
	eventually(t, func() error { // verdicts of the demonstration, rules evaluated, and several samples
		found, err := p.query(t.Context(), `count_over_time(kyverno_notation_venafi_images_total{code="NoSignature"}[1m]) > 5 and on() kyverno_notation_venafi:unavailable:ratio_rate5m`)
		if err == nil && found == 0 {
			err = errors.New("no samples")
		}
		return err
	})

	for _, expression := range dashboard(t) {
		found, err := p.query(t.Context(), strings.NewReplacer("$__rate_interval", "1m", "$namespace", ".*").Replace(expression))
		absent := slices.ContainsFunc(withoutData, func(name string) bool { return strings.Contains(expression, name) })
		if err != nil || (found == 0) != absent {
			t.Errorf("%s: %d series, want some: %t, error %v", expression, found, !absent, err)
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	check(t, p.get(t.Context(), "rules", nil, &rules))
	n := 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			n++
			if rule.Health != "ok" || rule.LastError != "" || rule.State == "firing" {
				t.Errorf("rule %+v", rule)
			}
		}
	}
	if n < 10 {
		t.Errorf("%d rules", n)
	}
}

// dashboard gives the queries of the dashboard.
func dashboard(t *testing.T) (expressions []string) {
	t.Helper()
	var read struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile("../dashboard.json")
	check(t, err)
	check(t, json.Unmarshal(text, &read))
	for _, panel := range read.Panels {
		if len(panel.Targets) == 0 || panel.Title == "" {
			t.Errorf("panel %+v", panel)
		}
		for _, target := range panel.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	if len(expressions) == 0 {
		t.Error("the dashboard has no queries")
	}
	return expressions
}

// client asks Prometheus.
type client struct{ url string }

// query gives how many series an expression has now.
func (c client) query(ctx context.Context, expression string) (int, error) {
	var data struct{ Result []json.RawMessage }
	err := c.get(ctx, "query", url.Values{"query": {expression}}, &data)
	return len(data.Result), err
}

// get decodes the data of an answer of the API.
func (c client) get(ctx context.Context, what string, parameters url.Values, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/api/v1/"+what+"?"+parameters.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Error string
		Data  json.RawMessage
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Error != "" {
		return fmt.Errorf("%s: %s %v", what, answer.Error, err)
	}
	return json.Unmarshal(answer.Data, into)
}

// start runs a command until the test ends.
func start(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	command := exec.Command(name, args...)
	command.Dir = dir
	var output strings.Builder
	command.Stdout, command.Stderr = &output, &output
	check(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, output.String())
		}
	})
}

// freeAddress gives an address of this machine that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

// eventually waits until a condition holds.
func eventually(t *testing.T, holds func() error) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
