//go:build e2e

// Package manifests tests the manifests and the Kubernetes clients of the service with a real API server.
package manifests

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// repository is the root of the repository, relative to this folder.
const repository = "../.."

func manifest(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "config", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func applyAll(t *testing.T, b *bed.Bed, paths ...string) {
	t.Helper()
	for _, path := range paths {
		// Strict: a field that the schema does not know is an error.
		if _, err := b.Kubectl(t.Context(), manifest(t, path), "apply", "--server-side", "--validate=strict", "-f", "-"); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestKubeManifests shares one test environment, because starting one takes most of the time; later subtests use what
// earlier ones apply.
func TestKubeManifests(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	b := bed.StartForTest(t, bed.Options{Kyverno: true})
	applyAll(t, b, "validate/testdata/released/plain.yaml", "install.yaml") // an upgrade from the last release
	for _, name := range []string{"trustpolicies", "truststores"} {
		if _, err := b.Kubectl(t.Context(), "", "wait", "--for=condition=Established", "--timeout=20s", "crd/"+name+".notation.nirmata.io"); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("trust that is wrong is refused", func(t *testing.T) { testWrongTrust(t, b) })
	t.Run("what is null is left to the reader, who refuses it", func(t *testing.T) { testNullsAreSeen(t, b) })
	t.Run("trust in use today applies", func(t *testing.T) { testTodaysTrust(t, b) })
	t.Run("the samples apply", func(t *testing.T) { testSamples(t, b) })
	t.Run("the accounts may do what they need and no more", func(t *testing.T) { testRights(t, b) })
	t.Run("the service's Kubernetes parts work", func(t *testing.T) { testParts(t, b) })
}

// Of a statement, a policy and a store that are right, each case changes a line.
const (
	goodStatement = `name: all
registryScopes: ["*"]
signatureVerification: {level: strict}
trustStores: ["ca:acme"]
trustedIdentities: ["*"]`
	goodPolicy = `version: "1.0"
trustPolicyName: tp
trustPolicies: [STATEMENT]
appliesTo:
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: team-a}, matchExpressions: [{key: acme.example/env, operator: In, values: [prod]}, {key: muted, operator: DoesNotExist}]}
  attestations: [{imageReference: "*", type: [{name: sbom/x, select: latest, conditions: {any: [{key: "{{ a }}", operator: Equals, value: null}], all: [{key: "{{ b }}", operator: AnyIn, value: [1], message: unfit}]}}, {name: scan}]}]`
	goodStore = `trustStoreName: acme
type: ca
caBundle: |
  -----BEGIN CERTIFICATE-----
  AAAA
  -----END CERTIFICATE-----`
)

func testWrongTrust(t *testing.T, b *bed.Bed) {
	for name, c := range map[string]struct{ kind, spec, old, new, want string }{
		"a name with a blank":                  {"TrustPolicy", goodPolicy, "tp\n", "t p\n", "use letters, digits"},
		"no name":                              {"TrustPolicy", goodPolicy, "tp\n", "''\n", "trustPolicyName"},
		"another version":                      {"TrustPolicy", goodPolicy, `"1.0"`, `"2.0"`, `supported values: "1.0"`},
		"no statement":                         {"TrustPolicy", goodPolicy, "[STATEMENT]", "[]", "at least 1"},
		"an unknown level":                     {"TrustPolicy", goodPolicy, "level: strict", "level: lax", "supported values"},
		"integrity overridden":                 {"TrustPolicy", goodPolicy, "level: strict", "level: strict, override: {integrity: log}", "can be overridden"},
		"an unknown action":                    {"TrustPolicy", goodPolicy, "level: strict", "level: strict, override: {expiry: ignore}", "supported values"},
		"expiry skipped":                       {"TrustPolicy", goodPolicy, "level: strict", "level: strict, override: {expiry: skip}", "only revocation can be skipped"},
		"an unknown time for timestamps":       {"TrustPolicy", goodPolicy, "level: strict", "level: strict, verifyTimestamp: never", "supported values"},
		"skip with trust stores":               {"TrustPolicy", goodPolicy, "level: strict", "level: skip", "the level skip has no"},
		"skip overridden":                      {"TrustPolicy", goodPolicy, "level: strict", "level: skip, override: {expiry: log}", "skip cannot be overridden"},
		"no trust stores":                      {"TrustPolicy", goodPolicy, `"ca:acme"`, "", "trustStores and trustedIdentities are required"},
		"no identities":                        {"TrustPolicy", goodPolicy, `trustedIdentities: ["*"]`, "", "trustStores and trustedIdentities are required"},
		"a trust store without its type":       {"TrustPolicy", goodPolicy, "ca:acme", "acme", "use ca:name"},
		"a trust store of an unknown type":     {"TrustPolicy", goodPolicy, "ca:acme", "root:acme", "use ca:name"},
		"a trust store that is a path":         {"TrustPolicy", goodPolicy, "ca:acme", "ca:../acme", "use ca:name"},
		"* beside another identity":            {"TrustPolicy", goodPolicy, `trustedIdentities: ["*"`, `trustedIdentities: ["*", "x509.subject:O=a"`, "identity * stands alone"},
		"* beside another scope":               {"TrustPolicy", goodPolicy, `registryScopes: ["*"`, `registryScopes: ["*", "a.example.com/b"`, "scope * stands alone"},
		"one scope twice":                      {"TrustPolicy", goodPolicy, `registryScopes: ["*"`, `registryScopes: ["a/b", "a/b"`, "Duplicate value"},
		"no scope":                             {"TrustPolicy", goodPolicy, `registryScopes: ["*"`, `registryScopes: [`, "at least 1"},
		"* in two statements":                  {"TrustPolicy", goodPolicy, "STATEMENT", "STATEMENT, {name: b, registryScopes: ['*'], signatureVerification: {level: skip}}", "only one statement"},
		"two statements of one name":           {"TrustPolicy", goodPolicy, "STATEMENT", "STATEMENT, {name: all, registryScopes: [a], signatureVerification: {level: skip}}", "Duplicate value"},
		"an appliesTo that selects nothing":    {"TrustPolicy", goodPolicy, "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: team-a}, matchExpressions: [{key: acme.example/env, operator: In, values: [prod]}, {key: muted, operator: DoesNotExist}]}\n", "namespaceSelectors: {}\n", "namespaceSelector: Required value"},
		"an unknown field of appliesTo":        {"TrustPolicy", goodPolicy, "  attestations:", "  attestation:", `"spec.appliesTo" must validate at least one schema`},
		"an unknown field of a selector":       {"TrustPolicy", goodPolicy, "matchLabels:", "matchLabel:", `namespaceSelector" must validate at least one schema`},
		"a selector that is a text":            {"TrustPolicy", goodPolicy, "matchLabels: {kubernetes.io/metadata.name: team-a}", "matchLabels: team-a", "must be of type object"},
		"a label that none can have":           {"TrustPolicy", goodPolicy, "team-a}", "'*'}", "a label is a name"},
		"a label of another name":              {"TrustPolicy", goodPolicy, "key: muted", "key: m uted", "a label is a name"},
		"an unknown operator on labels":        {"TrustPolicy", goodPolicy, "DoesNotExist", "Missing", "supported values"},
		"In without values":                    {"TrustPolicy", goodPolicy, ", values: [prod]", "", "In and NotIn have values"},
		"a requirement with an unknown field":  {"TrustPolicy", goodPolicy, "operator: DoesNotExist", "operator: DoesNotExist, optional: true", "must validate at least one schema"},
		"attestations of one type":             {"TrustPolicy", goodPolicy, "type: [{name: sbom/x, select: latest, conditions: {any: [{key: \"{{ a }}\", operator: Equals, value: null}], all: [{key: \"{{ b }}\", operator: AnyIn, value: [1], message: unfit}]}}, {name: scan}]", "type: {name: scan}", "attestations[0].type"},
		"an attestation without a pattern":     {"TrustPolicy", goodPolicy, "imageReference: \"*\", ", "", "imageReference: Required value"},
		"an attestation with an unknown field": {"TrustPolicy", goodPolicy, "imageReference: \"*\", ", "imageReference: \"*\", images: [a], ", "at most 2 items"},
		"a type with an unknown field":         {"TrustPolicy", goodPolicy, "select: latest", "selects: latest", `type[0]" must validate at least one schema`},
		"a select that is null":                {"TrustPolicy", goodPolicy, "select: latest", "select: null", "Unsupported value: null"},
		"a type without a name":                {"TrustPolicy", goodPolicy, "{name: scan}", "{}", "name: Required value"},
		"conditions with an unknown field":     {"TrustPolicy", goodPolicy, "any: [", "anyOf: [", `conditions" must validate at least one schema`},
		"conditions that are a list":           {"TrustPolicy", goodPolicy, "conditions: {any: [{key: \"{{ a }}\", operator: Equals, value: null}], all: [{key: \"{{ b }}\", operator: AnyIn, value: [1], message: unfit}]}", "conditions: [{key: a, operator: Equals, value: b}]", "must be of type object"},
		"a condition with an unknown field":    {"TrustPolicy", goodPolicy, "message: unfit", "messages: unfit", `all[0]" must validate at least one schema`},
		"a condition without a key":            {"TrustPolicy", goodPolicy, "key: \"{{ a }}\", ", "", "key: Required value"},
		"a store with a name that is none":     {"TrustStore", goodStore, "acme", "a/cme", "use letters, digits"},
		"a store of an unknown type":           {"TrustStore", goodStore, "type: ca", "type: CA", "supported values"},
		"a store without certificates":         {"TrustStore", goodStore, "CERTIFICATE", "PRIVATE KEY", "must hold PEM certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			good := strings.ReplaceAll(c.spec, "STATEMENT", "{"+strings.ReplaceAll(goodStatement, "\n", ", ")+"}")
			if _, err := dryRun(t.Context(), b, c.kind, good); err != nil {
				t.Fatalf("what is right is refused: %v", err)
			}
			wrong := strings.ReplaceAll(c.spec, c.old, c.new)
			wrong = strings.ReplaceAll(wrong, "STATEMENT", "{"+strings.ReplaceAll(strings.ReplaceAll(goodStatement, c.old, c.new), "\n", ", ")+"}")
			if _, err := dryRun(t.Context(), b, c.kind, wrong); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want an error with %q\n%s", err, c.want, wrong)
			}
		})
	}
}

// testNullsAreSeen: an API server drops a null of an optional field, and with it a check, unless the field may be null.
func testNullsAreSeen(t *testing.T, b *bed.Bed) {
	for name, field := range map[string]string{
		"attestations":     "{namespaceSelector: {}, attestations: null}",
		"conditions":       "{namespaceSelector: {}, attestations: [{imageReference: '*', type: [{name: sbom, conditions: null}]}]}",
		"all":              "{namespaceSelector: {}, attestations: [{imageReference: '*', type: [{name: sbom, conditions: {all: null}}]}]}",
		"matchLabels":      "{namespaceSelector: {matchLabels: null}}",
		"matchExpressions": "{namespaceSelector: {matchExpressions: null}}",
	} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprintf("apiVersion: notation.nirmata.io/v1alpha1\nkind: TrustPolicy\nmetadata: {name: case}\nspec:\n  trustPolicyName: tp\n  trustPolicies: [{name: all, registryScopes: ['*'], signatureVerification: {level: skip}}]\n  appliesTo: %s\n", field)
			stored, err := b.Kubectl(t.Context(), text, "create", "--dry-run=server", "-o", "json", "-f", "-")
			if err != nil {
				t.Fatal(err)
			}
			object := &unstructured.Unstructured{}
			if err := object.UnmarshalJSON([]byte(stored)); err != nil {
				t.Fatal(err)
			}
			_, problems := shelltrust.Resources{Policies: []shelltrust.PolicyResource{kubeclient.DecodePolicy(object)}}.AppliesTo()
			if len(problems) != 1 || !strings.Contains(problems[0].Reason, "null") {
				t.Errorf("problems %+v of\n%s", problems, stored)
			}
		})
	}
}

