//go:build e2e

package scale

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const (
	account   = "auditor"
	role      = "kyverno-notation-venafi-audit"
	atOnce    = 16               // requests that make objects
	auditTime = 20 * time.Minute // for one audit
)

// world is a control plane with many objects, a registry, and the program.
type world struct {
	bed        *bed.Bed
	registry   *registrytest.Registry
	digests    []string // of the contents
	pods       typed.CoreV1Interface
	objects    dynamic.Interface
	program    string
	kubeconfig string   // of the account that audits
	auditLog   string   // of the API server: what that account asked for
	uids       sync.Map // of the ReplicaSets, by number
	made       int      // pods
}

func startWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{program: filepath.Join(dir, "kyverno-notation-venafi"), auditLog: filepath.Join(dir, "audit.log")}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", w.program, "github.com/nirmata/kyverno-notation-venafi/function/cmd/kyverno-notation-venafi").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	w.registry = registrytest.New(registrytest.Options{Handler: underManyNames(registrytest.InMemory())})
	t.Cleanup(w.registry.Close)
	logged := filepath.Join(dir, "logged.yaml")
	policy := "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- {level: Metadata, users: ['system:serviceaccount:default:" + account + "']}\n- {level: None}\n"
	if err := os.WriteFile(logged, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	w.bed = bed.StartForTest(t, bed.Options{APIServerArgs: []string{"--audit-policy-file=" + logged, "--audit-log-path=" + w.auditLog, "--audit-log-maxsize=1000"}})
	w.connect(t)
	scenario := w.sign(t)
	w.install(t, scenario)
	w.fill(t)
	return w
}

// name is a repository whose content is that of another.
var name = regexp.MustCompile(`^/v2/acme/(content-\d+)-\d+/`)

// underManyNames serves each content of a registry under any number of names.
func underManyNames(registry http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = name.ReplaceAllString(r.URL.Path, "/v2/acme/$1/")
		registry.ServeHTTP(w, r)
	})
}

func (w *world) image(i int) string {
	return fmt.Sprintf("%s/acme/content-%d-%d:v1", w.registry.Host(), i%*contents, i)
}

func (w *world) connect(t *testing.T) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", w.bed.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.QPS, config.Timeout = -1, time.Minute
	w.objects, err = dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	binary := rest.CopyConfig(config)
	binary.ContentType = "application/vnd.kubernetes.protobuf"
	if w.pods, err = typed.NewForConfig(binary); err != nil {
		t.Fatal(err)
	}
}

// sign pushes and signs the contents.
func (w *world) sign(t *testing.T) *scenariotest.Scenario {
	t.Helper()
	scenario, err := scenariotest.New(w.registry.Host(), w.registry.Client(), true)
	if err != nil {
		t.Fatal(err)
	}
	w.digests = make([]string, *contents)
	parallel(t, *contents, func(ctx context.Context, i int) error {
		image, err := scenario.PushSigned(ctx, fmt.Sprint("content-", i), scenario.Signer(), &signingtest.SignRequest{})
		w.digests[i] = image.Digest.String()
		return err
	})
	return scenario
}

// install makes two trust policies, which apply by a label, and the account that audits, with the rights of the sample.
func (w *world) install(t *testing.T, scenario *scenariotest.Scenario) {
	t.Helper()
	manifests := []string{scenariotest.TrustStore("acme", scenario.Trusted.PEM())}
	for _, tier := range tiers {
		manifests = append(manifests, scenariotest.TrustPolicy(tier, "strict", "ca:acme")+"  appliesTo: {namespaceSelector: {matchLabels: {tier: "+tier+"}}}\n")
	}
	manifests = append(manifests, fmt.Sprintf(`apiVersion: v1
kind: ServiceAccount
metadata: {name: %[1]s, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[2]s}
subjects: [{kind: ServiceAccount, name: %[1]s, namespace: default}]
`, account, role))
	for _, path := range []string{"crds/trustpolicies.yaml", "crds/truststores.yaml", "samples/audit-clusterrole.yaml"} {
		text, err := os.ReadFile(filepath.Join(fixture.ConfigDir, path))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.bed.Apply(t.Context(), string(text)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.bed.Kubectl(t.Context(), "", "wait", "--for=condition=Established", "--timeout=30s", "crd/trustpolicies.notation.nirmata.io", "crd/truststores.notation.nirmata.io"); err != nil {
		t.Fatal(err)
	}
	if err := w.bed.Apply(t.Context(), strings.Join(manifests, "---\n")); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.kubeconfig, err = w.bed.WriteServiceAccountKubeconfig(t.Context(), "default", account); err != nil {
		t.Fatal(err)
	}
}

// tiers are a label's values, and the trust policies that apply by it.
var tiers = []string{"gold", "silver"}

// fill makes the namespaces and a ReplicaSet for each image, with no pods yet.
func (w *world) fill(t *testing.T) {
	t.Helper()
	parallel(t, *namespaces, func(ctx context.Context, i int) error {
		_, err := w.pods.Namespaces().Create(ctx, &core.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceOf(i), Labels: map[string]string{"tier": tiers[i%len(tiers)]}}}, metav1.CreateOptions{})
		return err
	})
	sets := w.objects.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"})
	parallel(t, *images, func(ctx context.Context, i int) error {
		set := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apps/v1", "kind": "ReplicaSet",
			"metadata": map[string]any{"name": setOf(i), "ownerReferences": []any{map[string]any{
				"apiVersion": "apps/v1", "kind": "Deployment", "name": fmt.Sprint("app-", i), "uid": fmt.Sprintf("%08d-0000-0000-0000-000000000000", i), "controller": true,
			}}},
			"spec": map[string]any{"replicas": int64(0), "selector": map[string]any{"matchLabels": map[string]any{"app": "x"}}, "template": map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"app": "x"}},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": "app", "image": w.image(i)}}},
			}},
		}}
		made, err := sets.Namespace(namespaceOf(i)).Create(ctx, set, metav1.CreateOptions{})
		if err == nil {
			w.uids.Store(i, made.GetUID())
		}
		return err
	})
}

