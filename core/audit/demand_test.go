package audit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/trust"
)

const (
	byName  = `{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":%q}}}`
	byLabel = `{"namespaceSelector":{"matchLabels":{"team":%q}}}`
	sbom    = `,"attestations":[{"imageReference":"*","type":[{"name":"sbom"}]}]}`
)

// TestDemandsOfANamespace are those of all trust policies that select it.
func TestDemandsOfANamespace(t *testing.T) {
	policies := []audit.AppliesTo{
		appliesTo(t, "tp-a", fmt.Sprintf(byName, "team-a")),
		appliesTo(t, "tp-label", fmt.Sprintf(byLabel, "red")),
		appliesTo(t, "tp-others", `{"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"NotIn","values":["team-a","red","forger","unlisted"]}]}}`),
	}
	namespaces := audit.Namespaces{"team-a": nil, "red": {"team": "red"}, "both": {"team": "red"}, "plain": {}, "forger": {audit.LabelName: "team-a"}}
	for sentence, tt := range map[string]struct {
		namespace string
		want      []string
		code      reason.Code
	}{
		"one by its name": {"team-a", []string{"tp-a"}, ""},
		"one by a label":  {"red", []string{"tp-label"}, ""},
		"two":             {"both", []string{"tp-label", "tp-others"}, ""},
		"none":            {"forger", []string{""}, reason.NoTrustPolicy},
		"a namespace whose labels are not known, and none": {"unlisted", []string{"tp-label"}, reason.DemandUnknown},
		"a namespace whose labels are not known, and one":  {"new", []string{"tp-label", "tp-others"}, reason.DemandUnknown},
		"a workload without a namespace":                   {"", []string{"tp-a", "tp-label", "tp-others"}, reason.DemandUnknown},
	} {
		t.Run(sentence, func(t *testing.T) {
			var got []string
			code := reason.Code("")
			for _, demand := range audit.ByNamespace(policies, namespaces, nil).Of(tt.namespace) {
				got = append(got, demand.TrustPolicy)
				if demand.Unknown != nil {
					code = demand.Unknown.Code
				}
			}
			if !slices.Equal(got, tt.want) || code != tt.code {
				t.Errorf("demands %q with %q, want %q with %q", got, code, tt.want, tt.code)
			}
		})
	}
	fallback := audit.ByNamespace(policies, namespaces, &audit.Demand{TrustPolicy: "default-{{ namespace }}"})
	if got := fallback.Of("forger"); len(got) != 1 || got[0].TrustPolicy != "default-forger" || got[0].Unknown != nil {
		t.Errorf("with a default, the demands are %+v", got)
	}
	if got := fallback.Of("red"); len(got) != 1 || got[0].TrustPolicy != "tp-label" {
		t.Errorf("with a default, the demands of a selected namespace are %+v", got)
	}
	if got := (audit.Demands{}).Of("red"); len(got) != 1 || got[0].Unknown == nil {
		t.Errorf("of nothing, the demands are %+v", got)
	}
}

// TestTheWorstOfSeveralPoliciesDecides what is found, what flips and what ends.
func TestTheWorstOfSeveralPoliciesDecides(t *testing.T) {
	demands := audit.ByNamespace([]audit.AppliesTo{appliesTo(t, "one", fmt.Sprintf(byName, "team-a")), appliesTo(t, "two", fmt.Sprintf(byName, "team-a"))}, nil, nil)
	for sentence, tt := range map[string]struct {
		one, two audit.Verdict
		state    audit.State
		by       string
	}{
		"both verify":                     {verified(first), verified(first), audit.Verified, "one"},
		"one denies":                      {verified(first), coded(reason.NoSignature), audit.DeniedOnRestart, "two"},
		"one denies, the other is silent": {coded(reason.Timeout), coded(reason.NoSignature), audit.DeniedOnRestart, "two"},
		"one is silent":                   {coded(reason.Timeout), verified(first), audit.Unknown, "one"},
		"one was not made":                {verified(first), audit.Verdict{}, audit.Unknown, "two"},
		"one skips":                       {verified(first), coded(reason.Skipped), audit.Unverified, "two"},
	} {
		t.Run(sentence, func(t *testing.T) {
			ended := tt.one
			ended.Ends = []audit.End{end("signature", 3)}
			e := audit.Evaluation{Demands: demands, Verdicts: audit.Verdicts{{Image: written, TrustPolicy: "one"}: ended, {Image: written, TrustPolicy: "two"}: tt.two}}
			use := web("")
			if got := e.Findings([]audit.Use{use}); len(got) != 1 || got[0].State != tt.state || got[0].TrustPolicy != tt.by {
				t.Errorf("findings %+v, want %s by %s", got, tt.state, tt.by)
			}
			if got := e.FindingsByPolicy([]audit.Use{use}); len(got) != 2 || got[0].TrustPolicy != "one" || got[1].TrustPolicy != "two" {
				t.Errorf("findings by policy %+v", got)
			}
			admitted := tt.state == audit.Verified || tt.state == audit.Unverified
			if got := e.Expiries([]audit.Use{use}, now, now.AddDate(0, 1, 0)); (len(got) == 1) != admitted || admitted && got[0].TrustPolicy != "one" {
				t.Errorf("expiries %+v", got)
			}
			good := audit.Evaluation{Demands: demands, Verdicts: audit.Verdicts{{Image: written, TrustPolicy: "one"}: verified(first), {Image: written, TrustPolicy: "two"}: verified(first)}}
			want := map[audit.State]audit.Change{audit.DeniedOnRestart: audit.NewlyDenied, audit.Unknown: audit.NotTold, audit.Unverified: audit.NoLongerVerified}[tt.state]
			flips := audit.Flips([]audit.Use{use}, good, e)
			if (len(flips) > 0) != (want != "") || want != "" && (flips[0].Change != want || flips[0].Proposed.TrustPolicy != tt.by) {
				t.Errorf("flips %+v, want %s", flips, want)
			}
		})
	}
}

