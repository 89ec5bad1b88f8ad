//go:build e2e

package auditor

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
)

// atOnce is how long a test waits for a change to show in reports, Events and metrics. It is far less than the hour between two audits of
// the tests that tell a watch from an audit.
const atOnce = deployment.Patience

// TestTrustIsWithdrawnAndRestored, with reports of both API groups, one after the other.
func TestTrustIsWithdrawnAndRestored(t *testing.T) {
	fx := shared
	fx.team(t, "team-a")
	image, digest := fx.push(t, "app")
	uid := fx.deploy(t, "team-a", "web", image, digest)
	p := fx.audit(t)
	r := fx.within(t, deployment.Patience, bed.PolicyReports, "team-a", "web", passes)
	if r.Scope.Kind != "Deployment" || r.Scope.UID != uid || len(r.Metadata.OwnerReferences) != 1 || r.Metadata.OwnerReferences[0].UID != uid {
		t.Errorf("the report is of %+v, owned by %+v", r.Scope, r.Metadata.OwnerReferences)
	}
	result := r.Results[0]
	if result.Policy != "tp-team-a" || result.Rule != "container app" || result.Properties["digest"] != digest || result.Properties["code"] != "Verified" ||
		result.Properties["signer"] == "" || result.Properties["pods"] != "2" || result.Timestamp.Seconds == 0 || result.Source != "kyverno-notation-venafi" {
		t.Errorf("result %+v", result)
	}
	if events := fx.events(t, "team-a", "web"); len(events) > 0 {
		t.Errorf("Events %v", events)
	}
	var changes float64
	followedUp := func() { // a change that comes before the last was followed up is counted with it
		changes++
		shows(t, atOnce, p, `trust_change_seconds_count`, func(n float64) bool { return n >= changes })
	}
	change := func(resource string) {
		fx.distrust(t, "team-a")
		r := fx.within(t, atOnce, resource, "team-a", "web", fails)
		if r.Results[0].Properties["code"] != "SignatureUntrusted" || r.Results[0].Severity != "high" {
			t.Errorf("result %+v", r.Results[0])
		}
		shows(t, atOnce, p, `images{namespace="team-a",result="fail"}`, func(n float64) bool { return n == 2 })
		followedUp()
		fx.trust(t, "team-a")
		fx.within(t, atOnce, resource, "team-a", "web", passes)
		shows(t, atOnce, p, `images{namespace="team-a",result="pass"}`, func(n float64) bool { return n == 2 })
		followedUp()
	}
	change(bed.PolicyReports)
	if events := fx.events(t, "team-a", "web"); !slices.Equal(events, []string{"Warning/ImageDenied", "Normal/ImageVerified"}) {
		t.Errorf("Events %v", events)
	}

	t.Run("openreports.io is installed later", func(t *testing.T) {
		if err := fx.bed.Define(t.Context(), bed.OpenReports); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = fx.bed.Kubectl(context.Background(), "", "delete", "crd", bed.OpenReports) })
		fx.within(t, time.Minute, bed.OpenReports, "team-a", "web", passes)
		fx.gone(t, bed.PolicyReports, "team-a", "")
		change(bed.OpenReports)
	})
	if t.Failed() {
		t.Log(p.Logged())
	}
}

// TestReportsGo with what they are about.
func TestReportsGo(t *testing.T) {
	fx := shared
	fx.team(t, "team-b")
	image, digest := fx.push(t, "short-lived")
	fx.deploy(t, "team-b", "web", image, digest)
	fx.pod(t, "team-b", "lone", "", image, digest)
	p := fx.audit(t)
	fx.within(t, time.Minute, bed.PolicyReports, "team-b", "web", passes)
	fx.within(t, atOnce, bed.PolicyReports, "team-b", "lone", passes)

	t.Run("a report that someone edits or deletes is mended", func(t *testing.T) {
		name := "notation-" + fx.uid(t, "team-b", "pod/lone")
		fx.kubectl(t, "patch", bed.PolicyReports, name, "-n", "team-b", "--type=merge", "-p", `{"results":[],"summary":{"pass":7}}`)
		fx.within(t, atOnce, bed.PolicyReports, "team-b", "lone", func(r report) bool { return r.Summary.Pass == 1 })
		fx.kubectl(t, "label", bed.PolicyReports, name, "-n", "team-b", "app.kubernetes.io/managed-by-")
		fx.within(t, deployment.Patience, bed.PolicyReports, "team-b", "lone", func(r report) bool { return r.Metadata.Labels["app.kubernetes.io/managed-by"] != "" })
		fx.kubectl(t, "delete", bed.PolicyReports, name, "-n", "team-b")
		fx.within(t, atOnce, bed.PolicyReports, "team-b", "lone", passes)
	})
	t.Run("the image is deleted from the registry", func(t *testing.T) {
		for _, name := range []string{"v1", digest} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, fx.registry.URL()+"/v2/acme/short-lived/manifests/"+name, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := fx.registry.Client().Do(request)
			if err != nil || response.StatusCode >= 300 {
				t.Fatal(response, err)
			}
			response.Body.Close()
		}
		r := fx.within(t, 2*time.Minute, bed.PolicyReports, "team-b", "web", fails)
		t.Logf("%s: %s", r.Results[0].Properties["code"], r.Results[0].Message)
	})
	t.Run("the pod is deleted", func(t *testing.T) {
		fx.kubectl(t, "delete", "pod", "lone", "-n", "team-b", "--grace-period=0", "--force")
		fx.gone(t, bed.PolicyReports, "team-b", "lone")
	})
	t.Run("the workload is deleted", func(t *testing.T) {
		fx.kubectl(t, "delete", "deployment", "web", "-n", "team-b", "--cascade=background", "--wait=false")
		fx.gone(t, bed.PolicyReports, "team-b", "web")
	})
	t.Run("the namespace is deleted", func(t *testing.T) {
		fx.within(t, deployment.Patience, bed.PolicyReports, "team-b", "web-1", fails) // what the Deployment leaves behind
		fx.kubectl(t, "delete", "namespace", "team-b", "--wait=false")
		fx.gone(t, bed.PolicyReports, "team-b", "")
	})
	if strings.Contains(p.Logged(), "is forbidden: User") {
		t.Errorf("it was refused something:\n%s", p.Logged())
	}
}

