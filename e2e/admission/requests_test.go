//go:build e2e

package admission

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// pushCold pushes a signed image that no test asked about before, and gives its name.
func (fx environment) pushCold(t *testing.T, signature signingtest.SignRequest) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-", ",", "").Replace(t.Name()))
	if _, err := fx.Scenario.PushSigned(t.Context(), name, fx.Scenario.Signer(), &signature); err != nil {
		t.Fatal(err)
	}
	return name
}

// count holds how many requests an act makes to the registry.
func (fx environment) count(t *testing.T, sentence string, want int, act func()) {
	t.Helper()
	fx.Registry.Reset()
	act()
	if requests := fx.Registry.Requests(); len(requests) != want {
		t.Errorf("%s: %d registry requests, want %d: %v", sentence, len(requests), want, requests)
	}
}

// creating creates an object without storing it.
func (fx environment) creating(t *testing.T, manifest string) func() {
	return func() { fx.Kubectl(t, manifest, "create", "--dry-run=server", "-f", "-") }
}

// TestRegistryRequests counts what an admission costs at the registry: as much for two policies, which ask twice, as for one.
func TestRegistryRequests(t *testing.T) {
	bothWays(t, func(t *testing.T, fx environment) {
		for sentence, signature := range map[string]signingtest.SignRequest{
			"JWS": {Format: signingtest.JWS}, "COSE": {Format: signingtest.COSE}, "plugin": {Plugin: signingtest.Venafi()},
		} {
			t.Run("a pod, "+sentence, func(t *testing.T) {
				name := fx.pushCold(t, signature)
				tag, digest := fixture.Pod("cold", "team-a", fx.Reference(name)), fixture.Pod("cold", "team-a", fx.Pinned(t, name))
				fx.count(t, "by tag", 4, fx.creating(t, tag))
				fx.count(t, "by tag again", 0, fx.creating(t, tag))
				fx.count(t, "by digest", 0, fx.creating(t, digest))
			})
		}
		t.Run("what a Deployment makes", func(t *testing.T) { fx.countDeployment(t) })
	})
}

// countDeployment creates a Deployment, and what its controllers would make of it. Who owns an object is a claim, so all are
// asked about.
func (fx environment) countDeployment(t *testing.T) {
	name := fx.pushCold(t, signingtest.SignRequest{})
	fx.count(t, "the Deployment", 4, func() { fx.Apply(t, fixture.DeploymentOf(fx.Reference(name))) })
	image := fx.Kubectl(t, "", "get", "-n", "team-a", "deployment/app", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	owned := func(manifest, kind, owner string) string {
		return strings.Replace(manifest, "namespace: team-a", fmt.Sprintf("namespace: team-a, ownerReferences: [{apiVersion: apps/v1, kind: %s, name: %s, uid: x, controller: true}]", kind, owner), 1)
	}
	set := strings.NewReplacer("kind: Deployment", "kind: ReplicaSet", "name: app,", "name: app-1,").Replace(fixture.DeploymentOf(image))
	fx.count(t, "its ReplicaSet", 0, fx.creating(t, owned(set, "Deployment", "app")))
	fx.count(t, "its pods", 0, fx.creating(t, owned(fixture.Pod("app-1-x", "team-a", image), "ReplicaSet", "app-1")))
	forged := owned(fixture.Pod("app-1-y", "team-a", fx.Reference("unsigned")), "ReplicaSet", "app-1")
	if err := fx.Denied(t, "no signature is associated with", forged, "create", "--dry-run=server", "-f", "-"); err != nil {
		t.Error(err)
	}
}

// TestTwoCallsThatReachTwoReplicas cost more: the second replica verifies for itself, but has no tag to resolve.
func TestTwoCallsThatReachTwoReplicas(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	fx.Install(t, fixture.Policies{Samples: fixture.Ways()[0].Samples, Edit: func(sample string) string {
		if strings.Contains(sample, "kind: MutatingPolicy") {
			return sample
		}
		return strings.ReplaceAll(sample, "https://"+fx.Replicas[0].Secure, "https://"+fx.Replicas[1].Secure)
	}})
	pod := fixture.Pod("cold", "team-a", fx.Reference(fx.pushCold(t, signingtest.SignRequest{})))
	fx.count(t, "by tag", 4+3, fx.creating(t, pod))
	fx.count(t, "by tag again", 0, fx.creating(t, pod))
}
