//go:build e2e

package admission

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// olderPolicy is a ClusterPolicy as users of older services have it: it sends Kyverno's images and metadata, and patches with
// the fields path and image.
func olderPolicy(sample string) string {
	before, rest, _ := strings.Cut(sample, "        # The object itself")
	_, rest, _ = strings.Cut(rest, "        - key: trustPolicy\n")
	between, _, _ := strings.Cut(rest, "        patchesJson6902")
	return before + `        - key: images
          value: "{{images}}"
        - key: metadata
          value: "{{ request.object.metadata.annotations.\"kyverno-notation-venafi.io/verify-images\" || '' }}"
        - key: trustPolicy
` + between + `        patchesJson6902: |-
          - path: {{ element.path }}
            op: replace
            value: {{ element.image }}
`
}

// TestFirstDay does what a user does first: in the namespace test-venafi, kubectl run with a signed image and with one that
// is not, in the words that are told there.
func TestFirstDay(t *testing.T) {
	fx := shared
	fx.Kubectl(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: test-venafi}\n", "apply", "-f", "-")
	fx.Apply(t, scenariotest.TrustPolicy("tp-test-venafi", "strict", "ca:acme"))
	repository := fx.Repository(t, "demo")
	for _, tag := range []string{"signed", "unsigned"} {
		image, err := signingtest.PushImage(t.Context(), repository, tag, signingtest.Image{})
		if err == nil && tag == "signed" {
			err = fx.Scenario.Sign(t.Context(), "demo", image, fx.Scenario.Signer(), signingtest.SignRequest{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	here := func(sample string) string {
		return strings.NewReplacer("values: [team-a, team-b]", "values: [test-venafi]", `namespaces: ["team-*"]`, "namespaces: [test-venafi]").Replace(sample)
	}
	image := fx.Registry.Host() + "/acme/demo:"
	for way, policies := range map[string]fixture.Policies{
		"CEL pair":               {Samples: fixture.Ways()[0].Samples, Edit: here},
		"ClusterPolicy":          {Samples: fixture.Ways()[1].Samples, Edit: here},
		"an older ClusterPolicy": {Samples: fixture.Ways()[1].Samples, Edit: func(sample string) string { return olderPolicy(here(sample)) }},
	} {
		t.Run(way, func(t *testing.T) {
			policies.Namespace = "test-venafi"
			fx.Install(t, policies)
			if output := fx.Kubectl(t, "", "-n", "test-venafi", "run", "test", "--image="+image+"signed", "--dry-run=server"); output != "pod/test created (server dry run)\n" {
				t.Errorf("kubectl says %q", output)
			}
			says := "failed to verify container test: failed to verify image " + image + `unsigned: no signature is associated with "` + fx.Registry.Host() + "/acme/demo@sha256:"
			if err := fx.Denied(t, says, "", "-n", "test-venafi", "run", "test", "--image="+image+"unsigned", "--dry-run=server"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSamplesLeanOnNothingDeprecated applies every sample and expects a warning for ClusterPolicies only, which Kyverno has
// deprecated since version 1.19.
func TestSamplesLeanOnNothingDeprecated(t *testing.T) {
	fx := shared
	files, err := filepath.Glob(filepath.Join(fixture.ConfigDir, "samples", "*.yaml"))
	if err != nil || len(files) < 9 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := fx.Bed.Kubectl(t.Context(), fx.Sample(t, filepath.Base(file)), "apply", "--dry-run=server", "--warnings-as-errors", "-f", "-")
			deprecated := strings.Contains(file, "clusterpolicy") && os.Getenv(bed.KyvernoVersion) == ""
			if (err != nil) != deprecated {
				t.Errorf("%v; want a warning: %t", err, deprecated)
			}
		})
	}
}
