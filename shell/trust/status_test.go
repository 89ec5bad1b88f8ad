package trust_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
	"github.com/nirmata/kyverno-notation-venafi/shell/verify/signingtest"
)

// bundle makes a CA that ends at a time, as PEM.
func bundle(t *testing.T, notAfter time.Time) string {
	t.Helper()
	ca, err := signingtest.NewCA(signingtest.Options{CommonName: "Test", NotBefore: notAfter.AddDate(-10, 0, 0), NotAfter: notAfter})
	if err != nil {
		t.Fatal(err)
	}
	return string(ca.PEM())
}

func store(resource, name, pem string) shelltrust.StoreResource {
	r := shelltrust.StoreResource{Spec: shelltrust.StoreSpec{TrustStoreName: name, Type: "ca", CABundle: pem}}
	r.Name, r.Generation = resource, 3
	return r
}

func policy(resource, name, level string, stores ...string) shelltrust.PolicyResource {
	r := shelltrust.PolicyResource{Spec: shelltrust.PolicySpec{Version: "1.0", TrustPolicyName: name, TrustPolicies: []shelltrust.PolicyStatement{{
		Name: "all", RegistryScopes: []string{"*"}, SignatureVerification: shelltrust.SignatureVerification{Level: level},
		TrustStores: stores, TrustedIdentities: []string{"*"},
	}}}}
	r.Name, r.Generation = resource, 7
	return r
}

