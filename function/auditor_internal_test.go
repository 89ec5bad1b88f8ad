package function

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/auditor"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

func TestAuditorSettings(t *testing.T) {
	for sentence, tt := range map[string]struct {
		args []string
		fail string
	}{
		"off by default":                          {nil, ""},
		"all of them":                             {[]string{"--audit", "--auditInterval=10m", "--auditRegistryRequests=60", "--auditTrustPolicy=tp-{{ namespace }}", "--auditExceptNamespaces=a,b"}, ""},
		"an interval that is too short":           {[]string{"--audit", "--auditInterval=10ms"}, "auditInterval"},
		"requests that are too few":               {[]string{"--audit", "--auditRegistryRequests=1"}, "auditRegistryRequests"},
		"a variable that there is not":            {[]string{"--audit", "--auditTrustPolicy=tp-{{ team }}"}, "{{ namespace }}"},
		"a flag of the auditor that there is not": {[]string{"--auditor"}, "auditor"},
	} {
		t.Run(sentence, func(t *testing.T) {
			settings, err := loadCertmanagerSettings(tt.args, func(string) (string, bool) { return "", false })
			if tt.fail == "" && err != nil || tt.fail != "" && (err == nil || !strings.Contains(err.Error(), tt.fail)) {
				t.Errorf("error %v, want one that names %q", err, tt.fail)
			}
			if err == nil && settings.Auditor.Audit != (len(tt.args) > 0) {
				t.Errorf("settings %+v", settings.Auditor)
			}
		})
	}
}

// TestMetricsNameSoManyNamespaces and count the others together: whoever makes namespaces makes no metrics without end.
func TestMetricsNameSoManyNamespaces(t *testing.T) {
	counts := map[string]map[auditor.Result]int{}
	for i := range 2000 {
		counts[fmt.Sprintf("team-%04d", i)] = map[auditor.Result]int{auditor.Pass: 1, auditor.Fail: 2}
	}
	bounded := boundedNamespaces(counts)
	if len(bounded) != maxNamespaces+1 || bounded[otherNamespaces][auditor.Fail] != 2*1500 || bounded["team-0000"][auditor.Pass] != 1 {
		t.Errorf("%d namespaces, the others with %v", len(bounded), bounded[otherNamespaces])
	}
}

// TestTheAuditorsTrust tells what needs no registry at once, and leaves out what nobody asked about.
func TestTheAuditorsTrust(t *testing.T) {
	a := &term{Auditor: &Auditor{}}
	snapshot := trust.Snapshot{Policies: map[string]trust.Policy{
		"good":   {Name: "good", Statements: []trust.Statement{{Name: "all", RegistryScopes: []string{"*"}, Level: "strict", TrustStores: []string{"ca:acme"}, TrustedIdentities: []string{"*"}}}},
		"broken": {Name: "broken", Problem: "it is broken"},
	}}.Sealed()
	for sentence, tt := range map[string]struct {
		check audit.Check
		code  reason.Code // of what is decided; "" where a registry must be asked
	}{
		"one to verify":                {audit.Check{Image: "reg.example/app:v1", TrustPolicy: "good"}, ""},
		"a policy that does not exist": {audit.Check{Image: "reg.example/app:v1", TrustPolicy: "missing"}, reason.TrustPolicyNotFound},
		"a policy that is broken":      {audit.Check{Image: "reg.example/app:v1", TrustPolicy: "broken"}, reason.TrustPolicyInvalid},
		"no image":                     {audit.Check{Image: "sha256:aaaa", TrustPolicy: "good"}, reason.RequestInvalid},
		"no policy":                    {audit.Check{Image: "reg.example/app:v1"}, reason.RequestInvalid},
	} {
		t.Run(sentence, func(t *testing.T) {
			demands, err := audit.Everywhere("good", nil)
			if err != nil {
				t.Fatal(err)
			}
			of := a.trust(snapshot, demands, "plugins")
			revision, decided := of.Revision(tt.check)
			if (decided == nil) != (tt.code == "") || decided != nil && decided.Code != tt.code || revision == "" {
				t.Errorf("revision %q, decided %+v, want %q", revision, decided, tt.code)
			}
			if other, _ := a.trust(snapshot, demands, "other plugins").Revision(tt.check); (other == revision) != (tt.code != "") {
				t.Errorf("with other plugins the revision is %q", other)
			}
		})
	}
	nothing := a.trust(snapshot, audit.ByNamespace(nil, audit.Namespaces{"team-a": nil}, nil), "")
	use := audit.Use{Workload: audit.Workload{Namespace: "team-a", Kind: "Pod", Name: "web"}, Container: "container app", Image: "reg.example/app:v1"}
	if checks, findings := nothing.Checks(use), nothing.Findings([]audit.Use{use}, nil); len(checks) > 0 || len(findings) > 0 {
		t.Errorf("where no trust policy applies, checks %v and findings %v", checks, findings)
	}
}
