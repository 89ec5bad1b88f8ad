//go:build e2e && linux

package documents

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const (
	serving   = "knative.dev/serving"
	eventing  = "knative.dev/eventing"
	operator  = "github.com/prometheus-operator/prometheus-operator"
	kyverno   = "github.com/kyverno/kyverno"
	release   = "kyverno-notation-venafi"
	inProduct = "kubectl -n " + deployment.Namespace + " "
)

// TestDocuments follows the documents from a clean machine: each way to install on an API server of its own, and then what they say of
// an installation.
func TestDocuments(t *testing.T) {
	m := newMachine(t)
	m.follow(t, step{document: "README.md", command: "go build -o knv ./function/cmd/kyverno-notation-venafi"})
	for _, part := range []struct {
		name string
		run  func(*testing.T, *machine)
	}{
		{"plain Kubernetes", plain}, {"Knative Serving", knative}, {"Helm", helm}, {"func", funcsWay}, {"an upgrade with Helm", upgrade}, {"the command line", commandLine},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, m) })
	}
	t.Run("all that commands.txt says", func(t *testing.T) { m.all(t, "TestDocuments") })
}

// way installs in one way, and tells what that took.
func (m *machine) way(t *testing.T, manifest string, steps ...step) {
	t.Helper()
	began := time.Now()
	m.follow(t, steps...)
	took := time.Since(began)
	t.Logf("%d commands, %.1f s, %d objects", len(steps), took.Seconds(), m.accepted(t, manifest))
}

func plain(t *testing.T, m *machine) {
	b := m.cluster(t)
	m.follow(t, step{document: "config/README.md", command: "kubectl create namespace kyverno-notation-venafi", more: " --dry-run=server"})
	m.way(t, "cat config/install.yaml", step{document: "README.md", command: "kubectl apply -f config/install.yaml"})
	m.write(t, "ca.crt", []byte("-----BEGIN CERTIFICATE-----\n"))
	m.follow(t,
		step{document: "README.md", command: "kubectl apply -f config/samples/truststore.yaml -f config/samples/trustpolicy.yaml"},
		step{document: "config/README.md", command: "kubectl -n kyverno-notation-venafi create configmap ca-certificates --from-file=ca.crt"},
		step{document: "config/crds/README.md", command: "kubectl explain trustpolicy.spec", says: "trustPolicyName"},
		step{document: "config/crds/README.md", command: "kubectl explain truststore.spec", says: "caBundleFrom"},
		step{document: "config/README.md", command: "kubectl create clusterrolebinding trust --clusterrole=kyverno-notation-venafi-trust-admin --group=security"},
	)
	if said, _, _ := m.shell(t.Context(), m.checkout, "kubectl auth can-i create trustpolicies --as=someone --as-group=security"); !strings.HasSuffix(said, "yes\n") {
		t.Errorf("whoever has the role for trust may create a trust policy: %q", said)
	}
	operates(t, m, b)
	m.define(t, filepath.Join(m.module(t, "prometheus-operator", operator), "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"),
		filepath.Join(m.module(t, "prometheus-operator", operator), "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"))
	for _, more := range []struct{ document, folder string }{
		{"config/README.md", "config/console/plain"}, {"config/monitoring/README.md", "config/monitoring"}, {"config/monitoring/README.md", "config/monitoring/auditor"},
	} {
		m.follow(t, step{document: more.document, command: "kubectl apply -k " + more.folder})
		m.accepted(t, "kubectl kustomize "+more.folder)
	}
	t.Run("what replicas share", func(t *testing.T) { shares(t, m) })
}