func TestAssessGivesReasonAndMessage(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	soon, later, past := now.AddDate(0, 1, 0), now.AddDate(5, 0, 0), now.AddDate(0, -1, 0)
	good, old := bundle(t, later), bundle(t, past)
	stores := []shelltrust.StoreResource{
		store("good", "good", good), store("soon", "soon", good+bundle(t, soon)), store("old", "old", old), store("half", "half", good+old),
		store("broken", "broken", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		store("twin-1", "twin", good), store("twin-2", "twin", good),
	}
	policies := []shelltrust.PolicyResource{
		policy("good", "good", "strict", "ca:good", "ca:soon"), policy("lax", "lax", "lax", "ca:good"),
		policy("absent", "absent", "strict", "ca:absent"), policy("absent-two", "absent-two", "strict", "ca:gone", "ca:good", "ca:absent"), policy("broken", "broken", "strict", "ca:broken"),
		policy("old", "old", "strict", "ca:old"), policy("nameless", "", "strict", "ca:good"), policy("nameless-too", "", "strict", "ca:good"),
		policy("twin-1", "twin", "strict", "ca:good"), policy("twin-2", "twin", "strict", "ca:good"),
	}
	statuses := shelltrust.Assess(policies, stores, now)
	tests := []struct {
		sentence     string
		of           map[string]shelltrust.Status
		name, reason string
		says         string
		notAfter     time.Time
	}{
		{"a good store", statuses.Stores, "good", shelltrust.ReasonValid, "1 of 1 certificates are valid; days left: 1826", later},
		{"a store whose first certificate ends soon", statuses.Stores, "soon", shelltrust.ReasonValid, "2 of 2", soon},
		{"a store with one expired certificate of two", statuses.Stores, "half", shelltrust.ReasonValid, "expired at 2029", past},
		{"a store with an expired certificate only", statuses.Stores, "old", shelltrust.ReasonCertificateExpired, "0 of 1", past},
		{"a store whose certificate does not parse", statuses.Stores, "broken", shelltrust.ReasonInvalid, "certificate 1", time.Time{}},
		{"two stores of one name", statuses.Stores, "twin-2", shelltrust.ReasonNameClaimedTwice, "twin-1, twin-2", time.Time{}},
		{"a good policy", statuses.Policies, "good", shelltrust.ReasonValid, "can be used; days left: 31", soon},
		{"a policy with an unknown level", statuses.Policies, "lax", shelltrust.ReasonInvalid, "lax", later},
		{"a policy whose store does not exist", statuses.Policies, "absent", shelltrust.ReasonTrustStoreMissing, `"ca:absent"`, time.Time{}},
		{"a policy of whose stores two are missing", statuses.Policies, "absent-two", shelltrust.ReasonTrustStoreMissing, `"ca:absent" cannot be used: it does not exist; trust store "ca:gone"`, later},
		{"a policy whose store is broken", statuses.Policies, "broken", shelltrust.ReasonTrustStoreMissing, `"ca:broken"`, time.Time{}},
		{"a policy whose store has expired", statuses.Policies, "old", shelltrust.ReasonCertificateExpired, `"ca:old"`, past},
		{"a policy without a name", statuses.Policies, "nameless", shelltrust.ReasonInvalid, "trustPolicyName is empty", later},
		{"another policy without a name", statuses.Policies, "nameless-too", shelltrust.ReasonInvalid, "trustPolicyName is empty", later},
		{"two policies of one name", statuses.Policies, "twin-1", shelltrust.ReasonNameClaimedTwice, "twin-1, twin-2", later},
	}
	for _, test := range tests {
		t.Run(test.sentence, func(t *testing.T) {
			status := test.of[test.name]
			ready := meta.FindStatusCondition(status.Conditions, shelltrust.ConditionReady)
			if ready == nil {
				t.Fatalf("status %+v", status)
			}
			got := *ready
			if got.Reason != test.reason || !strings.Contains(got.Message, test.says) || (got.Status == metav1.ConditionTrue) != (test.reason == shelltrust.ReasonValid) {
				t.Errorf("%s %s %q; want %s, %q", got.Status, got.Reason, got.Message, test.reason, test.says)
			}
			if status.ObservedGeneration == 0 || got.ObservedGeneration != status.ObservedGeneration {
				t.Errorf("observed generations %d and %d", status.ObservedGeneration, got.ObservedGeneration)
			}
			if test.notAfter.IsZero() != (status.NotAfter == nil) || status.NotAfter != nil && !status.NotAfter.Time.Equal(test.notAfter) {
				t.Errorf("notAfter %v; want %v", status.NotAfter, test.notAfter)
			}
		})
	}
}

func TestAssessKeepsTheTransitionTime(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	resource := store("a", "a", bundle(t, now.AddDate(1, 0, 0)))
	for _, step := range []struct {
		at, want time.Time
	}{{now, now}, {now.Add(time.Hour), now}, {now.AddDate(2, 0, 0), now.AddDate(2, 0, 0)}} {
		resource.Status = shelltrust.Assess(nil, []shelltrust.StoreResource{resource}, step.at).Stores["a"]
		if got := resource.Status.Conditions[0].LastTransitionTime.Time; !got.Equal(step.want) {
			t.Errorf("at %s the last transition is %s; want %s", step.at, got, step.want)
		}
	}
}

func TestAssessKeepsConditionsOfOthers(t *testing.T) {
	resource := store("a", "a", "nonsense")
	other := metav1.Condition{Type: "Reviewed", Status: metav1.ConditionTrue, Reason: "Yes"}
	resource.Status.Conditions = []metav1.Condition{other}
	conditions := shelltrust.Assess(nil, []shelltrust.StoreResource{resource}, time.Now()).Stores["a"].Conditions
	if len(conditions) != 2 || conditions[0] != other || conditions[1].Type != shelltrust.ConditionReady {
		t.Errorf("conditions %+v", conditions)
	}
	if len(resource.Status.Conditions) != 1 {
		t.Errorf("the resource itself was changed: %+v", resource.Status)
	}
}

func TestAssessBoundsMessages(t *testing.T) {
	resource := policy("a", "a", "strict", "ca:"+strings.Repeat("x", 40_000))
	status := shelltrust.Assess([]shelltrust.PolicyResource{resource}, nil, time.Now()).Policies["a"]
	if message := status.Conditions[0].Message; len(message) > 5000 || !strings.HasSuffix(message, "...") {
		t.Errorf("%d bytes: %.200s", len(message), message)
	}
}
