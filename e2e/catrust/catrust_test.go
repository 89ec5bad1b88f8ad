//go:build e2e

package catrust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nirmata/kyverno-notation-venafi/core/certificates"
	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/certmanager"
)

// load is a caller who sends pods one after another and counts what fails.
type load struct {
	e             environment
	front         *front
	client        *http.Client
	image, pinned string
	calls, failed int
}

// until sends pods until something holds. Before every third the connections to the service are cut.
func (l *load) until(t *testing.T, limit time.Duration, what string, holds func() error) {
	t.Helper()
	calls, failed := l.calls, l.failed
	err := errors.New("it was not tried")
	for deadline := time.Now().Add(limit); err != nil; {
		if time.Now().After(deadline) {
			t.Fatalf("within %s it did not come to this: %s: %v", limit, what, err)
		}
		for range 3 {
			l.calls++
			if err := l.e.admit(t.Context(), l.client, l.image, l.pinned); err != nil {
				if l.failed++; l.failed-failed < 3 {
					t.Logf("call %d: %v", l.calls, err)
				}
			}
		}
		l.front.cut(t)
		err = holds()
	}
	t.Logf("until %s: %d calls, %d failed", what, l.calls-calls, l.failed-failed)
}

// bundle reads the CAs that are published.
func (e environment) bundle(t *testing.T) []*x509.Certificate {
	t.Helper()
	return certificates.ParseBundle([]byte(e.Kubectl(t, "", "get", "-n", fixture.ServiceNamespace, "configmap/"+certmanager.BundleConfigMap, "-o", `jsonpath={.data.ca\.crt}`)))
}

// newest is the youngest published CA.
func (e environment) newest(t *testing.T) *x509.Certificate {
	t.Helper()
	all := e.bundle(t)
	return all[len(all)-1]
}

// signs is nil once the replica serves a certificate of a CA.
func (e environment) signs(t *testing.T, authority *x509.Certificate) func() error {
	return func() error {
		now, err := serves(t.Context(), e.Replicas[0], e.bundle(t))
		if err == nil && !now.Equal(authority) {
			err = fmt.Errorf("the CA of %s signs", now.NotBefore)
		}
		return err
	}
}