// shares follows how replicas come to share outcomes, and reads what the API server has for their pods as a kubelet does: both programs get the
// server, and the service its password.
func shares(t *testing.T, m *machine) {
	m.write(t, "password", []byte("correct-horse\n"))
	m.follow(t,
		step{document: "config/README.md", command: inProduct + "create configmap kyverno-notation-venafi-shared-cache --from-literal=SHARED_CACHE=rediss://knv@cache.example:6380 --from-literal=SHARED_CACHE_PASSWORD_FILE=/etc/shared-cache/password"},
		step{document: "config/README.md", command: inProduct + "create secret generic kyverno-notation-venafi-shared-cache-auth --from-file=password"},
		step{document: "config/README.md", command: "kubectl apply -k config/sharedcache/plain"},
		step{document: "config/README.md", command: inProduct + "rollout restart deployment", says: "restarted"},
	)
	m.accepted(t, "kubectl kustomize config/sharedcache/plain")
	for _, deployment := range []string{"kyverno-notation-venafi", "kyverno-notation-venafi-certmanager"} {
		settings := m.settings(t, deployment)
		if settings.SharedCache != "rediss://knv@cache.example:6380" || settings.SharedCachePasswordFile != "/etc/shared-cache/password" || settings.SharedKeys() != "kyverno-notation-venafi-shared-cache" {
			t.Errorf("%s shares by %q with the password in %q and the key in %q", deployment, settings.SharedCache, settings.SharedCachePasswordFile, settings.SharedKeys())
		}
	}
	mount := m.output(t, m.checkout, inProduct+`get deployment kyverno-notation-venafi -o jsonpath='{.spec.template.spec.containers[0].volumeMounts[?(@.mountPath=="/etc/shared-cache")].name}'`)
	secret := m.output(t, m.checkout, inProduct+`get deployment kyverno-notation-venafi -o jsonpath='{.spec.template.spec.volumes[?(@.name=="`+mount+`")].secret.secretName}'`)
	if password := m.output(t, m.checkout, inProduct+"get secret "+secret+" -o jsonpath='{.data.password}' | base64 -d"); password != "correct-horse" {
		t.Errorf("the file with the password is that of the Secret %q: %q", secret, password)
	}
	for question, want := range map[string]string{
		"watch secrets/kyverno-notation-venafi-shared-cache kyverno-notation-venafi":              "yes",
		"update secrets/kyverno-notation-venafi-shared-cache kyverno-notation-venafi":             "no",
		"update secrets/kyverno-notation-venafi-shared-cache kyverno-notation-venafi-certmanager": "yes",
		"create secrets kyverno-notation-venafi-certmanager":                                      "yes",
	} {
		i := strings.LastIndex(question, " ")
		said, _, _ := m.shell(t.Context(), m.checkout, inProduct+"auth can-i "+question[:i]+" --as=system:serviceaccount:kyverno-notation-venafi:"+question[i+1:])
		if !strings.HasSuffix(strings.TrimSpace(said), want) {
			t.Errorf("%s: %q, want %s", question, said, want)
		}
	}
}

