//go:build e2e

package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// TestAdmission creates workloads under the sample policies and reads back what was stored.
func TestAdmission(t *testing.T) {
	bothWays(t, func(t *testing.T, fx environment) {
		admitsAndPins(t, fx)
		deniesWithASentence(t, fx)
		tellsTenantsApart(t, fx)
	})
}

func admitsAndPins(t *testing.T, fx environment) {
	image, want := fx.Reference("signed"), fx.Pinned(t, "signed")
	tests := map[string]struct{ manifest, object, path string }{
		"a pod":        {fixture.Pod("signed", "team-a", image), "pod/signed", "{.spec.containers[0].image} {.spec.initContainers[0].image}"},
		"a Deployment": {fixture.DeploymentOf(image), "deployment/app", "{.spec.template.spec.containers[0].image} {.spec.template.spec.initContainers[0].image}"},
		"a CronJob":    {fixture.CronJob(image), "cronjob/app", "{.spec.jobTemplate.spec.template.spec.containers[0].image} {.spec.jobTemplate.spec.template.spec.initContainers[0].image}"},
	}
	for sentence, test := range tests {
		t.Run(sentence+" of a signed image is stored with the digest", func(t *testing.T) {
			fx.Apply(t, test.manifest)
			if got := fx.Kubectl(t, "", "get", "-n", "team-a", test.object, "-o", "jsonpath="+test.path); got != want+" "+want {
				t.Errorf("stored %q; want %s twice", got, want)
			}
		})
	}
	t.Run("an ephemeral container of a signed image is stored with the digest", func(t *testing.T) {
		fx.Apply(t, fixture.Pod("debugged", "team-a", image))
		if output, err := fx.debug(t, "debugged", image); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		if got := fx.Kubectl(t, "", "get", "-n", "team-a", "pod/debugged", "-o", "jsonpath={.spec.ephemeralContainers[0].image}"); got != want {
			t.Errorf("stored %q; want %s", got, want)
		}
		output, err := fx.debug(t, "debugged", fx.Reference("unsigned"))
		if err == nil || !strings.Contains(output+err.Error(), "failed to verify ephemeral container") {
			t.Errorf("an unsigned one: %v\n%s", err, output)
		}
	})
}

// debug adds an ephemeral container, as kubectl debug does.
func (fx environment) debug(t *testing.T, name, image string) (string, error) {
	t.Helper()
	var stored map[string]any
	if err := json.Unmarshal([]byte(fx.Kubectl(t, "", "get", "-n", "team-a", "pod/"+name, "-o", "json")), &stored); err != nil {
		t.Fatal(err)
	}
	spec := stored["spec"].(map[string]any)
	present, _ := spec["ephemeralContainers"].([]any)
	spec["ephemeralContainers"] = append(present, map[string]any{"name": fmt.Sprintf("debug-%d", len(present)), "image": image, "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent"})
	text, err := json.Marshal(stored)
	if err != nil {
		t.Fatal(err)
	}
	return fx.Bed.Kubectl(t.Context(), string(text), "replace", "--raw", "/api/v1/namespaces/team-a/pods/"+name+"/ephemeralcontainers", "-f", "-")
}

func deniesWithASentence(t *testing.T, fx environment) {
	tests := map[string]struct{ manifest, says string }{
		"an unsigned pod":            {fixture.Pod("unsigned", "team-a", fx.Reference("unsigned")), fmt.Sprintf("failed to verify container app: failed to verify image %s: no signature is associated with %q, make sure the artifact was signed successfully", fx.Reference("unsigned"), fx.Pinned(t, "unsigned"))},
		"an unsigned Deployment":     {fixture.DeploymentOf(fx.Reference("unsigned")), "no signature is associated with"},
		"an unsigned CronJob":        {fixture.CronJob(fx.Reference("unsigned")), "no signature is associated with"},
		"a tampered signature":       {fixture.Pod("tampered", "team-a", fx.Reference("tampered")), "signature is invalid"},
		"an expired certificate":     {fixture.Pod("expired", "team-a", fx.Reference("expired-certificate")), "it was expired at"},
		"a plugin that is missing":   {fixture.Pod("plugin", "team-a", fx.Reference("plugin-missing")), "which is not installed"},
		"an image that is not there": {fixture.Pod("absent", "team-a", fx.Reference("absent")), "the registry has no such image"},
	}
	for sentence, test := range tests {
		t.Run(sentence+" is denied", func(t *testing.T) {
			output, err := fx.Bed.Kubectl(t.Context(), test.manifest, "create", "-f", "-")
			if err == nil {
				fx.Kubectl(t, test.manifest, "delete", "-f", "-")
				t.Fatal("it was admitted")
			}
			if said := output + err.Error(); !strings.Contains(said, test.says) || strings.Contains(said, "{") && strings.Contains(said, "Msg:") {
				t.Errorf("kubectl says %s\nwant %s", said, test.says)
			}
		})
	}
}

