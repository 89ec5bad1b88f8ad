//go:build e2e

package admission

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/product"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// denied wants kubectl to fail with a sentence.
func (w *world) denied(t *testing.T, says, stdin string, args ...string) error {
	t.Helper()
	output, err := w.bed.Kubectl(t.Context(), stdin, args...)
	if err == nil || !strings.Contains(output+err.Error(), says) {
		return fmt.Errorf("%v\n%s\nwant %s", err, output, says)
	}
	return nil
}

// TestNothingPassesByItsOwnWord, by either way in. On the subresource the API server drops what a request claims of the
// pod's metadata after it was admitted, and keeps the container.
func TestNothingPassesByItsOwnWord(t *testing.T) {
	w := shared
	w.twoTenants(t)
	for way, install := range map[string]func(*testing.T){
		"ClusterPolicy": func(t *testing.T) { w.withPolicy(t, "clusterpolicy.yaml", "verify-images") },
		"CEL policies":  func(t *testing.T) { w.withCEL(t) },
	} {
		t.Run(way, func(t *testing.T) {
			install(t)
			w.apply(t, pod("forged", "team-a", w.reference("signed")))
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
					patch := fmt.Sprintf(`{%s,"spec":{"ephemeralContainers":[{"name":"debug","image":%q}]}}`, metadata, w.reference("unsigned"))
					if err := w.denied(t, "failed to verify ephemeral container debug", "", "patch", "pod", "forged", "-n", "team-a", "--subresource=ephemeralcontainers", "--type=strategic", "-p", patch); err != nil {
						t.Error(err)
					}
					if got := w.kubectl(t, "", "get", "-n", "team-a", "pod/forged", "-o", "jsonpath={.spec.ephemeralContainers}"); got != "" {
						t.Errorf("the pod has %s", got)
					}
				})
			}
			for metadata, says := range map[string]string{"{}": "failed to verify container app", `{"deletionTimestamp":"2026-01-01T00:00:00Z"}`: ""} { // which the API server refuses too
				t.Run("another image in a running pod, and "+metadata, func(t *testing.T) {
					patch := fmt.Sprintf(`{"metadata":%s,"spec":{"containers":[{"name":"app","image":%q}]}}`, metadata, w.reference("unsigned"))
					if err := w.denied(t, says, "", "patch", "pod", "forged", "-n", "team-a", "--type=strategic", "-p", patch); err != nil {
						t.Error(err)
					}
				})
			}
			t.Run("a signed image in a running pod is pinned", func(t *testing.T) {
				w.kubectl(t, "", "patch", "pod", "forged", "-n", "team-a", "--type=strategic", "-p", fmt.Sprintf(`{"spec":{"containers":[{"name":"app","image":%q}]}}`, w.reference("signed-cose")))
				if got := w.kubectl(t, "", "get", "-n", "team-a", "pod/forged", "-o", "jsonpath={.spec.containers[0].image}"); got != w.pinned(t, "signed-cose") {
					t.Errorf("stored %s", got)
				}
			})
			imageVolumes(t, w)
			plainText(t, w)
			deletions(t, w)
		})
	}
}

