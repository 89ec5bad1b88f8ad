// Package functest has func's own scaffolding, runner and invoker at work on the function, as `func run` and `func invoke` have, and looks
// at what `func build` would build. make test-func has all of func, which takes longer to build.
package functest

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fn "knative.dev/func/pkg/functions"
	"knative.dev/func/pkg/oci"
)

const (
	repository = "../../.."
	buildTime  = 20 * time.Minute // of the function, on a cold cache and two slow cores
)

// sources is a copy of the files that git knows or would add, as they are in the working tree: what is ignored would be in no clone.
func sources(t *testing.T) string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = repository
	names, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimRight(string(names), "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(repository, name))
		if errors.Is(err, os.ErrNotExist) { // deleted, but not committed yet
			continue
		}
		to := filepath.Join(root, name)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// alone takes from the environment what users of func do not have there. What is left of GOFLAGS changes no versions, and has the function
// made of packages that make has compiled already.
func alone(t *testing.T) {
	t.Helper()
	t.Setenv("GOFLAGS", "-trimpath")
	t.Setenv("CGO_ENABLED", "0")
	for _, name := range []string{"GOWORK", "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "TRUST_DIR", "FUNC_GO"} {
		t.Setenv(name, "")
	}
}

func client() *fn.Client {
	return fn.New(fn.WithScaffolder(oci.NewScaffolder(false)), fn.WithBuilder(oci.NewBuilder("host", false)), fn.WithRegistry("registry.example/test"))
}

// TestFuncRunsTheFunction starts the function in its source, as `func run` does, and invokes it.
func TestFuncRunsTheFunction(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the function")
	}
	alone(t)
	root := sources(t)
	const address = "127.0.0.1:8080" // func's default
	if taken(address) {
		t.Setenv("GOWORK", "off") // as README.md in config says
	}
	f, err := fn.NewFunction(root)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), buildTime)
	defer cancel()
	began := time.Now()
	job, err := client().Run(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("it runs on %s:%s after %s", job.Host, job.Port, time.Since(began).Round(time.Second))
	t.Run("what func sends by itself", func(t *testing.T) {
		body := invoke(t, root, "", fn.NewInvokeMessage())
		if !strings.Contains(body, `POST /verify {"object": WORKLOAD`) {
			t.Errorf("%q", body)
		}
	})
	t.Run("an image", func(t *testing.T) {
		message := fn.NewInvokeMessage()
		message.Data = []byte(`{"object":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"web","image":"registry.invalid/acme/app:v1"}]}}}`)
		var verdict struct {
			Verified *bool
			Message  string
		}
		body := invoke(t, root, "http://"+net.JoinHostPort(job.Host, job.Port)+"/verify", message)
		if err := json.Unmarshal([]byte(body), &verdict); err != nil || verdict.Verified == nil || *verdict.Verified || !strings.Contains(verdict.Message, "registry.invalid/acme/app:v1") {
			t.Errorf("%v %s", err, body)
		}
	})
	t.Run("certmanager", func(t *testing.T) { managesCertificates(t, filepath.Join(job.Dir(), "f.bin")) })
	cancel()
	if err := <-job.Errors; !errors.Is(err, context.Canceled) { // which says that it ended well, as it was told to
		t.Errorf("the function ended with %v", err)
	}
	if err := job.Stop(); err != nil {
		t.Error(err)
	}
}

func taken(address string) bool {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return true
	}
	return listener.Close() != nil
}

func invoke(t *testing.T, root, target string, message fn.InvokeMessage) (body string) {
	t.Helper()
	_, body, err := client().Invoke(t.Context(), root, target, message)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestFuncsBuilderFindsItsModules writes the program around the function as `func build` does, and asks Go for what it is built of, with
// the environment that the host builder has. A go.mod of func's that asks for other versions than ours fails here.
func TestFuncsBuilderFindsItsModules(t *testing.T) {
	alone(t)
	root := sources(t)
	f, err := fn.NewFunction(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := client().Scaffold(t.Context(), f, ""); err != nil {
		t.Fatal(err)
	}
	for _, platform := range fn.DefaultPlatforms {
		list := exec.CommandContext(t.Context(), "go", "list", "-deps", ".")
		list.Dir = filepath.Join(root, fn.RunDataDir, fn.BuildDir)
		list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+platform.OS, "GOARCH="+platform.Architecture, "GOARM="+strings.TrimPrefix(platform.Variant, "v"))
		said, err := list.CombinedOutput()
		if err != nil || !strings.Contains(string(said), "knative.dev/func-go/http\n") {
			t.Errorf("%+v: %v\n%s", platform, err, said)
		}
	}
	if said, err := exec.CommandContext(t.Context(), "git", "-C", repository, "diff", "--no-index", "--quiet", ".gitignore", filepath.Join(root, ".gitignore")).CombinedOutput(); err != nil {
		t.Errorf("func changes .gitignore: %v %s", err, said)
	}
}

// TestFuncPacksTheSourcesOnly lists what func's host builder packs beside the program.
func TestFuncPacksTheSourcesOnly(t *testing.T) {
	root := sources(t)
	patterns, bytes, tops := fn.ParseFuncIgnore(root), int64(0), map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if fn.IsIgnored(name, patterns) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		top, _, _ := strings.Cut(filepath.ToSlash(name), "/")
		tops[top] = true
		info, err := entry.Info()
		if err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		if strings.HasSuffix(name, "_test.go") || filepath.Ext(name) == ".md" || entry.Name() == "testdata" {
			t.Errorf("%s goes into the image", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, unwanted := range []string{".build", ".ci", ".func", ".git", ".github", "adversary", "config", "e2e", "release", "testdata"} {
		if tops[unwanted] {
			t.Errorf("%s goes into the image", unwanted)
		}
	}
	if !tops["func.go"] || !tops["core"] {
		t.Error("the sources are left out, and func would not see that they changed")
	}
	if t.Logf("%d bytes", bytes); bytes > 5<<20 {
		t.Errorf("%d bytes go into the image", bytes)
	}
}

// managesCertificates starts the program as the Deployment of config/func does, without a cluster: it must fail as the certificate
// manager, and never serve.
func managesCertificates(t *testing.T, program string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, args := range [][]string{{"certmanager"}, {"certmanager", "--audit"}, {"certmanager", "--auditt"}} {
		said, err := exec.CommandContext(ctx, program, append(args, "--kubeconfig="+t.TempDir()+"/none", "--plainAddress=127.0.0.1:0")...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(said), "error:") {
			t.Errorf("%v: %v %s", args, err, said)
		}
	}
}
