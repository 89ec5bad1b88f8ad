//go:build e2e

package bed_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

// ownerVariable makes the test binary start a bed, print a JSON owned and wait for its end.
const ownerVariable = "BED_TEST_OWNER"

type owned struct {
	Processes []bed.Process
	Dir       string
}

func TestMain(m *testing.M) {
	if os.Getenv(ownerVariable) == "" {
		os.Exit(m.Run())
	}
	b, err := bed.Start(context.Background(), bed.Options{Log: os.Stderr})
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(owned{b.Processes(), b.Dir()})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}

func TestOwnerEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("starts control planes")
	}
	for _, test := range []struct {
		name   string
		signal os.Signal
		tidy   bool // the data is removed as well
	}{
		{"a terminated owner leaves nothing", syscall.SIGTERM, true},
		{"an interrupted owner leaves nothing", syscall.SIGINT, true},
		{"a killed owner leaves no processes", syscall.SIGKILL, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			owner, got := startOwner(t)
			if err := owner.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			status := &exec.ExitError{}
			if err := owner.Wait(); !errors.As(err, &status) || status.Sys().(syscall.WaitStatus).Signal() != test.signal {
				t.Errorf("the owner ended with %v, want signal %v", err, test.signal)
			}
			checkGone(t, got.Processes)
			if _, err := os.Stat(got.Dir); test.tidy && !os.IsNotExist(err) {
				t.Errorf("the data directory is left: %v", err)
			}
		})
	}
}

// startOwner returns once the owner's bed is ready.
func startOwner(t *testing.T) (*exec.Cmd, owned) {
	t.Helper()
	owner := exec.CommandContext(t.Context(), os.Args[0])
	owner.Env, owner.Stderr = append(os.Environ(), ownerVariable+"=1"), os.Stderr
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	got := owned{}
	if err := json.NewDecoder(stdout).Decode(&got); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(got.Dir) })
	return owner, got
}

// TestKyvernoVersion has the environment choose another version than is pinned.
func TestKyvernoVersion(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "tools", "kyverno", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\tgithub.com/kyverno/kyverno ")
	pinned := strings.Fields(rest)[0]
	for version, want := range map[string]string{"": "@" + pinned, pinned: "@" + pinned, "v1.18.2": "@v1.18.2"} {
		t.Setenv(bed.KyvernoVersion, version)
		builder, err := bed.NewBuilder(t.Context(), bed.Options{CacheDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		if dir, err := builder.ModuleDir(t.Context(), "kyverno", "github.com/kyverno/kyverno"); err != nil || !strings.HasSuffix(dir, want) {
			t.Errorf("version %q: %s, %v; want %s", version, dir, err, want)
		}
	}
}

// TestBed shares one test environment, because starting one takes most of the time. The order of the subtests matters: the
// last ones end its parts.
func TestBed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	b, err := bed.Start(t.Context(), bed.Options{Kyverno: true, Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeBed(t, b) })

	service := newVerifier(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bed.Bed, *verifier)
	}{
		{"a token is authenticated for its audience only", testTokenReview},
		{"a service account acts with its own rights", testServiceAccount},
		{"a cluster policy asks a service on loopback", testClusterPolicy},
		{"CEL policies ask a service on loopback", testCELPolicies},
		{"Kyverno can be restarted", testRestartKyverno},
		{"a Kyverno that ends is started again", testKilledKyverno},
		{"the API server can be killed and restarted", testRestartAPIServer},
	} {
		if !t.Run(test.name, func(t *testing.T) { test.run(t, b, service) }) {
			t.Fatalf("end of Kyverno's log:\n%s", lastLines(t, b.LogFile(bed.Kyverno), 40))
		}
	}
}

// closeBed checks that nothing of a bed is left after Close.
func closeBed(t *testing.T, b *bed.Bed) {
	processes := b.Processes()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	checkGone(t, processes)
	if _, err := os.Stat(b.Dir()); !os.IsNotExist(err) {
		t.Errorf("the data directory is left: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func checkGone(t *testing.T, processes []bed.Process) {
	t.Helper()
	if len(processes) == 0 {
		t.Error("no process was running")
	}
	for _, p := range processes {
		for deadline := time.Now().Add(2 * time.Minute); p.Running() && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond) // a killed process takes a moment to go
		}
		if p.Running() {
			t.Errorf("%s (process %d) is left", p.Name, p.PID)
		}
	}
}

