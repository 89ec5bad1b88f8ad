//go:build e2e

package migrate

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// TestMigratedPoliciesDecideAlike asks each ClusterPolicy, and then what migrate makes of it, about the same objects.
func TestMigratedPoliciesDecideAlike(t *testing.T) {
	e := &shared
	e.connect(t)
	e.prepare(t)
	pinning := probe{namespace: "test-venafi", pins: true, denies: true}
	tests := map[string]struct {
		policy  string
		probe   probe
		volumes bool // the ClusterPolicy sends the object, in which image volumes are
	}{
		"the sample":                      {e.Sample(t, "clusterpolicy.yaml"), probe{"team-a", true, true}, true},
		"the sample with attestations":    {e.Sample(t, "clusterpolicy-attestations.yaml"), probe{"team-a", true, true}, true},
		"an older service's":              {e.local(e.older(t)), pinning, false},
		"a fragment":                      {e.local(fragment), pinning, false},
		"with excludes and preconditions": {e.local(conditional), probe{"team-a", true, true}, true},
		"two rules":                       {e.local(twoRules), probe{"team-a", true, true}, true},
		"all filters":                     {e.local(allFilters), probe{"team-a", true, true}, true},
		"one that validates":              {e.local(validating), probe{"test-venafi", false, true}, false},
		"one that validates, for audits":  {e.local(strings.Replace(validating, "Enforce", "Audit", 1)), probe{"test-venafi", false, false}, false},
		"one whose failures are ignored":  {e.local(strings.Replace(fragment, "failurePolicy: Fail", "failurePolicy: Ignore", 1)), probe{"test-venafi", true, false}, false},
	}
	for sentence, test := range tests {
		t.Run(sentence, func(t *testing.T) {
			asks := e.asks(test.probe.namespace, test.volumes)
			before := e.under(t, test.policy, test.probe, asks)
			after := e.under(t, e.migrated(t, test.policy), test.probe, asks)
			admitted, pinned, denied := 0, 0, 0
			for i, a := range asks {
				compare(t, a, before[i], after[i])
				switch {
				case !after[i].admitted:
					denied++
				case strings.Contains(strings.Join(after[i].images, " "), "@sha256:"):
					pinned++
				default:
					admitted++
				}
			}
			t.Logf("%d objects: %d admitted as they are, %d with digests, %d denied", len(asks), admitted, pinned, denied)
			if len(asks) < 40 || admitted < 5 || test.probe.pins && pinned < 5 || test.probe.denies && denied < 20 {
				t.Error("that shows little")
			}
		})
	}
}

// TestForgedMetadataOfEphemeralContainers holds the one difference beside image volumes: on pods/ephemeralcontainers a
// ClusterPolicy believes the labels of the request, which the API server drops.
func TestForgedMetadataOfEphemeralContainers(t *testing.T) {
	e := &shared
	e.connect(t)
	e.prepare(t)
	forged := ask{sentence: "a forged label", method: http.MethodPatch, path: "/api/v1/namespaces/team-a/pods/stored-signed/ephemeralcontainers",
		body: fmt.Sprintf(`{"metadata":{"labels":{"checks":"none"}},"spec":{"ephemeralContainers":[{"name":"debug","image":%q}]}}`, e.Reference("unsigned"))}
	policy := e.local(byLabel)
	for way, test := range map[string]struct {
		policies string
		admitted bool
	}{"the ClusterPolicy": {policy, true}, "what is made of it": {e.migrated(t, policy), false}} {
		got := e.under(t, test.policies, probe{"team-a", true, true}, []ask{forged})[0]
		if got.admitted != test.admitted {
			t.Errorf("%s: admitted %t %q: %s", way, got.admitted, got.images, got.says)
		}
	}
}

// compare holds two answers against each other.
func compare(t *testing.T, a ask, before, after answer) {
	t.Helper()
	if before.admitted != after.admitted || !slices.Equal(before.images, after.images) {
		t.Errorf("%s: the ClusterPolicy: admitted %t %q\n%s\nwhat was made of it: admitted %t %q\n%s", a.sentence, before.admitted, before.images, before.says, after.admitted, after.images, after.says)
		return
	}
	before.says = strings.ReplaceAll(before.says, "''", "'") // where Kyverno tells it in YAML
	reasons := after.reasons()
	for _, reason := range reasons {
		if !strings.Contains(before.says, reason) {
			t.Errorf("%s: the ClusterPolicy says\n%s\nwhat was made of it says\n%s", a.sentence, before.says, reason)
		}
	}
	if (len(before.reasons()) == 0) != (len(reasons) == 0) {
		t.Errorf("%s: the ClusterPolicy says\n%s\nwhat was made of it says\n%s", a.sentence, before.says, after.says)
	}
}

// prepare makes namespaces, trust, images, users' rights, and objects that are stored already.
func (e *environment) prepare(t *testing.T) {
	e.TwoTenants(t)
	for image, licence := range map[string]string{"sbom-good": "Apache-2.0", "sbom-gpl": "GPL-3.0"} {
		if err := e.Scenario.PushWithSampleAttestations(t.Context(), image, licence); err != nil {
			t.Fatal(err)
		}
	}
	e.Apply(t, e.Sample(t, "callers.yaml"))
	e.Kubectl(t, "", "wait", "--for=jsonpath={.status.lastRefreshTime}", "globalcontextentry/kyverno-notation-venafi-caller", "--timeout=1m")
	e.Apply(t, scenariotest.TrustPolicy("tp-test-venafi", "strict", "ca:acme"))
	// Applied, not deleted again: no controller is there to finish a namespace's deletion.
	e.Kubectl(t, `
apiVersion: v1
kind: Namespace
metadata: {name: test-venafi}
---
apiVersion: v1
kind: Namespace
metadata: {name: outside}
---
apiVersion: v1
kind: Namespace
metadata: {name: team-free, labels: {checks: none}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: migrate-users}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects:
- {kind: User, name: alice, apiGroup: rbac.authorization.k8s.io}
- {kind: Group, name: ops, apiGroup: rbac.authorization.k8s.io}
`, "apply", "-f", "-")
	for _, namespace := range []string{"team-a", "test-venafi"} {
		for _, stored := range []string{
			e.pod("stored-signed", "signed"), e.pod("stored-unsigned", "unsigned"), e.deployment("Deployment", "stored", "unsigned"),
			strings.Replace(e.pod("ending", "unsigned"), "name: ending", "name: ending, finalizers: [example.com/hold]", 1),
		} {
			stored = "---\n" + stored // kubectl takes for JSON what starts with a brace
			e.Kubectl(t, stored, "create", "-n", namespace, "-f", "-")
			t.Cleanup(func() { e.remove(t, namespace, stored) })
		}
		e.Kubectl(t, "", "delete", "pod", "ending", "-n", namespace, "--wait=false", "--grace-period=0", "--force")
	}
}
