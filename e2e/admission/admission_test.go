//go:build e2e

package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// Each namespace has its own trust policy: team-a trusts Acme, team-b trusts Mallory.
func (fx *fixture) twoTenants(t *testing.T) {
	t.Helper()
	// Applied, not deleted again: no controller is there to finish a namespace's deletion.
	fx.kubectl(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team-b}\n", "apply", "-f", "-")
	fx.apply(t, strings.Join([]string{
		scenariotest.TrustStore("mallory", fx.scenario.Foreign.PEM()),
		scenariotest.TrustPolicy("tp-team-a", "strict", "ca:acme"),
		scenariotest.TrustPolicy("tp-team-b", "strict", "ca:mallory"),
	}, "---\n"))
}

// withPolicy applies a sample ClusterPolicy and waits until Kyverno enforces it.
func (fx *fixture) withPolicy(t *testing.T, sample, name string) {
	t.Helper()
	fx.apply(t, fx.sample(t, sample))
	if err := fx.bed.WaitPolicy(t.Context(), "clusterpolicy/"+name); err != nil {
		t.Fatal(err)
	}
}

// pinned gives the digest reference of a scenario's image.
func (fx *fixture) pinned(t *testing.T, name string) string {
	t.Helper()
	repository, err := signingtest.Repository(fx.registry.Host(), "acme/"+name, fx.registry.Client(), true)
	if err != nil {
		t.Fatal(err)
	}
	image, err := repository.Resolve(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	return fx.registry.Host() + "/acme/" + name + "@" + image.Digest.String()
}

func pod(name, namespace, image string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s}\nspec:\n%s", name, namespace, podSpec(image, "  "))
}

// podSpec has the image in a container and an init container.
func podSpec(image, indent string) string {
	lines := []string{"restartPolicy: Never", "initContainers:", "- {name: setup, image: %q}", "containers:", "- {name: app, image: %q}"}
	text := ""
	for _, line := range lines {
		if strings.Contains(line, "%q") {
			line = fmt.Sprintf(line, image)
		}
		text += indent + line + "\n"
	}
	return text
}

func deploymentOf(image string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app, namespace: team-a}\nspec:\n  selector: {matchLabels: {app: app}}\n  template:\n    metadata: {labels: {app: app}}\n    spec:\n" +
		strings.Replace(podSpec(image, "      "), "      restartPolicy: Never\n", "", 1)
}

func cronJob(image string) string {
	return "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: app, namespace: team-a}\nspec:\n  schedule: '0 0 * * *'\n  jobTemplate:\n    spec:\n      template:\n        spec:\n" + podSpec(image, "          ")
}

// TestAdmission creates workloads under the sample ClusterPolicy and reads back what was stored.
func TestAdmission(t *testing.T) {
	fx := shared
	fx.twoTenants(t)
	fx.withPolicy(t, "clusterpolicy.yaml", "verify-images")
	admitsAndPins(t, fx)
	deniesWithASentence(t, fx)
	tellsTenantsApart(t, fx)
}

func admitsAndPins(t *testing.T, fx *fixture) {
	image, want := fx.reference("signed"), fx.pinned(t, "signed")
	tests := map[string]struct{ manifest, object, path string }{
		"a pod":        {pod("signed", "team-a", image), "pod/signed", "{.spec.containers[0].image} {.spec.initContainers[0].image}"},
		"a Deployment": {deploymentOf(image), "deployment/app", "{.spec.template.spec.containers[0].image} {.spec.template.spec.initContainers[0].image}"},
		"a CronJob":    {cronJob(image), "cronjob/app", "{.spec.jobTemplate.spec.template.spec.containers[0].image} {.spec.jobTemplate.spec.template.spec.initContainers[0].image}"},
	}
	for sentence, test := range tests {
		t.Run(sentence+" of a signed image is stored with the digest", func(t *testing.T) {
			fx.apply(t, test.manifest)
			if got := fx.kubectl(t, "", "get", "-n", "team-a", test.object, "-o", "jsonpath="+test.path); got != want+" "+want {
				t.Errorf("stored %q; want %s twice", got, want)
			}
		})
	}
	t.Run("an ephemeral container of a signed image is stored with the digest", func(t *testing.T) {
		fx.apply(t, pod("debugged", "team-a", image))
		if output, err := fx.debug(t, "debugged", image); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		if got := fx.kubectl(t, "", "get", "-n", "team-a", "pod/debugged", "-o", "jsonpath={.spec.ephemeralContainers[0].image}"); got != want {
			t.Errorf("stored %q; want %s", got, want)
		}
		output, err := fx.debug(t, "debugged", fx.reference("unsigned"))
		if err == nil || !strings.Contains(output+err.Error(), "failed to verify ephemeral container") {
			t.Errorf("an unsigned one: %v\n%s", err, output)
		}
	})
}

