//go:build e2e

package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// bundleObject is a ConfigMap or Secret named trust-bundle, as config/bundles grants it in the namespace security.
func bundleObject(t *testing.T, kind, namespace, key string, pem []byte) string {
	t.Helper()
	field := map[string]string{"ConfigMap": "data", "Secret": "stringData"}[kind]
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": kind, "metadata": map[string]string{"name": "trust-bundle", "namespace": namespace}, field: map[string]string{key: string(pem)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// namingBundle is the trust store acme, with the certificates of an object alone.
func namingBundle(kind string) string {
	return "apiVersion: notation.nirmata.io/v1alpha1\nkind: TrustStore\nmetadata: {name: acme}\nspec:\n  trustStoreName: acme\n  type: ca\n" +
		"  caBundleFrom: {" + kind + ": {namespace: security, name: trust-bundle, key: ca.crt}}\n"
}

// TestBundles has both replicas and the certificate manager follow the certificates that a trust store names elsewhere: as they are
// replaced, withdrawn, and not granted any more.
func TestBundles(t *testing.T) {
	fx := shared
	header, folder := fx.Bearer(t), filepath.Join(fixture.ConfigDir, "bundles")
	trusted := fx.Scenario.Trusted.PEM()
	other, err := signingtest.NewCA(signingtest.Options{CommonName: "Another"})
	if err != nil {
		t.Fatal(err)
	}
	manager, err := fx.Deployment.Manage(t.Context(), fixture.ManagerArgs()...)
	deployment.Kept(t)(manager, err)
	t.Cleanup(func() {
		_, _ = fx.Bed.Kubectl(context.Background(), "", "delete", "-k", folder, "--ignore-not-found")
		_, _ = fx.Bed.Kubectl(context.Background(), "", "delete", "truststore", "acme", "--ignore-not-found")
		if err := fx.ApplyTrust(context.Background()); err != nil {
			t.Error(err)
		}
	})
	replicas := fx.Replicas
	all := func(t *testing.T, says string) { // "" where the image is verified
		t.Helper()
		for i, r := range replicas {
			err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
				err := fx.statusOf(t.Context(), r, header, "signed", scenariotest.PolicyName)
				if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
					return fmt.Errorf("verified %t, %v; want %q", err == nil, err, says)
				}
				return nil
			})
			if err != nil {
				t.Errorf("replica %d: %v", i, err)
			}
		}
	}
	status := func(t *testing.T, resource, says string) {
		t.Helper()
		err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
			text, err := fx.Bed.Kubectl(t.Context(), "", "get", resource, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")]}`)
			if err == nil && !strings.Contains(text, says) {
				err = fmt.Errorf("%s is %s; want %q", resource, text, says)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	fx.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: security}\n")
	fx.Apply(t, bundleObject(t, "ConfigMap", "security", "ca.crt", trusted))
	fx.Kubectl(t, "", "apply", "-k", folder)
	fx.Kubectl(t, "", "delete", "truststore", "acme")
	fx.Apply(t, namingBundle("configMap"))

	all(t, "")
	status(t, "truststore/acme", "1 of 1 certificates are valid")
	t.Run("a rotation is seen by every replica", func(t *testing.T) {
		fx.Apply(t, bundleObject(t, "ConfigMap", "security", "ca.crt", other.PEM()))
		all(t, "does not contain any trusted certificate")
		fx.Apply(t, bundleObject(t, "ConfigMap", "security", "ca.crt", append(other.PEM(), trusted...)))
		all(t, "")
		status(t, "truststore/acme", "2 of 2 certificates are valid")
	})
	t.Run("what is broken says so", func(t *testing.T) {
		fx.Apply(t, bundleObject(t, "ConfigMap", "security", "ca.crt", []byte("no certificate")))
		all(t, `trust store "ca:acme" cannot be used: what spec.caBundleFrom names is not PEM`)
		status(t, "truststore/acme", "what spec.caBundleFrom names is not PEM")
		status(t, "trustpolicy/"+scenariotest.PolicyName, "what spec.caBundleFrom names is not PEM")
		fx.Kubectl(t, "", "delete", "configmap", "trust-bundle", "-n", "security")
		all(t, `spec.caBundleFrom: ConfigMap security/trust-bundle does not exist`)
		status(t, "truststore/acme", "ConfigMap security/trust-bundle does not exist")
	})
	t.Run("a tenant's object of the same name", func(t *testing.T) {
		fx.Apply(t, bundleObject(t, "ConfigMap", "default", "ca.crt", trusted))
		fx.Apply(t, bundleObject(t, "ConfigMap", "security", "ca.crt", other.PEM()))
		all(t, "does not contain any trusted certificate")
		fx.Kubectl(t, "", "delete", "configmap", "trust-bundle", "-n", "default")
	})
	t.Run("a Secret, and a certificate of the store's own beside it", func(t *testing.T) {
		fx.Apply(t, bundleObject(t, "Secret", "security", "ca.crt", other.PEM()))
		fx.Kubectl(t, "", "delete", "truststore", "acme")
		fx.Apply(t, strings.Replace(namingBundle("secret"), "  caBundleFrom", "  caBundle: |\n    "+strings.ReplaceAll(strings.TrimSpace(string(trusted)), "\n", "\n    ")+"\n  caBundleFrom", 1))
		all(t, "")
		status(t, "truststore/acme", "2 of 2 certificates are valid")
	})
	t.Run("a right that is taken away is named", func(t *testing.T) {
		fx.Apply(t, bundleObject(t, "Secret", "security", "ca.crt", trusted)) // what was applied before is deleted where its test ended
		fx.Apply(t, namingBundle("secret"))
		fx.Kubectl(t, "", "delete", "-k", folder)
		replicas = fx.fleet(t, 2) // those that run learn of it when their watches end
		all(t, `Secret security/trust-bundle may not be read by this service, which needs list and watch on it: secrets "trust-bundle" is forbidden`)
		fx.Kubectl(t, "", "apply", "-k", folder)
		all(t, "")
	})
	t.Run("the API server refuses what names nothing", func(t *testing.T) {
		for text, says := range map[string]string{
			strings.Replace(namingBundle("secret"), "secret: {namespace: security, name: trust-bundle, key: ca.crt}", "", 1): "names one of configMap and secret",
			strings.Replace(namingBundle("secret"), "secret:", "configMap: {namespace: a, name: b, key: c}, secret:", 1):     "names one of configMap and secret",
			strings.SplitAfter(namingBundle("secret"), "type: ca\n")[0]:                                                      "needs caBundle, caBundleFrom, or both",
			strings.Replace(namingBundle("secret"), "security", "../security", 1):                                            "spec.caBundleFrom.secret.namespace",
			strings.Replace(namingBundle("secret"), "namespace: security, ", "", 1):                                          "spec.caBundleFrom.secret.namespace",
			strings.Replace(namingBundle("secret"), "ca.crt", "a/b", 1):                                                      "spec.caBundleFrom.secret.key",
		} {
			if out, err := fx.Bed.Kubectl(t.Context(), text, "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-"); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s%v; want %q for\n%s", out, err, says, text)
			}
		}
	})
}
