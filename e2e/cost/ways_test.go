//go:build e2e

package cost

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// way is a way to admit pods in namespace team-a.
type way struct {
	name     string
	policies func(t *testing.T) []string // manifests; nil for none
	verifies bool                        // it denies unsigned images and pins the others
	webhooks int                         // calls of Kyverno per admission
	pinned   bool                        // the pods name the image by digest, as those that controllers make
	shipped  bool                        // the samples are this way, so it is compared with Kyverno's own

	measured [kinds][]phase // by turn
}

// ours tells whether a way asks the service.
func (w way) ours() bool { return strings.HasPrefix(w.name, "ours") }

// peer tells whether a way is Kyverno's own verification.
func (w way) peer() bool { return w.verifies && !w.ours() }

// selectedWays gives those that -ways asks for.
func selectedWays(t *testing.T) []way {
	t.Helper()
	wanted, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	var selected []way
	for _, w := range []way{
		{name: "no policy"},
		{name: "ClusterPolicy that does nothing", policies: idleClusterPolicy, webhooks: 1},
		{name: "CEL pair that does nothing", policies: idlePair, webhooks: 2},
		{name: "ours, apiCall over plain HTTP", policies: plainAPICall, verifies: true, webhooks: 1},
		{name: "ours, apiCall over TLS", policies: apiCall, verifies: true, webhooks: 1, shipped: true},
		{name: "ours, apiCall over TLS with caBundle", policies: apiCallWithCA, verifies: true, webhooks: 1},
		{name: "ours, CEL pair over TLS", policies: pair, verifies: true, webhooks: 2, shipped: true},
		{name: "ours, CEL pair over TLS, image named by digest", policies: pair, verifies: true, webhooks: 1, pinned: true},
		{name: "Kyverno's verifyImages", policies: verifyImages, verifies: true, webhooks: 2},
		{name: "Kyverno's ImageValidatingPolicy", policies: imageValidatingPolicy, verifies: true, webhooks: 2},
	} {
		if wanted.MatchString(w.name) {
			selected = append(selected, w)
		}
	}
	return selected
}

func apiCall(t *testing.T) []string { return []string{shared.Sample(t, "clusterpolicy.yaml")} }

func plainAPICall(t *testing.T) []string {
	return []string{strings.ReplaceAll(apiCall(t)[0], "https://"+shared.Replicas[0].Secure, shared.Replicas[0].URL)}
}

func apiCallWithCA(t *testing.T) []string { return []string{shared.WithCABundle(t, apiCall(t)[0])} }

func pair(t *testing.T) []string {
	return []string{shared.Sample(t, "callers.yaml"), shared.Sample(t, "mutatingpolicy.yaml"), shared.Sample(t, "validatingpolicy.yaml")}
}

func idleClusterPolicy(*testing.T) []string {
	return []string{`
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: idle}
spec:
  background: false
  webhookConfiguration: {failurePolicy: Fail}
  rules:
  - name: idle
    match: {any: [{resources: {kinds: [Pod], namespaces: [team-a], operations: [CREATE]}}]}
    preconditions: {all: [{key: a, operator: Equals, value: b}]}
    mutate: {patchesJson6902: '[{"op": "add", "path": "/metadata/labels", "value": {}}]'}
`}
}

const matchPods = `
  failurePolicy: Fail
  evaluation: {background: {enabled: false}}
  matchConstraints:
    namespaceSelector:
      matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [team-a]}]
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
`

func idlePair(*testing.T) []string {
	return []string{`
apiVersion: policies.kyverno.io/v1
kind: MutatingPolicy
metadata: {name: idle}
spec:` + matchPods + `
  mutations: [{patchType: JSONPatch, jsonPatch: {expression: 'object.metadata.name == "none" ? [JSONPatch{op: "remove", path: "/metadata/labels"}] : []'}}]
`, `
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: idle}
spec:` + matchPods + `
  validationActions: [Deny]
  validations: [{expression: "true"}]
`}
}

func verifyImages(*testing.T) []string {
	return []string{fmt.Sprintf(`
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: own}
spec:
  background: false
  webhookConfiguration: {failurePolicy: Fail, timeoutSeconds: 15}
  rules:
  - name: own
    match: {any: [{resources: {kinds: [Pod], namespaces: [team-a], operations: [CREATE]}}]}
    verifyImages:
    - type: Notary
      imageReferences: ["*"]
      failureAction: Enforce
      attestors: [{count: 1, entries: [{certificates: {cert: %q}}]}]
`, shared.Scenario.Trusted.PEM())}
}

func imageValidatingPolicy(*testing.T) []string {
	return []string{`
apiVersion: policies.kyverno.io/v1
kind: ImageValidatingPolicy
metadata: {name: own}
spec:` + matchPods + fmt.Sprintf(`
  webhookConfiguration: {timeoutSeconds: 15}
  validationActions: [Deny]
  matchImageReferences: [{glob: "*"}]
  validationConfigurations: {mutateDigest: true, verifyDigest: true, required: true}
  attestors:
  - name: notary
    notary: {certs: {value: %q}}
  validations:
  - expression: images.containers.map(image, verifyImageSignatures(image, [attestors.notary])).all(e, e > 0)
    message: no signature is associated with the image
`, shared.Scenario.Trusted.PEM())}
}