// debug adds an ephemeral container, as kubectl debug does.
func (fx *fixture) debug(t *testing.T, name, image string) (string, error) {
	t.Helper()
	var stored map[string]any
	if err := json.Unmarshal([]byte(fx.kubectl(t, "", "get", "-n", "team-a", "pod/"+name, "-o", "json")), &stored); err != nil {
		t.Fatal(err)
	}
	spec := stored["spec"].(map[string]any)
	present, _ := spec["ephemeralContainers"].([]any)
	spec["ephemeralContainers"] = append(present, map[string]any{"name": fmt.Sprintf("debug-%d", len(present)), "image": image, "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent"})
	text, err := json.Marshal(stored)
	if err != nil {
		t.Fatal(err)
	}
	return fx.bed.Kubectl(t.Context(), string(text), "replace", "--raw", "/api/v1/namespaces/team-a/pods/"+name+"/ephemeralcontainers", "-f", "-")
}

func deniesWithASentence(t *testing.T, fx *fixture) {
	tests := map[string]struct{ manifest, says string }{
		"an unsigned pod":            {pod("unsigned", "team-a", fx.reference("unsigned")), fmt.Sprintf("failed to verify container app: failed to verify image %s: no signature is associated with %q, make sure the artifact was signed successfully", fx.reference("unsigned"), fx.pinned(t, "unsigned"))},
		"an unsigned Deployment":     {deploymentOf(fx.reference("unsigned")), "no signature is associated with"},
		"an unsigned CronJob":        {cronJob(fx.reference("unsigned")), "no signature is associated with"},
		"a tampered signature":       {pod("tampered", "team-a", fx.reference("tampered")), "signature is invalid"},
		"an expired certificate":     {pod("expired", "team-a", fx.reference("expired-certificate")), "it was expired at"},
		"a plugin that is missing":   {pod("plugin", "team-a", fx.reference("plugin-missing")), "which is not installed"},
		"an image that is not there": {pod("absent", "team-a", fx.reference("absent")), "the registry has no such image"},
	}
	for sentence, test := range tests {
		t.Run(sentence+" is denied", func(t *testing.T) {
			output, err := fx.bed.Kubectl(t.Context(), test.manifest, "create", "-f", "-")
			if err == nil {
				fx.kubectl(t, test.manifest, "delete", "-f", "-")
				t.Fatal("it was admitted")
			}
			if said := output + err.Error(); !strings.Contains(said, test.says) || strings.Contains(said, "{") && strings.Contains(said, "Msg:") {
				t.Errorf("kubectl says %s\nwant %s", said, test.says)
			}
		})
	}
}

func tellsTenantsApart(t *testing.T, fx *fixture) {
	for _, test := range []struct {
		namespace, image string
		admitted         bool
	}{
		{"team-a", "signed", true}, {"team-b", "signed", false},
		{"team-a", "foreign", false}, {"team-b", "foreign", true},
	} {
		t.Run(fmt.Sprintf("%s in %s", test.image, test.namespace), func(t *testing.T) {
			output, err := fx.bed.Kubectl(t.Context(), pod("tenant", test.namespace, fx.reference(test.image)), "create", "--dry-run=server", "-f", "-")
			if (err == nil) != test.admitted {
				t.Errorf("admitted %t, want %t: %v\n%s", err == nil, test.admitted, err, output)
			}
		})
	}
}

