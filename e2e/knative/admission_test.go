//go:build e2e_knative

// Package knative shows the service in pods of a real node, called by a Kyverno that is a pod as well; see package
// cluster. Run it with make e2e-knative.
package knative

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/cluster"
)

// unsignedSentence is in the denial of an image without a signature.
const unsignedSentence = "no signature is associated with"

const (
	namespace  = "kyverno-notation-venafi"
	configDir  = "../../config"
	policyTime = 2 * time.Minute // until Kyverno enforces a policy and every replica knows the trust
)

// TestAdmission installs the service in each way and runs the same tests on each.
func TestAdmission(t *testing.T) {
	c := attach(t)
	if err := c.ImportProduct(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.BuildHelm(t.Context()); err != nil { // now, so that no figure holds it
		t.Fatal(err)
	}
	for _, way := range cluster.Ways {
		t.Run(way, func(t *testing.T) {
			install(t, c, way)
			for sentence, check := range map[string]func(*testing.T, *cluster.Cluster){
				"the service runs in two replicas":                    twoReplicas,
				"a signed image runs, as its digest":                  runs("run-signed"),
				"a plugin-signed image runs, as its digest":           runs("run-plugin"),
				"an unsigned image is denied with the sentence":       denies("team-a", "unsigned", unsignedSentence),
				"an unsigned image that could run does not":           unsignedDoesNotRun,
				"a foreign image is denied to who trusts another":     denies("team-a", "foreign", "does not contain any trusted certificate"),
				"a foreign image is admitted where its signer counts": admits("team-b", "foreign"),
				"a signed image is denied where its signer does not":  denies("team-b", "signed", "does not contain any trusted certificate"),
				"a CronJob's image is pinned":                         cronJobIsPinned,
				"a CronJob of an unsigned image is denied":            cronJobIsDenied,
				"the namespace takes no pod that may do more":         privilegedIsRefused,
				"a network policy is there for each pod":              networkPoliciesAreThere,
				"no root file system can be written":                  rootIsReadOnly(way),
			} {
				t.Run(sentence, func(t *testing.T) { check(t, c) })
			}
			t.Run("attestations are demanded", func(t *testing.T) { attestationsAreDemanded(t, c) })
			if way != "plain" && way != "helm" {
				t.Run("an event comes by the cluster-local address", func(t *testing.T) { eventIsTaken(t, c) })
			}
			if strings.HasPrefix(way, "helm") {
				t.Run("helm test passes", func(t *testing.T) {
					if err := c.TestRelease(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			t.Run("no right is lacking", func(t *testing.T) { nothingIsRefused(t, c) }) // last, as all else was done then
		})
	}
}

func attach(t *testing.T) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Attach(cluster.Options{Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// install installs the service, in the place of what an interrupted run may have left, and what trustAndTeams has. It takes all of it away
// when the test ends.
func install(t *testing.T, c *cluster.Cluster, way string) {
	t.Helper()
	ctx := t.Context()
	remove(t, c)
	t.Cleanup(func() { remove(t, c) })
	began := time.Now()
	if err := c.InstallProduct(ctx, way); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: ready after %s", way, time.Since(began).Round(100*time.Millisecond))
	trustAndTeams(t, c)
	t.Logf("%s: first verdict after %s", way, time.Since(began).Round(100*time.Millisecond))
}

// trustAndTeams applies the trust that the registry's images need, two teams and the sample policy, and waits for the first admission.
func trustAndTeams(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx := t.Context()
	trust, err := c.Trust(ctx)
	if err != nil {
		t.Fatal(err)
	}
	teams := ""
	for _, team := range []string{"team-a", "team-b"} {
		teams += fmt.Sprintf("---\n{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n", team)
	}
	if err := c.Apply(ctx, trust+teams+"---\n"+sample(t, c, "clusterpolicy.yaml")); err != nil {
		t.Fatal(err)
	}
	kubectl(t, c, "wait", "--for=condition=Ready", "clusterpolicy/verify-images", "--timeout="+policyTime.String())
	// The first admission also shows that the policy is enforced and that trust is known.
	awaitAdmission(t, c, "signed")
}

// awaitAdmission waits until an image is admitted to team-a by its digest.
func awaitAdmission(t *testing.T, c *cluster.Cluster, image string) {
	t.Helper()
	for deadline := time.Now().Add(policyTime); ; time.Sleep(time.Second) {
		out, err := dryRun(t.Context(), c, "team-a", image)
		if err == nil && strings.Contains(out, "@sha256:") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no admission of the image %s: %v %s", image, err, out)
		}
	}
}

func remove(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 15*time.Minute)
	defer cancel()
	if err := c.Mend(ctx); err != nil {
		t.Error(err)
	}
	for _, object := range []string{"clusterpolicy/verify-images", "clusterpolicy/verify-attestations", "namespace/team-a", "namespace/team-b"} {
		if _, err := c.Kubectl(ctx, "", "delete", object, "--ignore-not-found", "--timeout=2m"); err != nil {
			t.Error(err)
		}
	}
	if err := c.RemoveProduct(ctx); err != nil {
		t.Error(err)
	}
}

// sample reads a ClusterPolicy of the samples and gives it the service's CA, which Kyverno does not trust here.
func sample(t *testing.T, c *cluster.Cluster, name string) string {
	t.Helper()
	folder := filepath.Join(configDir, "samples")
	return kubectl(t, c, "patch", "--local", "-f", filepath.Join(folder, name), "--type=json", "--patch-file="+filepath.Join(folder, "cabundle", "patch.yaml"), "-o", "yaml")
}

func kubectl(t *testing.T, c *cluster.Cluster, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func reference(name string) string { return cluster.RegistryHost + "/acme/" + name + ":v1" }

func dryRun(ctx context.Context, c *cluster.Cluster, team, image string) (string, error) {
	return c.Kubectl(ctx, "", "run", "asked", "--namespace="+team, "--image="+reference(image), "--dry-run=server", "-o", "jsonpath={.spec.containers[0].image}")
}

func twoReplicas(t *testing.T, c *cluster.Cluster) {
	if ready := replicas(t, c); len(ready) != 2 {
		t.Errorf("%v are ready, want 2", ready)
	}
}

func runs(image string) func(*testing.T, *cluster.Cluster) {
	return func(t *testing.T, c *cluster.Cluster) {
		kubectl(t, c, "run", image, "--namespace=team-a", "--image="+reference(image), "--command", "--", "/pause")
		kubectl(t, c, "wait", "--for=condition=Ready", "pod/"+image, "--namespace=team-a", "--timeout=1m")
		images := kubectl(t, c, "get", "pod/"+image, "--namespace=team-a", "-o", "jsonpath={.spec.containers[0].image} {.status.containerStatuses[0].imageID}")
		asked, ran, _ := strings.Cut(images, " ")
		_, digest, pinned := strings.Cut(asked, "@")
		if !pinned || !strings.HasSuffix(ran, digest) {
			t.Errorf("the pod asks for %s and runs %s, want one digest", asked, ran)
		}
	}
}

// unsignedDoesNotRun asks without a dry run.
func unsignedDoesNotRun(t *testing.T, c *cluster.Cluster) {
	const image = "run-unsigned"
	_, err := c.Kubectl(t.Context(), "", "run", image, "--namespace=team-a", "--image="+reference(image), "--command", "--", "/pause")
	wantSentences(t, err, unsignedSentence, reference(image))
	if pod := kubectl(t, c, "get", "pod/"+image, "--namespace=team-a", "--ignore-not-found", "-o", "name"); pod != "" {
		t.Errorf("there is %s", pod)
	}
}

func admits(team, image string) func(*testing.T, *cluster.Cluster) {
	return func(t *testing.T, c *cluster.Cluster) {
		out, err := dryRun(t.Context(), c, team, image)
		if err != nil || !strings.Contains(out, "@sha256:") {
			t.Errorf("got %q and %v, want the image by its digest", out, err)
		}
	}
}

func denies(team, image string, sentences ...string) func(*testing.T, *cluster.Cluster) {
	return func(t *testing.T, c *cluster.Cluster) {
		out, err := dryRun(t.Context(), c, team, image)
		if err == nil {
			t.Fatalf("it was admitted as %s", out)
		}
		wantSentences(t, err, append(sentences, reference(image))...)
	}
}

// wantSentences looks for them in a denial.
func wantSentences(t *testing.T, denial error, sentences ...string) {
	t.Helper()
	for _, sentence := range sentences {
		if denial == nil || !strings.Contains(denial.Error(), sentence) {
			t.Errorf("%v, want a denial with %q", denial, sentence)
		}
	}
}

func cronJob(t *testing.T, c *cluster.Cluster, image string) (string, error) {
	return c.Kubectl(t.Context(), "", "create", "cronjob", "nightly", "--namespace=team-a", "--image="+reference(image), "--schedule=0 3 * * *",
		"--dry-run=server", "-o", "jsonpath={.spec.jobTemplate.spec.template.spec.containers[0].image}")
}

func cronJobIsPinned(t *testing.T, c *cluster.Cluster) {
	if out, err := cronJob(t, c, "signed"); err != nil || !strings.Contains(out, "@sha256:") {
		t.Errorf("the CronJob's image is %q (%v), want its digest", out, err)
	}
}

func cronJobIsDenied(t *testing.T, c *cluster.Cluster) {
	_, err := cronJob(t, c, "unsigned")
	wantSentences(t, err, unsignedSentence, reference("unsigned"))
}

func privilegedIsRefused(t *testing.T, c *cluster.Cluster) {
	_, err := c.Kubectl(t.Context(), "", "run", "root", "--namespace="+namespace, "--image=dev.local/pause:v1", "--privileged", "--dry-run=server")
	if err == nil || !strings.Contains(err.Error(), `violates PodSecurity "restricted`) {
		t.Errorf("got %v, want a refusal by Pod Security", err)
	}
}

// rootIsReadOnly checks the containers of the service. func gives the service's a security context that lets its root
// file system be written.
func rootIsReadOnly(way string) func(*testing.T, *cluster.Cluster) {
	return func(t *testing.T, c *cluster.Cluster) {
		for _, app := range []string{namespace, namespace + "-certmanager"} {
			out := kubectl(t, c, "get", "pods", "--namespace="+namespace, "--selector=app.kubernetes.io/name="+app, "-o",
				`jsonpath={range .items[*].spec.containers[?(@.name!="queue-proxy")]}readOnly={.securityContext.readOnlyRootFilesystem} {end}`)
			containers := strings.Fields(out)
			if len(containers) < 2 {
				t.Errorf("%s has %d containers, want one in each of two pods", app, len(containers))
			}
			for _, container := range containers {
				if container != "readOnly=true" && (way != "func" || app != namespace) {
					t.Errorf("the root file system of a container of %s can be written: %s", app, out)
				}
			}
		}
	}
}

// networkPoliciesAreThere checks that a network policy selects each pod. The network plugin of this cluster does not enforce
// them.
func networkPoliciesAreThere(t *testing.T, c *cluster.Cluster) {
	selected := map[string]bool{}
	for _, name := range strings.Fields(kubectl(t, c, "get", "networkpolicies", "--namespace="+namespace, "-o", `jsonpath={.items[*].spec.podSelector.matchLabels.app\.kubernetes\.io/name}`)) {
		selected[name] = true
	}
	pods := strings.Fields(kubectl(t, c, "get", "pods", "--namespace="+namespace, "-o", `jsonpath={range .items[*]}{.metadata.name}={.metadata.labels.app\.kubernetes\.io/name} {end}`))
	if len(pods) < 4 {
		t.Errorf("there are %v, want two replicas and two certificate managers", pods)
	}
	for _, pod := range pods {
		if _, name, _ := strings.Cut(pod, "="); !selected[name] {
			t.Errorf("no network policy is for %s", pod)
		}
	}
}

// notCopied is said where the administrator granted no copy of the CA in Kyverno's namespace, as nobody did here.
const notCopied = `"CA bundle is not copied"`

// nothingIsRefused expects that the API server refused nothing to the accounts but that, so that they lack no permission.
func nothingIsRefused(t *testing.T, c *cluster.Cluster) {
	for _, pod := range strings.Fields(kubectl(t, c, "get", "pods", "--namespace="+namespace, "-o", "name")) {
		said := kubectl(t, c, "logs", pod, "--namespace="+namespace, "--all-containers")
		if said == "" {
			t.Errorf("%s says nothing", pod)
		}
		for line := range strings.Lines(said) {
			if strings.Contains(line, "is forbidden: User") && !strings.Contains(line, notCopied) {
				t.Errorf("%s: %s", pod, line)
			}
		}
	}
}

// attestationsAreDemanded puts the sample with attestations in the place of the one without.
func attestationsAreDemanded(t *testing.T, c *cluster.Cluster) {
	kubectl(t, c, "delete", "clusterpolicy/verify-images", "--timeout=1m")
	if err := c.Apply(t.Context(), sample(t, c, "clusterpolicy-attestations.yaml")); err != nil {
		t.Fatal(err)
	}
	kubectl(t, c, "wait", "--for=condition=Ready", "clusterpolicy/verify-attestations", "--timeout="+policyTime.String())
	awaitAdmission(t, c, "attested")
	denies("team-a", "attested-gpl", `"GPL-3.0"`)(t, c)
	denies("team-a", "signed", `no attestation of type "sbom/cyclone-dx" is attached`)(t, c)
}

// eventIsTaken posts what Knative's ApiServerSource would, by Knative's own routing to the service.
func eventIsTaken(t *testing.T, c *cluster.Cluster) {
	const epoch = "jsonpath={.data}"
	read := func() string {
		return kubectl(t, c, "get", "configmap/"+namespace+"-epoch", "--namespace="+namespace, "-o", epoch)
	}
	before := read()
	token := kubectl(t, c, "create", "token", "default", "--namespace="+namespace, "--audience="+namespace+"-events")
	send := func(headers ...string) string {
		args := []string{"--address=" + ingress(t, c), "--url=http://" + clusterLocal + "/events",
			"--header=Content-Type: application/json", "--header=Ce-Specversion: 1.0", "--header=Ce-Type: dev.knative.apiserver.resource.update",
			"--header=Ce-Source: https://10.96.0.1:443", fmt.Sprintf("--header=Ce-Id: %d", time.Now().UnixNano()),
			"--header=Ce-Kind: TrustPolicy", "--header=Ce-Apiversion: notation.nirmata.io/v1alpha1"}
		out, err := c.Send(t.Context(), kubectl(t, c, "get", "trustpolicies", "-o", "jsonpath={.items[0]}"), append(args, headers...)...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	if out := send(); out != "401 1" {
		t.Errorf("without a token: %s, want one answer with 401", out)
	}
	if after := read(); after != before {
		t.Errorf("an event of an unknown sender set the epoch from %s to %s", before, after)
	}
	if out := send("--header=Authorization: Bearer " + strings.TrimSpace(token)); out != "202 1" {
		t.Errorf("with a token: %s, want one answer with 202", out)
	}
	if after := read(); after == before {
		t.Errorf("the other replicas were not told: the epoch is still %s", after)
	}
}
