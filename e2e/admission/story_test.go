//go:build e2e

package admission

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/e2e/fixture"
)

// TestFromTheEventToTheCertificate has Kyverno deny the pods of a ReplicaSet, and follows the Event on it by the id of the decision to
// the certificate at fault, with the commands that function/README.md tells. The ReplicaSet was there before the policy.
func TestFromTheEventToTheCertificate(t *testing.T) {
	shared.TwoTenants(t)
	for _, way := range fixture.Ways() {
		t.Run(way.Name, func(t *testing.T) {
			followsADenial(t, environment{Fixture: shared.Fixture, way: way.Name}, way.Samples)
		})
	}
}

func followsADenial(t *testing.T, fx environment, samples []string) {
	image := fx.Reference("expired-certificate")
	set := "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: app-5f7c, namespace: team-a}\nspec:\n  selector: {matchLabels: {app: app}}\n  template:\n    metadata: {labels: {app: app}}\n    spec:\n" +
		strings.Replace(fixture.PodSpec(image, "      "), "      restartPolicy: Never\n", "", 1)
	fx.Apply(t, set)
	uid := fx.Kubectl(t, "", "get", "replicaset/app-5f7c", "-n", "team-a", "-o", "jsonpath={.metadata.uid}")
	fx.Kubectl(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: looker, namespace: team-a}\n", "apply", "-f", "-")
	r := fx.startFor(t, "--denialEvents", "--decisionUsers", "system:serviceaccount:team-a:looker")
	fx.Install(t, fixture.Policies{Samples: samples, Edit: func(sample string) string {
		return strings.ReplaceAll(sample, fx.Replicas[0].Secure, r.Secure)
	}})

	// What the ReplicaSet's controller would do.
	owned := strings.Replace(fixture.Pod("app-5f7c-x2b9k", "team-a", image), "namespace: team-a}",
		fmt.Sprintf("namespace: team-a, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: app-5f7c, uid: %s, controller: true}]}", strings.TrimSpace(uid)), 1)
	output, err := fx.Bed.Kubectl(t.Context(), owned, "create", "-f", "-")
	if err == nil {
		t.Fatal("the pod was admitted")
	}
	denial := output + err.Error()
	t.Logf("$ kubectl create -f pod.yaml\n%s", denial)
	var described string
	var id []string
	err = deployment.Eventually(t.Context(), time.Minute, func() error {
		described = fx.Kubectl(t, "", "describe", "replicaset", "app-5f7c", "-n", "team-a")
		if id = regexp.MustCompile(`CertificateExpired.*\(decision ([0-9A-HJKMNP-TV-Z]{26})\)`).FindStringSubmatch(described); id == nil {
			return fmt.Errorf("it names no decision: %s", described)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("$ kubectl describe replicaset app-5f7c -n team-a\n%s", described)
	if !strings.Contains(denial, "decision "+id[1]) {
		t.Errorf("the Event is of decision %s, and kubectl said %s", id[1], denial)
	}

	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(fx.Token(t, "team-a", "looker", "kyverno-notation-venafi-decisions")), 0o600); err != nil {
		t.Fatal(err)
	}
	why := exec.CommandContext(t.Context(), filepath.Join(fx.Dir, "kyverno-notation-venafi"), "why", id[1], "--service", "https://"+r.Secure, "--tokenFile", token, "--caFile", fx.TrustedCAs)
	told, err := why.CombinedOutput()
	t.Logf("$ kyverno-notation-venafi why %s --service https://%s --tokenFile token --caFile ca.crt\n%s", id[1], r.Secure, told)
	if err == nil || err.Error() != "exit status 1" {
		t.Errorf("why: %v, of a denial", err)
	}
	for _, want := range []string{"for Pod team-a/app-5f7c-x2b9k (CREATE)", image, "CertificateExpired", "certificate 0: ", "HAS EXPIRED", "trust stores ca:acme"} {
		if !strings.Contains(string(told), want) {
			t.Errorf("why does not say %s", want)
		}
	}
}