func tellsTenantsApart(t *testing.T, fx environment) {
	for _, test := range []struct {
		namespace, image string
		admitted         bool
	}{
		{"team-a", "signed", true}, {"team-b", "signed", false},
		{"team-a", "foreign", false}, {"team-b", "foreign", true},
	} {
		t.Run(fmt.Sprintf("%s in %s", test.image, test.namespace), func(t *testing.T) {
			output, err := fx.Bed.Kubectl(t.Context(), fixture.Pod("tenant", test.namespace, fx.Reference(test.image)), "create", "--dry-run=server", "-f", "-")
			if (err == nil) != test.admitted {
				t.Errorf("admitted %t, want %t: %v\n%s", err == nil, test.admitted, err, output)
			}
		})
	}
}

// TestAdmissionFollowsTrust deletes a trust store under policies that admitted before, and restores it.
func TestAdmissionFollowsTrust(t *testing.T) {
	bothWays(t, func(t *testing.T, fx environment) {
		t.Cleanup(func() {
			if err := fx.ApplyTrust(context.Background()); err != nil {
				t.Error(err)
			}
		})
		create := func(admitted bool) {
			t.Helper()
			err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
				output, err := fx.Bed.Kubectl(t.Context(), fixture.Pod("follows", "team-a", fx.Reference("signed")), "create", "--dry-run=server", "-f", "-")
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
		fx.Kubectl(t, "", "delete", "truststore", "acme")
		create(false)
		fx.Kubectl(t, scenariotest.TrustStore("acme", fx.Scenario.Trusted.PEM()), "apply", "-f", "-")
		create(true)
	})
}

// TestAttestationPolicy enforces the samples that demand attestations: the SBOM's licences and the scan.
func TestAttestationPolicy(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	for name, licence := range map[string]string{"sbom-good": "Apache-2.0", "sbom-gpl": "GPL-3.0"} {
		if err := fx.Scenario.PushWithSampleAttestations(t.Context(), name, licence); err != nil {
			t.Fatal(err)
		}
	}
	for way, samples := range map[string][]string{
		"CEL pair":      {"callers.yaml", "mutatingpolicy.yaml", "validatingpolicy-attestations.yaml"},
		"ClusterPolicy": {"clusterpolicy-attestations.yaml"},
	} {
		t.Run(way, func(t *testing.T) {
			fx.Install(t, fixture.Policies{Samples: samples, Admits: "sbom-good", Denies: "sbom-gpl"})
			for name, test := range map[string]struct{ image, says string }{
				"a component with another licence": {"sbom-gpl", `"GPL-3.0"`},
				"no attestation":                   {"signed", `no attestation of type "sbom/cyclone-dx" is attached`},
				"no signature":                     {"unsigned", "no signature is associated with"},
			} {
				t.Run(name+" is denied", func(t *testing.T) {
					for _, manifest := range []string{fixture.Pod("bad", "team-a", fx.Reference(test.image)), fixture.DeploymentOf(fx.Pinned(t, test.image))} {
						if err := fx.Denied(t, test.says, manifest, "create", "--dry-run=server", "-f", "-"); err != nil {
							t.Error(err)
						}
					}
				})
			}
		})
	}
}
