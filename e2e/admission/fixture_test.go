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
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/shell/certmanager"
	"github.com/nirmata/kyverno-notation-venafi/shell/issuer"
	"github.com/nirmata/kyverno-notation-venafi/shell/plugin/plugintest"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// Where the service's own resources are.
const (
	serviceNamespace = deployment.Namespace
	callerSecret     = "kyverno-notation-venafi-caller"
	configDir        = "../../config"
)

// fixture is shared by the tests: a control plane with Kyverno, a registry with images, and two replicas of the service,
// with certificates that certmanager made.
type fixture struct {
	bed        *bed.Bed
	registry   *registrytest.Registry
	scenario   *scenariotest.Scenario
	dir        string
	deployment *deployment.Deployment
	plugins    string
	replicas   []*replica

	config, platformCA string // the plugin's configuration file, and the CA of its signing platform
}

// shared is set once, before the tests.
var shared *fixture

func TestMain(m *testing.M) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Minute)
	fx := &fixture{}
	err := fx.start(ctx)
	code := 1
	if err == nil {
		shared = fx
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "starting the test bed:", err)
	}
	if err := fx.close(); err != nil {
		fmt.Fprintln(os.Stderr, "ending the test bed:", err)
		code = 1
	}
	cancel()
	os.Exit(code)
}

func (fx *fixture) start(ctx context.Context) (err error) {
	if fx.dir, err = os.MkdirTemp("", "e2e-suite-"); err != nil {
		return err
	}
	fx.registry = registrytest.New(registrytest.Options{})
	if fx.scenario, err = scenariotest.New(fx.registry.Host(), fx.registry.Client(), true); err != nil {
		return err
	}
	if fx.scenario.Platform, err = signingtest.NewPlatform(); err != nil {
		return err
	}
	if fx.config, fx.platformCA, err = fx.scenario.Platform.Write(fx.dir); err != nil {
		return err
	}
	if err := fx.scenario.PublishAll(ctx); err != nil {
		return err
	}
	if err := fx.buildPlugin(ctx); err != nil {
		return err
	}
	ca, caSecret, err := fx.makeCA()
	if err != nil {
		return err
	}
	// CEL policies have no place for a CA, so Kyverno trusts it by itself.
	if fx.bed, err = bed.Start(ctx, bed.Options{Kyverno: true, Log: os.Stderr, KyvernoEnv: []string{"SSL_CERT_FILE=" + ca}}); err != nil {
		return err
	}
	if err := fx.install(ctx); err != nil {
		return err
	}
	if err := fx.makeCertificates(ctx, caSecret); err != nil {
		return err
	}
	for range 2 {
		if err := fx.addReplica(ctx); err != nil {
			return err
		}
	}
	return nil
}

// buildPlugin makes the stand-in plugin.
func (fx *fixture) buildPlugin(ctx context.Context) error {
	fx.plugins = filepath.Join(fx.dir, "plugins")
	standin, err := plugintest.Build(ctx, fx.dir)
	if err != nil {
		return err
	}
	return plugintest.Install(standin, fx.plugins, "venafi-csp", "")
}

// install applies what a user applies: the installation and trust.
func (fx *fixture) install(ctx context.Context) (err error) {
	if err := deployment.Install(ctx, fx.bed, filepath.Join(configDir, "install.yaml")); err != nil {
		return err
	}
	if fx.deployment, err = deployment.Build(ctx, fx.bed, fx.dir); err != nil {
		return err
	}
	fx.deployment.Env = []string{"SSL_CERT_FILE=" + fx.platformCA} // for the plugin; all else here is told its CA
	return fx.applyTrust(ctx)
}

// applyTrust applies the scenario's trust store and trust policy.
func (fx *fixture) applyTrust(ctx context.Context) error {
	return fx.bed.Apply(ctx, scenariotest.TrustStore("acme", fx.scenario.Trusted.PEM())+"---\n"+scenariotest.TrustPolicy(scenariotest.PolicyName, "strict", "ca:acme"))
}

