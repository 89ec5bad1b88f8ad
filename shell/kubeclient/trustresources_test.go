package kubeclient_test

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
	shelltrust "github.com/nirmata/kyverno-notation-venafi/shell/trust"
)

// TestDecodedPoliciesKeepWhatTheyApplyTo as it is written, so that its reader sees unknown fields, also where the rest of the policy
// cannot be read: then its namespaces are denied, and not without a policy.
func TestDecodedPoliciesKeepWhatTheyApplyTo(t *testing.T) {
	const applied = `"appliesTo":{"namespaceSelector":{"matchLabels":{"team":"a"}}}`
	for sentence, tt := range map[string]struct {
		spec             string
		unreadable       bool
		applies, problem string
	}{
		"no field":                      {`{"trustPolicyName":"tp"}`, false, "", ""},
		"a field":                       {`{"trustPolicyName":"tp",` + applied + `}`, false, "tp", ""},
		"beside a version that is none": {`{"trustPolicyName":"tp","version":1,` + applied + `}`, true, "tp", ""},
		"beside a name that is none":    {`{"trustPolicyName":1,` + applied + `}`, true, "", "has no name"},
		"an unknown field":              {`{"trustPolicyName":"tp","appliesTo":{"namespaceSelector":{},"attestation":[]}}`, false, "", "unknown field"},
		"null":                          {`{"trustPolicyName":"tp","appliesTo":null}`, false, "", ""},
		"a text":                        {`{"trustPolicyName":"tp","appliesTo":"team-a"}`, false, "", "not a JSON object"},
	} {
		t.Run(sentence, func(t *testing.T) {
			object := &unstructured.Unstructured{}
			if err := json.Unmarshal([]byte(`{"apiVersion":"notation.nirmata.io/v1alpha1","kind":"TrustPolicy","metadata":{"name":"x"},"spec":`+tt.spec+`}`), object); err != nil {
				t.Fatal(err)
			}
			policy := kubeclient.DecodePolicy(object)
			found, problems := shelltrust.Resources{Policies: []shelltrust.PolicyResource{policy}}.AppliesTo()
			applies, problem := "", ""
			for _, a := range found {
				applies += a.TrustPolicy
			}
			for _, p := range problems {
				problem += p.Reason
			}
			if (policy.Unreadable != "") != tt.unreadable || applies != tt.applies || !strings.Contains(problem, tt.problem) || (problem == "") != (tt.problem == "") {
				t.Errorf("unreadable by %q, applies %q, problem %q", policy.Unreadable, applies, problem)
			}
		})
	}
}