// TestADenialForWantOfAPluginHidesNoOther: of two policies one denies for what another machine may lack not, the other for the signer.
func TestADenialForWantOfAPluginHidesNoOther(t *testing.T) {
	demands := audit.ByNamespace([]audit.AppliesTo{appliesTo(t, "one", fmt.Sprintf(byName, "team-a")), appliesTo(t, "two", fmt.Sprintf(byName, "team-a"))}, nil, nil)
	under := func(one, two audit.Verdict) audit.Evaluation {
		return audit.Evaluation{Demands: demands, Verdicts: audit.Verdicts{{Image: written, TrustPolicy: "one"}: one, {Image: written, TrustPolicy: "two"}: two}}
	}
	now, proposed := under(coded(reason.PluginMissing), coded(reason.NoSignature)), under(verified(first), coded(reason.NoSignature))
	if flips := audit.Flips([]audit.Use{web("")}, now, proposed); len(flips) > 0 {
		t.Errorf("flips %+v", flips)
	}
}

// TestFlipsOfWhatApplies: a change of the namespaces and attestations themselves is one of trust.
func TestFlipsOfWhatApplies(t *testing.T) {
	under := func(verdict audit.Verdict, fields ...string) audit.Evaluation {
		var applied []audit.AppliesTo
		for i, field := range fields {
			applied = append(applied, appliesTo(t, fmt.Sprint("tp-", i), field))
		}
		e := audit.Evaluation{Demands: audit.ByNamespace(applied, nil, nil), Verdicts: audit.Verdicts{}}
		for _, check := range e.Demands.Checks([]audit.Use{web("")}) {
			e.Verdicts[check] = verdict
			if check.Rules == "" {
				e.Verdicts[check] = verified(first)
			}
		}
		return e
	}
	here, elsewhere := fmt.Sprintf(byName, "team-a"), fmt.Sprintf(byName, "team-b")
	more := strings.TrimSuffix(here, "}") + sbom
	for sentence, tt := range map[string]struct {
		now, proposed audit.Evaluation
		want          audit.Change
		outcome       audit.Outcome
	}{
		"the namespace is let go":               {under(verified(first), here), under(verified(first), elsewhere), audit.NoLongerSelected, audit.Indefinite},
		"what is denied is let go":              {under(coded(reason.AttestationMissing), more), under(verified(first), elsewhere), audit.NoLongerSelected, audit.Indefinite},
		"what could not be told is let go":      {under(coded(reason.Timeout), more), under(verified(first), elsewhere), audit.NoLongerSelected, audit.Indefinite},
		"the namespace is taken, and is good":   {under(verified(first), elsewhere), under(verified(first), here), "", audit.Good},
		"the namespace is taken, and is denied": {under(verified(first), elsewhere), under(coded(reason.AttestationMissing), more), audit.NewlyDenied, audit.Bad},
		"it is taken, and could not be told":    {under(verified(first), elsewhere), under(coded(reason.Timeout), more), audit.NotTold, audit.Indefinite},
		"it stays without a policy":             {under(verified(first), elsewhere), under(verified(first), elsewhere), "", audit.Good},
		"an attestation is demanded":            {under(verified(first), here), under(coded(reason.AttestationMissing), more), audit.NewlyDenied, audit.Bad},
		"an attestation is no longer demanded":  {under(coded(reason.AttestationMissing), more), under(verified(first), here), audit.NewlyAdmitted, audit.Good},
		"a second policy takes the namespace":   {under(verified(first), here), under(coded(reason.NoSignature), here, more), audit.NewlyDenied, audit.Bad},
		"one of two lets the namespace go":      {under(coded(reason.NoSignature), here, more), under(verified(first), here), audit.NewlyAdmitted, audit.Good},
	} {
		t.Run(sentence, func(t *testing.T) {
			flips := audit.Flips([]audit.Use{web("")}, tt.now, tt.proposed)
			got := audit.Change("")
			if len(flips) > 0 {
				got = flips[0].Change
			}
			if got != tt.want || audit.SumFlips(flips) != tt.outcome {
				t.Errorf("flips %+v with outcome %d, want %q and %d", flips, audit.SumFlips(flips), tt.want, tt.outcome)
			}
		})
	}
}

