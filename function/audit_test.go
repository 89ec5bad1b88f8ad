package function_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
	"github.com/nirmata/kyverno-notation-venafi/function"
	"github.com/nirmata/kyverno-notation-venafi/shell/registry/registrytest"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/scenariotest"
)

// auditOf wires an audit for a bench, and the trust of its directory.
func auditOf(t *testing.T, b *bench) (*function.Audit, trust.Snapshot) {
	t.Helper()
	settings, _, err := function.LoadSettings("audit", []string{
		"--trustDir", b.trustDir, "--pluginDir", b.pluginDir, "--allowLoopback", "--insecureRegistries", b.registry.Host(),
		"--dockerConfig", filepath.Join(t.TempDir(), "none.json"), "--pluginConfig", "config=" + b.config,
	}, noEnvironment, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := function.NewAudit(settings, b.environment)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	resources, problems, err := a.Trust(t.Context())
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	snapshot, _ := resources.Compile()
	return a, snapshot
}

func noProgress(int, int) {}

// verdictOn gives the verdict on an image under a trust policy.
func verdictOn(t *testing.T, evaluation audit.Evaluation, image, trustPolicy string) audit.Verdict {
	t.Helper()
	for check, verdict := range evaluation.Verdicts {
		if check.Image == image && check.TrustPolicy == trustPolicy {
			return verdict
		}
	}
	t.Errorf("no verdict on %s under %q", image, trustPolicy)
	return audit.Verdict{}
}

// demanded are the scenario's rules on attestations, and one that reads the clock, for the images of the scenario that have
// attestations.
func demanded(t *testing.T) []core.AttestationRule {
	t.Helper()
	request, err := core.ParseRequest([]byte(`{"object":{"kind":"Pod","spec":{"containers":[{"name":"app","image":"x"}]}},"attestations":[{"imageReference":"*/acme/sbom-*","type":[
		{"name":"application/vnd.cyclonedx+json","conditions":{"all":[
			{"key":"{{ components[].licenses[].expression }}","operator":"AllNotIn","value":["GPL-3.0"]},
			{"key":"{{ time_now_utc() }}","operator":"NotEquals","value":""}]}}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return request.Attestations
}

// TestAuditAgreesWithTheServiceAndReadsOnce verifies every image of the scenario in two namespaces, as written and as it runs,
// under two trusts: the verdicts are those of the service, and no request is made to the registry twice.
func TestAuditAgreesWithTheServiceAndReadsOnce(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	if err := os.WriteFile(filepath.Join(b.trustDir, "other.yaml"), []byte(scenariotest.TrustPolicy("other", "strict", "ca:acme")), 0o600); err != nil {
		t.Fatal(err)
	}
	demands, err := audit.Everywhere("{{ namespace }}", demanded(t))
	if err != nil {
		t.Fatal(err)
	}
	var uses []audit.Use
	for _, c := range scenariotest.Cases() {
		image, err := b.scenario.Publish(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, namespace := range []string{scenariotest.PolicyName, "other"} {
			for _, name := range []string{"one", "two"} {
				uses = append(uses, audit.Use{Workload: audit.Workload{Namespace: namespace, Kind: "Pod", Name: name}, Image: b.scenario.Reference(c.Name), Running: image.Digest.String()})
			}
		}
	}
	a, now := auditOf(t, b)
	withdrawn := trust.Snapshot{Policies: now.Policies, Stores: map[trust.StoreRef]trust.Store{}}
	foreign := trust.StoreRef{Type: trust.StoreCA, Name: "acme"}
	withdrawn.Stores[foreign] = trust.Store{Ref: foreign, Certificates: nil}
	proposedPolicies := map[string]trust.Policy{}
	for name, policy := range now.Policies {
		proposedPolicies[name] = trust.Policy{Name: policy.Name, Statements: policy.Statements}
	}
	withdrawn.Policies = proposedPolicies
	b.registry.Reset()
	shown := 0
	evaluations, err := a.Verify(t.Context(), uses, func(done, _ int) { shown = max(shown, done) }, function.Side{Trust: now, Demands: demands}, function.Side{Trust: withdrawn.Sealed(), Demands: demands})
	if err != nil {
		t.Fatal(err)
	}
	requests := map[string]int{}
	for _, request := range b.registry.Requests() {
		requests[request.Method+" "+request.Path]++
	}
	for request, n := range requests {
		if n > 1 {
			t.Errorf("%d times %s", n, request)
		}
	}
	if images := 2 * len(scenariotest.Cases()); shown != images || len(requests) < images {
		t.Errorf("%d of %d images were shown, %d requests", shown, images, len(requests))
	}
	for _, c := range scenariotest.Cases() {
		for _, namespace := range []string{scenariotest.PolicyName, "other"} {
			image := b.scenario.Reference(c.Name)
			if got := verdictOn(t, evaluations[0], image, namespace); got.Code != c.Want {
				t.Errorf("%s under %s: %s: %s, want %s", c.Name, namespace, got.Code, got.Reason, c.Want)
			}
			if got := verdictOn(t, evaluations[1], image, namespace); got.Code == reason.Verified {
				t.Errorf("%s is verified although its trust store is empty", c.Name)
			}
		}
	}
	for _, finding := range evaluations[0].Findings(uses) {
		if finding.State != audit.Verified && finding.State != audit.DeniedOnRestart {
			t.Errorf("%s: %s: %s", finding.Image, finding.State, finding.Reason)
		}
	}
}

// TestAuditForeseesConditionsThatReadTheClock: one that holds now and not at the later time ends the image, also where the same
// document was evaluated for now before, and whatever was asked first.
func TestAuditForeseesConditionsThatReadTheClock(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	cases := scenariotest.Cases()
	met := cases[slices.IndexFunc(cases, func(c scenariotest.Case) bool { return c.Name == "sbom-met" })]
	image, err := b.scenario.Publish(t.Context(), met)
	if err != nil {
		t.Fatal(err)
	}
	a, now := auditOf(t, b)
	until := a.Now().AddDate(0, 0, 60)
	a.Foresee(until)
	rules, err := core.ParseAttestations(fmt.Appendf(nil, `[{"imageReference":"*","type":[
		{"name":"application/vnd.cyclonedx+json","conditions":{"all":[{"key":"{{ time_since('', '%s', '') }}","operator":"DurationLessThan","value":"720h"}]}}]}]`, a.Now().UTC().Format(time.RFC3339)))
	if err != nil {
		t.Fatal(err)
	}
	demands, err := audit.Everywhere(scenariotest.PolicyName, rules)
	if err != nil {
		t.Fatal(err)
	}
	side := function.Side{Trust: now, Demands: demands}
	evaluations, err := a.Verify(t.Context(), []audit.Use{{Image: b.scenario.Reference(met.Name), Running: image.Digest.String()}}, noProgress, side, side)
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{b.scenario.Reference(met.Name), b.scenario.Reference(met.Name) + "@" + image.Digest.String()} {
		for _, evaluation := range evaluations {
			got := verdictOn(t, evaluation, image, scenariotest.PolicyName)
			i := slices.IndexFunc(got.Ends, func(e audit.End) bool { return e.Cause == verification.EndOfCondition })
			if got.Code != reason.Verified || i < 0 || !got.Ends[i].Cause.Certain() || !got.Ends[i].At.Equal(until) || !strings.Contains(got.Ends[i].Subject, "720h") {
				t.Errorf("%s: %s: %s, ends %+v", image, got.Code, got.Reason, got.Ends)
			}
		}
	}
}

// TestAuditTellsWhatCouldNotBeVerified of a registry that fails, and ends when it is told to.
func TestAuditTellsWhatCouldNotBeVerified(t *testing.T) {
	b := prepare(t, registrytest.Options{}, "")
	a, now := auditOf(t, b)
	demands, err := audit.Everywhere(scenariotest.PolicyName, nil)
	if err != nil {
		t.Fatal(err)
	}
	uses := []audit.Use{{Image: "127.0.0.1:1/acme/app:v1"}, {Image: "no image"}}
	side := function.Side{Trust: now, Demands: demands}
	evaluations, err := a.Verify(t.Context(), uses, noProgress, side)
	if err != nil {
		t.Fatal(err)
	}
	for _, use := range uses {
		want := map[string]reason.Code{uses[0].Image: reason.RegistryUnavailable, uses[1].Image: reason.RequestInvalid}[use.Image]
		if got := verdictOn(t, evaluations[0], use.Image, scenariotest.PolicyName); got.Code != want {
			t.Errorf("verdict %+v", got)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := a.Verify(ended, uses, noProgress, side); err == nil || !strings.Contains(fmt.Sprint(err), "ended before it was complete") {
		t.Errorf("an audit that was ended gives %v", err)
	}
}
