//go:build e2e

package auditor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/e2e/bed"
	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// TestTrustPoliciesThatSelectNamespaces: what is selected is held against each policy that selects it, as labels change, and what is
// not is not looked at.
func TestTrustPoliciesThatSelectNamespaces(t *testing.T) {
	fx := shared
	image, digest := fx.push(t, "selected")
	for _, name := range []string{"team-f", "team-g"} {
		fx.apply(t, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", name))
		fx.pod(t, name, "web", "", image, digest)
	}
	selecting := func(name, label string) string {
		return scenariotest.TrustPolicy(name, "strict", "ca:acme") + fmt.Sprintf("  appliesTo: {namespaceSelector: {matchLabels: {team: %s}}}\n", label)
	}
	fx.apply(t, selecting("tp-f", "f")+"---\n"+selecting("tp-all", "f")+"---\n"+selecting("tp-g", "g")+"---\n"+scenariotest.TrustStore("acme", fx.scenario.Trusted.PEM()))
	t.Cleanup(func() {
		for _, args := range [][]string{{"delete", "trustpolicies", "tp-f", "tp-all", "tp-g"}, {"delete", "namespace", "team-f", "team-g", "--wait=false"}} {
			if _, err := fx.bed.Kubectl(context.Background(), "", args...); err != nil {
				t.Error(err)
			}
		}
	})
	fx.audit(t, "--auditTrustPolicy=")
	fx.kubectl(t, "label", "namespace", "team-f", "team=f")
	fx.within(t, time.Minute, bed.PolicyReports, "team-f", "web", func(r report) bool { return passes(r) && r.Summary.Pass == 2 })
	if all, err := fx.reports(t.Context(), bed.PolicyReports, "team-g"); err != nil || len(all) > 0 {
		t.Errorf("nobody asked about team-g: %v, %v", all, err)
	}
	fx.kubectl(t, "label", "namespace", "team-g", "team=g")
	fx.within(t, atOnce, bed.PolicyReports, "team-g", "web", func(r report) bool { return passes(r) && r.Results[0].Policy == "tp-g" })
	fx.kubectl(t, "label", "namespace", "team-g", "team-")
	fx.gone(t, bed.PolicyReports, "team-g", "web")
}

// TestScale: a change of trust that affects some images of many verifies those anew and no others, and its reports are complete within
// a minute. The images are names of a few that there are.
func TestScale(t *testing.T) {
	fx := shared
	const distinct, namespaces = 50, 10
	var images, digests [distinct]string
	for i := range distinct {
		images[i], digests[i] = fx.push(t, fmt.Sprint("scale-", i))
	}
	perNamespace, affected := *scaleImages/namespaces, *scaleAffected
	for n := range namespaces {
		fx.team(t, fmt.Sprint("scale-", n))
	}
	fx.team(t, "affected")
	create := func(namespace string, pods int) {
		t.Helper()
		for first := 0; first < pods; first += 100 { // in the time that kubectl has
			var manifest strings.Builder
			for i := first; i < min(first+100, pods); i++ {
				manifest.WriteString(named(namespace, i, images[i%distinct], digests[i%distinct]))
			}
			if _, err := fx.bed.Kubectl(t.Context(), manifest.String(), "create", "-f", "-"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n := range namespaces {
		create(fmt.Sprint("scale-", n), perNamespace)
	}
	create("affected", affected)
	p := fx.audit(t, "--auditInterval=1h", "--auditRegistryRequests=100000")
	total := float64(perNamespace*namespaces + affected)
	began := time.Now()
	shows(t, 10*time.Minute, p, `objects{kind="images"}`, func(n float64) bool { return n >= total })
	written := func(want float64) {
		t.Helper()
		shows(t, 10*time.Minute, p, `reports_total{outcome="written"}`, func(n float64) bool { return n >= want })
	}
	written(total)
	t.Logf("%v images are verified and reported on in %s", total, time.Since(began).Round(time.Second))
	before := metric(t, p, `verifications_total{cause="new"}`)
	fx.distrust(t, "affected")
	began = time.Now()
	err := deployment.Eventually(t.Context(), time.Minute, func() error {
		all, err := fx.reports(t.Context(), bed.PolicyReports, "affected")
		n := 0
		for _, r := range all {
			if fails(r) {
				n++
			}
		}
		if err == nil && n != affected {
			err = fmt.Errorf("%d of %d reports fail", n, affected)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a change that affects %d of %v images: reports are complete after %s", affected, total, time.Since(began).Round(100*time.Millisecond))
	for cause, want := range map[string]float64{"trust": float64(affected), "new": before, "age": 0, "retry": 0} {
		if got := metric(t, p, fmt.Sprintf(`verifications_total{cause=%q}`, cause)); got != want {
			t.Errorf("verified for cause %s: %v, want %v", cause, got, want)
		}
	}
	fx.trust(t, "affected")
}

// named is a pod that runs an image by a tag of its own and a digest that there is, so that names are as many as pods.
func named(namespace string, i int, image, digest string) string {
	repository := image[:len(image)-len(":v1")]
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: web-%d, namespace: %s}\nspec: {containers: [{name: app, image: %q}]}\n---\n", i, namespace, fmt.Sprintf("%s:t%d@%s", repository, i, digest))
}