// TestChecksOfSeveralPoliciesAreDistinct by policy and attestations, and planned with theirs.
func TestChecksOfSeveralPoliciesAreDistinct(t *testing.T) {
	here := fmt.Sprintf(byName, "team-a")
	demands := audit.ByNamespace([]audit.AppliesTo{
		appliesTo(t, policy, here), appliesTo(t, "other", here), appliesTo(t, policy, strings.TrimSuffix(fmt.Sprintf(byName, "team-b"), "}")+sbom),
	}, nil, nil)
	b := web("")
	b.Namespace = "team-b"
	checks := demands.Checks([]audit.Use{web(""), web(""), b})
	if len(checks) != 3 {
		t.Fatalf("checks %+v", checks)
	}
	snapshot := trust.Snapshot{Policies: map[string]trust.Policy{}}
	for _, name := range []string{policy, "other"} {
		snapshot.Policies[name] = trust.Policy{Name: name, Statements: []trust.Statement{{Name: "all", RegistryScopes: []string{"*"}, Level: "strict"}}}
	}
	revisions := map[string]int{}
	for _, check := range checks {
		plan, err := demands.Plan(check, snapshot, "")
		if err != nil || len(plan.Tasks) != 1 || plan.Policy != check.TrustPolicy || (len(plan.Tasks[0].Attestations) == 1) != (check.Rules != "") {
			t.Errorf("%+v is planned as %+v, %v", check, plan, err)
			continue
		}
		revisions[plan.Tasks[0].Revision]++
	}
	if len(revisions) != 2 {
		t.Errorf("revisions %v: what a policy applies to is no part of them", revisions)
	}
	if _, err := demands.Plan(audit.Check{Image: written, TrustPolicy: policy, Rules: "others"}, snapshot, ""); err == nil {
		t.Error("attestations that nobody demands are planned")
	}
}

// TestOnlyEqualAttestationsMakeOneCheck of an image under a trust policy: a verdict must not be another demand's.
func TestOnlyEqualAttestationsMakeOneCheck(t *testing.T) {
	seen := map[string]string{}
	for _, rules := range []string{
		`[]`, `[{"imageReference":"*","type":[{"name":"sbom"}]}]`, `[{"imageReference":"*","type":[{"name":"scan"}]}]`, `[{"imageReference":"reg.example/*","type":[{"name":"sbom"}]}]`,
		`[{"imageReference":"*","type":[{"name":"sbom","select":"latest"}]}]`, `[{"imageReference":"*","type":[{"name":"sbom"},{"name":"scan"}]}]`,
		`[{"imageReference":"*","type":[{"name":"sbom"}]},{"imageReference":"*","type":[{"name":"scan"}]}]`,
		`[{"imageReference":"*","type":[{"name":"sbom","conditions":{"all":[{"key":"{{ a }}","operator":"Equals","value":1}]}}]}]`,
	} {
		applied := appliesTo(t, policy, `{"namespaceSelector":{},"attestations":`+rules+`}`)
		check := audit.ByNamespace([]audit.AppliesTo{applied}, nil, nil).Checks([]audit.Use{web("")})[0]
		if other, ok := seen[check.Rules]; ok {
			t.Errorf("%s is checked as %s", rules, other)
		}
		seen[check.Rules] = rules
	}
	if _, ok := seen[""]; !ok {
		t.Error("no attestations have an identity")
	}
}