func namespaceOf(i int) string { return fmt.Sprint("team-", i%*namespaces) }
func setOf(i int) string       { return fmt.Sprintf("app-%d-5d4f8c7b9d", i) }

// run makes pods that run, until there are so many. They are in turn of each image.
func (w *world) run(t *testing.T, until int) {
	t.Helper()
	began, from := time.Now(), w.made
	parallel(t, until-from, func(ctx context.Context, n int) error {
		n += from
		i := n % *images
		uid, _ := w.uids.Load(i)
		pod := podOf(n, i, w.image(i), uid.(types.UID))
		if _, err := w.pods.Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return err
		}
		status, err := json.Marshal(map[string]any{"status": statusOf(w.image(i), w.digests[i%*contents])})
		if err != nil {
			return err
		}
		_, err = w.pods.Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, status, metav1.PatchOptions{}, "status")
		return err
	})
	w.made = until
	t.Logf("%d pods made in %s", until-from, time.Since(began).Round(time.Second))
}

// podOf is a pod with about what others carry.
func podOf(n, i int, image string, owner types.UID) *core.Pod {
	pod := &core.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: fmt.Sprintf("%s-%d", setOf(i), n), Namespace: namespaceOf(i),
		Labels:          map[string]string{"app": "x", "pod-template-hash": "5d4f8c7b9d"},
		Annotations:     map[string]string{"checksum/config": strings.Repeat("0123456789abcdef", 4), "description": strings.Repeat("x", 500)},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: setOf(i), UID: owner, Controller: new(true)}},
	}}
	app := core.Container{Name: "app", Image: image}
	for e := range 12 {
		app.Env = append(app.Env, core.EnvVar{Name: fmt.Sprint("SETTING_", e), Value: strings.Repeat("v", 40)})
	}
	pod.Spec = core.PodSpec{Containers: []core.Container{app}, NodeName: fmt.Sprint("node-", n%100)}
	return pod
}

func statusOf(image, digest string) core.PodStatus {
	repository, _, _ := strings.Cut(image, ":v1")
	return core.PodStatus{
		Phase: core.PodRunning, PodIP: "10.0.0.1", HostIP: "10.1.0.1",
		Conditions:        []core.PodCondition{{Type: core.PodReady, Status: core.ConditionTrue}, {Type: core.PodScheduled, Status: core.ConditionTrue}, {Type: core.PodInitialized, Status: core.ConditionTrue}},
		ContainerStatuses: []core.ContainerStatus{{Name: "app", Image: image, ImageID: repository + "@" + digest, ContainerID: "containerd://" + strings.Repeat("a", 64), Ready: true, Started: new(true), State: core.ContainerState{Running: &core.ContainerStateRunning{}}}},
	}
}

// parallel calls make for each number below n, several at once.
func parallel(t *testing.T, n int, make func(context.Context, int) error) {
	t.Helper()
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error { return make(ctx, i) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (w *world) allNamespaces(t *testing.T) int {
	t.Helper()
	all, err := w.pods.Namespaces().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return len(all.Items)
}

// measure audits when there are so many pods.
func (w *world) measure(t *testing.T, pods int) measured {
	t.Helper()
	w.run(t, pods)
	w.registry.Reset()
	before := len(w.asked(t))
	ctx, cancel := context.WithTimeout(t.Context(), auditTime)
	defer cancel()
	command := exec.CommandContext(ctx, w.program, "audit", "--kubeconfig", w.kubeconfig, "--allowLoopback", "--insecureRegistries", w.registry.Host(), "-o", "json")
	command.Env = append(os.Environ(), "DEFAULT_TRUST_POLICY=", "TRUST_DIR=")
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	began := time.Now()
	if err := command.Run(); err != nil {
		t.Fatalf("audit: %v\n%s%.2000s", err, &stderr, &stdout)
	}
	m := measured{pods: pods, took: time.Since(began), apiRequests: map[string]int{}, registryRequests: len(w.registry.Requests())}
	usage := command.ProcessState.SysUsage().(*syscall.Rusage)
	m.peak, m.processor = usage.Maxrss<<10, command.ProcessState.UserTime()+command.ProcessState.SystemTime()
	var found struct{ Findings []struct{ State string } }
	if err := json.Unmarshal(stdout.Bytes(), &found); err != nil {
		t.Fatal(err)
	}
	for _, finding := range found.Findings {
		if finding.State == "Verified" {
			m.verified++
		}
	}
	for _, resource := range w.asked(t)[before:] {
		m.apiRequests[resource]++
	}
	return m
}

// asked lists the resources of the requests that the account made, from the log of the API server.
func (w *world) asked(t *testing.T) (resources []string) {
	t.Helper()
	file, err := os.Open(w.auditLog)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			ObjectRef struct{ Resource string } `json:"objectRef"`
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		resources = append(resources, event.ObjectRef.Resource)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return resources
}
