//go:build e2e

package background

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// The namespaces of the samples, by what happens there to a workload that is not verified.
const (
	denied   = "team-a"
	audited  = "team-c"
	warned   = "team-d"
	reporter = "report-unverified-images" // the policy of background scans
)

// install applies the samples for every stage side by side.
func install(t *testing.T, fx *fixture.Fixture) {
	t.Helper()
	fx.TwoTenants(t)
	fx.Kubectl(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-c}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team-d}\n", "apply", "-f", "-")
	fx.Apply(t, scenariotest.TrustPolicy("tp-team-c", "strict", "ca:acme")+"---\n"+scenariotest.TrustPolicy("tp-team-d", "strict", "ca:acme"))
	fx.WithCEL(t)
	fx.Apply(t, fx.Sample(t, "callers-background.yaml"))
	for sample, policy := range map[string]string{"audit": "audit-unverified-images", "warn": "warn-unverified-images", "background": reporter} {
		fx.Apply(t, fx.Sample(t, "validatingpolicy-"+sample+".yaml"))
		if err := fx.Bed.WaitPolicy(t.Context(), "validatingpolicy/"+policy); err != nil {
			t.Fatal(err)
		}
	}
}

// create creates a pod, and gives what kubectl says beside that.
func create(t *testing.T, fx *fixture.Fixture, name, namespace, image string) (says string) {
	t.Helper()
	manifest := fixture.Pod(name, namespace, image)
	// With the flag, kubectl fails after it has created the pod, and so the error has the warnings.
	output, err := fx.Bed.Kubectl(t.Context(), manifest, "create", "--warnings-as-errors", "-f", "-")
	if err != nil {
		return output + err.Error()
	}
	return ""
}

// entry is what a PolicyReport says of an object by one policy.
type entry struct {
	Policy, Result, Message string
	Properties              map[string]string
}

// reported gives a pod's entry by a policy.
func reported(t *testing.T, fx *fixture.Fixture, namespace, pod, policy string) (entry, error) {
	t.Helper()
	var reports struct {
		Items []struct {
			Scope   struct{ Kind, Name string }
			Results []entry
		}
	}
	if err := json.Unmarshal([]byte(fx.Kubectl(t, "", "get", "policyreports.wgpolicyk8s.io", "-n", namespace, "-o", "json")), &reports); err != nil {
		t.Fatal(err)
	}
	for _, report := range reports.Items {
		for _, result := range report.Results {
			if report.Scope.Kind == "Pod" && report.Scope.Name == pod && result.Policy == policy {
				return result, nil
			}
		}
	}
	return entry{}, fmt.Errorf("no entry for %s by %s in %d reports", pod, policy, len(reports.Items))
}

// waitReported waits until a pod's entry by a policy has a result and says something.
func waitReported(t *testing.T, fx *fixture.Fixture, namespace, pod, policy, result, says string) entry {
	t.Helper()
	var got entry
	err := deployment.Eventually(t.Context(), 4*time.Minute, func() (err error) {
		if got, err = reported(t, fx, namespace, pod, policy); err != nil {
			return err
		}
		if got.Result != result || !strings.Contains(got.Message, says) {
			return fmt.Errorf("%s by %s: %s: %s; want %s: %s", pod, policy, got.Result, got.Message, result, says)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestBackground installs the policies of all stages side by side and creates most pods at first, because a new object is
// scanned after half a minute only. The order of the subtests matters: some look at the pods of others.
func TestBackground(t *testing.T) {
	fx := shared
	install(t, fx)
	failImage(t, fx)
	createMany(t, fx)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *fixture.Fixture)
	}{
		{"the reports controller reads one Secret", testRights},
		{"a policy for a subresource never gets ready", testSubresource},
		{"audit, warn, enforce", testStages},
		{"a scan tells failures from denials", testFailures},
		{"a scan asks the registry once for an image", testManyPods},
		{"a scan follows trust, and admissions go on", testTrust},
		{"background requests are counted", testCounts},
		{"the reports controller is known by its account", testAccount},
		{"an audit admits while the service does not answer", testAuditWithoutService},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, fx) })
	}
}

// testStages shows what a person sees of a workload that is not verified in each stage.
func testStages(t *testing.T, fx *fixture.Fixture) {
	sentence := fmt.Sprintf("failed to verify container app: failed to verify image %s: no signature is associated with %q, make sure the artifact was signed successfully", fx.Reference("unsigned"), fx.Pinned(t, "unsigned"))
	for namespace, want := range map[string]string{
		denied:  "denied the request: Policy deny-unverified-images failed: " + sentence,
		audited: "",
		warned:  "Warning: Policy warn-unverified-images failed: " + sentence,
	} {
		if says := create(t, fx, "unsigned", namespace, fx.Reference("unsigned")); !strings.Contains(says, want) || (says == "") != (want == "") {
			t.Errorf("kubectl says of an unsigned pod in %s: %s\nwant %s", namespace, says, want)
		}
		_, err := fx.Bed.Kubectl(t.Context(), "", "get", "pod", "unsigned", "-n", namespace)
		if admitted := err == nil; admitted != (namespace != denied) {
			t.Errorf("it is admitted is %t in %s: %v", admitted, namespace, err)
		}
		if says := create(t, fx, "signed", namespace, fx.Reference("signed")); says != "" {
			t.Errorf("kubectl says of a signed pod in %s: %s", namespace, says)
		}
	}
	for namespace, policy := range map[string]string{audited: "audit-unverified-images", warned: "warn-unverified-images"} {
		for pod, want := range map[string]entry{"signed": {Result: "pass"}, "unsigned": {Result: "fail", Message: sentence}} {
			got := waitReported(t, fx, namespace, pod, policy, want.Result, want.Message)
			if got.Properties["process"] != "admission review" {
				t.Errorf("%s in %s: %+v", pod, namespace, got)
			}
			got = waitReported(t, fx, namespace, pod, reporter, want.Result, want.Message)
			if got.Properties["process"] != "background scan" {
				t.Errorf("%s in %s: %+v", pod, namespace, got)
			}
		}
	}
	waitReported(t, fx, denied, "signed", reporter, "pass", "")
}

// testAuditWithoutService adds an audit policy that asks where nobody answers.
func testAuditWithoutService(t *testing.T, fx *fixture.Fixture) {
	const policy = "audit-without-service"
	manifest := strings.ReplaceAll(fx.Sample(t, "validatingpolicy-audit.yaml"), fx.Replicas[0].Secure, "127.0.0.1:1")
	fx.Apply(t, strings.ReplaceAll(manifest, "audit-unverified-images", policy))
	if err := fx.Bed.WaitPolicy(t.Context(), "validatingpolicy/"+policy); err != nil {
		t.Fatal(err)
	}
	if says := create(t, fx, "unasked", audited, fx.Reference("signed")); says != "" {
		t.Errorf("kubectl says %s", says)
	}
	waitReported(t, fx, audited, "unasked", policy, "error", "")
}