// restartKyverno is what kubectl rollout restart does to one replica.
func (e environment) restartKyverno(t *testing.T) {
	t.Helper()
	if err := e.Bed.StopKyverno(); err != nil {
		t.Fatal(err)
	}
	if err := e.Bed.StartKyverno(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestKyvernoTrustsWhatItsDeploymentMounts has all ways in at once: each pod is sent to the ClusterPolicy and to the CEL policies,
// for which Kyverno trusts what it read when it started, and to a ClusterPolicy whose caBundle follows the published CAs.
func TestKyvernoTrustsWhatItsDeploymentMounts(t *testing.T) {
	e := shared
	e.Kubectl(t, "", "apply", "-k", filepath.Join(fixture.ConfigDir, "kyverno"))
	manager := deployment.Kept(t)(e.Deployment.Manage(t.Context(), fixture.ManagerArgs()...))
	wait := func(what string, holds func() error) {
		t.Helper()
		if err := deployment.Eventually(t.Context(), time.Minute, holds); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	e.Kubectl(t, "", "-n", "kyverno", "wait", "--for=jsonpath={.data}", "configmap/kyverno-notation-venafi-ca", "--timeout=60s")
	if err := e.volume(t.Context()); err != nil || e.volumeText() == "" {
		t.Fatalf("the volume has %q, %v", e.volumeText(), err)
	}
	e.keepVolume(t)
	e.restartKyverno(t) // it has not looked for CAs yet, but in a cluster it is restarted too

	f := newFront(t, e.Replicas[0].Secure)
	direct := e.Replicas[0].Secure
	e.Replicas[0].Secure = f.Address // for the policies
	e.TwoTenants(t)
	trusting := append(fixture.Ways()[0].Samples, fixture.Ways()[1].Samples...)
	e.Install(t, fixture.Policies{Samples: trusting})
	e.Apply(t, strings.Replace(e.WithCABundle(t, e.Sample(t, "clusterpolicy.yaml")), "name: verify-images", "name: with-ca-bundle", 1))
	if err := e.Bed.WaitPolicy(t.Context(), "clusterpolicy/with-ca-bundle"); err != nil {
		t.Fatal(err)
	}
	manifests := ""
	for _, name := range trusting {
		manifests += e.Sample(t, name) + "\n---\n"
	}
	e.Replicas[0].Secure = direct

	config, err := clientcmd.BuildConfigFromFlags("", e.Bed.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	l := &load{e: e, front: f, client: client, image: e.Reference("signed"), pinned: e.Pinned(t, "signed")}

	// The fixture's CA ends within a day, so that certmanager has published the next one already, and Kyverno knows both.
	first := e.newest(t)
	if n := len(e.bundle(t)); n != 2 {
		t.Fatalf("there are %d CAs", n)
	}
	if err := manager.End(); err != nil {
		t.Fatal(err)
	}
	args := append(fixture.ManagerArgs(), "--caDuration", "240s", "--certificateDuration", "60s", "--caNotice", "80s")
	deployment.Kept(t)(e.Deployment.Manage(t.Context(), args...))
	accepted := f.accepted.Load()

	l.until(t, 3*time.Minute, "the next CA signs, which was published before Kyverno started", e.signs(t, first))
	l.until(t, 3*time.Minute, "another CA is published", func() error {
		if e.newest(t).Equal(first) {
			return errors.New("it is not")
		}
		return nil
	})
	second := e.newest(t)
	l.until(t, deployment.Patience, "the volume holds the next CA", func() error {
		if !strings.Contains(e.volumeText(), certificates.EncodeBundle([]*x509.Certificate{second})) {
			return errors.New("it does not")
		}
		return nil
	})
	since := time.Now()
	l.until(t, deployment.Patience, "10 s of its notice are over", func() error {
		if time.Since(since) < 10*time.Second {
			return errors.New("not yet")
		}
		return e.signs(t, first)()
	})
	// The restart that the event asks for, which takes admissions away from this one replica of Kyverno.
	if events := e.Kubectl(t, "", "get", "events", "-n", "default", "--field-selector", "reason=CAChange"); !strings.Contains(events, "kubectl -n "+bed.KyvernoNamespace+" rollout restart deployment") {
		t.Errorf("the events are %q", events)
	}
	e.restartKyverno(t)
	wait("Kyverno goes by its policies again", func() error { return e.admit(t.Context(), l.client, l.image, l.pinned) })
	l.until(t, 2*time.Minute, "the second CA signs", e.signs(t, second))
	l.until(t, 2*time.Minute, "the third CA is published", func() error {
		if e.newest(t).Equal(second) {
			return errors.New("it is not")
		}
		return nil
	})
	if l.failed != 0 {
		t.Errorf("%d of %d calls failed", l.failed, l.calls)
	}
	if handshakes := f.accepted.Load() - accepted; handshakes < int64(l.calls) {
		t.Errorf("%d new connections for %d calls", handshakes, l.calls)
	}
	t.Logf("%d calls, %d failed, %d new connections", l.calls, l.failed, f.accepted.Load()-accepted)

	// What the notice is for: a Kyverno that did not restart within it.
	third := e.newest(t)
	l.until(t, 2*time.Minute, "the third CA signs", e.signs(t, third))
	f.cut(t)
	if err := e.admit(t.Context(), l.client, l.image, l.pinned); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("a CA that Kyverno does not know: %v", err)
	}
	e.Kubectl(t, manifests, "delete", "-f", "-")
	wait("the caBundle alone is gone by", func() error { return e.admit(t.Context(), l.client, l.image, l.pinned) })
}

// TestPatchesOfKyvernosDeployments runs the commands that the files say, twice, on the Deployments of Kyverno's manifest.
func TestPatchesOfKyvernosDeployments(t *testing.T) {
	e := shared
	for name, container := range map[string]string{"admission-controller": "kyverno", "reports-controller": "controller"} {
		file := filepath.Join(fixture.ConfigDir, "kyverno", "trust", name+".yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		command := "kubectl -n kyverno patch deployment kyverno-" + name + " --patch-file config/kyverno/trust/" + name + ".yaml"
		if !strings.HasPrefix(string(text), "# "+command+"\n") {
			t.Errorf("%s does not say %s", file, command)
		}
		pod := func(path string) string {
			return e.Kubectl(t, "", "-n", "kyverno", "get", "deployment", "kyverno-"+name, "-o", "jsonpath={.spec.template.spec"+path+"}")
		}
		variables := len(strings.Fields(pod(".containers[*].env[*].name")))
		for range 2 {
			e.Kubectl(t, "", "-n", "kyverno", "patch", "deployment", "kyverno-"+name, "--patch-file", file)
			for path, want := range map[string]string{
				".containers[*].name": container,
				`.containers[0].env[?(@.name=="SSL_CERT_DIR")].value`:                             "/etc/ssl/certs:/etc/kyverno-notation-venafi/ca",
				`.containers[0].volumeMounts[?(@.name=="kyverno-notation-venafi-ca")]`:            `{"mountPath":"/etc/kyverno-notation-venafi/ca","name":"kyverno-notation-venafi-ca","readOnly":true}`,
				`.volumes[?(@.name=="kyverno-notation-venafi-ca")].configMap.name`:                certmanager.BundleConfigMap,
				`.volumes[?(@.name=="kyverno-notation-venafi-ca")].configMap.optional`:            "true",
				`.containers[0].volumeMounts[?(@.name=="sigstore")].mountPath`:                    "/.sigstore",
				`.containers[0].env[?(@.name=="KYVERNO_NAMESPACE")].valueFrom.fieldRef.fieldPath`: "metadata.namespace",
			} {
				if got := pod(path); got != want {
					t.Errorf("%s: %s is %q, want %q", name, path, got, want)
				}
			}
			if now := len(strings.Fields(pod(".containers[*].env[*].name"))); now != variables+1 {
				t.Errorf("%s: it had %d variables and has %d", name, variables, now)
			}
		}
	}
}