// TestTheLeaderIsKilled while it follows a change of trust: nothing is said twice, and nothing is lost.
func TestTheLeaderIsKilled(t *testing.T) {
	fx := shared
	fx.team(t, "team-c")
	const workloads = 20
	for i := range workloads {
		image, digest := fx.push(t, fmt.Sprint("killed-", i))
		fx.pod(t, "team-c", fmt.Sprint("web-", i), "", image, digest)
	}
	first := fx.audit(t, "--auditInterval=1h")
	second := fx.audit(t, "--auditInterval=1h")
	all := func(says func(report) bool) func() error {
		return func() error {
			found, err := fx.reports(t.Context(), bed.PolicyReports, "team-c")
			n := 0
			for _, r := range found {
				if says(r) {
					n++
				}
			}
			if err == nil && (n != workloads || len(found) != workloads) {
				err = fmt.Errorf("%d of %d reports are as they should be", n, len(found))
			}
			return err
		}
	}
	if err := deployment.Eventually(t.Context(), time.Minute, all(passes)); err != nil {
		t.Fatal(err)
	}
	leader, other := first, second
	if metric(t, second, "leading") == 1 {
		leader, other = second, first
	}
	fx.distrust(t, "team-c")
	err := deployment.Eventually(t.Context(), atOnce, func() error {
		found, err := fx.reports(t.Context(), bed.PolicyReports, "team-c")
		for _, r := range found {
			if fails(r) {
				return err
			}
		}
		return fmt.Errorf("none of %d reports has changed: %w", len(found), err)
	})
	leader.Kill()
	if err != nil {
		t.Fatal(err)
	}
	if err := deployment.Eventually(t.Context(), time.Minute, all(fails)); err != nil {
		t.Fatalf("%v\n%s", err, other.Logged())
	}
	for i := range workloads {
		if events := fx.events(t, "team-c", fmt.Sprint("web-", i)); !slices.Equal(events, []string{"Warning/ImageDenied"}) {
			t.Errorf("Events of web-%d: %v", i, events)
		}
	}
	t.Logf("after the change, the new leader verified %v for trust and %v new ones, and wrote %v reports",
		metric(t, other, `verifications_total{cause="trust"}`), metric(t, other, `verifications_total{cause="new"}`), metric(t, other, `reports_total{outcome="written"}`))
}

// TestOwnersOfOthers: whom a pod says it belongs to counts only where that is true.
func TestOwnersOfOthers(t *testing.T) {
	fx := shared
	fx.team(t, "team-d")
	fx.team(t, "team-e")
	image, digest := fx.push(t, "victim")
	victim := fx.deploy(t, "team-d", "victim", image, digest)
	fx.pod(t, "team-e", "forger", owner("apps/v1", "Deployment", "victim", victim), fx.scenario.Host+"/acme/missing:v1", "")
	fx.audit(t)
	fx.within(t, time.Minute, bed.PolicyReports, "team-d", "victim", passes)
	r := fx.within(t, atOnce, bed.PolicyReports, "team-e", "forger", fails)
	if r.Scope.Kind != "Pod" || r.Metadata.OwnerReferences[0].Kind != "Pod" {
		t.Errorf("the report is of %+v, owned by %+v", r.Scope, r.Metadata.OwnerReferences)
	}
}
