//go:build e2e

// Package auditor tests the auditor with a real API server, as the account and with the rights of its manifests. There is no kubelet
// and no controller, so pods are made and their status is written by hand, and nothing but the auditor deletes reports.
package auditor

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// How large the cluster of TestScale is; `make bench-auditor` has the full size.
var (
	scaleImages   = flag.Int("images", 300, "images of the cluster")
	scaleAffected = flag.Int("affected", 30, "images that a change of trust affects")
)

// fixture is a control plane with the installation and the auditor's rights.
type fixture struct {
	bed        *bed.Bed
	deployment *deployment.Deployment
	registry   *registrytest.Registry
	scenario   *scenariotest.Scenario
}

var shared *fixture

func TestMain(m *testing.M) {
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
	defer cancel()
	code := 1
	fx, err := start(ctx)
	if err == nil {
		shared = fx
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "starting the test environment:", err)
	}
	fx.close()
	os.Exit(code)
}

// start starts the environment. The caller must close it, after an error too.
func start(ctx context.Context, apiServerArgs ...string) (fx *fixture, err error) {
	fx = &fixture{registry: registrytest.New(registrytest.Options{})}
	if fx.scenario, err = scenariotest.New(fx.registry.Host(), fx.registry.Client(), true); err != nil {
		return fx, err
	}
	if fx.bed, err = bed.Start(ctx, bed.Options{Log: os.Stderr, APIServerArgs: apiServerArgs}); err != nil {
		return fx, err
	}
	manifest, err := fx.bed.Kubectl(ctx, "", "kustomize", "../../config/auditor/plain")
	if err != nil {
		return fx, err
	}
	file := filepath.Join(fx.bed.Dir(), "install.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		return fx, err
	}
	if err := deployment.Install(ctx, fx.bed, file); err != nil {
		return fx, err
	}
	if err := fx.bed.Define(ctx, bed.PolicyReports); err != nil {
		return fx, err
	}
	fx.deployment, err = deployment.Build(ctx, fx.bed, fx.bed.Dir())
	return fx, err
}

func (fx *fixture) close() {
	if fx.bed != nil {
		if err := fx.bed.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "ending the test environment:", err)
		}
	}
	fx.registry.Close()
}

// audit starts a certificate manager that audits.
func (fx *fixture) audit(t *testing.T, args ...string) *deployment.Process {
	t.Helper()
	return deployment.Kept(t)(fx.deployment.Manage(t.Context(), append([]string{
		"--audit", "--auditTrustPolicy", "tp-{{ namespace }}", "--auditExceptNamespaces", "default,kube-system", "--auditInterval", "5s",
		"--allowLoopback", "--insecureRegistries", fx.registry.Host(), "--caCopyNamespaces=",
		"--imagePullSecrets=regcred", "--pluginConfigMap=notation-plugin-config", "--pluginConfigSecret=notation-plugin-config", // as the manifests say
	}, args...)...))
}

