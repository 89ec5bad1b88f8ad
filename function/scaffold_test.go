package function_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// The files that func build puts around a function with a method Handle, written anew here: a main that serves what
// New gives, in a module of its own that has the function's module by its name.
const (
	scaffoldMain = `package main

import (
	"log"

	f "github.com/nirmata/kyverno-notation-venafi"
	"knative.dev/func-go/http"
)

func main() {
	if err := http.Start(f.New()); err != nil {
		log.Fatal(err)
	}
}
`
	scaffoldModule = `module scaffold

go 1.26.8

require (
	github.com/nirmata/kyverno-notation-venafi v0.0.0-00010101000000-000000000000
	knative.dev/func-go v0.22.0
)

replace github.com/nirmata/kyverno-notation-venafi => %s
`
)

// TestFunctionServesInItsScaffold builds and runs the function as func does, and sends it requests.
func TestFunctionServesInItsScaffold(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and links a second program")
	}
	b := prepare(t, registrytest.Options{}, "")
	signed, digest := b.publish(t, "signed")
	plugin, _ := b.publish(t, "plugin-signed")
	unsigned, _ := b.publish(t, "unsigned")
	address := freeAddress(t)
	b.url = "http://" + address
	runScaffold(t, buildScaffold(t), b.url+"/health/readiness",
		"LISTEN_ADDRESS="+address, "TRUST_DIR="+b.trustDir, "DEFAULT_TRUST_POLICY="+scenariotest.PolicyName, "PLUGINS_DIR="+b.pluginDir,
		"PLUGIN_CONFIG=config="+b.config, "SSL_CERT_FILE="+b.ca, "ALLOW_LOOPBACK=true", "INSECURE_REGISTRIES="+b.registry.Host(), "DRAIN_DELAY=0s", "DOCKER_CONFIG_FILE="+filepath.Join(t.TempDir(), "none.json"))
	answer := b.post(t, "/checkimages", pod(signed, plugin))
	if answer.status != http.StatusOK || !strings.Contains(answer.text, `"path":"/spec/containers/0/image"`) || !strings.Contains(answer.text, "@"+digest) {
		t.Errorf("signed images: %d %s", answer.status, answer.text)
	}
	answer = b.post(t, "/checkimages", pod(signed, unsigned))
	if answer.status != http.StatusNotAcceptable || !strings.Contains(answer.text, unsigned) {
		t.Errorf("an image that is not signed: %d %s", answer.status, answer.text)
	}
}

// buildScaffold builds the program in a folder of its own, with the variable that func.yaml gives to the build.
func buildScaffold(t *testing.T) (binary string) {
	t.Helper()
	tree, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(tree, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(tree, "func.go")); err != nil { // so that Go's cache of test results sees it change
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": scaffoldMain, "go.mod": fmt.Sprintf(scaffoldModule, tree), "go.sum": string(sums)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute) // on a cold cache it builds everything
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", "function", ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "function")
}

// runScaffold starts the program and polls its readiness, as the kubelet does. At the end of the test it sends SIGTERM, as for a
// pod that ends.
func runScaffold(t *testing.T, binary, readiness string, environment ...string) {
	t.Helper()
	var log bytes.Buffer
	process := exec.Command(binary)
	process.Dir = t.TempDir()
	process.Env = append(environment, "HOME="+process.Dir, "PATH="+os.Getenv("PATH"))
	process.Stdout, process.Stderr = &log, &log
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- process.Wait() }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		process.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(time.Minute, func() { process.Process.Kill() })
		defer kill.Stop()
		if err := <-ended; err != nil {
			t.Errorf("the function ended with %v", err)
		}
		if t.Failed() {
			t.Logf("%s", &log)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the function ended: %v", err)
		default:
		}
		if response, err := http.Get(readiness); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the function is not ready")
		}
	}
}

// freeAddress is a loopback address on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
