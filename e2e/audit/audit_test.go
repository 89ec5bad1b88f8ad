//go:build e2e

package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

const (
	template   = "{metadata: {labels: {app: x}}, spec: {containers: [{name: app, image: unused}]}}"
	selector   = "selector: {matchLabels: {app: x}}"
	jobSpec    = "{template: {spec: {restartPolicy: Never, containers: [{name: app, image: unused}]}}}"
	deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: team-a}\nspec: {" + selector + ", template: " + template + "}\n"
	replicas   = "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web-1, namespace: team-a, %s}\nspec: {" + selector + ", template: " + template + "}\n"
	cronJob    = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly, namespace: team-b}\nspec: {schedule: '0 0 * * *', jobTemplate: {spec: " + jobSpec + "}}\n"
	job        = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: nightly-1, namespace: team-b, %s}\nspec: " + jobSpec + "\n"
)

// TestAudit holds what runs against the trust of now and over time: a tag that was moved, an image that nobody signed, trust
// that is withdrawn, and a certificate that expires soon.
func TestAudit(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	kubeconfig := auditorKubeconfig(t, fx)
	digest := func(name string) string {
		_, found, _ := strings.Cut(fx.Pinned(t, name), "@")
		return found
	}
	web := owned(t, fx, "team-a", "replicaset/web-1", fmt.Sprintf(replicas, owned(t, fx, "team-a", "deployment/web", deployment)))
	pod(t, fx, "team-a", "web-1-a", web, fx.Reference("signed"), digest("signed"), "Running")
	pod(t, fx, "team-a", "web-1-b", web, fx.Reference("signed"), digest("signed"), "Running")
	pod(t, fx, "team-a", "ended", "", fx.Reference("unsigned"), digest("unsigned"), "Succeeded")
	pod(t, fx, "team-a", "pending", "", fx.Reference("unsigned"), "", "Pending")
	nightly := owned(t, fx, "team-b", "job/nightly-1", fmt.Sprintf(job, owned(t, fx, "team-b", "cronjob/nightly", cronJob)))
	pod(t, fx, "team-b", "nightly-1-x", nightly, fx.Reference("foreign"), digest("foreign"), "Running")
	moved(t, fx, "moved")
	soon(t, fx, "soon")

	t.Run("what would happen on a restart", func(t *testing.T) {
		r := audited(t, fx, kubeconfig, 1)
		for _, want := range []finding{
			{Namespace: "team-a", Kind: "Deployment", Name: "web", State: "Verified", Code: "Verified", Pods: 2},
			{Namespace: "team-a", Kind: "Pod", Name: "pending", State: "DeniedOnRestart", Code: "NoSignature", Pods: 1},
			{Namespace: "team-a", Kind: "Pod", Name: "moved", State: "Moved", Code: "Verified", Pods: 1},
			{Namespace: "team-a", Kind: "Pod", Name: "soon", State: "Verified", Code: "Verified", Pods: 1},
			{Namespace: "team-b", Kind: "CronJob", Name: "nightly", State: "Verified", Code: "Verified", Pods: 1},
		} {
			if got := of(t, r.Findings, want.Namespace, want.Kind+"/"+want.Name); got.State != want.State || got.Code != want.Code || got.Pods != want.Pods || got.Container != "container app" {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		if len(r.Findings) != 5 || r.Outcome != "bad" {
			t.Errorf("%d findings, %s: %+v", len(r.Findings), r.Outcome, r.Findings)
		}
	})
	t.Run("one namespace", func(t *testing.T) {
		if r := audited(t, fx, kubeconfig, 0, "--namespaces", "team-b"); len(r.Findings) != 1 || r.Findings[0].Name != "nightly" {
			t.Errorf("findings %+v", r.Findings)
		}
	})
	t.Run("what ends", func(t *testing.T) {
		r := audited(t, fx, kubeconfig, 1, "--namespaces", "team-a", "--until", time.Now().AddDate(0, 1, 0).Format(time.DateOnly))
		if len(r.Expiries) != 1 || r.Expiries[0].Name != "soon" || r.Expiries[0].Cause != "certificate" || !strings.Contains(r.Expiries[0].Reason, "CN=Acme Soon") {
			t.Errorf("expiries %+v", r.Expiries)
		}
		if len(r.Anchors) != 1 || r.Anchors[0].Store != "ca:acme" || r.Anchors[0].Images != 3 || r.Anchors[0].Pods != 4 {
			t.Errorf("certificates %+v", r.Anchors)
		}
	})
	t.Run("the trust policies say where they apply", func(t *testing.T) { appliesByLabels(t, fx, kubeconfig) })
	t.Run("trust is withdrawn", func(t *testing.T) {
		fx.Kubectl(t, scenariotest.TrustPolicy("tp-team-b", "strict", "ca:acme"), "apply", "-f", "-")
		r := audited(t, fx, kubeconfig, 1, "--namespaces", "team-b")
		if got := of(t, r.Findings, "team-b", "CronJob/nightly"); got.State != "DeniedOnRestart" || got.Code != "SignatureUntrusted" {
			t.Errorf("finding %+v", got)
		}
	})
	t.Run("its rights are the least", func(t *testing.T) { leastRights(t, fx, kubeconfig) })
}

// moved makes a pod that runs a signed image whose tag names another signed image now.
func moved(t *testing.T, fx *fixture.Fixture, name string) {
	t.Helper()
	first, err := fx.Scenario.PushSigned(t.Context(), name, fx.Scenario.Signer(), &signingtest.SignRequest{})
	if err != nil {
		t.Fatal(err)
	}
	pod(t, fx, "team-a", name, "", fx.Reference(name), first.Digest.String(), "Running")
	second, err := signingtest.PushImage(t.Context(), fx.Repository(t, name), "v1", signingtest.Image{Layers: [][]byte{[]byte("another build")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := fx.Scenario.Sign(t.Context(), name, second, fx.Scenario.Signer(), signingtest.SignRequest{}); err != nil {
		t.Fatal(err)
	}
}

// soon makes a pod that runs an image whose signer's certificate expires in ten days.
func soon(t *testing.T, fx *fixture.Fixture, name string) {
	t.Helper()
	signer, err := fx.Scenario.Trusted.Issue(signingtest.LeafOptions{CommonName: "Acme Soon", NotAfter: time.Now().AddDate(0, 0, 10)})
	if err != nil {
		t.Fatal(err)
	}
	image, err := fx.Scenario.PushSigned(t.Context(), name, signer, &signingtest.SignRequest{})
	if err != nil {
		t.Fatal(err)
	}
	pod(t, fx, "team-a", name, "", fx.Reference(name), image.Digest.String(), "Running")
}

// byTheirWord has the trust policies say what applies.
var byTheirWord = []string{"--trustPolicy", ""}

// appliesByLabels has one trust policy select a namespace by a label, and another one by its name: who changes the label of a namespace
// escapes the first, and not the second.
func appliesByLabels(t *testing.T, fx *fixture.Fixture, kubeconfig string) {
	t.Helper()
	_, stderr, exit := audit(t, fx, kubeconfig, byTheirWord...)
	if exit != 2 || !strings.Contains(stderr, "say in spec.appliesTo") {
		t.Errorf("without any policy: exit %d, %s", exit, stderr)
	}
	fx.Kubectl(t, "", "label", "namespace", "team-b", "tier=gold")
	fx.Apply(t, scenariotest.TrustPolicy("tp-gold", "strict", "ca:mallory")+"  appliesTo: {namespaceSelector: {matchLabels: {tier: gold}}}\n---\n"+
		"apiVersion: notation.nirmata.io/v1alpha1\nkind: TrustPolicy\nmetadata: {name: tp-any}\nspec:\n  trustPolicyName: tp-any\n"+
		"  trustPolicies: [{name: all, registryScopes: ['*'], signatureVerification: {level: skip}}]\n"+
		"  appliesTo: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: team-b}}}\n")
	nightly := func(exit int, args ...string) finding {
		return of(t, audited(t, fx, kubeconfig, exit, append(byTheirWord, args...)...).Findings, "team-b", "CronJob/nightly")
	}
	if got := nightly(0, "--namespaces", "team-b"); got.State != "Unverified" || got.TrustPolicy != "tp-any" {
		t.Errorf("of two policies, %+v", got)
	}
	if got := of(t, audited(t, fx, kubeconfig, 2, byTheirWord...).Findings, "team-a", "Deployment/web"); got.State != "Unknown" || got.Code != "NoTrustPolicy" {
		t.Errorf("a namespace that none selects: %+v", got)
	}
	proposed := filepath.Join(t.TempDir(), "changed.yaml")
	change := scenariotest.TrustPolicy("tp-gold", "strict", "ca:acme") + "  appliesTo: {namespaceSelector: {matchLabels: {tier: gold}}}\n"
	if err := os.WriteFile(proposed, []byte(change), 0o600); err != nil {
		t.Fatal(err)
	}
	said := audited(t, fx, kubeconfig, 1, append(byTheirWord, "--with", proposed)...)
	if len(said.Flips) != 1 || said.Flips[0].Name != "nightly" || said.Flips[0].Change != "NewlyDenied" {
		t.Errorf("flips %+v", said.Flips)
	}
	fx.Kubectl(t, change, "apply", "-f", "-")
	if got := nightly(1); got.State != "DeniedOnRestart" || got.TrustPolicy != "tp-gold" {
		t.Errorf("after the change, %+v", got)
	}
	fx.Kubectl(t, "", "label", "namespace", "team-b", "tier-")
	if got := nightly(2); got.State != "Unverified" || got.TrustPolicy != "tp-any" {
		t.Errorf("without the label, %+v", got)
	}
}

// patience is for a condition that must come to hold on a busy machine.
const patience = 2 * time.Minute

// leastRights takes away each rule of the ClusterRole in turn, and expects to be told which.
func leastRights(t *testing.T, fx *fixture.Fixture, kubeconfig string) {
	t.Helper()
	fx.Apply(t, scenariotest.TrustPolicy("tp-gold", "strict", "ca:acme")+"  appliesTo: {namespaceSelector: {matchLabels: {tier: gold}}}\n")
	for i, resource := range []string{"pods", "replicasets", "jobs", "trustpolicies", "namespaces"} {
		args := map[string][]string{"namespaces": byTheirWord}[resource]
		rule := fx.Kubectl(t, "", "get", "clusterrole", auditorRole, "-o", fmt.Sprintf("jsonpath={.rules[%d]}", i))
		if !strings.Contains(rule, resource) {
			t.Fatalf("rule %d is %s, want one on %s", i, rule, resource)
		}
		fx.Kubectl(t, "", "patch", "clusterrole", auditorRole, "--type=json", "-p", fmt.Sprintf(`[{"op":"remove","path":"/rules/%d"}]`, i))
		for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) { // authorization follows a change in a moment
			stdout, stderr, exit := audit(t, fx, kubeconfig, args...)
			if exit == 2 && strings.Contains(stderr, "listing "+resource) && strings.Contains(stderr, "forbidden") && stdout == "" {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("without the right to list %s: exit %d\n%s%s", resource, exit, stdout, stderr)
				break
			}
		}
		fx.Kubectl(t, "", "patch", "clusterrole", auditorRole, "--type=json", "-p", fmt.Sprintf(`[{"op":"add","path":"/rules/%d","value":%s}]`, i, rule))
	}
	var stderr string
	exit := 0
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if _, stderr, exit = audit(t, fx, kubeconfig); exit == 1 {
			return
		}
	}
	t.Errorf("with its rights again, audit exits with %d: %s", exit, stderr)
}

// workloads is how many are compared with a second, real admission.
const workloads = 300

// TestWhatIfIsWhatHappens has 300 workloads in two namespaces judged under a proposed trust that concerns one of them, makes the
// change, and has a real Kyverno admit each: what flips is exactly what was said.
func TestWhatIfIsWhatHappens(t *testing.T) {
	fx := shared
	fx.TwoTenants(t)
	kubeconfig := auditorKubeconfig(t, fx)
	images := []string{"signed", "foreign", "unsigned", "signed-cose", "beside-foreign"}
	var pods []string
	for i := range workloads {
		name, namespace := fmt.Sprintf("w%03d", i), []string{"team-a", "team-b"}[i%2]
		pods = append(pods, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s}\nspec:\n  containers:\n  - {name: app, image: %q}\n", name, namespace, fx.Reference(images[i%len(images)])))
	}
	fx.Apply(t, strings.Join(pods, "---\n")) // before there are policies
	fx.WithCEL(t)
	proposed := filepath.Join(t.TempDir(), "changed.yaml")
	change := scenariotest.TrustPolicy("tp-team-a", "strict", "ca:mallory")
	if err := os.WriteFile(proposed, []byte(change), 0o600); err != nil {
		t.Fatal(err)
	}

	before := admitted(t, fx, pods)
	said := audited(t, fx, kubeconfig, 1, "--with", proposed)
	fx.Kubectl(t, change, "apply", "-f", "-")
	awaitDenial(t, fx)
	after := admitted(t, fx, pods)

	flips := map[string]string{}
	for _, flip := range said.Flips {
		flips[flip.Namespace+"/"+flip.Name] = flip.Change
	}
	counts := map[string]int{}
	for i := range workloads {
		name := fmt.Sprintf("%s/w%03d", []string{"team-a", "team-b"}[i%2], i)
		want := ""
		switch {
		case before[name] && !after[name]:
			want = "NewlyDenied"
		case !before[name] && after[name]:
			want = "NewlyAdmitted"
		}
		if counts[want]++; flips[name] != want {
			t.Errorf("%s: audit said %q, and %q happened", name, flips[name], want)
		}
	}
	// beside-foreign is signed by both, so nothing changes for it.
	if len(flips) != counts["NewlyDenied"]+counts["NewlyAdmitted"] || counts["NewlyDenied"] != 2*workloads/2/len(images) || counts["NewlyAdmitted"] != workloads/2/len(images) || said.Images != workloads {
		t.Errorf("%d flips of %d images; of admissions %v", len(flips), said.Images, counts)
	}
	t.Logf("%d workloads: %d newly denied, %d newly admitted", workloads, counts["NewlyDenied"], counts["NewlyAdmitted"])
}

// admitted tells which pods the API server admits, without creating them.
func admitted(t *testing.T, fx *fixture.Fixture, pods []string) map[string]bool {
	t.Helper()
	again := strings.ReplaceAll(strings.Join(pods, "---\n"), "{name: w", "{name: again-w")
	output, err := fx.Bed.Kubectl(t.Context(), again, "create", "--dry-run=server", "-o", `jsonpath={.metadata.namespace}/{.metadata.name}{"\n"}`, "-f", "-")
	if err != nil {
		output += err.Error()
	}
	found := map[string]bool{}
	for line := range strings.Lines(output) {
		namespace, name, ok := strings.Cut(strings.TrimSpace(line), "/again-")
		if ok && strings.HasPrefix(namespace, "team-") && !strings.Contains(name, " ") {
			found[namespace+"/"+name] = true
		}
	}
	return found
}

// awaitDenial waits until the replica goes by the change.
func awaitDenial(t *testing.T, fx *fixture.Fixture) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if fx.Denied(t, "denied the request", fixture.Pod("probe", "team-a", fx.Reference("signed")), "create", "--dry-run=server", "-f", "-") == nil {
			return
		}
	}
	t.Fatal("the change of trust has no effect")
}
