//go:build e2e

package admission

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// TestNothingPassesByItsOwnWord holds that no field of an object can exempt it, under both kinds of policies. On the
// subresource ephemeralcontainers the API server drops the metadata of the request after admission, and keeps the container.
func TestNothingPassesByItsOwnWord(t *testing.T) {
	bothWays(t, func(t *testing.T, fx environment) {
		fx.Apply(t, fixture.Pod("forged", "team-a", fx.Reference("signed")))
		claims := map[string]string{
			"that it is being deleted":       `"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}`,
			"who owns it":                    `"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"x","uid":"x"}]}`,
			"labels and annotations":         `"metadata":{"labels":{"app":"kyverno"},"annotations":{"kyverno.io/verify-images":"{}","pod-policies.kyverno.io/autogen-applied":"true"}}`,
			"another namespace":              `"metadata":{"generateName":"kube-system"}`,
			"nothing, and is the image new":  `"metadata":{}`,
			"that it is over":                `"metadata":{},"status":{"phase":"Succeeded"}`,
			"that its node is another's":     `"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}}`,
			"a deletion without grace":       `"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["example.com/x"]}`,
			"what older policies looked for": `"metadata":{"deletionTimestamp":"2999-01-01T00:00:00Z"}`,
		}
		for claim, metadata := range claims {
			t.Run("an ephemeral container that claims "+claim, func(t *testing.T) {
				patch := fmt.Sprintf(`{%s,"spec":{"ephemeralContainers":[{"name":"debug","image":%q}]}}`, metadata, fx.Reference("unsigned"))
				if err := fx.Denied(t, "failed to verify ephemeral container debug", "", "patch", "pod", "forged", "-n", "team-a", "--subresource=ephemeralcontainers", "--type=strategic", "-p", patch); err != nil {
					t.Error(err)
				}
				if got := fx.Kubectl(t, "", "get", "-n", "team-a", "pod/forged", "-o", "jsonpath={.spec.ephemeralContainers}"); got != "" {
					t.Errorf("the pod has %s", got)
				}
			})
		}
		for metadata, says := range map[string]string{"{}": "failed to verify container app", `{"deletionTimestamp":"2026-01-01T00:00:00Z"}`: ""} { // which the API server refuses too
			t.Run("another image in a running pod, and "+metadata, func(t *testing.T) {
				patch := fmt.Sprintf(`{"metadata":%s,"spec":{"containers":[{"name":"app","image":%q}]}}`, metadata, fx.Reference("unsigned"))
				if err := fx.Denied(t, says, "", "patch", "pod", "forged", "-n", "team-a", "--type=strategic", "-p", patch); err != nil {
					t.Error(err)
				}
			})
		}
		t.Run("a signed image in a running pod is pinned", func(t *testing.T) {
			fx.Kubectl(t, "", "patch", "pod", "forged", "-n", "team-a", "--type=strategic", "-p", fmt.Sprintf(`{"spec":{"containers":[{"name":"app","image":%q}]}}`, fx.Reference("signed-cose")))
			if got := fx.Kubectl(t, "", "get", "-n", "team-a", "pod/forged", "-o", "jsonpath={.spec.containers[0].image}"); got != fx.Pinned(t, "signed-cose") {
				t.Errorf("stored %s", got)
			}
		})
		imageVolumes(t, fx)
		plainText(t, fx)
		deletions(t, fx)
	})
}

