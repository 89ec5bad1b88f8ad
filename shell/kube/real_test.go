package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient/kubetest"
)

// TestOnARealAPIServer is run by e2e/manifests, which starts one with the CRDs, the service's own rights and Kyverno's
// accounts on it.
func TestOnARealAPIServer(t *testing.T) {
	if os.Getenv("KUBE_TEST_ADMIN") == "" {
		t.Skip("run by e2e/manifests")
	}
	admin, service := connect(t, "KUBE_TEST_ADMIN"), connect(t, "KUBE_TEST_SERVICE")
	t.Run("400 resources load soon and are followed", func(t *testing.T) { testRealTrust(t, admin, service) })
	t.Run("secrets and configuration are followed", func(t *testing.T) { testRealSecrets(t, admin, service) })
	t.Run("tokens are reviewed", func(t *testing.T) { testRealTokens(t, service) })
}

func connect(t *testing.T, variable string) *kubeclient.Client {
	t.Helper()
	client, err := kubeclient.Connect(kubeclient.Source{Kubeconfig: os.Getenv(variable)}, "kube-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// apply creates or replaces an object, given as JSON, as the administrator.
func apply(t *testing.T, c *kubeclient.Client, of kubeclient.Target, kind, text string) {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &object.Object); err != nil {
		t.Fatal(err)
	}
	object.SetGroupVersionKind(of.Resource.GroupVersion().WithKind(kind))
	object.SetName(of.Name)
	_, err := c.Dynamic.Resource(of.Resource).Namespace(of.Namespace).Apply(t.Context(), of.Name, object, metav1.ApplyOptions{FieldManager: "test", Force: true})
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, c *kubeclient.Client, of kubeclient.Target) {
	t.Helper()
	// The test's context is done when it is cleaned up.
	err := c.Dynamic.Resource(of.Resource).Namespace(of.Namespace).Delete(context.WithoutCancel(t.Context()), of.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Error(err)
	}
}

func named(of kubeclient.Target, name string) kubeclient.Target { of.Name = name; return of }

func testRealTrust(t *testing.T, admin, service *kubeclient.Client) {
	const many = 200
	bundles := make([][]byte, 8) // keys take their time to make
	for i := range bundles {
		bundles[i] = root(t)
	}
	for i := range many {
		name := fmt.Sprintf("many-%d", i)
		apply(t, admin, named(kubeclient.TrustPolicies(), name), "TrustPolicy", kubetest.PolicyJSON(name, name))
		apply(t, admin, named(kubeclient.TrustStores(), name), "TrustStore", kubetest.StoreJSON(name, bundles[i%len(bundles)]))
		t.Cleanup(func() {
			remove(t, admin, named(kubeclient.TrustPolicies(), name))
			remove(t, admin, named(kubeclient.TrustStores(), name))
		})
	}
	before, start := heap(), time.Now()
	trust := NewTrust(service, (&kubetest.Log{}).Logger(), func() {})
	kubetest.Run(t, trust.Watch)
	within(t, "loaded", loaded(trust))
	took := time.Since(start)
	if store, _ := trust.store("many-199"); trust.policy("many-199").Problem != "" || len(store.Certificates) != 1 {
		t.Errorf("%+v, %+v", trust.policy("many-199"), store)
	}
	t.Logf("%d policies and %d stores: %s, %d KiB of heap", many, many, took, (heap()-before)>>10)

	apply(t, admin, named(kubeclient.TrustStores(), "many-7"), "TrustStore", kubetest.StoreJSON("renamed", bundles[0]))
	within(t, "renamed", func() bool {
		_, old := trust.store("many-7")
		_, renamed := trust.store("renamed")
		return !old && renamed
	})
	remove(t, admin, named(kubeclient.TrustPolicies(), "many-7"))
	within(t, "deleted", func() bool { return trust.policy("many-7").Name == "" })
}

func testRealSecrets(t *testing.T, admin, service *kubeclient.Client) {
	const namespace = "kyverno-notation-venafi"
	secret := func(name string) kubeclient.Target {
		return kubeclient.Target{Resource: schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, Namespace: namespace, Name: name}
	}
	log := &kubetest.Log{}
	secrets := NewPullSecrets(service, namespace, []string{"regcred", "not-in-the-role"}, log.Logger())
	config := NewPluginConfig(service, PluginConfigOptions{Namespace: namespace, ConfigMap: "notation-plugin-config", Secret: "notation-plugin-config"}, log.Logger())
	kubetest.Run(t, secrets.Watch)
	kubetest.Run(t, config.Watch)
	within(t, "synced", func() bool { return secrets.Synced() && config.Synced() })
	if !strings.Contains(log.String(), "forbidden") {
		t.Errorf("nothing is said of the secret that may not be read\n%s", log)
	}
	for _, user := range []string{"first", "rotated"} {
		apply(t, admin, secret("regcred"), "Secret", dockerConfigJSON("a.example.com", user))
		within(t, user, func() bool {
			credential, _ := secrets.Credential(t.Context(), "a.example.com", "acme/app")
			return credential.Username == user && credential.Password == "hunter2"
		})
	}
	apply(t, admin, kubeclient.Target{Resource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, Namespace: namespace, Name: "notation-plugin-config"}, "ConfigMap", `{"data":{"a":"map","b":"map"}}`)
	apply(t, admin, secret("notation-plugin-config"), "Secret", kubetest.SecretJSON("Opaque", map[string]string{"b": "secret"}))
	within(t, "merged", func() bool { return config.Config()["a"] == "map" && config.Config()["b"] == "secret" })
	remove(t, admin, secret("notation-plugin-config"))
	within(t, "gone", func() bool { return config.Config()["b"] == "map" })
}

func testRealTokens(t *testing.T, service *kubeclient.Client) {
	reviewer := NewReviewer(service, ours())
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"Kyverno's own":           {os.Getenv("KUBE_TEST_TOKEN"), nil},
		"for the API server":      {os.Getenv("KUBE_TEST_TOKEN_WRONG_AUDIENCE"), ErrUnauthenticated},
		"another service account": {os.Getenv("KUBE_TEST_TOKEN_WRONG_USER"), ErrForbidden},
		"garbage":                 {"garbage", ErrUnauthenticated},
	} {
		start := time.Now()
		user, err := reviewer.Review(t.Context(), "Bearer "+c.token)
		if !errors.Is(err, c.want) || user != map[bool]string{true: kyverno}[c.want == nil] {
			t.Errorf("%s: user %q, error %v; want %v", name, user, err, c.want)
		}
		t.Logf("%s: %s", name, time.Since(start).Round(time.Microsecond))
	}
}

// within waits for a condition. It polls, as a real API server does not run in a synctest bubble; the limit is far above what a
// slow machine takes.
func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	const limit = 2 * time.Minute
	poll, end := time.NewTicker(5*time.Millisecond), time.After(limit)
	defer poll.Stop()
	for !holds() {
		select {
		case <-poll.C:
		case <-end:
			t.Fatalf("within %s it did not come to this: %s", limit, what)
		}
	}
}