func dryRun(ctx context.Context, b *bed.Bed, kind, spec string) (string, error) {
	text := fmt.Sprintf("apiVersion: notation.nirmata.io/v1alpha1\nkind: %s\nmetadata: {name: case}\nspec:\n  %s\n", kind, strings.ReplaceAll(spec, "\n", "\n  "))
	return b.Kubectl(ctx, text, "create", "--dry-run=server", "-f", "-")
}

// testTodaysTrust applies resources in the form that is deployed today.
func testTodaysTrust(t *testing.T, b *bed.Bed) {
	if _, err := dryRun(t.Context(), b, "TrustPolicy", `version: '1.0'
trustPolicyName: tp-test-notation
trustPolicies:
- name: venafi-signer-tp
  registryScopes:
  - "*"
  signatureVerification:
    level: strict
    override: {}
  trustStores:
  - signingAuthority:venafi-signer-ts
  trustedIdentities:
  - "arn:venafi:signer:us-west-2:000000000000:/signing-profiles/demo"`); err != nil {
		t.Error(err)
	}
}

func testSamples(t *testing.T, b *bed.Bed) {
	samples, err := filepath.Glob(filepath.Join(repository, "config", "samples", "*.yaml"))
	if err != nil || len(samples) == 0 {
		t.Fatalf("samples: %v, %v", samples, err)
	}
	for _, sample := range samples {
		applyAll(t, b, filepath.Join("samples", filepath.Base(sample)))
	}
	policies := []string{"clusterpolicy/verify-images", "clusterpolicy/verify-attestations", "mutatingpolicy/pin-verified-images", "validatingpolicy/deny-unverified-images"}
	for _, policy := range policies {
		if err := b.WaitPolicy(t.Context(), policy); err != nil {
			status, _ := b.Kubectl(t.Context(), "", "get", policy, "--output=jsonpath={.status}")
			t.Errorf("%v\n%s", err, status)
		}
	}
	out, err := b.Kubectl(t.Context(), "", "get", "tp,ts")
	if err != nil || !strings.Contains(out, "tp-team-a") || !strings.Contains(out, "EXPIRES") || !strings.Contains(out, "REASON") {
		t.Errorf("kubectl get: %v\n%s", err, out)
	}
	for _, policy := range policies {
		if _, err := b.Kubectl(t.Context(), "", "delete", policy); err != nil { // later tests make objects of their own
			t.Error(err)
		}
	}
}