func testTokenReview(t *testing.T, b *bed.Bed, _ *verifier) {
	scoped := token(t, b, bed.KyvernoAudience)
	general := token(t, b)
	for _, test := range []struct {
		name, token, audience string
		want                  string
	}{
		{"the audience of the token", scoped, bed.KyvernoAudience,
			"true system:serviceaccount:kyverno:kyverno-admission-controller"},
		{"another audience", scoped, "vault", ""},
		{"the API server", scoped, bed.Issuer, ""},
		{"a token for the API server", general, bed.KyvernoAudience, ""},
		{"not a token", "not-a-token", bed.KyvernoAudience, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			review := fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview",`+
				`"spec":{"token":%q,"audiences":[%q]}}`, test.token, test.audience)
			got := kubectl(t, b, review, "create", "-f", "-",
				"-o", "jsonpath={.status.authenticated} {.status.user.username}")
			if strings.TrimSpace(got) != test.want {
				t.Errorf("status %q, want %q", got, test.want)
			}
		})
	}
}

func testServiceAccount(t *testing.T, b *bed.Bed, _ *verifier) {
	kubectl(t, b, "", "create", "serviceaccount", "nobody")
	kubeconfig, err := b.WriteServiceAccountKubeconfig(t.Context(), "default", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	who := kubectl(t, b, "", "auth", "whoami", "--kubeconfig="+kubeconfig, "-o", "jsonpath={.status.userInfo.username}")
	if want := "system:serviceaccount:default:nobody"; who != want {
		t.Errorf("is %q, want %q", who, want)
	}
	out, err := b.Kubectl(t.Context(), "", "get", "secrets", "--kubeconfig="+kubeconfig)
	if err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("listing secrets: %q, %v; want forbidden", out, err)
	}
}

const clusterPolicy = `
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: smoke}
spec:
  background: false
  webhookConfiguration: {failurePolicy: Fail}
  rules:
  - name: pin
    match: {any: [{resources: {kinds: [Pod], namespaces: [classic]}}]}
    context:
    - name: response
      apiCall:
        method: POST
        data: [{key: images, value: "{{images}}"}]
        service: {url: "URL/checkimages"}
    mutate:
      foreach:
      - list: "response.results"
        patchesJson6902: |-
          - op: replace
            path: "{{element.path}}"
            value: "{{element.value}}"
`

func testClusterPolicy(t *testing.T, b *bed.Bed, service *verifier) {
	kubectl(t, b, "", "create", "namespace", "classic")
	apply(t, b, service, clusterPolicy, "clusterpolicy/smoke")

	if got, want := runPod(t, b, "classic", "app:good"), digestOf("app:good"); got != want {
		t.Errorf("image %q, want %q", got, want)
	}
	want := "Bearer " + readFile(t, b.KyvernoTokenFile())
	if got := service.lastAuthorization(); got != want {
		t.Errorf("Kyverno sent %d bytes of Authorization that are not its token", len(got))
	}
	checkDenied(t, b, "classic", "app:bad", `failed to verify container web: app:bad is not signed`)
}

const celPolicies = `
apiVersion: policies.kyverno.io/v1
kind: MutatingPolicy
metadata: {name: smoke}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: cel}}
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  variables:
  - name: verdict
    expression: 'http.Post("URL/verify", {"object": dyn(object), "trustPolicy": dyn("smoke")})'
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        variables.verdict.results.map(r, JSONPatch{op: "replace", path: r.path, value: r.value})
---
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: smoke}
spec:
  failurePolicy: Fail
  validationActions: [Deny]
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: cel}}
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  variables:
  - name: verdict
    expression: 'http.Post("URL/verify", {"object": dyn(object), "trustPolicy": dyn("smoke")})'
  validations:
  - expression: variables.verdict.verified == true
    messageExpression: string(variables.verdict.message)
`

func testCELPolicies(t *testing.T, b *bed.Bed, service *verifier) {
	kubectl(t, b, "", "create", "namespace", "cel")
	apply(t, b, service, celPolicies, "mutatingpolicy/smoke", "validatingpolicy/smoke")

	if got, want := runPod(t, b, "cel", "app:good"), digestOf("app:good"); got != want {
		t.Errorf("image %q, want %q", got, want)
	}
	if got := service.lastAuthorization(); got != "" {
		t.Errorf("CEL sent %d bytes of Authorization, want none", len(got))
	}
	checkDenied(t, b, "cel", "app:bad", `app:bad is not signed`)
}

