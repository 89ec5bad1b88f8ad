//go:build e2e

package admission

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	admission "k8s.io/api/admission/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// object is a Kubernetes object, or a part of one.
type object = map[string]any

// webhook is another mutating webhook of the cluster, which the API server calls after Kyverno's.
type webhook struct {
	// change changes the specification of an object of team-a, and tells whether it did; nil leaves it as it is.
	change atomic.Pointer[func(spec object) bool]
	calls  atomic.Int64
}

// otherWebhook registers such a webhook and waits until the API server calls it. The API server goes by the names.
func (fx environment) otherWebhook(t *testing.T, reinvocation string) *webhook {
	t.Helper()
	w := &webhook{}
	server := httptest.NewTLSServer(w)
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	fx.Apply(t, fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: zz-after-kyverno}
webhooks:
- name: after.kyverno.example
  clientConfig: {url: %q, caBundle: %q}
  reinvocationPolicy: %s
  failurePolicy: Fail
  sideEffects: None
  admissionReviewVersions: [v1]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: team-a}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers]}]
`, server.URL, base64.StdEncoding.EncodeToString(ca), reinvocation))
	err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
		fx.Kubectl(t, fixture.Pod("called", "team-a", fx.Reference("signed")), "create", "--dry-run=server", "-f", "-")
		if w.calls.Load() == 0 {
			return errors.New("the API server does not call the webhook")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// with runs a test while the webhook changes objects so.
func (w *webhook) with(change func(spec object) bool, test func()) {
	w.change.Store(&change)
	defer w.change.Store(nil)
	test()
}

func (w *webhook) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	var review admission.AdmissionReview
	var reviewed object
	err := json.NewDecoder(request.Body).Decode(&review)
	if err == nil {
		err = json.Unmarshal(review.Request.Object.Raw, &reviewed)
	}
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	w.calls.Add(1)
	review.Response = &admission.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	if change := w.change.Load(); change != nil && (*change)(reviewed["spec"].(object)) {
		kind := admission.PatchTypeJSONPatch
		review.Response.PatchType = &kind
		review.Response.Patch, err = json.Marshal([]object{{"op": "replace", "path": "/spec", "value": reviewed["spec"]}})
	}
	if err == nil {
		err = json.NewEncoder(response).Encode(review)
	}
	if err != nil {
		http.Error(response, err.Error(), http.StatusInternalServerError)
	}
}

// setImage sets the image of a pod's first container.
func setImage(image string) func(object) bool {
	return func(spec object) bool {
		spec["containers"].([]any)[0].(object)["image"] = image
		return true
	}
}

// add adds an element to a list of a pod, if it is not there yet.
func add(list string, element object) func(object) bool {
	const name = "added"
	element["name"] = name
	return func(spec object) bool {
		present, _ := spec[list].([]any)
		if slices.ContainsFunc(present, func(e any) bool { return e.(object)["name"] == name }) {
			return false
		}
		spec[list] = append(present, element)
		return true
	}
}

// TestAnotherWebhookChangesImages after Kyverno pinned them. The ValidatingPolicy sees what is stored. Kyverno asks a
// ClusterPolicy again, once, but not a MutatingPolicy: so what is not named by digest then is denied, though it be signed. A
// webhook that is itself called again has the last word over a ClusterPolicy.
func TestAnotherWebhookChangesImages(t *testing.T) {
	const (
		unsigned = "no signature is associated with"
		pinned   = ""
	)
	bothWays(t, func(t *testing.T, fx environment) {
		tag, other := fx.Reference("signed-cose"), fx.Reference("unsigned")
		calls := 0
		tests := map[string]struct {
			change                  func(object) bool
			pair, cluster, lastWord string // what is wanted by the CEL pair, and by a ClusterPolicy with Never and with IfNeeded: a denial, or an image that is stored unseen
		}{
			"nothing":                           {func(object) bool { return false }, pinned, pinned, pinned},
			"to a tag of a signed image":        {setImage(tag), notPinned, pinned, tag},
			"to a signed digest":                {setImage(fx.Pinned(t, "signed-cose")), pinned, pinned, pinned},
			"to an unsigned tag":                {setImage(other), unsigned, unsigned, unsigned},
			"to an unsigned digest":             {setImage(fx.Pinned(t, "unsigned")), unsigned, unsigned, unsigned},
			"to an unsigned tag if asked again": {func(spec object) bool { calls++; return setImage([]string{other, tag}[calls%2])(spec) }, notPinned, pinned, other},
			"by a signed sidecar":               {add("containers", object{"image": tag}), notPinned, pinned, pinned},
			"by an unsigned sidecar":            {add("containers", object{"image": other}), unsigned, unsigned, unsigned},
			"by an unsigned init container":     {add("initContainers", object{"image": other}), unsigned, unsigned, unsigned},
			"by an unsigned image volume":       {add("volumes", object{"image": object{"reference": other}}), unsigned, unsigned, unsigned},
		}
		for _, reinvocation := range []string{"Never", "IfNeeded"} {
			t.Run(reinvocation, func(t *testing.T) {
				webhook := fx.otherWebhook(t, reinvocation)
				for sentence, test := range tests {
					want := test.pair
					switch {
					case fx.way != "ClusterPolicy":
					case reinvocation == "Never":
						want = test.cluster
					default:
						want = test.lastWord
					}
					t.Run(sentence, func(t *testing.T) {
						calls = 0
						webhook.with(test.change, func() {
							images, err := fx.outcome(t, fixture.Pod("changed", "team-a", fx.Reference("signed")))
							if want != tag && want != other {
								fx.check(t, images, err, want)
							} else if err != nil || !slices.Contains(images, want) {
								t.Errorf("%q, %v; want %s", images, err, want)
							}
						})
					})
				}
				t.Run("of a pod that gets a label", func(t *testing.T) { fx.changesWithALabel(t, webhook, reinvocation) })
				t.Run("of an ephemeral container", func(t *testing.T) { fx.changesEphemeralContainer(t, webhook) })
			})
		}
	})
}

// changesWithALabel has the webhook set another image in a stored pod of which the request changes a label alone.
func (fx environment) changesWithALabel(t *testing.T, webhook *webhook, reinvocation string) {
	fx.Apply(t, fixture.Pod("labelled", "team-a", fx.Reference("signed")))
	tests := map[string]string{ // what is wanted: a denial, or "" for a pod that is pinned
		fx.Reference("signed-cose"): "", fx.Pinned(t, "signed-cose"): "",
		fx.Reference("unsigned"): "no signature is associated with", fx.Pinned(t, "unsigned"): "no signature is associated with",
	}
	if fx.way != "ClusterPolicy" {
		tests[fx.Reference("signed-cose")] = notPinned
	} else if reinvocation == "IfNeeded" {
		delete(tests, fx.Reference("signed-cose")) // there the webhook has the last word
	}
	for image, denied := range tests {
		webhook.with(setImage(image), func() {
			images, err := fx.outcome(t, "", "patch", "pod", "labelled", "-n", "team-a", "--type=merge", "-p", `{"metadata":{"labels":{"a":"b"}}}`)
			fx.check(t, images, err, denied)
			if err == nil && !slices.Contains(images, fx.Pinned(t, "signed-cose")) {
				t.Errorf("%q; the webhook set %s", images, image)
			}
		})
	}
}

// changesEphemeralContainer has the webhook set another image in a container that kubectl debug adds.
func (fx environment) changesEphemeralContainer(t *testing.T, webhook *webhook) {
	fx.Apply(t, fixture.Pod("changed", "team-a", fx.Reference("signed")))
	denials := map[string]string{"unsigned": "no signature is associated with"}
	if fx.way != "ClusterPolicy" {
		denials["signed-cose"] = "an ephemeral container is not named by digest"
	}
	for image, denied := range denials {
		webhook.with(func(spec object) bool {
			containers, _ := spec["ephemeralContainers"].([]any)
			for _, container := range containers {
				container.(object)["image"] = fx.Reference(image)
			}
			return len(containers) > 0
		}, func() {
			output, err := fx.debug(t, "changed", fx.Reference("signed"))
			if err == nil || !strings.Contains(err.Error(), denied) {
				t.Errorf("%s: %v\n%s\nwant %s", image, err, output, denied)
			}
		})
	}
}

// TestWhatHappensBetweenTheCalls of the pair: trust is withdrawn, a tag is moved.
func TestWhatHappensBetweenTheCalls(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	fx.WithCEL(t)
	webhook := fx.otherWebhook(t, "Never")
	t.Run("trust is withdrawn", func(t *testing.T) {
		defer fx.restoreTrust(t)
		withdraw := sync.OnceFunc(func() {
			fx.Kubectl(t, "", "delete", "truststore", "acme")
			fx.waitDenied(t, fx.Replicas[0])
		})
		webhook.with(func(object) bool { withdraw(); return false }, func() {
			images, err := fx.outcome(t, fixture.Pod("between", "team-a", fx.Reference("signed")))
			fx.check(t, images, err, `trust store "ca:acme" does not exist`)
		})
	})
	for sentence, named := range map[string]bool{"a tag is moved": false, "the tag beside a digest is moved": true} {
		t.Run(sentence, func(t *testing.T) {
			name := strings.ReplaceAll(sentence, " ", "-")
			if _, err := fx.Scenario.PushSigned(t.Context(), name, fx.Scenario.Signer(), &signingtest.SignRequest{}); err != nil {
				t.Fatal(err)
			}
			signed := fx.Pinned(t, name)
			image, want := fx.Reference(name), signed
			if named {
				_, digest, _ := strings.Cut(signed, "@")
				image += "@" + digest
				want = image
			}
			repository := fx.Repository(t, name)
			move := sync.OnceFunc(func() { moveTag(t, repository) })
			webhook.with(func(object) bool { move(); return false }, func() {
				images, err := fx.outcome(t, fixture.Pod("between", "team-a", image))
				if err != nil || !slices.Equal(images, []string{want, want}) {
					t.Errorf("%q, %v; want %s", images, err, want)
				}
			})
			if fx.Pinned(t, name) == signed {
				t.Error("the tag was not moved")
			}
		})
	}
}

// moveTag makes a tag name an image that nobody signed.
func moveTag(t *testing.T, repository *remote.Repository) {
	if _, err := signingtest.PushImage(context.Background(), repository, "v1", signingtest.Image{Layers: [][]byte{[]byte("moved")}}); err != nil {
		t.Error(err)
	}
}

// restoreTrust applies the scenario's trust again.
func (fx environment) restoreTrust(t *testing.T) {
	if err := fx.ApplyTrust(context.Background()); err != nil {
		t.Error(err)
	}
	if err := deployment.Eventually(context.Background(), deployment.Patience, func() error {
		return fx.statusOf(context.Background(), fx.Replicas[0], fx.Bearer(t), "signed", scenariotest.PolicyName)
	}); err != nil {
		t.Error(err)
	}
}

// waitDenied waits until a replica denies a signed image.
func (fx environment) waitDenied(t *testing.T, r *replica) {
	err := deployment.Eventually(context.Background(), deployment.Patience, func() error {
		if fx.statusOf(context.Background(), r, fx.Bearer(t), "signed", scenariotest.PolicyName) == nil {
			return errors.New("still admitted")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestTenantsPoliciesChangeImages has a tenant write Kyverno policies of its own namespace, which Kyverno's chart lets the admins
// of namespaces do. Kyverno applies a Policy after all ClusterPolicies, in the same call, so a ClusterPolicy alone does not see
// what the Policy sets; a ValidatingPolicy does.
func TestTenantsPoliciesChangeImages(t *testing.T) {
	fx := environment{Fixture: shared.Fixture}
	fx.TwoTenants(t)
	legacy := `