// imageVolumes are verified as the images of containers are.
func imageVolumes(t *testing.T, w *world) {
	with := func(image string) string {
		return pod("volumes", "team-a", w.reference("signed")) + fmt.Sprintf("  volumes:\n  - {name: data, image: {reference: %q}}\n", image)
	}
	t.Run("an unsigned image volume", func(t *testing.T) {
		if err := w.denied(t, "no signature is associated with", with(w.reference("unsigned")), "create", "--dry-run=server", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a signed image volume is pinned", func(t *testing.T) {
		if got := w.kubectl(t, with(w.reference("signed")), "create", "--dry-run=server", "-o", "jsonpath={.spec.volumes[0].image.reference}", "-f", "-"); got != w.pinned(t, "signed") {
			t.Errorf("stored %s", got)
		}
	})
}

// plainText of an object that reads as Kyverno's own expressions neither breaks the policy nor is evaluated.
func plainText(t *testing.T, w *world) {
	t.Run("braces in an object", func(t *testing.T) {
		manifest := strings.Replace(pod("braces", "team-a", w.reference("signed")), "namespace: team-a}", `namespace: team-a, annotations: {a: "{{ request.userInfo }}", b: "{{ absent }}", c: "{{ images }", d: "$(x) {{request.object.metadata.name}}"}}`, 1)
		if got := w.kubectl(t, manifest, "create", "--dry-run=server", "-o", "jsonpath={.spec.containers[0].image} {.metadata.annotations.b}", "-f", "-"); got != w.pinned(t, "signed")+" {{ absent }}" {
			t.Errorf("stored %s", got)
		}
	})
	t.Run("braces in an image", func(t *testing.T) {
		if err := w.denied(t, "denied the request", pod("braces", "team-a", w.reference("signed")+"{{ '' }}"), "create", "--dry-run=server", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
}

// deletions that are real go on whatever became of the image, and let nothing new in.
func deletions(t *testing.T, w *world) {
	t.Run("a pod that is being deleted", func(t *testing.T) {
		manifest := strings.Replace(pod("ending", "team-a", w.reference("signed")), "namespace: team-a}", "namespace: team-a, finalizers: [example.com/hold]}", 1)
		w.kubectl(t, manifest, "create", "-f", "-")
		w.kubectl(t, "", "delete", "pod", "ending", "-n", "team-a", "--wait=false", "--grace-period=0", "--force")
		// Nobody would verify it now.
		w.kubectl(t, "", "delete", "trustpolicy", "tp-team-a")
		defer w.kubectl(t, scenariotest.TrustPolicy("tp-team-a", "strict", "ca:acme"), "apply", "-f", "-")
		patch := fmt.Sprintf(`{"spec":{"containers":[{"name":"app","image":%q}]}}`, w.reference("unsigned"))
		if err := w.denied(t, "denied the request", "", "patch", "pod", "ending", "-n", "team-a", "--type=strategic", "-p", patch); err != nil {
			t.Errorf("another image: %v", err)
		}
		w.kubectl(t, "", "patch", "pod", "ending", "-n", "team-a", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
		if got := w.kubectl(t, "", "get", "pod", "ending", "-n", "team-a", "--ignore-not-found", "-o", "name"); got != "" {
			t.Errorf("there is still %s", got)
		}
	})
}

// TestPinAndDenyAsOne leaves one of the pair of CEL policies, or the callers' token, away.
func TestPinAndDenyAsOne(t *testing.T) {
	w := shared
	w.twoTenants(t)
	w.withCEL(t)
	tag, digest := pod("pair", "team-a", w.reference("signed")), pod("pair", "team-a", w.pinned(t, "signed"))
	create := []string{"create", "--dry-run=server", "-f", "-"}
	soon := func(t *testing.T, holds func() error) {
		t.Helper()
		if err := product.Eventually(t.Context(), 30*time.Second, holds); err != nil {
			t.Error(err)
		}
	}
	t.Run("without the right to read the token", func(t *testing.T) {
		w.kubectl(t, "", "delete", "rolebinding", "kyverno-notation-venafi-caller", "-n", serviceNamespace)
		defer w.kubectl(t, w.sample(t, "callers.yaml"), "apply", "-f", "-")
		for _, manifest := range []string{tag, digest} {
			soon(t, func() error { return w.denied(t, "denied the request", manifest, create...) })
		}
	})
	t.Run("with a token that is not the service's", func(t *testing.T) {
		// Kyverno reads another Secret than the service.
		for _, policy := range []string{"mutatingpolicy", "validatingpolicy"} {
			w.kubectl(t, strings.ReplaceAll(w.sample(t, policy+".yaml"), `kyverno-notation-venafi-caller").data`, `other").data`), "apply", "-f", "-")
			defer w.kubectl(t, w.sample(t, policy+".yaml"), "apply", "-f", "-")
		}
		w.apply(t, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: other, namespace: %s}\nstringData: {token: %s}\n", serviceNamespace, strings.Repeat("x", 40)))
		w.kubectl(t, "", "patch", "role", "kyverno-notation-venafi-caller", "-n", serviceNamespace, "--type=json", "-p", `[{"op":"add","path":"/rules/0/resourceNames/-","value":"other"}]`)
		for _, manifest := range []string{tag, digest} {
			soon(t, func() error { return w.denied(t, "the caller is not authenticated", manifest, create...) })
		}
	})
	w.kubectl(t, w.sample(t, "callers.yaml"), "apply", "-f", "-")
	t.Run("without the policy that pins", func(t *testing.T) {
		w.kubectl(t, "", "delete", "mutatingpolicy", "pin-verified-images")
		soon(t, func() error { return w.denied(t, "failed to verify container app", tag, create...) })
		soon(t, func() error {
			output, err := w.bed.Kubectl(t.Context(), digest, append(create, "-o", "json")...)
			if err != nil {
				return fmt.Errorf("by digest: %w", err)
			}
			var stored struct {
				Spec struct{ Containers []struct{ Image string } }
			}
			if err := json.Unmarshal([]byte(output), &stored); err != nil || stored.Spec.Containers[0].Image != w.pinned(t, "signed") {
				return fmt.Errorf("%v: %s", err, output)
			}
			return nil
		})
	})
}