// settings gives those that the first container of a deployment has.
func (m *machine) settings(t *testing.T, deployment string) function.Settings {
	t.Helper()
	var object appsv1.Deployment
	if err := json.Unmarshal([]byte(m.output(t, m.checkout, inProduct+"get deployment "+deployment+" -o json")), &object); err != nil {
		t.Fatal(err)
	}
	container, variables := object.Spec.Template.Spec.Containers[0], map[string]string{}
	for _, from := range container.EnvFrom {
		var named corev1.ConfigMap
		if err := json.Unmarshal([]byte(m.output(t, m.checkout, inProduct+"get configmap "+from.ConfigMapRef.Name+" -o json")), &named); err != nil {
			t.Fatal(err)
		}
		maps.Copy(variables, named.Data)
	}
	for _, variable := range container.Env {
		variables[variable.Name] = variable.Value
	}
	settings, _, err := function.LoadSettings(deployment, container.Args[1:], func(name string) (string, bool) { value, ok := variables[name]; return value, ok }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

// operates follows what an operator looks at, where a certificate manager runs.
func operates(t *testing.T, m *machine, b *bed.Bed) {
	product, err := deployment.Build(t.Context(), b, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	deployment.Kept(t)(product.Manage(t.Context()))
	wait := func(object string) {
		t.Helper()
		m.output(t, m.checkout, inProduct+"wait --for=create --timeout=1m "+object)
	}
	wait("lease/kyverno-notation-venafi-certmanager")
	wait("configmap/kyverno-notation-venafi-records")
	m.output(t, m.checkout, inProduct+`wait --for=jsonpath='{.data.public-keys\.pem}' --timeout=1m configmap/kyverno-notation-venafi-records`)
	m.output(t, m.checkout, "kubectl create namespace team-a && kubectl create serviceaccount looker -n team-a")
	if err := b.Define(t.Context(), bed.PolicyReports); err != nil {
		t.Fatal(err)
	}
	if err := b.Apply(t.Context(), workloads); err != nil {
		t.Fatal(err)
	}
	uid := m.output(t, m.checkout, "kubectl get replicaset web-5d9 -o jsonpath='{.metadata.uid}'")
	if err := b.Apply(t.Context(), strings.ReplaceAll(denial, "UID", uid)); err != nil {
		t.Fatal(err)
	}
	m.values["NAMESPACE"] = "team-a"
	m.follow(t,
		step{document: "config/monitoring/README.md", command: "kubectl -n kyverno-notation-venafi get lease kyverno-notation-venafi-certmanager", says: "certmanager"},
		step{document: "config/monitoring/README.md", command: "kubectl -n kyverno-notation-venafi get pods"},
		step{document: "config/monitoring/README.md", command: "kubectl get policyreports -n NAMESPACE"},
		step{document: "config/README.md", command: "kubectl get events -n default --field-selector reason=CAChange"},
		step{document: "function/README.md", command: `kubectl -n kyverno-notation-venafi get configmap kyverno-notation-venafi-records -o jsonpath='{.data.public-keys\.pem}' > keys.pem`},
		step{document: "function/README.md", command: "kubectl create token looker -n team-a --audience=kyverno-notation-venafi-decisions > token"},
		step{document: "function/README.md", command: "kubectl describe replicaset web-5d9", says: "NoSignature"},
		step{document: "config/samples/README.md", command: "kubectl describe pod", more: " web", says: "ghcr.io/acme/app:v1"},
		step{document: "config/samples/README.md", command: "kubectl scale --replicas=0", more: " replicaset/web-5d9", says: "scaled"},
	)
	if subject := m.output(t, m.checkout, "openssl x509 -in keys.pem -noout -subject"); !strings.Contains(subject, "kyverno-notation-venafi records") {
		t.Errorf("the public key is that of %q", subject)
	}
	if token := m.output(t, m.checkout, "cut -d. -f2 token | tr _- /+ | base64 -di 2>/dev/null"); !strings.Contains(token, "kyverno-notation-venafi-decisions") {
		t.Errorf("the token says %q", token)
	}
}

// workloads are a ReplicaSet whose pods are denied, and a pod.
const workloads = `
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web-5d9, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "ghcr.io/acme/app:v1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default}
spec: {containers: [{name: web, image: "ghcr.io/acme/app:v1"}]}
`

// denial is an Event as the service writes it.
const denial = `
apiVersion: v1
kind: Event
metadata: {name: web-5d9.1, namespace: default}
type: Warning
reason: NoSignature
message: "Pod web-5d9-*: failed to verify container web"
involvedObject: {apiVersion: apps/v1, kind: ReplicaSet, name: web-5d9, namespace: default, uid: UID}
source: {component: kyverno-notation-venafi}
`

func knative(t *testing.T, m *machine) {
	m.cluster(t)
	m.define(t, filepath.Join(m.module(t, "knative", serving), "config/core/300-resources/service.yaml"))
	m.way(t, "cat config/knative.yaml", step{document: "README.md", command: "kubectl apply -f config/knative.yaml"})
	for _, more := range []string{"config/auditor/knative", "config/console/knative", "config/sharedcache/knative"} {
		m.follow(t, step{document: "config/README.md", command: "kubectl apply -k " + more})
		m.accepted(t, "kubectl kustomize "+more)
	}
	m.output(t, m.checkout, "kubectl create namespace knative-eventing && kubectl apply -f "+filepath.Join(m.module(t, "eventing", eventing), "config/brokers/mt-channel-broker/deployments/broker-filter.yaml"))
	m.follow(t, step{document: "function/README.md", command: "kubectl -n knative-eventing rollout restart deployment/mt-broker-filter", says: "restarted"})
}

// funcsWay is what func itself does not make.
func funcsWay(t *testing.T, m *machine) {
	m.cluster(t)
	m.way(t, "kubectl kustomize config/func", step{document: "README.md", command: "kubectl apply -k config/func"})
}

// commandLine follows what needs no installation, but for trust in a cluster: that which make e2e-up leaves running.
func commandLine(t *testing.T, m *machine) {
	registry := registrytest.New(registrytest.Options{TLS: true})
	t.Cleanup(registry.Close)
	images, err := signingtest.Repository(registry.Host(), "acme/app", registry.Client(), false)
	if err == nil {
		_, err = signingtest.PushImage(t.Context(), images, "v1", signingtest.Image{})
	}
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, "registry.crt", registry.CAPEM())
	m.environment = append(m.environment, "ALLOW_LOOPBACK=true", "REGISTRY_CA_FILE="+filepath.Join(m.checkout, "registry.crt"))
	m.up(t)
	m.output(t, m.checkout, "kubectl apply -k config/crds && kubectl wait --for=condition=Established -f config/crds/trustpolicies.yaml -f config/crds/truststores.yaml && kubectl apply -f config/samples/trust")
	recorded, status, err := m.shell(t.Context(), m.checkout, "./knv why "+registry.Host()+"/acme/app:v1 --trustDir config/samples/trust --trustPolicy demo -o json 2>/dev/null")
	if err != nil || status != 1 {
		t.Fatalf("status %d, %v: %s", status, err, recorded)
	}
	var record struct{ ID string }
	if err := json.Unmarshal([]byte(recorded), &record); err != nil || record.ID == "" {
		t.Fatalf("%v: %s", err, recorded)
	}
	m.write(t, "decisions.jsonl", []byte(recorded))
	m.values["01M8C95RNMTW6JAP53C04EWFKA"] = record.ID
	m.follow(t,
		step{document: "function/README.md", command: "./knv replay --again decisions.jsonl --id 01M8C95RNMTW6JAP53C04EWFKA --kubeconfig ~/.kube/config", says: "1 the same"},
		step{document: "function/README.md", command: "./knv why 01M8C95RNMTW6JAP53C04EWFKA --records decisions.jsonl", status: 1, says: "NoSignature"},
		step{document: "function/README.md", command: "source <(knv completion bash)", more: "; complete -p knv", says: "__start_"},
		step{document: "function/README.md", command: "knv completion zsh -h", says: "zsh"},
		step{document: "function/README.md", command: `kubectl knv __complete "$@"`, more: " che", says: "check"},
		step{document: "function/README.md", command: "kubectl knv check", more: " " + registry.Host() + "/acme/app:v1 --trustDir config/samples/trust --trustPolicy demo", status: 1, says: "NoSignature"},
	)
	m.follow(t, step{document: ".github/CONTRIBUTING.md", command: "make help", says: "release-twice"})
	m.write(t, "token", []byte("token"))
	m.write(t, "ca.crt", registry.CAPEM())
	consoles(t, m)
	m.follow(t, step{document: "e2e/README.md", command: "make e2e-down"})
	if said, status, err := m.shell(t.Context(), m.checkout, "kubectl get namespaces --request-timeout=2s"); status == 0 {
		t.Errorf("after make e2e-down there is still an API server: %s, %v", said, err)
	}
}

// consoles begins to serve, and asks for the first page. A console runs until it is ended.
func consoles(t *testing.T, m *machine) {
	for _, command := range []string{
		"./knv console --trustDir config/samples/trust --records decisions.jsonl",
		"./knv console --kubeconfig ~/.kube/config --service https://svc.example --tokenFile token --caFile ca.crt",
	} {
		address, err := deployment.FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		m.follow(t, step{document: "function/README.md", command: command,
			more: fmt.Sprintf(" --consoleAddress %s & curl -fsS --retry 30 --retry-delay 1 --retry-connrefused http://%[1]s/; status=$?; kill $!; exit $status", address), says: "<html"})
	}
}

// helm installs with Helm, and then upgrades, tests and takes back. Kyverno is installed in the same way.
func helm(t *testing.T, m *machine) {
	b := m.cluster(t)
	m.way(t, "helm get manifest "+release, step{document: "README.md", command: "helm install kyverno-notation-venafi config/chart"})
	asksTheService(t, m, b)
	kyvernosChart(t, m)
}

// upgrade has a real Helm go from the last release of the chart to this one on an API server, and back.
func upgrade(t *testing.T, m *machine) {
	m.cluster(t)
	const image = `get deployments -o jsonpath='{.items[*].spec.template.spec.containers[*].image}'`
	m.output(t, m.checkout, "helm install "+release+" "+releasedChart(t))
	before := m.output(t, m.checkout, inProduct+image)
	m.follow(t,
		step{document: "config/UPGRADING.md", command: "kubectl apply -k config/crds"},
		step{document: "config/UPGRADING.md", command: "helm upgrade kyverno-notation-venafi config/chart --reset-then-reuse-values", says: "REVISION: 2"},
	)
	m.accepted(t, "helm get manifest "+release)
	if now := m.output(t, m.checkout, inProduct+image); now == before || strings.Contains(now, ":latest") {
		t.Errorf("the images were %s and are %s", before, now)
	}
	for _, deployment := range []string{"kyverno-notation-venafi", "kyverno-notation-venafi-certmanager"} {
		// What the controllers of Kubernetes would write.
		m.output(t, m.checkout, inProduct+`patch deployment `+deployment+` --subresource=status --type=merge -p '{"status": {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, `+
			`"availableReplicas": 2, "observedGeneration": '$(`+inProduct+`get deployment `+deployment+` -o jsonpath='{.metadata.generation}')'}}'`)
		m.follow(t, step{document: "config/UPGRADING.md", command: "kubectl -n kyverno-notation-venafi rollout status deployment/" + deployment, says: "successfully rolled out"})
	}
	m.follow(t, step{document: "config/UPGRADING.md", command: "helm rollback kyverno-notation-venafi", says: "Rollback was a success"})
	if now := m.output(t, m.checkout, inProduct+image); now != before {
		t.Errorf("taken back, the images are %s; they were %s", now, before)
	}
}

// releasedChart is a chart that gives what the last release gave.
func releasedChart(t *testing.T) string {
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(repository, "config/validate/testdata/released/plain.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"Chart.yaml": "apiVersion: v2\nname: " + release + "\nversion: 0.0.1\n"}
	for _, document := range strings.Split(string(text), "\n---\n") {
		folder := "templates/"
		if strings.Contains(document, "kind: CustomResourceDefinition\n") {
			folder = "crds/"
		}
		files[folder+"all.yaml"] += document + "\n---\n"
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func kyvernosChart(t *testing.T, m *machine) {
	dir := t.TempDir()
	charts := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(charts.Close)
	source := m.module(t, "kyverno", kyverno)
	// Of the charts that it depends on, those in the repositories of others are left out.
	m.output(t, dir, "cp -r --no-preserve=mode "+filepath.Join(source, "charts", "kyverno")+" chart && rm chart/Chart.lock && sed -i -E '/^  - name: (kyverno-api|openreports|reports-server)$/,/condition:/d' chart/Chart.yaml && "+
		"helm package chart && rm -r chart && helm repo index . && helm repo add kyverno "+charts.URL)
	// Without its definitions, for brevity, and without its hook, a Job that nothing would run.
	m.output(t, dir, "helm install kyverno kyverno/kyverno -n kyverno --create-namespace --set crds.install=false,crds.migration.enabled=false")
	m.follow(t,
		step{document: "config/README.md", command: "helm upgrade kyverno kyverno/kyverno -n kyverno --reuse-values -f config/kyverno/values.yaml"},
		step{document: "config/README.md", command: "kubectl -n kyverno rollout restart deployment", says: "deployment.apps/kyverno-admission-controller restarted"},
	)
	mounted := m.output(t, dir, "kubectl -n kyverno get deployment kyverno-admission-controller -o jsonpath='{.spec.template.spec.volumes[*].configMap.name}'")
	if !strings.Contains(mounted, "kyverno-notation-venafi-ca") {
		t.Errorf("Kyverno mounts %q", mounted)
	}
	m.define(t, filepath.Join(source, "config", "crds", "policies.kyverno.io", "policies.kyverno.io_validatingpolicies.yaml"))
	m.output(t, m.checkout, "kubectl apply -f config/samples/validatingpolicy-background.yaml")
	m.follow(t, step{document: "config/samples/README.md", command: `kubectl annotate validatingpolicy report-unverified-images rescan="$(date)" --overwrite`, says: "annotated"})
}

// asksTheService has helm test ask a replica of the service. The test is the node on which the pod of helm test runs.
func asksTheService(t *testing.T, m *machine, b *bed.Bed) {
	product, err := deployment.Build(t.Context(), b, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kept := deployment.Kept(t)
	kept(product.Manage(t.Context(), "--extraSANs=127.0.0.1"))
	service := kept(product.Serve(t.Context()))
	if err := deployment.Eventually(t.Context(), deployment.Patience, func() error { return service.Ready(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	ran := make(chan string, 1)
	go func() { ran <- runPod(t, m, service.Secure) }()
	m.follow(t, step{document: "config/UPGRADING.md", command: "helm test kyverno-notation-venafi", says: "Phase:          Succeeded"})
	if said := <-ran; said != "" {
		t.Error(said)
	}
}

// runPod does what a node does with the pod of helm test, and says what went wrong.
func runPod(t *testing.T, m *machine, address string) string {
	const pod = inProduct + "get pod kyverno-notation-venafi-test -o "
	if said, status, err := m.shell(t.Context(), m.checkout, inProduct+"wait --for=create --timeout=1m pod/kyverno-notation-venafi-test"); err != nil || status != 0 {
		return fmt.Sprint(said, err)
	}
	text, _, err := m.shell(t.Context(), m.checkout, pod+"jsonpath='{.spec.containers[0].args}'")
	var args []string
	if err := json.Unmarshal([]byte(text), &args); err != nil {
		return fmt.Sprintf("%v: %s", err, text)
	}
	ca, _, caErr := m.shell(t.Context(), m.checkout, inProduct+`get configmap kyverno-notation-venafi-ca -o jsonpath='{.data.ca\.crt}'`)
	if err != nil || caErr != nil {
		return fmt.Sprint(err, caErr)
	}
	file := filepath.Join(m.home, "published.crt")
	if err := os.WriteFile(file, []byte(ca), 0o600); err != nil {
		return err.Error()
	}
	line := strings.NewReplacer("/etc/kyverno-notation-venafi-ca/ca.crt", file, "svc.kyverno-notation-venafi.svc", address).Replace(strings.Join(args, " "))
	phase := "Succeeded"
	said, status, err := m.shell(t.Context(), m.checkout, "./knv "+line)
	if err != nil || status != 0 {
		phase = "Failed"
	}
	set, status, err := m.shell(t.Context(), m.checkout, inProduct+`patch pod kyverno-notation-venafi-test --subresource=status --type=merge -p '{"status": {"phase": "`+phase+`"}}'`)
	if err != nil || status != 0 || phase == "Failed" {
		return fmt.Sprint(said, set, err)
	}
	return ""
}
