package audit_test

import (
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
)

// appliesTo reads a field, which must be well formed.
func appliesTo(t *testing.T, trustPolicy, field string) audit.AppliesTo {
	t.Helper()
	applied, err := audit.ParseAppliesTo(trustPolicy, []byte(field))
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// TestParseAppliesToRefuses what would select other namespaces than its author means.
func TestParseAppliesToRefuses(t *testing.T) {
	for sentence, tt := range map[string]struct{ field, says string }{
		"nothing":                             {`null`, "not a JSON object"},
		"a list":                              {`[]`, "not a JSON object"},
		"no selector":                         {`{}`, "namespaceSelector is missing"},
		"attestations alone":                  {`{"attestations":[]}`, "namespaceSelector is missing"},
		"a field in other letters":            {`{"namespaceselector":{}}`, `unknown field "namespaceselector"`},
		"an unknown field":                    {`{"namespaceSelector":{},"namespaces":[]}`, `unknown field "namespaces"`},
		"a field twice":                       {`{"namespaceSelector":{},"namespaceSelector":{"matchLabels":{"a":"b"}}}`, `duplicate field "namespaceSelector"`},
		"a selector that is null":             {`{"namespaceSelector":null}`, "namespaceSelector"},
		"a selector that is a text":           {`{"namespaceSelector":"a=b"}`, "not a JSON object"},
		"labels that are null":                {`{"namespaceSelector":{"matchLabels":null}}`, "holds null"},
		"a label that is null":                {`{"namespaceSelector":{"matchLabels":{"a":null}}}`, "holds null"},
		"a label that is a number":            {`{"namespaceSelector":{"matchLabels":{"a":1}}}`, "cannot unmarshal number"},
		"a label twice":                       {`{"namespaceSelector":{"matchLabels":{"a":"b","a":"c"}}}`, "duplicate field"},
		"a misspelled kind of requirement":    {`{"namespaceSelector":{"matchExpression":[]}}`, `unknown field "matchExpression"`},
		"an operator in other letters":        {`{"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"in","values":["b"]}]}}`, `operator is "in"`},
		"no operator":                         {`{"namespaceSelector":{"matchExpressions":[{"key":"a","values":["b"]}]}}`, `operator is ""`},
		"In without values":                   {`{"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"In"}]}}`, "In with 0 values"},
		"Exists with values":                  {`{"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"Exists","values":["b"]}]}}`, "Exists with 1 values"},
		"a key that names no label":           {`{"namespaceSelector":{"matchLabels":{"a b":"c"}}}`, "no name of a label"},
		"a value that no label can have":      {`{"namespaceSelector":{"matchLabels":{"a":"*"}}}`, "no value of a label"},
		"more requirements than are read":     {`{"namespaceSelector":{"matchExpressions":[` + strings.Repeat(`{"key":"a","operator":"Exists"},`, 64) + `{"key":"a","operator":"Exists"}]}}`, "65 requirements"},
		"more values than are read":           {`{"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["b"` + strings.Repeat(`,"b"`, 256) + `]}]}}`, "257 values"},
		"text after the field":                {`{"namespaceSelector":{}} {}`, "invalid character"},
		"a misspelled field of a requirement": {`{"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"Exists","value":["b"]}]}}`, `unknown field`},
	} {
		t.Run(sentence, func(t *testing.T) {
			if _, err := audit.ParseAppliesTo("tp", []byte(tt.field)); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

// TestAnUnnamedPolicyAppliesNowhere: it would be taken for the default one.
func TestAnUnnamedPolicyAppliesNowhere(t *testing.T) {
	if _, err := audit.ParseAppliesTo("", []byte(`{"namespaceSelector":{}}`)); err == nil || !strings.Contains(err.Error(), "no name") {
		t.Errorf("%v", err)
	}
}

// TestAttestationsThatCannotBeReadSwitchNoCheckOff: the namespaces are known, and it cannot be told how they stand.
func TestAttestationsThatCannotBeReadSwitchNoCheckOff(t *testing.T) {
	for sentence, tt := range map[string]struct{ attestations, says string }{
		"null":                            {`null`, "is null"},
		"an object":                       {`{"imageReference":"*"}`, "does not belong there"},
		"an entry that is null":           {`[null]`, "is null"},
		"an unknown field":                {`[{"imageReference":"*","type":[{"name":"sbom","condition":{}}]}]`, "not a field"},
		"types in other letters":          {`[{"imageReference":"*","Type":[{"name":"sbom"}]}]`, "not a field"},
		"no type":                         {`[{"imageReference":"*","type":[]}]`, "is empty"},
		"a type that is a text":           {`[{"imageReference":"*","type":"sbom"}]`, "does not belong there"},
		"a type without a name":           {`[{"imageReference":"*","type":[{}]}]`, "is empty"},
		"an operator that nobody knows":   {`[{"imageReference":"*","type":[{"name":"sbom","conditions":{"all":[{"key":"a","operator":"Like","value":"b"}]}}]}]`, "Like"},
		"a pattern that matches no image": {`[{"imageReference":"","type":[{"name":"sbom"}]}]`, "imageReference"},
	} {
		t.Run(sentence, func(t *testing.T) {
			applied := appliesTo(t, policy, `{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"team-a"}},"attestations":`+tt.attestations+`}`)
			if !strings.Contains(applied.Unreadable, tt.says) {
				t.Errorf("unreadable by %q, want %q", applied.Unreadable, tt.says)
			}
			demands := audit.ByNamespace([]audit.AppliesTo{applied}, nil, &audit.Demand{TrustPolicy: "lenient"})
			use := web(first)
			if checks := demands.Checks([]audit.Use{use}); len(checks) > 0 {
				t.Errorf("checks %+v", checks)
			}
			findings := audit.Evaluation{Demands: demands}.Findings([]audit.Use{use})
			if len(findings) != 1 || findings[0].State != audit.Unknown || findings[0].Code != reason.DemandUnknown || !strings.Contains(findings[0].Reason, policy) {
				t.Errorf("findings %+v", findings)
			}
		})
	}
}

// selectors are LabelSelectors as they are written.
var selectors = []string{
	`{}`, `{"matchLabels":{}}`, `{"matchLabels":{"team":"a"}}`, `{"matchLabels":{"team":"a","env":"prod"}}`, `{"matchLabels":{"team":""}}`,
	`{"matchExpressions":[]}`,
	`{"matchExpressions":[{"key":"team","operator":"In","values":["a","b"]}]}`,
	`{"matchExpressions":[{"key":"team","operator":"NotIn","values":["a","b"]}]}`,
	`{"matchExpressions":[{"key":"acme.example/team","operator":"Exists"}]}`,
	`{"matchExpressions":[{"key":"env","operator":"DoesNotExist","values":[]}]}`,
	`{"matchLabels":{"team":"a"},"matchExpressions":[{"key":"env","operator":"NotIn","values":["prod"]},{"key":"team","operator":"Exists"}]}`,
	`{"matchExpressions":[{"key":"team","operator":"In","values":[]}]}`, `{"matchExpressions":[{"key":"team","operator":"Gt","values":["1"]}]}`,
	`{"matchLabels":{"-team":"a"}}`, `{"matchLabels":{"Acme/team":"a"}}`, `{"matchLabels":{"/team":"a"}}`, `{"matchLabels":{"a/b/c":"a"}}`, `{"matchLabels":{"":"a"}}`,
	`{"matchLabels":{"team":"a/b"}}`, `{"matchLabels":{"team":"` + strings.Repeat("a", 63) + `"}}`, `{"matchLabels":{"team":"` + strings.Repeat("a", 64) + `"}}`,
}

// TestSelectorsAgreeWithKubernetes on what they choose, and on which are none.
func TestSelectorsAgreeWithKubernetes(t *testing.T) {
	namespaces := audit.Namespaces{
		"none": nil, "a": {"team": "a"}, "prod": {"team": "a", "env": "prod"}, "b": {"team": "b", "env": "test"}, "empty": {"team": ""}, "prefix": {"acme.example/team": "a"},
	}
	for _, text := range selectors {
		var written metav1.LabelSelector
		if err := json.Unmarshal([]byte(text), &written); err != nil {
			t.Fatal(err)
		}
		theirs, theirErr := metav1.LabelSelectorAsSelector(&written)
		applied, err := audit.ParseAppliesTo(policy, []byte(`{"namespaceSelector":`+text+`}`))
		if (err == nil) != (theirErr == nil) {
			t.Errorf("%s: %v; Kubernetes says %v", text, err, theirErr)
		}
		if err != nil {
			continue
		}
		demands := audit.ByNamespace([]audit.AppliesTo{applied}, namespaces, nil)
		for name, of := range namespaces {
			if got, want := demands.Of(name)[0].Unknown == nil, theirs.Matches(labels.Set(of)); got != want {
				t.Errorf("%s selects %s: %t; Kubernetes says %t", text, name, got, want)
			}
		}
	}
}

// TestKeysMayBeEscapedAsInAPolicy: copied from a policy of Kyverno, they mean the same, and are no text that equals nothing.
func TestKeysMayBeEscapedAsInAPolicy(t *testing.T) {
	var checks []audit.Check
	for _, key := range []string{`{{ critical }}`, `\\{{ critical }}`} {
		applied := appliesTo(t, policy, `{"namespaceSelector":{},"attestations":[{"imageReference":"*","type":[{"name":"scan","conditions":{"all":[{"key":"`+key+`","operator":"NotEquals","value":"\\d"}]}}]}]}`)
		if applied.Unreadable != "" {
			t.Fatal(applied.Unreadable)
		}
		checks = append(checks, audit.ByNamespace([]audit.AppliesTo{applied}, nil, nil).Checks([]audit.Use{web("")})...)
	}
	if len(checks) != 2 || checks[0] != checks[1] || checks[0].Rules == "" {
		t.Errorf("checks %+v", checks)
	}
}
