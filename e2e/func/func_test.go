//go:build e2e && e2e_func && linux

package function

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
)

var (
	update  = flag.Bool("update", false, "rewrite config/validate/testdata/function.yaml")
	program = flag.String("func", "", "func's command line, such as that of another version")
	native  = flag.Bool("native", false, "build for this machine's platform only, and have its program in the images of the others, which saves most of the time")
)

const (
	namespace = "kyverno-notation-venafi"
	function  = "kyverno-notation-venafi"
	manager   = "kyverno-notation-venafi-certmanager"
)

// TestTheVerbsOfFunc does what the documents say of func, each command as it stands there.
func TestTheVerbsOfFunc(t *testing.T) {
	b := bed.StartForTest(t, bed.Options{})
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	u := &user{bed: b, clone: Clone(t), host: strings.TrimPrefix(server.URL, "http://"), tools: Tools(t, *program)}
	commands := Commands(t, u.host)
	t.Logf("func %s", u.must(t, "func version"))
	knative(t, b)
	t.Run("run and invoke", func(t *testing.T) { u.runAndInvoke(t, commands["run"], commands["invoke"]) })

	took := u.follow(t, commands["build"], commands["apply"], commands["set image"])
	image := u.pushed(t, function)
	u.platforms(t, image)
	var deployment appsv1.Deployment
	u.get(t, "deployment", manager, &deployment)
	u.start(t, deployment.Spec.Template.Spec)
	deploying := u.begin(t, commands["deploy"])
	p := u.reconcile(t)
	took = append(took, deploying())
	t.Logf("%d commands:\n%s", len(took), strings.Join(took, "\n"))
	u.serves(t, p)
	if answer := u.must(t, "func invoke --target http://"+p.plain); !strings.Contains(answer, "POST /verify") {
		t.Errorf("func invoke, of what was deployed: %q", answer)
	}
	u.deployed(t, image.String())
	u.keepsWhatIsMounted(t, commands["replace"], commands["apply"])
	if changed := u.must(t, "git status --porcelain"); changed != " M func.yaml\n?? config.ini\n" {
		t.Errorf("func changed more than func.yaml:\n%s", changed)
	}
	t.Run("with the plugin", func(t *testing.T) { u.buildsOnTheImageWithThePlugin(t, commands["base"]) })
}

// user follows the documents in a clone.
type user struct {
	bed                *bed.Bed
	clone, host, tools string
}

// shell gives the command with func being the test's, and nothing of func's in its environment.
func (u *user) shell(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = u.clone
	cmd.Env = Environment(u.tools)
	if *native {
		cmd.Env = append(cmd.Env, OnlyNative(u.tools))
	}
	cmd.WaitDelay = time.Minute
	return cmd
}

// must runs a line that has to succeed, with the cluster as kubectl and func find one, and gives what it prints.
func (u *user) must(t *testing.T, line string) string {
	t.Helper()
	cmd := u.shell(t.Context(), line)
	cmd.Env = append(cmd.Env, "KUBECONFIG="+u.bed.Kubeconfig())
	stderr := bytes.Buffer{}
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", line, err, out, &stderr)
	}
	return string(out)
}

// begin starts a line as must does. What it gives waits for its end, and tells how long it took.
func (u *user) begin(t *testing.T, line string) (end func() string) {
	t.Helper()
	cmd := u.shell(t.Context(), line)
	cmd.Env = append(cmd.Env, "KUBECONFIG="+u.bed.Kubeconfig())
	out := bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() string {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, &out)
		}
		return fmt.Sprintf("%8s  %s", time.Since(began).Round(100*time.Millisecond), line)
	}
}

// follow runs the lines one after the other, and tells how long each took.
func (u *user) follow(t *testing.T, lines ...string) (took []string) {
	t.Helper()
	for _, line := range lines {
		took = append(took, u.begin(t, line)())
	}
	return took
}

// get reads an object of the namespace.
func (u *user) get(t *testing.T, resource, name string, into any) {
	t.Helper()
	out, err := u.bed.Kubectl(t.Context(), "", "-n", namespace, "get", resource, name, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatal(err)
	}
}

