//go:build e2e

// Package admission shows the service at work with a real API server and a real Kyverno; see package bed for how they
// run without containers. Run it with make e2e.
package admission

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/kube"
	"github.com/nirmata/kyverno-notation-venafi/testdata/registry"
	"github.com/nirmata/kyverno-notation-venafi/testdata/scenario"
	"github.com/nirmata/kyverno-notation-venafi/testdata/standin/install"
)

// Where the service's own resources are.
const (
	serviceNamespace = "kyverno-notation-venafi"
	serviceAccount   = "kyverno-notation-venafi"
	configDir        = "../../config"
)

// world is what the tests share: a control plane with Kyverno, a registry with images, and two replicas of the service,
// with certificates that certmanager made.
type world struct {
	bed      *bed.Bed
	registry *registry.Registry
	scenario *scenario.Scenario
	dir      string
	binary   string
	plugins  string
	replicas []*replica
}

// shared is set once, before the tests.
var shared *world

func TestMain(m *testing.M) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Minute)
	w := &world{}
	err := w.start(ctx)
	code := 1
	if err == nil {
		shared = w
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "starting the test bed:", err)
	}
	if err := w.close(); err != nil {
		fmt.Fprintln(os.Stderr, "ending the test bed:", err)
		code = 1
	}
	cancel()
	os.Exit(code)
}

func (w *world) start(ctx context.Context) (err error) {
	if w.dir, err = os.MkdirTemp("", "e2e-suite-"); err != nil {
		return err
	}
	w.registry = registry.New(registry.Options{})
	if w.scenario, err = scenario.New(w.registry.Host(), w.registry.Client(), true); err != nil {
		return err
	}
	if err := w.scenario.PublishAll(ctx); err != nil {
		return err
	}
	if err := w.build(ctx); err != nil {
		return err
	}
	ca, caSecret, err := w.makeCA()
	if err != nil {
		return err
	}
	// CEL policies have no place for a CA, so Kyverno trusts it by itself.
	if w.bed, err = bed.Start(ctx, bed.Options{Kyverno: true, Log: os.Stderr, KyvernoEnv: []string{"SSL_CERT_FILE=" + ca}}); err != nil {
		return err
	}
	if err := w.install(ctx); err != nil {
		return err
	}
	if err := w.makeCertificates(ctx, caSecret); err != nil {
		return err
	}
	for range 2 {
		if err := w.addReplica(ctx); err != nil {
			return err
		}
	}
	return nil
}

// build makes the product's binary and the stand-in plugin.
func (w *world) build(ctx context.Context) error {
	w.binary, w.plugins = filepath.Join(w.dir, "kyverno-notation-venafi"), filepath.Join(w.dir, "plugins")
	build := exec.CommandContext(ctx, "go", "build", "-o", w.binary, "github.com/nirmata/kyverno-notation-venafi/function/cmd/kyverno-notation-venafi")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the service: %w: %s", err, output)
	}
	standin, err := install.Build(ctx, w.dir)
	if err != nil {
		return err
	}
	return install.Install(standin, w.plugins, "venafi-csp", "")
}

// install applies what a user applies: the installation and trust. No controller is there to make its pods.
func (w *world) install(ctx context.Context) error {
	if output, err := w.bed.Kubectl(ctx, "", "apply", "-f", filepath.Join(configDir, "install.yaml")); err != nil {
		return fmt.Errorf("installing: %w: %s", err, output)
	}
	if output, err := w.bed.Kubectl(ctx, "", "wait", "--for=condition=Established", "--timeout=1m",
		"crd/trustpolicies.notation.nirmata.io", "crd/truststores.notation.nirmata.io"); err != nil {
		return fmt.Errorf("waiting for the definitions: %w: %s", err, output)
	}
	return w.applyTrust(ctx)
}

// applyTrust applies the scenario's trust store and trust policy.
func (w *world) applyTrust(ctx context.Context) error {
	return w.bed.Apply(ctx, scenario.TrustStore("acme", w.scenario.Trusted.PEM())+"---\n"+scenario.TrustPolicy(scenario.PolicyName, "strict", "ca:acme"))
}

// replica is a process of the service, as its own service account.
type replica struct {
	process *exec.Cmd
	url     string // plain
	secure  string // over TLS; of the service only
	log     *os.File
	ended   chan error
}

func (w *world) addReplica(ctx context.Context, args ...string) error {
	r, err := w.startReplica(ctx, args...)
	if err != nil {
		return err
	}
	w.replicas = append(w.replicas, r)
	return r.waitReady(ctx)
}

func (w *world) startReplica(ctx context.Context, args ...string) (*replica, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	r, err := w.startProcess(ctx, "serve", serviceAccount, append([]string{
		"--tlsAddress", address, "--pluginDir", w.plugins, "--insecureRegistries", w.registry.Host(),
		"--defaultTrustPolicy", scenario.PolicyName, "--drainDelay", "0s",
	}, args...)...)
	if err == nil {
		r.secure = "https://" + address
	}
	return r, err
}

