//go:build e2e

package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

// TestUpdates changes stored objects: their labels, their scale, their resources, their images.
func TestUpdates(t *testing.T) {
	bothWays(t, func(t *testing.T, fx environment) {
		t.Run("of a pod", func(t *testing.T) { fx.updatesOfPods(t) })
		t.Run("of a Deployment", func(t *testing.T) { fx.updatesOfDeployments(t) })
	})
}

func (fx environment) updatesOfPods(t *testing.T) {
	fx.Apply(t, fixture.Pod("updated", "team-a", fx.Reference("signed")))
	unchanged := func() {
		t.Helper()
		if image := fx.Kubectl(t, "", "get", "-n", "team-a", "pod/updated", "-o", "jsonpath={.spec.containers[0].image}"); image != fx.Pinned(t, "signed") {
			t.Errorf("stored %s", image)
		}
	}
	fx.Registry.Reset()
	fx.Kubectl(t, "", "label", "pod", "updated", "-n", "team-a", "a=b")
	if requests := fx.Registry.Requests(); len(requests) != 0 {
		t.Errorf("a label costs %v", requests)
	}
	for _, subresource := range []string{"resize", "status"} {
		// The API server takes no image there.
		patch := fmt.Sprintf(`{"spec":{"containers":[{"name":"app","image":%q}]},"status":{"phase":"Running"}}`, fx.Reference("unsigned"))
		fx.Kubectl(t, "", "patch", "pod", "updated", "-n", "team-a", "--subresource="+subresource, "--type=strategic", "-p", patch)
		unchanged()
	}
	fx.Kubectl(t, "", "delete", "truststore", "acme")
	defer fx.restoreTrust(t)
	fx.waitDenied(t, fx.Replicas[0])
	if err := fx.Denied(t, `trust store "ca:acme" does not exist`, "", "label", "pod", "updated", "-n", "team-a", "c=d"); err != nil {
		t.Errorf("a label of a pod that is verified no longer: %v", err)
	}
	unchanged()
}

func (fx environment) updatesOfDeployments(t *testing.T) {
	fx.Apply(t, fixture.DeploymentOf(fx.Reference("signed")))
	read := func(path string) string {
		t.Helper()
		return fx.Kubectl(t, "", "get", "-n", "team-a", "deployment/app", "-o", "jsonpath={"+path+"}")
	}
	const image = ".spec.template.spec.containers[0].image"
	before := read(".metadata.generation")
	fx.Kubectl(t, fixture.DeploymentOf(fx.Reference("signed")), "apply", "-f", "-")
	if after := read(".metadata.generation"); after != before {
		t.Errorf("what was applied again with its tag is generation %s, after %s", after, before)
	}
	fx.Kubectl(t, "", "set", "image", "-n", "team-a", "deployment/app", "app="+fx.Reference("signed-cose"))
	if got := read(image); got != fx.Pinned(t, "signed-cose") {
		t.Errorf("another image is stored as %s", got)
	}
	fx.Registry.Reset()
	fx.Kubectl(t, "", "scale", "-n", "team-a", "deployment/app", "--replicas=3")
	if got, requests := read(".spec.replicas")+" "+read(image), fx.Registry.Requests(); len(requests) != 0 || !strings.HasPrefix(got, "3 ") {
		t.Errorf("scaled: %s, %v", got, requests)
	}
	if err := fx.Denied(t, "no signature is associated with", "", "set", "image", "-n", "team-a", "deployment/app", "app="+fx.Reference("unsigned")); err != nil {
		t.Error(err)
	}
}

// TestWhatWasStoredBefore adds ephemeral containers to pods that were stored, with a tag, before there were policies. The API
// server changes nothing else of such a pod then. Any other update pins it.
func TestWhatWasStoredBefore(t *testing.T) {
	shared.TwoTenants(t)
	for _, way := range fixture.Ways() {
		t.Run(way.Name, func(t *testing.T) {
			fx := environment{Fixture: shared.Fixture, way: way.Name}
			fx.Apply(t, fixture.Pod("before", "team-a", fx.Reference("signed")))
			fx.Apply(t, fixture.Pod("unsigned", "team-a", fx.Reference("unsigned")))
			fx.Install(t, fixture.Policies{Samples: way.Samples})
			if output, err := fx.debug(t, "before", fx.Reference("signed-cose")); err != nil {
				t.Fatalf("%v\n%s", err, output)
			}
			images := fx.Kubectl(t, "", "get", "-n", "team-a", "pod/before", "-o", "jsonpath={.spec.containers[0].image} {.spec.ephemeralContainers[0].image}")
			if want := fx.Reference("signed") + " " + fx.Pinned(t, "signed-cose"); images != want {
				t.Errorf("stored %s; want %s", images, want)
			}
			for pod, image := range map[string]string{"before": "unsigned", "unsigned": "signed"} {
				output, err := fx.debug(t, pod, fx.Reference(image))
				if err == nil || !strings.Contains(err.Error(), "no signature is associated with") {
					t.Errorf("%s in the pod %s: %v\n%s", image, pod, err, output)
				}
			}
			fx.Kubectl(t, "", "label", "pod", "before", "-n", "team-a", "a=b")
			if image := fx.Kubectl(t, "", "get", "-n", "team-a", "pod/before", "-o", "jsonpath={.spec.containers[0].image}"); image != fx.Pinned(t, "signed") {
				t.Errorf("after an update it has %s", image)
			}
		})
	}
}

// TestPinnedImagesKeepTheirSpelling stores pods whose images are pinned already as they are written.
func TestPinnedImagesKeepTheirSpelling(t *testing.T) {
	bothWays(t, func(t *testing.T, fx environment) {
		_, digest, _ := strings.Cut(fx.Pinned(t, "signed"), "@")
		for _, image := range []string{fx.Pinned(t, "signed"), fx.Reference("signed") + "@" + digest, strings.TrimSuffix(fx.Reference("signed"), "v1") + "other-tag@" + digest} {
			images, err := fx.outcome(t, fixture.Pod("spelled", "team-a", image))
			if err != nil || !slices.Equal(images, []string{image, image}) {
				t.Errorf("%s is stored as %q, %v", image, images, err)
			}
		}
	})
}
