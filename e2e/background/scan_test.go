//go:build e2e

package background

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// testTrust withdraws the trust in what runs, and sees the report turn from pass to fail and back, while
// admissions under another trust policy go on.
func testTrust(t *testing.T, fx *fixture.Fixture) {
	t.Cleanup(func() {
		if err := fx.ApplyTrust(context.Background()); err != nil {
			t.Error(err)
		}
	})
	waitReported(t, fx, denied, "signed", reporter, "pass", "")
	fx.Kubectl(t, "", "delete", "truststore", "acme")
	ctx, stop := context.WithCancel(t.Context())
	failures := make(chan error, 1)
	go func() { failures <- admitAll(ctx, fx) }()
	waitReported(t, fx, denied, "signed", reporter, "fail", `trust store "ca:acme" does not exist`)
	stop()
	if err := <-failures; err != nil {
		t.Errorf("an admission under another trust policy failed: %v", err)
	}
	if err := fx.ApplyTrust(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitReported(t, fx, denied, "signed", reporter, "pass", "")
}

// admitAll creates pods of team-b, which are not stored, until ctx ends.
func admitAll(ctx context.Context, fx *fixture.Fixture) error {
	for n := 0; ctx.Err() == nil; n++ {
		_, err := fx.Bed.Kubectl(ctx, fixture.Pod("meanwhile", "team-b", fx.Reference("foreign")), "create", "--dry-run=server", "-f", "-")
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("number %d: %w", n, err)
		}
	}
	return nil
}

// failImage has the registry fail for an image, and creates a pod of it where that is no reason to deny.
func failImage(t *testing.T, fx *fixture.Fixture) {
	t.Helper()
	t.Cleanup(func() { fx.Registry.SetFault(nil) })
	fx.Registry.SetFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/acme/failing/") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	})
	if says := create(t, fx, "failing", audited, fx.Reference("failing")); says != "" {
		t.Fatal(says)
	}
}

// testFailures sees that a failing registry is no reason to call a workload untrusted, and mends it.
func testFailures(t *testing.T, fx *fixture.Fixture) {
	waitReported(t, fx, audited, "failing", reporter, "error", "failed to verify image "+fx.Reference("failing"))
	fx.Registry.SetFault(nil)
	if _, err := fx.Scenario.PushSigned(t.Context(), "failing", fx.Scenario.Signer(), &signingtest.SignRequest{}); err != nil {
		t.Fatal(err)
	}
	waitReported(t, fx, audited, "failing", reporter, "pass", "")
}

const many = 20 // pods of one image

// createMany creates many pods of one image that nobody has asked about.
func createMany(t *testing.T, fx *fixture.Fixture) {
	t.Helper()
	if _, err := fx.Scenario.PushSigned(t.Context(), "many", fx.Scenario.Signer(), &signingtest.SignRequest{}); err != nil {
		t.Fatal(err)
	}
	image := fx.Pinned(t, "many")
	fx.Registry.Reset()
	for i := range many {
		if says := create(t, fx, fmt.Sprint("many-", i), denied, image); says != "" {
			t.Fatal(says)
		}
	}
}

// testManyPods sees that they were all scanned, and that the registry was asked once, in their admissions.
func testManyPods(t *testing.T, fx *fixture.Fixture) {
	for i := range many {
		waitReported(t, fx, denied, fmt.Sprint("many-", i), reporter, "pass", "")
	}
	n := 0
	for _, request := range fx.Registry.Requests() {
		if strings.Contains(request.Path, "/acme/many/") {
			n++
		}
	}
	if n == 0 || n > 4 {
		t.Errorf("%d registry requests for one image; want 4 at most", n)
	}
}