func testRights(t *testing.T, b *bed.Bed) {
	for account, rights := range map[string]map[string]bool{
		"kyverno-notation-venafi:kyverno-notation-venafi": {
			"list truststores.notation.nirmata.io":           true,
			"watch trustpolicies.notation.nirmata.io":        true,
			"get trustpolicies.notation.nirmata.io":          false,
			"update truststores.notation.nirmata.io":         false,
			"create tokenreviews.authentication.k8s.io":      true,
			"list secrets/regcred":                           true,
			"watch secrets/notation-plugin-config":           true,
			"watch secrets/kyverno-notation-venafi-tls":      true,
			"watch secrets/kyverno-notation-venafi-caller":   true,
			"get secrets/kyverno-notation-venafi-caller":     false,
			"list secrets/kyverno-notation-venafi-ca":        false,
			"watch configmaps/notation-plugin-config":        true,
			"watch configmaps/kyverno-notation-venafi-epoch": true,
			"patch configmaps/kyverno-notation-venafi-epoch": true,
			"patch configmaps/notation-plugin-config":        false,
			"get secrets/another":                            false,
			"list secrets":                                   false,
			"list configmaps":                                false,
			"update secrets/regcred":                         false,
			"list secrets/regcred --namespace=kube-system":   false,
			"create secrets":                                 false,
			"create events.events.k8s.io":                    true,
			"patch events.events.k8s.io":                     true,
			"list events.events.k8s.io":                      false,
			"update events.events.k8s.io":                    false,
			"delete events.events.k8s.io":                    false,
			"create events":                                  false,
			"watch secrets/kyverno-notation-venafi-records":  true,
			"get secrets/kyverno-notation-venafi-records":    false,
		},
		"kyverno-notation-venafi:kyverno-notation-venafi-certmanager": {
			"watch truststores.notation.nirmata.io":                                 true,
			"patch truststores.notation.nirmata.io --subresource=status":            true,
			"patch truststores.notation.nirmata.io":                                 false,
			"create secrets":                                                        true,
			"create configmaps":                                                     true,
			"create leases.coordination.k8s.io":                                     true,
			"update leases.coordination.k8s.io/kyverno-notation-venafi-certmanager": true,
			"update leases.coordination.k8s.io/another":                             false,
			"update secrets/kyverno-notation-venafi-ca":                             true,
			"get secrets/kyverno-notation-venafi-tls":                               true,
			"get secrets/kyverno-notation-venafi-caller":                            true,
			"update secrets/kyverno-notation-venafi-caller":                         true,
			"update configmaps/kyverno-notation-venafi-ca":                          true,
			"update configmaps/kyverno-notation-venafi-epoch":                       false,
			"delete secrets/kyverno-notation-venafi-ca":                             false,
			"get secrets/regcred":                                                   false,
			"list secrets":                                                          false,
			"create secrets --namespace=default":                                    false,
			"create events.events.k8s.io --namespace=default":                       true,
			"patch events.events.k8s.io --namespace=default":                        false,
			"create events.events.k8s.io":                                           false,
			"create tokenreviews.authentication.k8s.io":                             false,
		},
	} {
		for question, want := range rights {
			args := append([]string{"auth", "can-i", "--namespace=kyverno-notation-venafi", "--as=system:serviceaccount:" + account}, strings.Fields(question)...)
			if out, _ := b.Kubectl(t.Context(), "", args...); (strings.TrimSpace(out) == "yes") != want {
				t.Errorf("%s: %s: %q; want %t", account, question, out, want)
			}
		}
	}
	testKyvernosRights(t, b)
}

