//go:build e2e

// Package admission shows the service at work with a real API server and a real Kyverno; see package bed for how they
// run without containers. Run it with make e2e.
package admission

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/product"
	"github.com/nirmata/kyverno-notation-venafi/shell/certmanager"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// Where the service's own resources are.
const (
	serviceNamespace = product.Namespace
	callerSecret     = "kyverno-notation-venafi-caller"
	configDir        = "../../config"
)

// world is what the tests share: a control plane with Kyverno, a registry with images, and two replicas of the service,
// with certificates that certmanager made.
type world struct {
	bed      *bed.Bed
	registry *registrytest.Registry
	scenario *scenariotest.Scenario
	dir      string
	product  *product.Product
	plugins  string
	replicas []*replica

	config, platformCA string // the plugin's configuration file, and the CA of its signing platform
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
	w.registry = registrytest.New(registrytest.Options{})
	if w.scenario, err = scenariotest.New(w.registry.Host(), w.registry.Client(), true); err != nil {
		return err
	}
	if w.scenario.Platform, err = signingtest.NewPlatform(); err != nil {
		return err
	}
	if w.config, w.platformCA, err = w.scenario.Platform.Write(w.dir); err != nil {
		return err
	}
	if err := w.scenario.PublishAll(ctx); err != nil {
		return err
	}
	if err := w.buildPlugin(ctx); err != nil {
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

// buildPlugin makes the stand-in plugin.
func (w *world) buildPlugin(ctx context.Context) error {
	w.plugins = filepath.Join(w.dir, "plugins")
	standin, err := plugintest.Build(ctx, w.dir)
	if err != nil {
		return err
	}
	return plugintest.Install(standin, w.plugins, "venafi-csp", "")
}

// install applies what a user applies: the installation and trust.
func (w *world) install(ctx context.Context) (err error) {
	if err := product.Install(ctx, w.bed, filepath.Join(configDir, "install.yaml")); err != nil {
		return err
	}
	if w.product, err = product.Build(ctx, w.bed, w.dir); err != nil {
		return err
	}
	w.product.Env = []string{"SSL_CERT_FILE=" + w.platformCA} // for the plugin; all else here is told its CA
	return w.applyTrust(ctx)
}

// applyTrust applies the scenario's trust store and trust policy.
func (w *world) applyTrust(ctx context.Context) error {
	return w.bed.Apply(ctx, scenariotest.TrustStore("acme", w.scenario.Trusted.PEM())+"---\n"+scenariotest.TrustPolicy(scenariotest.PolicyName, "strict", "ca:acme"))
}

// replica is a process of the service, as its own service account.
type replica = product.Process

func (w *world) addReplica(ctx context.Context, args ...string) error {
	r, err := w.startReplica(ctx, args...)
	if err != nil {
		return err
	}
	w.replicas = append(w.replicas, r)
	return waitReady(ctx, r)
}

func (w *world) startReplica(ctx context.Context, args ...string) (*replica, error) {
	return w.product.Serve(ctx, append([]string{
		"--pluginDir", w.plugins, "--pluginConfig", "config=" + w.config, "--allowLoopback", "--insecureRegistries", w.registry.Host(), "--defaultTrustPolicy", scenariotest.PolicyName,
	}, args...)...)
}

func waitReady(ctx context.Context, r *replica) error {
	return product.Eventually(ctx, 30*time.Second, func() error { return r.Ready(ctx) })
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
		certmanager.AuthoritySecret, serviceNamespace, base64.StdEncoding.EncodeToString(certificate), base64.StdEncoding.EncodeToString(key))
	file = filepath.Join(w.dir, "ca.pem")
	return file, manifest, os.WriteFile(file, certificate, 0o644)
}

// makeCertificates lets a certificate manager make what the CA's Secret lacks: the serving certificate and the bundle.
func (w *world) makeCertificates(ctx context.Context, caSecret string) error {
	if err := w.bed.Apply(ctx, caSecret); err != nil {
		return err
	}
	manager, err := w.product.Manage(ctx, managerArgs()...)
	if err != nil {
		return err
	}
	err = product.Eventually(ctx, 30*time.Second, func() error {
		_, err := w.bed.Kubectl(ctx, "", "get", "-n", serviceNamespace, "secret/"+certmanager.ServingSecret, "configmap/"+certmanager.BundleConfigMap, "secret/"+callerSecret)
		return err
	})
	return errors.Join(err, manager.End())
}

// managerArgs let Kyverno call the replicas by their address.
func managerArgs() []string { return []string{"--extraSANs", "127.0.0.1"} }

// close ends everything that start began.
func (w *world) close() error {
	var errs []error
	for _, r := range w.replicas {
		errs = append(errs, r.End())
	}
	if w.bed != nil {
		errs = append(errs, w.bed.Close())
	}
	if w.registry != nil {
		w.registry.Close()
	}
	if w.scenario != nil && w.scenario.Platform != nil {
		errs = append(errs, w.scenario.Platform.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
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
	return strings.ReplaceAll(string(text), "https://svc.kyverno-notation-venafi.svc", "https://"+w.replicas[0].Secure)
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

// reference of a scenario's image.
func (w *world) reference(name string) string { return w.scenario.Reference(name) }
