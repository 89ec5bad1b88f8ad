//go:build e2e

package callers

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/e2e/deployment"
)

// celPolicy denies every pod, and tells what an expression gives. %s are its kind, its namespace and the expression.
const celPolicy = `
apiVersion: policies.kyverno.io/v1
kind: %s
metadata: {name: curious%s}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  validations:
  - expression: "false"
    messageExpression: >-
      "told: " + string(%s)
`

// contextPolicy does the same with a context entry, which is the last %s.
const contextPolicy = `
apiVersion: kyverno.io/v1
kind: %s
metadata: {name: curious%s}
spec:
  validationFailureAction: Enforce
  background: false
  rules:
  - name: tell
    match: {any: [{resources: {kinds: [Pod]}}]}
    context:
    - name: secret
      %s
    validate:
      message: "told: {{ secret }}"
      deny: {}
`

// TestTenantsPoliciesCannotReadTheToken writes policies of a namespace that tell the token to whoever creates a pod. A
// cluster-wide one can, which shows that the test finds it.
func TestTenantsPoliciesCannotReadTheToken(t *testing.T) {
	const (
		entry    = `globalContext.Get("kyverno-notation-venafi-caller", "token")`
		resource = `resource.Get("v1", "secrets", "kyverno-notation-venafi", "kyverno-notation-venafi-caller").data.token`
		byName   = "globalReference: {name: kyverno-notation-venafi-caller.token}"
		byPath   = "apiCall: {urlPath: %s/api/v1/namespaces/%skyverno-notation-venafi/secrets/kyverno-notation-venafi-caller, jmesPath: data.token}"
	)
	fx := shared
	fx.TwoTenants(t)
	fx.Apply(t, fx.Sample(t, "callers.yaml"))
	wide := func(policy, kind, reads string) string { return fmt.Sprintf(policy, kind, "", reads) }
	tenant := func(policy, kind, reads string) string {
		return fmt.Sprintf(policy, kind, ", namespace: team-a", reads)
	}
	client, plain := fx.client(t), fx.CallerToken(t)
	encoded := base64.StdEncoding.EncodeToString([]byte(plain))
	policies := 0
	for sentence, test := range map[string]struct {
		policy string
		told   bool
	}{
		"a cluster-wide policy, the entry":               {wide(celPolicy, "ValidatingPolicy", entry), true},
		"a cluster-wide policy, the Secret":              {wide(celPolicy, "ValidatingPolicy", resource), true},
		"a cluster-wide policy, the entry by reference":  {wide(contextPolicy, "ClusterPolicy", byName), true},
		"a cluster-wide policy, a call":                  {wide(contextPolicy, "ClusterPolicy", fmt.Sprintf(byPath, "", "")), true},
		"a namespace's policy, the entry":                {tenant(celPolicy, "NamespacedValidatingPolicy", entry), false},
		"a namespace's policy, the Secret":               {tenant(celPolicy, "NamespacedValidatingPolicy", resource), false},
		"a namespace's policy, the entry by reference":   {tenant(contextPolicy, "Policy", byName), false},
		"a namespace's policy, a call":                   {tenant(contextPolicy, "Policy", fmt.Sprintf(byPath, "", "")), false},
		"a namespace's policy, a call by a detour":       {tenant(contextPolicy, "Policy", fmt.Sprintf(byPath, "", "team-a/../")), false},
		"a namespace's policy, a call by another detour": {tenant(contextPolicy, "Policy", fmt.Sprintf(byPath, "/api/v1/namespaces/team-a/../../../..", "")), false},
	} {
		t.Run(sentence, func(t *testing.T) {
			policies++
			name := fmt.Sprint("curious-", policies) // Kyverno goes by the one before for a moment
			policy := strings.Replace(test.policy, "name: curious", "name: "+name, 1)
			if said, err := fx.Bed.Kubectl(t.Context(), policy, "create", "-f", "-"); err != nil {
				if test.told || strings.Contains(said+err.Error(), plain) || strings.Contains(said+err.Error(), encoded) {
					t.Error("the policy is refused, or the token is told")
				}
				return
			}
			defer fx.Kubectl(t, policy, "delete", "-f", "-")
			said := ""
			err := deployment.Eventually(t.Context(), deployment.Patience, func() error {
				if got, err := admit(t.Context(), client, fx.Reference("signed")); err == nil {
					return fmt.Errorf("admitted: %s", got)
				} else if said = err.Error(); !strings.Contains(said, name) || test.told && !strings.Contains(said, encoded) {
					return err
				}
				return nil
			})
			if err != nil {
				t.Fatal("the policy has no effect")
			}
			if told := strings.Contains(said, plain) || strings.Contains(said, encoded); told != test.told {
				t.Errorf("the token is told: %t; want %t", told, test.told)
			}
		})
	}
}