// imageVolumes expects that image volumes are verified like the images of containers.
func imageVolumes(t *testing.T, fx environment) {
	with := func(image string) string {
		return fixture.Pod("volumes", "team-a", fx.Reference("signed")) + fmt.Sprintf("  volumes:\n  - {name: data, image: {reference: %q}}\n", image)
	}
	t.Run("an unsigned image volume", func(t *testing.T) {
		if err := fx.Denied(t, "no signature is associated with", with(fx.Reference("unsigned")), "create", "--dry-run=server", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a signed image volume is pinned", func(t *testing.T) {
		if got := fx.Kubectl(t, with(fx.Reference("signed")), "create", "--dry-run=server", "-o", "jsonpath={.spec.volumes[0].image.reference}", "-f", "-"); got != fx.Pinned(t, "signed") {
			t.Errorf("stored %s", got)
		}
	})
}

// plainText expects that text in an object that looks like an expression of Kyverno does not break the policy and is not
// evaluated.
func plainText(t *testing.T, fx environment) {
	t.Run("braces in an object", func(t *testing.T) {
		manifest := strings.Replace(fixture.Pod("braces", "team-a", fx.Reference("signed")), "namespace: team-a}", `namespace: team-a, annotations: {a: "{{ request.userInfo }}", b: "{{ absent }}", c: "{{ images }", d: "$(x) {{request.object.metadata.name}}"}}`, 1)
		if got := fx.Kubectl(t, manifest, "create", "--dry-run=server", "-o", "jsonpath={.spec.containers[0].image} {.metadata.annotations.b}", "-f", "-"); got != fx.Pinned(t, "signed")+" {{ absent }}" {
			t.Errorf("stored %s", got)
		}
	})
	t.Run("braces in an image", func(t *testing.T) {
		if err := fx.Denied(t, "denied the request", fixture.Pod("braces", "team-a", fx.Reference("signed")+"{{ '' }}"), "create", "--dry-run=server", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
}

// deletions expects that a pod that is being deleted can be deleted whatever its image is, but cannot get a new image.
func deletions(t *testing.T, fx environment) {
	t.Run("a pod that is being deleted", func(t *testing.T) {
		manifest := strings.Replace(fixture.Pod("ending", "team-a", fx.Reference("signed")), "namespace: team-a}", "namespace: team-a, finalizers: [example.com/hold]}", 1)
		fx.Kubectl(t, manifest, "create", "-f", "-")
		fx.Kubectl(t, "", "delete", "pod", "ending", "-n", "team-a", "--wait=false", "--grace-period=0", "--force")
		// Nobody would verify it now.
		fx.Kubectl(t, "", "delete", "trustpolicy", "tp-team-a")
		defer fx.Kubectl(t, scenariotest.TrustPolicy("tp-team-a", "strict", "ca:acme"), "apply", "-f", "-")
		patch := fmt.Sprintf(`{"spec":{"containers":[{"name":"app","image":%q}]}}`, fx.Reference("unsigned"))
		if err := fx.Denied(t, "denied the request", "", "patch", "pod", "ending", "-n", "team-a", "--type=strategic", "-p", patch); err != nil {
			t.Errorf("another image: %v", err)
		}
		fx.Kubectl(t, "", "patch", "pod", "ending", "-n", "team-a", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
		if got := fx.Kubectl(t, "", "get", "pod", "ending", "-n", "team-a", "--ignore-not-found", "-o", "name"); got != "" {
			t.Errorf("there is still %s", got)
		}
	})
}

// TestPinAndDenyAsOne removes one of the pair of CEL policies, or the callers' token.
func TestPinAndDenyAsOne(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	fx.WithCEL(t)
	// Kyverno reads the token every second here, and tries once.
	callers := strings.NewReplacer("refreshInterval: 10s", "refreshInterval: 1s", "retryLimit: 6", "retryLimit: 1").Replace(fx.Sample(t, "callers.yaml"))
	fx.Kubectl(t, callers, "apply", "-f", "-")
	tag, digest := fixture.Pod("pair", "team-a", fx.Reference("signed")), fixture.Pod("pair", "team-a", fx.Pinned(t, "signed"))
	create := []string{"create", "--dry-run=server", "-f", "-"}
	soon := func(t *testing.T, holds func() error) {
		t.Helper()
		if err := deployment.Eventually(t.Context(), deployment.Patience, holds); err != nil {
			t.Error(err)
		}
	}
	t.Run("without the right to read the token", func(t *testing.T) {
		fx.Kubectl(t, "", "delete", "rolebinding", "kyverno-notation-venafi-caller", "-n", fixture.ServiceNamespace)
		defer fx.Kubectl(t, callers, "apply", "-f", "-")
		for _, manifest := range []string{tag, digest} {
			soon(t, func() error { return fx.Denied(t, "denied the request", manifest, create...) })
		}
	})
	t.Run("with a token that is not the service's", func(t *testing.T) {
		other := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("0123456789", 4)))
		for _, policy := range []string{"mutatingpolicy", "validatingpolicy"} {
			fx.Kubectl(t, strings.ReplaceAll(fx.Sample(t, policy+".yaml"), `globalContext.Get("kyverno-notation-venafi-caller", "token")`, `dyn("`+other+`")`), "apply", "-f", "-")
			defer fx.Kubectl(t, fx.Sample(t, policy+".yaml"), "apply", "-f", "-")
		}
		for _, manifest := range []string{tag, digest} {
			soon(t, func() error { return fx.Denied(t, "the caller is not authenticated", manifest, create...) })
		}
	})
	fx.Kubectl(t, callers, "apply", "-f", "-")
	t.Run("without the policy that pins", func(t *testing.T) {
		fx.Kubectl(t, "", "delete", "mutatingpolicy", "pin-verified-images")
		soon(t, func() error { return fx.Denied(t, "failed to verify container app", tag, create...) })
		soon(t, func() error {
			output, err := fx.Bed.Kubectl(t.Context(), digest, append(create, "-o", "json")...)
			if err != nil {
				return fmt.Errorf("by digest: %w", err)
			}
			var stored struct {
				Spec struct{ Containers []struct{ Image string } }
			}
			if err := json.Unmarshal([]byte(output), &stored); err != nil || stored.Spec.Containers[0].Image != fx.Pinned(t, "signed") {
				return fmt.Errorf("%v: %s", err, output)
			}
			return nil
		})
	})
}