func testRestartKyverno(t *testing.T, b *bed.Bed, _ *verifier) {
	if err := b.StopKyverno(); err != nil {
		t.Fatal(err)
	}
	checkDenied(t, b, "classic", "app:good", "failed calling webhook")
	if err := b.StartKyverno(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := runPod(t, b, "classic", "app:good"), digestOf("app:good"); got != want {
		t.Errorf("image %q, want %q", got, want)
	}
}

func testRestartAPIServer(t *testing.T, b *bed.Bed, _ *verifier) {
	if err := b.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if out, err := b.Kubectl(t.Context(), "", "get", "namespace", "classic"); err == nil {
		t.Fatalf("the API server still answers: %s", out)
	}
	if err := b.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Kyverno may still be about to end, or to be started again.
	got, err := "", error(nil)
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		if got, err = tryPod(t.Context(), b, "classic", "app:good"); err == nil {
			break
		}
	}
	if want := digestOf("app:good"); got != want {
		t.Errorf("image %q, want %q, error %v", got, want, err)
	}
}

// testKilledKyverno takes the process away as a crash would.
func testKilledKyverno(t *testing.T, b *bed.Bed, _ *verifier) {
	for _, p := range b.Processes() {
		if p.Name == bed.Kyverno {
			if err := p.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			checkGone(t, []bed.Process{p})
		}
	}
	if err := b.WaitKyverno(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := runPod(t, b, "classic", "app:good"), digestOf("app:good"); got != want {
		t.Errorf("image %q, want %q", got, want)
	}
}

// verifier answers as the service does, depending on the tag of the image.
type verifier struct {
	*httptest.Server
	mu            sync.Mutex
	authorization string
}

func newVerifier(t *testing.T) *verifier {
	v := &verifier{}
	v.Server = httptest.NewServer(v)
	t.Cleanup(v.Close)
	return v
}

func (v *verifier) lastAuthorization() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.authorization
}

func (v *verifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	v.authorization = r.Header.Get("Authorization")
	v.mu.Unlock()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	image := "app:good"
	if strings.Contains(string(body), "app:bad") || strings.Contains(string(body), `"tag":"bad"`) {
		image = "app:bad"
	}
	verified, message, results := image == "app:good", image+" is not signed", []map[string]string{}
	if verified {
		message = "verified"
		results = append(results, map[string]string{"path": "/spec/containers/0/image", "value": digestOf(image)})
	}
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	case !verified && r.URL.Path == "/checkimages":
		w.WriteHeader(http.StatusNotAcceptable)
		fmt.Fprint(w, "failed to verify container web: "+message)
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"verified": verified, "message": message, "results": results})
	}
}

func digestOf(image string) string {
	return strings.SplitN(image, ":", 2)[0] + "@sha256:" + strings.Repeat("0123456789abcdef", 4)
}

// apply replaces URL in the policies by the service's and waits until Kyverno enforces them.
func apply(t *testing.T, b *bed.Bed, service *verifier, manifests string, policies ...string) {
	t.Helper()
	if err := b.Apply(t.Context(), strings.ReplaceAll(manifests, "URL", service.URL)); err != nil {
		t.Fatal(err)
	}
	for _, policy := range policies {
		if err := b.WaitPolicy(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
	}
}

func token(t *testing.T, b *bed.Bed, audiences ...string) string {
	t.Helper()
	token, err := b.Token(t.Context(), bed.KyvernoNamespace, bed.KyvernoServiceAccount, audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func kubectl(t *testing.T, b *bed.Bed, stdin string, args ...string) string {
	t.Helper()
	out, err := b.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryPod(ctx context.Context, b *bed.Bed, namespace, image string) (string, error) {
	return b.Kubectl(ctx, "", "run", "web", "--namespace="+namespace, "--image="+image,
		"--dry-run=server", "-o", "jsonpath={.spec.containers[0].image}")
}

// runPod returns the image of a pod as it was admitted.
func runPod(t *testing.T, b *bed.Bed, namespace, image string) string {
	t.Helper()
	out, err := tryPod(t.Context(), b, namespace, image)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func checkDenied(t *testing.T, b *bed.Bed, namespace, image, want string) {
	t.Helper()
	out, err := tryPod(t.Context(), b, namespace, image)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a pod with %s: admitted as %q, error %v; want a denial with %q", image, out, err, want)
		return
	}
	t.Log(err)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func lastLines(t *testing.T, path string, n int) string {
	lines := strings.Split(readFile(t, path), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