// testRights holds that the samples give the reports controller no more than it needs.
func testRights(t *testing.T, fx *fixture.Fixture) {
	as := "--as=system:serviceaccount:" + bed.KyvernoNamespace + ":" + bed.KyvernoReportsServiceAccount
	for question, may := range map[string]bool{
		"get secret/" + fixture.CallerSecret:         true,
		"get secret/kyverno-notation-venafi-tls":     false,
		"list secrets":                               false,
		"update secret/" + fixture.CallerSecret:      false,
		"list pods":                                  true,
		"get pods --subresource=ephemeralcontainers": false,
	} {
		args := append([]string{"auth", "can-i", "-n", fixture.ServiceNamespace, as}, strings.Fields(question)...)
		output, err := fx.Bed.Kubectl(t.Context(), "", args...) // fails where the answer is no
		if got := strings.TrimSpace(output) == "yes"; got != may {
			t.Errorf("it may %s: %q, %v", question, output, err)
		}
	}
}

// testSubresource turns background scans on for a policy that matches a subresource, which Kyverno then never calls ready.
func testSubresource(t *testing.T, fx *fixture.Fixture) {
	policy := strings.Replace(fx.Sample(t, "validatingpolicy-background.yaml"), "resources: [pods]", "resources: [pods, pods/ephemeralcontainers]", 1)
	fx.Apply(t, strings.Replace(policy, "name: "+reporter, "name: subresource", 1))
	err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
		conditions := fx.Kubectl(t, "", "get", "validatingpolicy", "subresource", "-o", `jsonpath={.status.conditionStatus.conditions[?(@.type=="RBACPermissionsGranted")]}`)
		if !strings.Contains(conditions, "pods/ephemeralcontainers") || !strings.Contains(conditions, `"status":"False"`) {
			return fmt.Errorf("conditions %s", conditions)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// apiCallPolicy asks by apiCall, with the token of the reports controller's account and no header.
const apiCallPolicy = `
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: report-by-apicall}
spec:
  admission: false
  background: true
  rules:
  - name: verified
    match: {any: [{resources: {kinds: [Pod], namespaces: [team-a]}}]}
    context:
    - name: ca
      configMap: {name: kyverno-notation-venafi-ca, namespace: kyverno-notation-venafi}
    - name: response
      apiCall:
        method: POST
        data:
        - {key: encodedObject, value: "{{ base64_encode(to_string(request.object)) }}"}
        - {key: trustPolicy, value: "tp-{{ request.object.metadata.namespace }}"}
        service:
          url: https://svc.kyverno-notation-venafi.svc/checkimages
          caBundle: '{{ ca.data."ca.crt" }}'
    validate:
      message: an image is not verified
      deny:
        conditions: {all: [{key: "{{ response.verified }}", operator: NotEquals, value: true}]}
`

// testAccount has the reports controller call with the token of its own account, and expects that the service knows by that.
func testAccount(t *testing.T, fx *fixture.Fixture) {
	fx.Apply(t, strings.ReplaceAll(apiCallPolicy, "https://svc.kyverno-notation-venafi.svc", "https://"+fx.Replicas[0].Secure))
	waitReported(t, fx, denied, "signed", "report-by-apicall", "pass", "")
	metrics, err := fx.Replicas[0].Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(metrics, `kyverno_notation_venafi_request_duration_seconds_count{for="background",path="/checkimages",status="200"}`) {
		t.Error("requests with the token of the reports controller are not counted as background requests")
	}
}

// testCounts looks for the scans of the other tests in the metrics of the service.
func testCounts(t *testing.T, fx *fixture.Fixture) {
	metrics, err := fx.Replicas[0].Get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, purpose := range []string{"admission", "background"} {
		if !strings.Contains(metrics, `kyverno_notation_venafi_request_duration_seconds_count{for="`+purpose+`",path="/verify",status="200"}`) {
			t.Errorf("no requests of kind %s are counted", purpose)
		}
	}
	if log := fx.Replicas[0].Logged(); !strings.Contains(log, `"background":true`) {
		t.Error("the log does not tell background requests")
	}
}