// startProcess runs a command of the product as a service account.
func (w *world) startProcess(ctx context.Context, command, account string, args ...string) (*replica, error) {
	kubeconfig, err := w.bed.WriteServiceAccountKubeconfig(ctx, serviceNamespace, account)
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(w.dir, command+"-*.log")
	if err != nil {
		return nil, err
	}
	process := exec.Command(w.binary, append([]string{command, "--kubeconfig", kubeconfig, "--namespace", serviceNamespace, "--plainAddress", address}, args...)...)
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		return nil, err
	}
	r := &replica{process: process, url: "http://" + address, log: log, ended: make(chan error, 1)}
	go func() { r.ended <- process.Wait() }()
	return r, nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func (r *replica) waitReady(ctx context.Context) error {
	return eventually(ctx, 30*time.Second, func() error {
		select {
		case err := <-r.ended:
			r.ended <- err
			text, _ := os.ReadFile(r.log.Name())
			return fmt.Errorf("the replica ended: %w: %s", err, text)
		default:
		}
		response, err := http.Get(r.url + "/health/readiness")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(response.Body)
			return fmt.Errorf("not ready: %s", text)
		}
		return nil
	})
}

// end asks the process to end, and waits for it.
func (r *replica) end() error {
	_ = r.process.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-r.ended:
		r.ended <- err // for who ends it again
	case <-time.After(30 * time.Second):
		_ = r.process.Process.Kill()
		return errors.New("a replica did not end when it was asked to")
	}
	return r.log.Close()
}

// makeCA makes the CA that certmanager is to use. It is made before Kyverno starts, which is told of its file. It gives
// the file and the Secret's manifest.
func (w *world) makeCA() (file, manifest string, err error) {
	policy := certificates.Policy{CADuration: 24 * time.Hour}
	ca, err := issuer.Authority(policy, time.Now())
	if err != nil {
		return "", "", err
	}
	certificate, key, err := ca.PEM()
	if err != nil {
		return "", "", err
	}
	manifest = fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: %s, namespace: %s}\ndata: {tls.crt: %s, tls.key: %s}\n",
		kube.AuthoritySecret, serviceNamespace, base64.StdEncoding.EncodeToString(certificate), base64.StdEncoding.EncodeToString(key))
	file = filepath.Join(w.dir, "ca.pem")
	return file, manifest, os.WriteFile(file, certificate, 0o644)
}

// makeCertificates lets a certificate manager make what the CA's Secret lacks: the serving certificate and the bundle.
func (w *world) makeCertificates(ctx context.Context, caSecret string) error {
	if err := w.bed.Apply(ctx, caSecret); err != nil {
		return err
	}
	manager, err := w.startProcess(ctx, "certmanager", serviceAccount+"-certmanager", managerArgs()...)
	if err != nil {
		return err
	}
	err = eventually(ctx, 30*time.Second, func() error {
		_, err := w.bed.Kubectl(ctx, "", "get", "-n", serviceNamespace, "secret/"+kube.ServingSecret, "configmap/"+kube.BundleConfigMap)
		return err
	})
	return errors.Join(err, manager.end())
}

// managerArgs let Kyverno call the replicas by their address.
func managerArgs() []string { return []string{"--extraSANs", "127.0.0.1"} }

// close ends everything that start began.
func (w *world) close() error {
	var errs []error
	for _, r := range w.replicas {
		errs = append(errs, r.end())
	}
	if w.bed != nil {
		errs = append(errs, w.bed.Close())
	}
	if w.registry != nil {
		w.registry.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

func eventually(ctx context.Context, limit time.Duration, holds func() error) error {
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if err = holds(); err == nil {
			return nil
		}
	}
	return err
}

// kubectl runs kubectl as the administrator and fails the test when it fails.
func (w *world) kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	output, err := w.bed.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return output
}

// apply applies manifests and deletes them when the test ends.
func (w *world) apply(t *testing.T, manifests string) {
	t.Helper()
	w.kubectl(t, manifests, "apply", "-f", "-")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if output, err := w.bed.Kubectl(ctx, manifests, "delete", "--ignore-not-found", "--wait=false", "-f", "-"); err != nil {
			t.Errorf("deleting what the test applied: %v\n%s", err, output)
		}
	})
}

// sample reads a manifest of config/samples for this world: the service's address becomes that of the first replica.
func (w *world) sample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(configDir, "samples", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "https://svc.kyverno-notation-venafi.svc", w.replicas[0].secure)
}

// token gives a token of a service account, for audiences; for none it is one for the API server.
func (w *world) token(t *testing.T, namespace, name string, audiences ...string) string {
	t.Helper()
	token, err := w.bed.Token(t.Context(), namespace, name, audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// check asks a replica directly, as Kyverno does.
func (r *replica) check(ctx context.Context, authorization string, body []byte) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/checkimages", bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func podRequest(image, policy string) []byte {
	return fmt.Appendf(nil, `{"trustPolicy":%q,"object":{"kind":"Pod","spec":{"containers":[{"name":"app","image":%q}]}}}`, policy, image)
}

// reference of a scenario's image.
func (w *world) reference(name string) string { return w.scenario.Reference(name) }

func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}