apiVersion: kyverno.io/v1
kind: Policy
metadata: {name: of-a-tenant, namespace: team-a}
spec:
  background: false
  rules:
  - name: set-image
    match: {any: [{resources: {kinds: [Pod], names: [changed]}}]}
    mutate:
      patchesJson6902: '[{"op": "replace", "path": "/spec/containers/0/image", "value": "IMAGE"}]'
`
	mutating := `
apiVersion: policies.kyverno.io/v1
kind: NamespacedMutatingPolicy
metadata: {name: of-a-tenant, namespace: team-a}
spec:
  autogen: {podControllers: {controllers: []}}
  evaluation: {background: {enabled: false}}
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  matchConditions: [{name: by-name, expression: object.metadata.name == "changed"}]
  mutations:
  - patchType: JSONPatch
    jsonPatch: {expression: '[JSONPatch{op: "replace", path: "/spec/containers/0/image", value: "IMAGE"}]'}
`
	pair, cluster := fixture.Ways()[0].Samples, fixture.Ways()[1].Samples
	for way, samples := range map[string][]string{
		"CEL pair": pair, "ClusterPolicy": cluster, "ClusterPolicy with the ValidatingPolicy": append([]string{"callers.yaml", "validatingpolicy.yaml"}, cluster...),
	} {
		t.Run(way, func(t *testing.T) {
			fx.Install(t, fixture.Policies{Samples: samples})
			for sentence, policy := range map[string]string{"by a Policy": legacy, "by a NamespacedMutatingPolicy": mutating} {
				t.Run(sentence, func(t *testing.T) {
					fx.Apply(t, strings.ReplaceAll(policy, "IMAGE", fx.Reference("unsigned")))
					unseen := way == "ClusterPolicy" && policy == legacy
					err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
						images, err := fx.outcome(t, fixture.Pod("changed", "team-a", fx.Reference("signed")))
						denied := err != nil && strings.Contains(err.Error(), "no signature is associated with")
						if !denied && !(unseen && slices.Contains(images, fx.Reference("unsigned"))) {
							return fmt.Errorf("%q, %w", images, err)
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}