// TestAdmissionFollowsTrust deletes a trust store under a policy that admitted before, and restores it.
func TestAdmissionFollowsTrust(t *testing.T) {
	fx := shared
	fx.twoTenants(t)
	fx.withPolicy(t, "clusterpolicy.yaml", "verify-images")
	t.Cleanup(func() {
		if err := fx.applyTrust(context.Background()); err != nil {
			t.Error(err)
		}
	})
	create := func(admitted bool) {
		t.Helper()
		err := deployment.Eventually(t.Context(), 3*time.Second, func() error {
			output, err := fx.bed.Kubectl(t.Context(), pod("follows", "team-a", fx.reference("signed")), "create", "--dry-run=server", "-f", "-")
			if (err == nil) != admitted {
				return fmt.Errorf("admitted %t, want %t: %w\n%s", err == nil, admitted, err, output)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	create(true)
	fx.kubectl(t, "", "delete", "truststore", "acme")
	create(false)
	fx.kubectl(t, scenariotest.TrustStore("acme", fx.scenario.Trusted.PEM()), "apply", "-f", "-")
	create(true)
}

// withCEL applies the sample CEL policies, and waits until Kyverno goes by them.
func (fx *fixture) withCEL(t *testing.T) {
	t.Helper()
	for _, sample := range []string{"callers.yaml", "mutatingpolicy.yaml", "validatingpolicy.yaml"} {
		fx.apply(t, fx.sample(t, sample))
	}
	for _, policy := range []string{"mutatingpolicy/pin-verified-images", "validatingpolicy/deny-unverified-images"} {
		if err := fx.bed.WaitPolicy(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
	}
	want := fx.pinned(t, "signed")
	err := deployment.Eventually(t.Context(), 30*time.Second, func() error {
		output, err := fx.bed.Kubectl(t.Context(), pod("cel", "team-a", fx.reference("signed")), "create", "--dry-run=server", "-o", "jsonpath={.spec.containers[0].image}", "-f", "-")
		if err != nil || output != want {
			return fmt.Errorf("%q, %w; want %s", output, err, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = deployment.Eventually(t.Context(), 30*time.Second, func() error {
		return fx.denied(t, "no signature is associated with", pod("cel", "team-a", fx.reference("unsigned")), "create", "--dry-run=server", "-f", "-")
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCELPolicies do the same as the ClusterPolicy.
func TestCELPolicies(t *testing.T) {
	fx := shared
	fx.twoTenants(t)
	fx.withCEL(t)
	admitsAndPins(t, fx)
	deniesWithASentence(t, fx)
	tellsTenantsApart(t, fx)
}

// TestAttestationPolicy enforces the README's example: the SBOM's licences and the scan.
func TestAttestationPolicy(t *testing.T) {
	fx := shared
	fx.twoTenants(t)
	for name, licence := range map[string]string{"sbom-good": "Apache-2.0", "sbom-gpl": "GPL-3.0"} {
		if err := fx.scenario.PushWithSampleAttestations(t.Context(), name, licence); err != nil {
			t.Fatal(err)
		}
	}
	name := policyName(t, fx.sample(t, "clusterpolicy-attestations.yaml"))
	fx.withPolicy(t, "clusterpolicy-attestations.yaml", name)
	output, err := fx.bed.Kubectl(t.Context(), pod("good", "team-a", fx.reference("sbom-good")), "create", "--dry-run=server", "-o", "jsonpath={.spec.containers[0].image}", "-f", "-")
	if err != nil || output != fx.pinned(t, "sbom-good") {
		t.Errorf("the good image: %q, %v", output, err)
	}
	for image, says := range map[string]string{
		"sbom-gpl": `"GPL-3.0"`,
		"signed":   `no attestation of type "sbom/cyclone-dx" is attached`,
	} {
		output, err := fx.bed.Kubectl(t.Context(), pod("bad", "team-a", fx.reference(image)), "create", "--dry-run=server", "-f", "-")
		if err == nil || !strings.Contains(output+err.Error(), says) {
			t.Errorf("%s: %v\n%s\nwant %s", image, err, output, says)
		}
	}
}

// policyName reads the name of the first resource of a manifest.
func policyName(t *testing.T, manifest string) string {
	t.Helper()
	_, rest, _ := strings.Cut(manifest, "metadata:\n  name: ")
	name, _, found := strings.Cut(rest, "\n")
	if !found {
		t.Fatal("the sample has no name")
	}
	return name
}
