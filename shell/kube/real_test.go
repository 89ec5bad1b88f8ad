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
)

// TestOnARealAPIServer is run by e2e/suite, which starts one with the CRDs, the service's own rights and Kyverno's
// accounts on it.
func TestOnARealAPIServer(t *testing.T) {
	if os.Getenv("KUBE_TEST_ADMIN") == "" {
		t.Skip("run by e2e/suite")
	}
	admin, service := connect(t, "KUBE_TEST_ADMIN"), connect(t, "KUBE_TEST_SERVICE")
	t.Run("400 resources load soon and are followed", func(t *testing.T) { testRealTrust(t, admin, service) })
	t.Run("secrets and configuration are followed", func(t *testing.T) { testRealSecrets(t, admin, service) })
	t.Run("tokens are reviewed", func(t *testing.T) { testRealTokens(t, service) })
}

func connect(t *testing.T, variable string) *Client {
	t.Helper()
	client, err := Connect(os.Getenv(variable), "kube-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// make creates or replaces an object, given as JSON, as the administrator.
func (c *Client) make(t *testing.T, of target, kind, text string) {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &object.Object); err != nil {
		t.Fatal(err)
	}
	object.SetGroupVersionKind(of.resource.GroupVersion().WithKind(kind))
	object.SetName(of.name)
	_, err := c.dynamic.Resource(of.resource).Namespace(of.namespace).Apply(t.Context(), of.name, object, metav1.ApplyOptions{FieldManager: "test", Force: true})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *Client) drop(t *testing.T, of target) {
	t.Helper()
	// The test's context is done when it is cleaned up.
	err := c.dynamic.Resource(of.resource).Namespace(of.namespace).Delete(context.WithoutCancel(t.Context()), of.name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Error(err)
	}
}

func named(of target, name string) target { of.name = name; return of }

func testRealTrust(t *testing.T, admin, service *Client) {
	const many = 200
	bundles := make([][]byte, 8) // keys take their time to make
	for i := range bundles {
		bundles[i] = root(t)
	}
	for i := range many {
		name := fmt.Sprintf("many-%d", i)
		admin.make(t, named(trustPolicies(), name), "TrustPolicy", policyJSON(name, name))
		admin.make(t, named(trustStores(), name), "TrustStore", storeJSON(t, name, bundles[i%len(bundles)]))
		t.Cleanup(func() {
			admin.drop(t, named(trustPolicies(), name))
			admin.drop(t, named(trustStores(), name))
		})
	}
	before, start := heap(), time.Now()
	trust := NewTrust(service, (&record{}).logger(), func() {})
	running(t, trust.Watch)
	within(t, 2*time.Second, "loaded", loaded(trust))
	took := time.Since(start)
	if store, _ := trust.store("many-199"); trust.policy("many-199").Problem != "" || len(store.Certificates) != 1 {
		t.Errorf("%+v, %+v", trust.policy("many-199"), store)
	}
	t.Logf("%d policies and %d stores: %s, %d KiB of heap", many, many, took, (heap()-before)>>10)

	admin.make(t, named(trustStores(), "many-7"), "TrustStore", storeJSON(t, "renamed", bundles[0]))
	eventually(t, "renamed", func() bool {
		_, old := trust.store("many-7")
		_, renamed := trust.store("renamed")
		return !old && renamed
	})
	admin.drop(t, named(trustPolicies(), "many-7"))
	eventually(t, "deleted", func() bool { return trust.policy("many-7").Name == "" })
}

func testRealSecrets(t *testing.T, admin, service *Client) {
	const namespace = "kyverno-notation-venafi"
	secret := func(name string) target {
		return target{schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, namespace, name}
	}
	log := &record{}
	secrets := NewPullSecrets(service, namespace, []string{"regcred", "not-in-the-role"}, log.logger())
	config := NewPluginConfig(service, PluginConfigOptions{Namespace: namespace, ConfigMap: "notation-plugin-config", Secret: "notation-plugin-config"}, log.logger())
	running(t, secrets.Watch)
	running(t, config.Watch)
	within(t, 3*time.Second, "synced", func() bool { return secrets.Synced() && config.Synced() })
	if !strings.Contains(log.String(), "forbidden") {
		t.Errorf("nothing is said of the secret that may not be read\n%s", log)
	}
	for _, user := range []string{"first", "rotated"} {
		admin.make(t, secret("regcred"), "Secret", dockerConfigJSON("a.example.com", user))
		eventually(t, user, func() bool {
			credential, _ := secrets.Credential(t.Context(), "a.example.com", "acme/app")
			return credential.Username == user && credential.Password == "hunter2"
		})
	}
	admin.make(t, target{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, namespace, "notation-plugin-config"}, "ConfigMap", `{"data":{"a":"map","b":"map"}}`)
	admin.make(t, secret("notation-plugin-config"), "Secret", secretJSON("Opaque", map[string]string{"b": "secret"}))
	eventually(t, "merged", func() bool { return config.Config()["a"] == "map" && config.Config()["b"] == "secret" })
	admin.drop(t, secret("notation-plugin-config"))
	eventually(t, "gone", func() bool { return config.Config()["b"] == "map" })
}

func testRealTokens(t *testing.T, service *Client) {
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
