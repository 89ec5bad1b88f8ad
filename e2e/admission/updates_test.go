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
	fx.Apply(t, strings.Replace(fixture.Pod("updated", "team-a", fx.Reference("signed")), "namespace: team-a}", "namespace: team-a, finalizers: [batch.kubernetes.io/job-tracking]}", 1))
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
	// The pod is verified no longer. What leaves its spec as it is goes on, as the Job controller has to remove its finalizer.
	fx.Kubectl(t, "", "label", "pod", "updated", "-n", "team-a", "c=d")
	fx.Kubectl(t, "", "patch", "pod", "updated", "-n", "team-a", "--type=json", "-p", `[{"op":"remove","path":"/metadata/finalizers"}]`)
	if finalizers := fx.Kubectl(t, "", "get", "-n", "team-a", "pod/updated", "-o", "jsonpath={.metadata.finalizers}"); finalizers != "" {
		t.Errorf("it still has the finalizers %s", finalizers)
	}
	for change, spec := range map[string]string{
		"a deadline": `{"activeDeadlineSeconds":3600}`,
		"its image":  fmt.Sprintf(`{"containers":[{"name":"app","image":%q}]}`, fx.Reference("signed-cose")),
	} {
		if err := fx.Denied(t, `trust store "ca:acme" does not exist`, "", "patch", "pod", "updated", "-n", "team-a", "--type=strategic", "-p", `{"metadata":{"labels":{"e":"f"}},"spec":`+spec+`}`); err != nil {
			t.Errorf("%s of a pod that is verified no longer: %v", change, err)
		}
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
// server changes nothing else of such a pod then. An update that leaves their specs alone is let go and pins nothing, so that a
// Deployment does not roll out for a label. Any other is asked about.
func TestWhatWasStoredBefore(t *testing.T) {
	shared.TwoTenants(t)
	for _, way := range fixture.Ways() {
		t.Run(way.Name, func(t *testing.T) {
			fx := environment{Fixture: shared.Fixture, way: way.Name}
			fx.Apply(t, fixture.Pod("before", "team-a", fx.Reference("signed")))
			fx.Apply(t, fixture.Pod("unsigned", "team-a", fx.Reference("unsigned")))
			fx.Apply(t, fixture.DeploymentOf(fx.Reference("signed")))
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
			fx.changesWhatWasStoredBefore(t)
		})
	}
}

func (fx environment) changesWhatWasStoredBefore(t *testing.T) {
	image := func(object, path string) string {
		return fx.Kubectl(t, "", "get", "-n", "team-a", object, "-o", "jsonpath={"+path+".containers[0].image}")
	}
	for object, test := range map[string]struct{ path, spec string }{
		"pod/before":     {".spec", `{"spec":{"activeDeadlineSeconds":3600}}`},
		"deployment/app": {".spec.template.spec", `{"spec":{"minReadySeconds":1}}`},
	} {
		fx.Kubectl(t, "", "label", object, "-n", "team-a", "a=b")
		if got := image(object, test.path); got != fx.Reference("signed") {
			t.Errorf("with another label %s has %s", object, got)
		}
		fx.Kubectl(t, "", "patch", object, "-n", "team-a", "--type=merge", "-p", test.spec)
		if got := image(object, test.path); got != fx.Pinned(t, "signed") {
			t.Errorf("with another spec %s has %s", object, got)
		}
	}
	fx.Kubectl(t, "", "label", "pod", "unsigned", "-n", "team-a", "a=b")
	if err := fx.Denied(t, "no signature is associated with", "", "patch", "pod", "unsigned", "-n", "team-a", "--type=merge", "-p", `{"spec":{"activeDeadlineSeconds":3600}}`); err != nil {
		t.Error(err)
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

// TestATagInOnePlace pins an image that is named by tag, wherever it stands, where all others are pinned already.
func TestATagInOnePlace(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	fx.WithCEL(t)
	tag, pinned := fx.Reference("signed"), fx.Pinned(t, "signed")
	for kind, manifest := range map[string]string{
		"Pod":        fixture.Pod("place", "team-a", tag) + fmt.Sprintf("  volumes:\n  - {name: data, image: {reference: %q}}\n", tag),
		"Deployment": fixture.DeploymentOf(tag), "CronJob": fixture.CronJob(tag),
	} {
		parts := strings.Split(manifest, tag)
		if len(parts) < 3 {
			t.Fatalf("%s names %d images", kind, len(parts)-1)
		}
		for i := 1; i < len(parts); i++ {
			t.Run(fmt.Sprintf("%s, image %d", kind, i), func(t *testing.T) {
				stored := fx.Kubectl(t, strings.Join(parts[:i], pinned)+tag+strings.Join(parts[i:], pinned), "create", "--dry-run=server", "-f", "-", "-o", "json")
				if strings.Contains(stored, tag) || strings.Count(stored, pinned) != len(parts)-1 {
					t.Errorf("it is stored as %s", stored)
				}
			})
		}
	}
}

// TestAnObjectWithoutContainers is refused by the API server's own validation, in its words.
func TestAnObjectWithoutContainers(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	fx.WithCEL(t)
	if err := fx.Denied(t, "spec.containers", "apiVersion: v1\nkind: Pod\nmetadata: {name: empty, namespace: team-a}\nspec: {containers: null}\n", "create", "--validate=false", "-f", "-"); err != nil {
		t.Error(err)
	}
}