// testKyvernosRights looks at the roles that come with Kyverno, from which a controller, which does not run here,
// makes those that are bound: they let it read the CA's ConfigMap without a role of ours.
func testKyvernosRights(t *testing.T, b *bed.Bed) {
	for _, role := range []string{"admission-controller", "background-controller", "reports-controller"} {
		out, err := b.Kubectl(t.Context(), "", "get", "clusterrole", "kyverno:"+role+":core", `--output=jsonpath={range .rules[*]}{.resources}{.verbs}{.resourceNames}{"\n"}{end}`)
		if err != nil || !slices.ContainsFunc(strings.Split(out, "\n"), func(rule string) bool {
			return strings.Contains(rule, `"configmaps"`) && strings.HasSuffix(rule, `["get","list","watch"]`)
		}) {
			t.Errorf("%s: %v\n%s", role, err, out)
		}
	}
}

// testParts runs the tests of shell/kube that need a real API server. They belong to another module, whose
// dependencies this one does without.
func testParts(t *testing.T, b *bed.Bed) {
	const allowed, other = "kyverno-admission-controller", "default"
	account(t, b, "kyverno", other)
	kubeconfig, err := b.WriteServiceAccountKubeconfig(t.Context(), "kyverno-notation-venafi", "kyverno-notation-venafi")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // it may have to build
	defer cancel()
	command := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-run", "^TestOnARealAPIServer$", "./shell/kube")
	command.Dir = repository
	command.Env = append(os.Environ(), "KUBE_TEST_ADMIN="+b.Kubeconfig(), "KUBE_TEST_SERVICE="+kubeconfig,
		"KUBE_TEST_TOKEN="+token(t, b, allowed, bed.KyvernoAudience),
		"KUBE_TEST_TOKEN_WRONG_AUDIENCE="+token(t, b, allowed),
		"KUBE_TEST_TOKEN_WRONG_USER="+token(t, b, other, bed.KyvernoAudience))
	out, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func account(t *testing.T, b *bed.Bed, namespace, name string) {
	t.Helper()
	if err := b.Apply(t.Context(), fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {namespace: %s, name: %s}", namespace, name)); err != nil {
		t.Fatal(err)
	}
}

func token(t *testing.T, b *bed.Bed, name string, audiences ...string) string {
	t.Helper()
	token, err := b.Token(t.Context(), "kyverno", name, audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
