//go:build e2e

// Package rbac removes each permission of the manifests in turn, with a real API server, and shows what no longer works
// without it. A permission without which all works is one too many.
package rbac

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	rbac "k8s.io/api/rbac/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const (
	installation = "../../config/install.yaml"
	kyvernoSide  = "../../config/kyverno/ca.yaml"
	bundleSide   = "../../config/bundles/rbac.yaml"
	eventAccount = "kyverno-notation-venafi-events"
)

// fixture is a control plane with the installation, and the image and trust resources for the service.
type fixture struct {
	bed        *bed.Bed
	deployment *deployment.Deployment
	registry   *registrytest.Registry
	image      string // signed by a signer that the policy scenario.PolicyName trusts
	trust      string // manifests of that policy and its trust store
	ageing     []byte // a certificate that soon expires, PEM
	kyverno    string // its token
	sender     string // token of the account that sends events
}

// newFixture starts an API server that does not stream lists, as before Kubernetes 1.34: there a watch needs the permission to
// list too.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	ctx := t.Context()
	b := bed.StartForTest(t, bed.Options{APIServerArgs: []string{"--feature-gates=WatchList=false"}})
	fx := &fixture{bed: b, registry: registrytest.New(registrytest.Options{})}
	t.Cleanup(fx.registry.Close)
	if err := deployment.Install(ctx, b, installation); err != nil {
		t.Fatal(err)
	}
	var err error
	if fx.deployment, err = deployment.Build(ctx, b, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	s, err := scenariotest.New(fx.registry.Host(), fx.registry.Client(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PushSigned(ctx, "signed", s.Signer(), &signingtest.SignRequest{}); err != nil {
		t.Fatal(err)
	}
	fx.image = s.Reference("signed")
	ageing, err := signingtest.NewCA(signingtest.Options{CommonName: "Ageing", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(0, 0, 5)})
	if err != nil {
		t.Fatal(err)
	}
	fx.ageing = ageing.PEM()
	fx.trust = scenariotest.TrustStore("acme", s.Trusted.PEM()) + "---\n" + scenariotest.TrustPolicy(scenariotest.PolicyName, "strict", "ca:acme")
	fx.apply(t, strings.Join([]string{
		"apiVersion: v1\nkind: Namespace\nmetadata: {name: " + bed.KyvernoNamespace + "}\n",
		serviceAccount(bed.KyvernoNamespace, bed.KyvernoServiceAccount), serviceAccount(deployment.Namespace, eventAccount),
	}, "---\n"))
	fx.apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+deployment.BundleNamespace+"}\n")
	fx.kubectl(t, "apply", "-f", kyvernoSide, "-f", bundleSide)
	for _, kind := range []string{"ConfigMap", "Secret"} {
		fx.apply(t, bundle(kind, s.Trusted.PEM()))
	}
	fx.kyverno = fx.token(t, bed.KyvernoNamespace, bed.KyvernoServiceAccount, bed.KyvernoAudience)
	fx.sender = fx.token(t, deployment.Namespace, eventAccount, eventAccount)
	return fx
}

// bundle is an object that config/bundles grants, with certificates.
func bundle(kind string, pem []byte) string {
	field := map[string]string{"ConfigMap": "data", "Secret": "stringData"}[kind]
	return fmt.Sprintf("apiVersion: v1\nkind: %s\nmetadata: {namespace: %s, name: trust-bundle}\n%s:\n  ca.crt: |\n    %s\n",
		kind, deployment.BundleNamespace, field, strings.ReplaceAll(strings.TrimSpace(string(pem)), "\n", "\n    "))
}

// bundleStores are trust stores with the certificates of those objects, and trust policies with these.
func bundleStores() string {
	var documents []string
	for _, kind := range []string{"configMap", "secret"} {
		name := strings.ToLower(kind)
		documents = append(documents, fmt.Sprintf("apiVersion: notation.nirmata.io/v1alpha1\nkind: TrustStore\nmetadata: {name: %[1]s}\nspec:\n  trustStoreName: %[1]s\n  type: ca\n"+
			"  caBundleFrom: {%[2]s: {namespace: %[3]s, name: trust-bundle, key: ca.crt}}\n", name, kind, deployment.BundleNamespace),
			scenariotest.TrustPolicy(name, "strict", "ca:"+name))
	}
	return strings.Join(documents, "---\n")
}

func serviceAccount(namespace, name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {namespace: %s, name: %s}\n", namespace, name)
}

func (fx *fixture) token(t *testing.T, namespace, name, audience string) string {
	t.Helper()
	token, err := fx.bed.Token(t.Context(), namespace, name, audience)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (fx *fixture) apply(t *testing.T, manifests string) {
	t.Helper()
	if err := fx.bed.Apply(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
}

func (fx *fixture) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := fx.bed.Kubectl(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

const (
	spoilt        = "spoilt"
	spoiltEncoded = "c3BvaWx0" // base64
)

// reset deletes what a certificate manager makes, including statuses and events. Then it creates one of the objects with
// content that cannot be used.
func (fx *fixture) reset(t *testing.T, object string) {
	t.Helper()
	fx.kubectl(t, "delete", caSecret, tlsSecret, callerSecret, recordSecret, caBundle, publicKeys, epoch, lease, "--namespace="+deployment.Namespace, "--ignore-not-found")
	fx.kubectl(t, "delete", caBundle, "--namespace="+bed.KyvernoNamespace)
	fx.apply(t, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: %s, name: kyverno-notation-venafi-ca}\n", bed.KyvernoNamespace)) // as in kyvernoSide
	fx.kubectl(t, "delete", "events.events.k8s.io", "--namespace=default", "--all")
	fx.kubectl(t, "delete", "truststores,trustpolicies", "--all")
	fx.apply(t, fx.trust+"---\n"+scenariotest.TrustStore("ageing", fx.ageing)+"---\n"+bundleStores())
	kind, name, _ := strings.Cut(object, "/")
	switch {
	case object == callerSecret:
		fx.apply(t, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {namespace: %s, name: %s}\nstringData: {token: %s}\n", deployment.Namespace, name, spoilt))
	case kind == "secret":
		fx.apply(t, fmt.Sprintf("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {namespace: %s, name: %s}\nstringData: {tls.crt: %[3]s, tls.key: %[3]s}\n", deployment.Namespace, name, spoilt))
	case kind == "configmap":
		key := "ca.crt"
		if object == publicKeys {
			key = recordkey.PublicKey
		}
		fx.apply(t, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: %s, name: %s}\ndata: {%s: %s}\n", deployment.Namespace, name, key, spoilt))
	}
}

// permissions are all that the installation grants to an account.
func permissions(t *testing.T, account string) []deployment.Permission {
	t.Helper()
	return slices.Concat(granted(t, installation, account), granted(t, kyvernoSide, account), granted(t, bundleSide, account))
}

// granted are the permissions that a manifest grants to an account.
func granted(t *testing.T, manifest, account string) []deployment.Permission {
	t.Helper()
	all, err := deployment.Granted(manifest, account)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// take replaces the role of a permission, and waits until the API server applies the new one.
func (fx *fixture) take(t *testing.T, p deployment.Permission, role *rbac.ClusterRole, granted bool) {
	t.Helper()
	text, err := json.Marshal(role)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fx.bed.Kubectl(t.Context(), string(text), "replace", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	resource, subresource, _ := strings.Cut(p.Resource, "/")
	question := strings.TrimSuffix(resource+"."+p.Group, ".")
	if p.Name != "" {
		question += "/" + p.Name
	}
	namespace := deployment.Namespace
	if p.Role.Namespace != "" {
		namespace = p.Role.Namespace
	}
	err = deployment.Eventually(t.Context(), deployment.Patience, func() error {
		out, _ := fx.bed.Kubectl(t.Context(), "", "auth", "can-i", p.Verb, question, "--subresource="+subresource, "--namespace="+namespace,
			"--as=system:serviceaccount:"+deployment.Namespace+":"+p.Role.Name)
		if out = strings.TrimSpace(out); (out == "yes") != granted || out == "" {
			return fmt.Errorf("%s %s: %q, want granted %t", p.Role.Name, p, out, granted)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refusal is the error of the API server for an account without the permission.
func refusal(p deployment.Permission) []string {
	said := []string{fmt.Sprintf(`cannot %s resource \"%s\"`, p.Verb, p.Resource)}
	if p.Name != "" {
		said = append(said, p.Name)
	}
	return said
}

// told waits until the process logs that it was refused the permission.
func told(t *testing.T, process *deployment.Process, p deployment.Permission) {
	t.Helper()
	err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
		for line := range strings.Lines(process.Logged()) {
			if !slices.ContainsFunc(refusal(p), func(part string) bool { return !strings.Contains(line, part) }) {
				return nil
			}
		}
		return fmt.Errorf("no line has all of %q", refusal(p))
	})
	if err != nil {
		t.Errorf("%v\n%s", err, process.Logged())
	}
}
