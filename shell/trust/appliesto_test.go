package trust_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// applying is a policy with a field appliesTo.
func applying(name, field string) string {
	return policyText(name, name) + "  appliesTo: " + field + "\n"
}

func readTrust(t *testing.T, text string) trust.Resources {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "trust.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	found, problems, err := trust.ReadDir(dir)
	if err != nil || len(problems) > 0 {
		t.Fatalf("problems %v, %v", problems, err)
	}
	return found
}

// TestABrokenAppliesToBreaksItselfOnly: requests go by the policy as before, other policies apply, and a problem and a condition tell
// of it.
func TestABrokenAppliesToBreaksItselfOnly(t *testing.T) {
	const good = "{namespaceSelector: {matchLabels: {team: a}}, attestations: [{imageReference: '*', type: [{name: sbom}]}]}"
	for sentence, tt := range map[string]struct {
		field   string
		applied int // with the good one
		says    string
	}{
		"a good one":                          {good, 2, ""},
		"null":                                {"null", 1, "spec.appliesTo cannot be read: it is not a JSON object"},
		"a text":                              {"team-a", 1, "not a JSON object"},
		"a selector of another form":          {"{namespaceSelector: {team: a}}", 1, `unknown field "team"`},
		"attestations of another form":        {"{namespaceSelector: {}, attestations: {imageReference: '*'}}", 2, "does not belong there"},
		"attestations with an unknown field":  {"{namespaceSelector: {}, attestations: [{imageReference: '*', type: [{name: sbom, condition: {}}]}]}", 2, "spec.appliesTo.attestations[0].type[0].condition"},
		"attestations that nobody filled in":  {"{namespaceSelector: {}, attestations: }", 2, "is null"},
		"a key that was meant for attestions": {"{namespaceSelector: {}, attestation: []}", 1, `unknown field "attestation"`},
	} {
		t.Run(sentence, func(t *testing.T) {
			found := readTrust(t, applying("first", good)+"---\n"+applying("second", tt.field))
			applied, problems := found.AppliesTo()
			if len(applied) != tt.applied || (len(problems) > 0) != (tt.says != "") {
				t.Errorf("applied %+v, problems %+v", applied, problems)
			}
			if tt.says != "" && (!strings.Contains(problems[0].Reason, tt.says) || !problems[0].Usable || !strings.HasPrefix(problems[0].Name, "second")) {
				t.Errorf("problem %+v, want %q", problems[0], tt.says)
			}
			snapshot, unusable := found.Compile()
			if _, finding := snapshot.Usable("second-policy"); finding != nil || len(unusable) > 0 {
				t.Errorf("requests get %+v, problems %v", finding, unusable)
			}
			_, err := proposal(t, applying("second", tt.field))
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("as a proposal: %v, want %q", err, tt.says)
			}
			statuses := trust.Assess(found.Policies, nil, time.Now())
			ready := meta.FindStatusCondition(statuses.Policies[found.Policies[1].Name].Conditions, trust.ConditionReady)
			condition := meta.FindStatusCondition(statuses.Policies[found.Policies[1].Name].Conditions, trust.ConditionAppliesTo)
			if ready == nil || ready.Status != metav1.ConditionTrue || condition == nil || (condition.Status == metav1.ConditionTrue) != (tt.says == "") || !strings.Contains(condition.Message, tt.says) {
				t.Errorf("conditions %+v and %+v, want %q", ready, condition, tt.says)
			}
		})
	}
}

// TestTheConditionGoesWithTheField, and those of others stay.
func TestTheConditionGoesWithTheField(t *testing.T) {
	found := readTrust(t, applying("first", "{namespaceSelector: {}}"))
	now := time.Now()
	found.Policies[0].Status.Conditions = []metav1.Condition{{Type: "Reviewed", Status: metav1.ConditionTrue, Reason: "Yes"}}
	found.Policies[0].Status = trust.Assess(found.Policies, nil, now).Policies[found.Policies[0].Name]
	if meta.FindStatusCondition(found.Policies[0].Status.Conditions, trust.ConditionAppliesTo) == nil {
		t.Fatalf("status %+v", found.Policies[0].Status)
	}
	found.Policies[0].Spec.AppliesTo = nil
	status := trust.Assess(found.Policies, nil, now).Policies[found.Policies[0].Name]
	if meta.FindStatusCondition(status.Conditions, trust.ConditionAppliesTo) != nil || len(status.Conditions) != 2 {
		t.Errorf("conditions %+v", status.Conditions)
	}
}

// TestWhatAPolicyAppliesToIsNoPartOfItsRevision: cached outcomes of requests do not depend on it.
func TestWhatAPolicyAppliesToIsNoPartOfItsRevision(t *testing.T) {
	revisions := map[string]bool{}
	for _, text := range []string{policyText("first", "first"), applying("first", "{namespaceSelector: {}}"), applying("first", "nonsense")} {
		snapshot, _ := readTrust(t, text).Compile()
		policy := snapshot.Policies["first-policy"]
		ref, err := image.Parse("reg.example/acme/app:v1")
		if err != nil || policy.StatementFor(ref) != 0 {
			t.Fatalf("policy %+v, %v", policy, err)
		}
		revisions[snapshot.Revision(policy, 0)] = true
	}
	if len(revisions) != 1 {
		t.Errorf("revisions %v", revisions)
	}
}