func (fx *fixture) apply(t *testing.T, manifests string) {
	t.Helper()
	if err := fx.bed.Apply(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
}

func (fx *fixture) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := fx.bed.Kubectl(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// team makes a namespace with trust in the scenario's CA, and deletes both in the end.
func (fx *fixture) team(t *testing.T, name string) {
	t.Helper()
	fx.apply(t, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", name))
	fx.trust(t, name)
	fx.apply(t, "---\n"+scenariotest.TrustStore("acme", fx.scenario.Trusted.PEM()))
	t.Cleanup(func() {
		_, _ = fx.bed.Kubectl(context.Background(), "", "delete", "namespace", name, "--ignore-not-found", "--wait=false") // it ends, and is not looked at
		_, _ = fx.bed.Kubectl(context.Background(), "", "delete", "trustpolicy", "tp-"+name, "--ignore-not-found")
	})
}

func (fx *fixture) trust(t *testing.T, team string) {
	t.Helper()
	fx.apply(t, scenariotest.TrustPolicy("tp-"+team, "strict", "ca:acme"))
}

// distrust has a team trust another CA only.
func (fx *fixture) distrust(t *testing.T, team string) {
	t.Helper()
	other, err := signingtest.NewCA(signingtest.Options{CommonName: "Other"})
	if err != nil {
		t.Fatal(err)
	}
	fx.apply(t, scenariotest.TrustStore("other", other.PEM()))
	fx.apply(t, scenariotest.TrustPolicy("tp-"+team, "strict", "ca:other"))
}

// push pushes an image that a trusted signer signed, and gives its reference and its digest.
func (fx *fixture) push(t *testing.T, name string) (reference, digest string) {
	t.Helper()
	descriptor, err := fx.scenario.PushSigned(t.Context(), name, fx.scenario.Signer(), &signingtest.SignRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return fx.scenario.Reference(name), descriptor.Digest.String()
}

const (
	template = "{metadata: {labels: {app: x}}, spec: {containers: [{name: app, image: unused}]}}"
	selector = "selector: {matchLabels: {app: x}}"
)

// deploy makes a Deployment with a ReplicaSet and two pods that run an image, and gives the Deployment's UID.
func (fx *fixture) deploy(t *testing.T, namespace, name, image, digest string) string {
	t.Helper()
	fx.apply(t, fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s, namespace: %s}\nspec: {%s, template: %s}\n", name, namespace, selector, template))
	uid := fx.uid(t, namespace, "deployment/"+name)
	fx.apply(t, fmt.Sprintf("apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: %s-1, namespace: %s, %s}\nspec: {%s, template: %s}\n",
		name, namespace, owner("apps/v1", "Deployment", name, uid), selector, template))
	set := owner("apps/v1", "ReplicaSet", name+"-1", fx.uid(t, namespace, "replicaset/"+name+"-1"))
	fx.pod(t, namespace, name+"-1-a", set, image, digest)
	fx.pod(t, namespace, name+"-1-b", set, image, digest)
	return uid
}

func (fx *fixture) uid(t *testing.T, namespace, object string) string {
	t.Helper()
	return fx.kubectl(t, "get", object, "-n", namespace, "-o", "jsonpath={.metadata.uid}")
}

func owner(apiVersion, kind, name, uid string) string {
	return fmt.Sprintf("ownerReferences: [{apiVersion: %s, kind: %s, name: %s, uid: %s, controller: true}]", apiVersion, kind, name, uid)
}

// pod makes a pod that runs an image; owner is "" for none, digest for one that does not run yet.
func (fx *fixture) pod(t *testing.T, namespace, name, owner, image, digest string) {
	t.Helper()
	metadata := fmt.Sprintf("name: %s, namespace: %s", name, namespace)
	if owner != "" {
		metadata += ", " + owner
	}
	fx.apply(t, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {%s}\nspec:\n  containers:\n  - {name: app, image: %q}\n", metadata, image))
	if digest == "" {
		return
	}
	repository := image[:strings.LastIndex(image, ":")]
	fx.kubectl(t, "patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", "-p",
		fmt.Sprintf(`{"status":{"phase":"Running","containerStatuses":[{"name":"app","image":%q,"imageID":%q,"ready":true,"restartCount":0,"state":{"running":{}}}]}}`, image, repository+"@"+digest))
}

// report is a report as it is stored.
type report struct {
	auditor.Report
	Metadata struct {
		auditor.Metadata
		UID string
	} `json:"metadata"`
}

// reports gives the reports of a namespace, by the name of their workloads.
func (fx *fixture) reports(ctx context.Context, resource, namespace string) (map[string]report, error) {
	out, err := fx.bed.Kubectl(ctx, "", "get", resource, "-n", namespace, "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct{ Items []report }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	found := map[string]report{}
	for _, r := range list.Items {
		if _, twice := found[r.Scope.Name]; twice {
			return nil, fmt.Errorf("there are two reports on %s", r.Scope.Name)
		}
		found[r.Scope.Name] = r
	}
	return found, nil
}

// within waits until the report on a workload says something.
func (fx *fixture) within(t *testing.T, limit time.Duration, resource, namespace, workload string, says func(report) bool) report {
	t.Helper()
	var found report
	began := time.Now()
	err := deployment.Eventually(t.Context(), limit, func() error {
		all, err := fx.reports(t.Context(), resource, namespace)
		if err != nil {
			return err
		}
		r, exists := all[workload]
		if !exists || !says(r) {
			text, _ := json.Marshal(all)
			return fmt.Errorf("of %s, the reports are %s", workload, text)
		}
		found = r
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s after %s", workload, time.Since(began).Round(100*time.Millisecond))
	return found
}

func passes(r report) bool {
	return r.Summary.Pass > 0 && r.Summary.Fail+r.Summary.Error+r.Summary.Warn+r.Summary.Skip == 0
}
func fails(r report) bool { return r.Summary.Fail > 0 }

// gone waits until a namespace has no report on a workload, or none at all for "".
func (fx *fixture) gone(t *testing.T, resource, namespace, workload string) {
	t.Helper()
	began := time.Now()
	err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
		all, err := fx.reports(t.Context(), resource, namespace)
		if _, exists := all[workload]; err == nil && (exists || workload == "" && len(all) > 0) {
			err = fmt.Errorf("there are %d reports", len(all))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("gone after %s", time.Since(began).Round(100*time.Millisecond))
}

// events gives the reasons of the Events on a workload, in order.
func (fx *fixture) events(t *testing.T, namespace, workload string) []string {
	t.Helper()
	out := fx.kubectl(t, "get", "events.events.k8s.io", "-n", namespace, "--sort-by=.eventTime", "-o", fmt.Sprintf(`jsonpath={range .items[?(@.regarding.name=="%s")]}{.type}/{.reason}{"\n"}{end}`, workload))
	return strings.Fields(out)
}

// metric gives the value of a metric; 0 where it has none.
func metric(t *testing.T, p *deployment.Process, series string) float64 {
	t.Helper()
	text, err := p.Get(t.Context(), "/metrics")
	if err != nil {
		return 0
	}
	match := regexp.MustCompile(`(?m)^kyverno_notation_venafi_audit_` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(text)
	if match == nil {
		return 0
	}
	value, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// shows waits until a metric has a value.
func shows(t *testing.T, limit time.Duration, p *deployment.Process, series string, holds func(float64) bool) {
	t.Helper()
	var last float64
	err := deployment.Eventually(t.Context(), limit, func() error {
		if last = metric(t, p, series); holds(last) {
			return nil
		}
		return errors.New("not yet")
	})
	if err != nil {
		t.Errorf("%s is %v", series, last)
	}
}
