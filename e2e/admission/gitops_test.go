//go:build e2e

package admission

import (
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

// TestGitOps uses the samples that pin pods only.
func TestGitOps(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	fx.Install(t, fixture.Policies{Samples: []string{"callers.yaml", "mutatingpolicy-gitops.yaml", "validatingpolicy-gitops.yaml"}})
	tag := fx.Reference("signed")
	t.Run("workloads keep their images", func(t *testing.T) {
		for _, manifest := range []string{fixture.DeploymentOf(tag), fixture.CronJob(tag)} {
			fx.Apply(t, manifest)
			diff, err := fx.Bed.Kubectl(t.Context(), manifest, "diff", "-f", "-") // fails where there is a difference
			if err != nil {
				t.Errorf("what is stored differs from what is written: %v\n%s", err, diff)
			}
		}
		if got := fx.Kubectl(t, "", "get", "-n", "team-a", "deployment/app", "-o", "jsonpath={.spec.template.spec.containers[0].image}"); got != tag {
			t.Errorf("stored %s", got)
		}
	})
	t.Run("their pods are pinned", func(t *testing.T) {
		images, err := fx.outcome(t, fixture.Pod("app-1-x", "team-a", tag))
		fx.check(t, images, err, "")
	})
	for sentence, manifest := range map[string]string{
		"an unsigned Deployment": fixture.DeploymentOf(fx.Reference("unsigned")),
		"an unsigned CronJob":    fixture.CronJob(fx.Reference("unsigned")),
		"an unsigned pod":        fixture.Pod("unsigned", "team-a", fx.Reference("unsigned")),
	} {
		t.Run(sentence+" is denied", func(t *testing.T) {
			if err := fx.Denied(t, "no signature is associated with", manifest, "create", "-f", "-"); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a pod that is not pinned is denied", func(t *testing.T) {
		webhook := fx.otherWebhook(t, "IfNeeded")
		webhook.with(setImage(tag), func() {
			images, err := fx.outcome(t, fixture.Pod("changed", "team-a", tag))
			fx.check(t, images, err, notPinned)
		})
	})
	t.Run("an ephemeral container is pinned", func(t *testing.T) {
		fx.Apply(t, fixture.Pod("debugged", "team-a", tag))
		if output, err := fx.debug(t, "debugged", tag); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		if got := fx.Kubectl(t, "", "get", "-n", "team-a", "pod/debugged", "-o", "jsonpath={.spec.ephemeralContainers[0].image}"); got != fx.Pinned(t, "signed") {
			t.Errorf("stored %s", got)
		}
	})
}