// replica is a process of the service, as its own service account.
type replica = deployment.Process

func (fx *fixture) addReplica(ctx context.Context, args ...string) error {
	r, err := fx.startReplica(ctx, args...)
	if err != nil {
		return err
	}
	fx.replicas = append(fx.replicas, r)
	return waitReady(ctx, r)
}

func (fx *fixture) startReplica(ctx context.Context, args ...string) (*replica, error) {
	return fx.deployment.Serve(ctx, append([]string{
		"--pluginDir", fx.plugins, "--pluginConfig", "config=" + fx.config, "--allowLoopback", "--insecureRegistries", fx.registry.Host(), "--defaultTrustPolicy", scenariotest.PolicyName,
	}, args...)...)
}

func waitReady(ctx context.Context, r *replica) error {
	return deployment.Eventually(ctx, 30*time.Second, func() error { return r.Ready(ctx) })
}

// makeCA makes the CA that certmanager will use, before Kyverno starts with its file as a trusted CA. It returns the file and
// the manifest of the Secret.
func (fx *fixture) makeCA() (file, manifest string, err error) {
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
	file = filepath.Join(fx.dir, "ca.pem")
	return file, manifest, os.WriteFile(file, certificate, 0o644)
}

// makeCertificates has a certificate manager make the serving certificate and the bundle for that CA.
func (fx *fixture) makeCertificates(ctx context.Context, caSecret string) error {
	if err := fx.bed.Apply(ctx, caSecret); err != nil {
		return err
	}
	manager, err := fx.deployment.Manage(ctx, managerArgs()...)
	if err != nil {
		return err
	}
	err = deployment.Eventually(ctx, 30*time.Second, func() error {
		_, err := fx.bed.Kubectl(ctx, "", "get", "-n", serviceNamespace, "secret/"+certmanager.ServingSecret, "configmap/"+certmanager.BundleConfigMap, "secret/"+callerSecret)
		return err
	})
	return errors.Join(err, manager.End())
}

// managerArgs let Kyverno call the replicas by their address.
func managerArgs() []string { return []string{"--extraSANs", "127.0.0.1"} }

// close ends everything that start began.
func (fx *fixture) close() error {
	var errs []error
	for _, r := range fx.replicas {
		errs = append(errs, r.End())
	}
	if fx.bed != nil {
		errs = append(errs, fx.bed.Close())
	}
	if fx.registry != nil {
		fx.registry.Close()
	}
	if fx.scenario != nil && fx.scenario.Platform != nil {
		errs = append(errs, fx.scenario.Platform.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(fx.dir))...)
}

// kubectl runs kubectl as the administrator and fails the test when it fails.
func (fx *fixture) kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	output, err := fx.bed.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return output
}

// apply applies manifests and deletes them when the test ends.
func (fx *fixture) apply(t *testing.T, manifests string) {
	t.Helper()
	fx.kubectl(t, manifests, "apply", "-f", "-")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if output, err := fx.bed.Kubectl(ctx, manifests, "delete", "--ignore-not-found", "--wait=false", "-f", "-"); err != nil {
			t.Errorf("deleting what the test applied: %v\n%s", err, output)
		}
	})
}

// sample reads a manifest of config/samples for this fixture: the service's address becomes that of the first replica.
func (fx *fixture) sample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(configDir, "samples", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "https://svc.kyverno-notation-venafi.svc", "https://"+fx.replicas[0].Secure)
}

// token gives a token of a service account, for audiences; for none it is one for the API server.
func (fx *fixture) token(t *testing.T, namespace, name string, audiences ...string) string {
	t.Helper()
	token, err := fx.bed.Token(t.Context(), namespace, name, audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// reference of a scenario's image.
func (fx *fixture) reference(name string) string { return fx.scenario.Reference(name) }