// runAndInvoke runs and invokes the function in the clone, without a cluster.
func (u *user) runAndInvoke(t *testing.T, run, invoke string) {
	if listener, err := net.Listen("tcp", "127.0.0.1:8080"); err != nil {
		t.Skipf("func's port is taken: %v", err)
	} else {
		listener.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	began := time.Now()
	running := u.shell(ctx, "exec "+run)
	out, err := running.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	running.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	if text := until(out, "Function running on "); !strings.Contains(text, "Function running on 127.0.0.1:8080") {
		cancel()
		t.Fatalf("func run told %q; %v", text, running.Wait())
	}
	t.Logf("%8s  %s", time.Since(began).Round(100*time.Millisecond), run)
	began = time.Now()
	if answer := u.must(t, "func invoke"); !strings.Contains(answer, "POST /verify") {
		t.Errorf("func invoke: %q", answer)
	}
	t.Logf("%8s  func invoke", time.Since(began).Round(100*time.Millisecond))
	var verdict struct {
		Verified *bool  `json:"verified"`
		Message  string `json:"message"`
	}
	answer := u.must(t, invoke)
	if err := json.Unmarshal([]byte(answer), &verdict); err != nil || verdict.Verified == nil || *verdict.Verified || verdict.Message == "" {
		t.Errorf("%s: %v %s", invoke, err, answer)
	}
	t.Logf("%s\n%s", invoke, answer)
	if err := syscall.Kill(-running.Process.Pid, syscall.SIGINT); err != nil { // as a terminal does to func and what func runs
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := running.Wait(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != interrupted) {
		t.Errorf("func run ended with %v", err)
	}
	for deadline := time.Now().Add(endTime); ; time.Sleep(50 * time.Millisecond) {
		listener, err := net.Listen("tcp", "127.0.0.1:8080")
		if err == nil {
			listener.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the function goes on: %v", err)
		}
	}
}

// interrupted is func's exit status when it was told to end, and what it ran ended first.
const interrupted = 130

// until reads up to the text, and gives what was read; the rest is read and dropped.
func until(r io.Reader, text string) string {
	read := []byte{}
	for part := make([]byte, 4096); ; {
		n, err := r.Read(part)
		if read = append(read, part[:n]...); err != nil {
			return string(read)
		}
		if bytes.Contains(read, []byte(text)) {
			go func() { _, _ = io.Copy(io.Discard, r) }()
			return string(read)
		}
	}
}

// keepsWhatIsMounted fills the Secret, applies config/func again, and expects the Secret to have what it was filled with.
func (u *user) keepsWhatIsMounted(t *testing.T, replace, apply string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(u.clone, "config.ini"), []byte("tpp_url=https://tpp.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u.follow(t, replace, apply)
	var secret corev1.Secret
	u.get(t, "secret", "notation-venafi-csp-config", &secret)
	if string(secret.Data["config.ini"]) != "tpp_url=https://tpp.example\n" {
		t.Errorf("the Secret has %q", secret.Data)
	}
}

// deployed compares the Service that func made with the file that other tests use: all but the image, and what of it differs from
// one build to the next.
func (u *user) deployed(t *testing.T, image string) {
	t.Helper()
	service := map[string]any{}
	u.get(t, "services.serving.knative.dev", function, &service)
	container := service["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
	if container["image"] != image {
		t.Errorf("func deployed %v, and certmanager has %s", container["image"], image)
	}
	have := normalised(t, service)
	file := filepath.Join(repository, "config/validate/testdata/function.yaml")
	if *update {
		head := "# The Knative Service that func made of func.yaml. Do not edit:\n#   make test-func ARGS='-args -update'\n"
		if err := os.WriteFile(file, append([]byte(head), have...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	recorded := map[string]any{}
	if err := yaml.Unmarshal(want, &recorded); err != nil {
		t.Fatal(err)
	}
	if text := normalised(t, recorded); !bytes.Equal(have, text) {
		t.Errorf("func made\n%s\nand %s has\n%s", have, file, text)
	}
}

// releaseImage is the image that the file names.
const releaseImage = "ghcr.io/nirmata/kyverno-notation-venafi:latest"

// normalised is a Service as YAML without status and what the API server adds, with the image of the manifests, one date of the
// build, and one name of the volume that func draws.
func normalised(t *testing.T, service map[string]any) []byte {
	t.Helper()
	delete(service, "status")
	metadata := service["metadata"].(map[string]any)
	for _, added := range []string{"creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"} {
		delete(metadata, added)
	}
	text, err := yaml.Marshal(service)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ drawn, fixed string }{
		{`image: \S+`, "image: " + releaseImage},
		{`value: "?[0-9]{8}T[0-9]{6}"?`, "value: 20261123T000000"},
		{`empty-dir-[a-z0-9]+`, "empty-dir-abcdefg"},
	} {
		text = regexp.MustCompile(r.drawn).ReplaceAll(text, []byte(r.fixed))
	}
	return text
}
