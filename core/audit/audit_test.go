package audit_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nirmata/kyverno-notation-venafi/core"
	"github.com/nirmata/kyverno-notation-venafi/core/audit"
	"github.com/nirmata/kyverno-notation-venafi/core/image"
	"github.com/nirmata/kyverno-notation-venafi/core/reason"
	"github.com/nirmata/kyverno-notation-venafi/core/verification"
)

const (
	written = "reg.example/acme/app:v1"
	policy  = "tp-team-a"
)

var (
	first  = "sha256:" + strings.Repeat("1", 64)
	second = "sha256:" + strings.Repeat("2", 64)
	now    = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
)

func web(running string) audit.Use {
	return audit.Use{Workload: audit.Workload{Namespace: "team-a", Kind: "Deployment", Name: "web"}, Container: "container app", Image: written, Running: running, Pods: 3}
}

// evaluated are verdicts of one trust policy for each namespace.
func evaluated(t *testing.T, verdicts audit.Verdicts) audit.Evaluation {
	t.Helper()
	demands, err := audit.Everywhere("tp-{{ namespace }}", nil)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Evaluation{Demands: demands, Verdicts: verdicts}
}

func verified(digest string) audit.Verdict {
	return audit.Verdict{Code: reason.Verified, Digest: digest, Reason: "signed by CN=Acme"}
}

func coded(code reason.Code) audit.Verdict {
	return audit.Verdict{Code: code, Reason: "because of " + string(code)}
}

func TestFindings(t *testing.T) {
	tests := map[string]struct {
		running       string
		restart, runs audit.Verdict // the zero value was not made
		want          audit.State
		code          reason.Code
	}{
		"verified, and nothing runs":                         {"", verified(first), audit.Verdict{}, audit.Verified, reason.Verified},
		"verified, and runs what its tag gives":              {first, verified(first), verified(first), audit.Verified, reason.Verified},
		"the tag was moved to another good image":            {second, verified(first), verified(second), audit.Moved, reason.Verified},
		"the tag was moved, and what runs is denied now":     {second, verified(first), coded(reason.SignatureUntrusted), audit.RunsDenied, reason.SignatureUntrusted},
		"the tag was moved to an image that is not signed":   {second, coded(reason.NoSignature), verified(second), audit.DeniedOnRestart, reason.NoSignature},
		"trust was withdrawn":                                {first, coded(reason.SignatureUntrusted), coded(reason.SignatureUntrusted), audit.DeniedOnRestart, reason.SignatureUntrusted},
		"the namespace has no trust policy":                  {first, coded(reason.TrustPolicyNotFound), coded(reason.TrustPolicyNotFound), audit.DeniedOnRestart, reason.TrustPolicyNotFound},
		"the image is no image":                              {"", coded(reason.RequestInvalid), audit.Verdict{}, audit.DeniedOnRestart, reason.RequestInvalid},
		"the registry is down":                               {first, coded(reason.RegistryUnavailable), coded(reason.RegistryUnavailable), audit.Unknown, reason.RegistryUnavailable},
		"the registry failed for the tag, the digest is bad": {first, coded(reason.Timeout), coded(reason.NoSignature), audit.RunsDenied, reason.NoSignature},
		"the registry failed for what runs":                  {second, verified(first), coded(reason.RegistryUnavailable), audit.Unknown, reason.RegistryUnavailable},
		"too much to do is no verdict":                       {"", coded(reason.Overloaded), audit.Verdict{}, audit.Unknown, reason.Overloaded},
		"admitted under the level skip":                      {first, coded(reason.Skipped), coded(reason.Skipped), audit.Unverified, reason.Skipped},
		"a check that was not made is not good":              {"", audit.Verdict{}, audit.Verdict{}, audit.Unknown, reason.NotGathered},
		"nor is one of what runs":                            {second, verified(first), audit.Verdict{}, audit.Unknown, reason.NotGathered},
		"nor one whose code nobody knows":                    {"", coded("Surprise"), audit.Verdict{}, audit.DeniedOnRestart, "Surprise"},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			verdicts := audit.Verdicts{{Image: written, TrustPolicy: policy}: tt.restart}
			if tt.running != "" {
				verdicts[audit.Check{Image: written + "@" + tt.running, TrustPolicy: policy}] = tt.runs
			}
			findings := evaluated(t, verdicts).Findings([]audit.Use{web(tt.running)})
			if len(findings) != 1 || findings[0].State != tt.want || findings[0].Code != tt.code || findings[0].Reason == "" || findings[0].TrustPolicy != policy {
				t.Errorf("findings %+v, want %s by %s", findings, tt.want, tt.code)
			}
			wantSum := map[audit.State]audit.Outcome{audit.DeniedOnRestart: audit.Bad, audit.RunsDenied: audit.Bad, audit.Unknown: audit.Indefinite}[tt.want]
			if got := audit.Sum(findings); got != wantSum {
				t.Errorf("outcome %d, want %d", got, wantSum)
			}
		})
	}
}

func TestADenialWeighsMoreThanWhatCouldNotBeTold(t *testing.T) {
	if got := audit.Sum([]audit.Finding{{State: audit.Unknown}, {State: audit.DeniedOnRestart}, {State: audit.Verified}}); got != audit.Bad {
		t.Errorf("outcome %d", got)
	}
}

func TestFlips(t *testing.T) {
	tests := map[string]struct {
		now, proposed audit.Verdict
		want          audit.Change
		outcome       audit.Outcome
	}{
		"nothing changes": {verified(first), verified(first), "", audit.Good},
		"denied before and after, for other reasons":                          {coded(reason.NoSignature), coded(reason.ScopeNotCovered), "", audit.Good},
		"its signer is no longer trusted":                                     {verified(first), coded(reason.SignatureUntrusted), audit.NewlyDenied, audit.Bad},
		"its policy is gone":                                                  {coded(reason.Skipped), coded(reason.TrustPolicyNotFound), audit.NewlyDenied, audit.Bad},
		"its signer is newly trusted":                                         {coded(reason.SignatureUntrusted), verified(first), audit.NewlyAdmitted, audit.Good},
		"what is denied is let in unseen":                                     {coded(reason.SignatureUntrusted), coded(reason.Skipped), audit.NewlyAdmitted, audit.Good},
		"what is verified would be let in unseen":                             {verified(first), coded(reason.Skipped), audit.NoLongerVerified, audit.Good},
		"what is let in unseen would be verified":                             {coded(reason.Skipped), verified(first), "", audit.Good},
		"the registry failed under both":                                      {coded(reason.RegistryUnavailable), coded(reason.RegistryUnavailable), audit.NotTold, audit.Indefinite},
		"the registry failed under the proposed":                              {verified(first), coded(reason.Timeout), audit.NotTold, audit.Indefinite},
		"the registry failed under that of now":                               {coded(reason.Timeout), coded(reason.NoSignature), audit.NotTold, audit.Indefinite},
		"nothing was verified under the proposed":                             {verified(first), audit.Verdict{}, audit.NotTold, audit.Indefinite},
		"the CA's responder failed now, and the proposed would deny":          {coded(reason.RevocationUnknown), coded(reason.SignatureUntrusted), audit.NotTold, audit.Indefinite},
		"the plugin is not installed here, and the proposed would deny":       {coded(reason.PluginMissing), coded(reason.SignatureUntrusted), audit.NotTold, audit.Indefinite},
		"the plugin is not installed here, and the signer is trusted by both": {coded(reason.PluginMissing), coded(reason.PluginMissing), "", audit.Good},
		"the CA's responder failed under the proposed":                        {verified(first), coded(reason.RevocationUnknown), audit.NewlyDenied, audit.Bad},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			check := audit.Check{Image: written, TrustPolicy: policy}
			flips := audit.Flips([]audit.Use{web("")}, evaluated(t, audit.Verdicts{check: tt.now}), evaluated(t, audit.Verdicts{check: tt.proposed}))
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

func end(cause verification.Cause, days int) audit.End {
	return audit.End{End: verification.End{Cause: cause, At: now.AddDate(0, 0, days), Subject: "CN=Acme"}}
}

func TestExpiries(t *testing.T) {
	tests := map[string]struct {
		ends []audit.End
		want []verification.Cause
	}{
		"nothing ends":                                {nil, nil},
		"the certificate ends in time":                {[]audit.End{end(verification.EndOfCertificate, 10)}, []verification.Cause{verification.EndOfCertificate}},
		"on the day itself":                           {[]audit.End{end(verification.EndOfCertificate, 30)}, []verification.Cause{verification.EndOfCertificate}},
		"after the date":                              {[]audit.End{end(verification.EndOfCertificate, 31)}, nil},
		"the first of several":                        {[]audit.End{end(verification.EndOfCertificate, 20), end(verification.EndOfSignature, 5)}, []verification.Cause{verification.EndOfSignature}},
		"what may end before what does":               {[]audit.End{end(verification.EndOfCertificate, 20), end(verification.NeedsRevocation, 1)}, []verification.Cause{verification.NeedsRevocation, verification.EndOfCertificate}},
		"what may end after what does is no use":      {[]audit.End{end(verification.EndOfCertificate, 5), end(verification.NeedsTimestamp, 20)}, []verification.Cause{verification.EndOfCertificate}},
		"what may end in time, and does after it":     {[]audit.End{end(verification.EndOfCertificate, 40), end(verification.NeedsTimestamp, 20)}, []verification.Cause{verification.NeedsTimestamp}},
		"the first of several that only may":          {[]audit.End{end(verification.NeedsTimestamp, 20), end(verification.NeedsRevocation, 2)}, []verification.Cause{verification.NeedsRevocation}},
		"the attestation's signature ends before its": {[]audit.End{end(verification.EndOfSignature, 20), {End: end(verification.EndOfSignature, 3).End, Attestation: first}}, []verification.Cause{verification.EndOfSignature}},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			verdict := verified(first)
			verdict.Ends = tt.ends
			expiries := evaluated(t, audit.Verdicts{{Image: written, TrustPolicy: policy}: verdict}).Expiries([]audit.Use{web(first)}, now, now.AddDate(0, 0, 30))
			var got []verification.Cause
			certain := false
			for _, expiry := range expiries {
				got, certain = append(got, expiry.Cause), certain || expiry.Certain
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("causes %q, want %q", got, tt.want)
			}
			if bad := audit.SumExpiries(nil, expiries) == audit.Bad; bad != certain {
				t.Errorf("outcome is bad: %t, though certain: %t", bad, certain)
			}
		})
	}
}

// TestJudgeForeseesWhatDenies: of two attestations, either of which is enough, the image ends with the second.
func TestJudgeForeseesWhatDenies(t *testing.T) {
	signature := func(days int) verification.SignatureFact {
		at := now.AddDate(0, 0, days)
		return verification.SignatureFact{Verified: true, ValidUntil: at, Ends: []verification.End{{Cause: verification.EndOfSignature, At: at}}}
	}
	ref, err := image.Parse(written)
	if err != nil {
		t.Fatal(err)
	}
	plan := core.Plan{
		Policy: policy, Images: []core.PlannedImage{{Image: core.Image{Ref: ref}}},
		Tasks: []verification.Task{{Ref: ref, Policy: policy, Attestations: []verification.AttestationType{{Name: "sbom/cyclone-dx"}}}},
	}
	for sentence, tt := range map[string]struct {
		image        int // the day on which its signature expires, and those of its attestations
		attestations []int
		want         []int
	}{
		"its own signature ends it":       {5, []int{9}, []int{5, 9}},
		"its only attestation ends it":    {9, []int{5}, []int{9, 5}},
		"the second attestation takes on": {20, []int{5, 9}, []int{20, 9}},
	} {
		var found verification.AttestationsFact
		for _, days := range tt.attestations {
			found.Candidates = append(found.Candidates, verification.AttestationFact{Digest: second, Signature: signature(days)})
		}
		verdict := audit.Judge(plan, []verification.Fact{{Digest: first, Signature: signature(tt.image), Attestations: []verification.AttestationsFact{found}}}, now)
		var got []int
		for _, end := range verdict.Ends {
			got = append(got, int(end.At.Sub(now).Hours()/24))
		}
		if verdict.Code != reason.Verified || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %s: %s, ends on days %v, want %v", sentence, verdict.Code, verdict.Reason, got, tt.want)
		}
	}
}

// TestForeseen: only what a condition says then is added, since signatures end by themselves, and what could not be told is told.
func TestForeseen(t *testing.T) {
	later := now.AddDate(0, 0, 30)
	for sentence, tt := range map[string]struct {
		now, later audit.Verdict
		code       reason.Code
		ends       int
	}{
		"admitted then too":         {verified(first), verified(first), reason.Verified, 0},
		"a condition fails then":    {verified(first), coded(reason.ConditionUnmet), reason.Verified, 1},
		"a signature has expired":   {verified(first), coded(reason.SignatureExpired), reason.Verified, 0},
		"it could not be evaluated": {verified(first), coded(reason.Timeout), reason.Timeout, 0},
		"it was not evaluated":      {verified(first), audit.Verdict{}, "", 0},
		"denied now":                {coded(reason.NoSignature), coded(reason.ConditionUnmet), reason.NoSignature, 0},
	} {
		got := tt.now.Foreseen(tt.later, later)
		if got.Code != tt.code || len(got.Ends) != tt.ends {
			t.Errorf("%s: %+v", sentence, got)
		}
		expiries := evaluated(t, audit.Verdicts{{Image: written, TrustPolicy: policy}: got}).Expiries([]audit.Use{web("")}, now, later)
		if len(expiries) != tt.ends || tt.ends == 1 && (!expiries[0].Certain || !strings.Contains(expiries[0].Reason, "a condition that reads the clock is not met: because of ConditionUnmet")) {
			t.Errorf("%s: expiries %+v", sentence, expiries)
		}
	}
}

func TestExpiriesAreInTheOrderOfTime(t *testing.T) {
	late, soon := web(""), web("")
	soon.Name, soon.Image = "zoo", "reg.example/acme/zoo:v1"
	a, b := verified(first), verified(second)
	a.Ends, b.Ends = []audit.End{end(verification.EndOfSignature, 9)}, []audit.End{{End: end(verification.EndOfSignature, 2).End, Attestation: first}}
	expiries := evaluated(t, audit.Verdicts{{Image: written, TrustPolicy: policy}: a, {Image: soon.Image, TrustPolicy: policy}: b}).Expiries([]audit.Use{late, soon}, now, now.AddDate(1, 0, 0))
	if len(expiries) != 2 || expiries[0].Name != "zoo" || !strings.Contains(expiries[0].Reason, "attestation "+first+" expires in 2 days") || expiries[1].Name != "web" {
		t.Errorf("expiries %+v", expiries)
	}
}

func TestAnchorsCountWhatTheyCarry(t *testing.T) {
	root := verification.Anchor{Store: "ca:acme", Subject: "CN=Root", Fingerprint: "aa", NotAfter: now.AddDate(2, 0, 0)}
	other := verification.Anchor{Store: "ca:acme", Subject: "CN=Other", Fingerprint: "bb", NotAfter: now.AddDate(1, 0, 0)}
	a, b := verified(first), verified(second)
	a.Anchors, b.Anchors = []verification.Anchor{root, root}, []verification.Anchor{root, other}
	same, api, denied := web(first), web(""), web("")
	same.Name = "same"
	api.Name, api.Image = "api", "reg.example/acme/api:v1"
	denied.Image = "reg.example/acme/denied:v1"
	anchors := evaluated(t, audit.Verdicts{
		{Image: written, TrustPolicy: policy}: a, {Image: api.Image, TrustPolicy: policy}: b, {Image: denied.Image, TrustPolicy: policy}: coded(reason.NoSignature),
	}).Anchors([]audit.Use{web(""), same, api, denied})
	if len(anchors) != 2 || anchors[0].Fingerprint != "bb" || anchors[0].Images != 1 || anchors[0].Workloads != 1 || anchors[0].Pods != 3 ||
		anchors[1].Fingerprint != "aa" || anchors[1].Images != 2 || anchors[1].Workloads != 3 || anchors[1].Pods != 9 {
		t.Errorf("anchors %+v", anchors)
	}
}

func TestChecks(t *testing.T) {
	tests := map[string]struct {
		image, running, runs string
	}{
		"a tag, and what runs":                  {written, first, written + "@" + first},
		"a tag, and nothing runs":               {written, "", ""},
		"a digest that runs":                    {"reg.example/acme/app@" + first, first, ""},
		"a tag and the digest that runs":        {written + "@" + first, first, ""},
		"a digest, and another runs":            {"reg.example/acme/app@" + first, second, "reg.example/acme/app@" + second},
		"a short name is told in full":          {"nginx", first, "docker.io/library/nginx:latest@" + first},
		"an image that is none is checked once": {"not an image", first, ""},
	}
	for sentence, tt := range tests {
		t.Run(sentence, func(t *testing.T) {
			use := web(tt.running)
			use.Image = tt.image
			want := []audit.Check{{Image: tt.image, TrustPolicy: policy}}
			if tt.runs != "" {
				want = append(want, audit.Check{Image: tt.runs, TrustPolicy: policy})
			}
			slices.SortFunc(want, audit.Check.Compare)
			if got := evaluated(t, nil).Demands.Checks([]audit.Use{use}); !slices.Equal(got, want) {
				t.Errorf("checks %+v, want %+v", got, want)
			}
		})
	}
}

func TestEachPairIsCheckedOnce(t *testing.T) {
	a, b, other := web(first), web(first), web(second)
	b.Name, b.Container = "api", "init container setup"
	elsewhere := web(first)
	elsewhere.Namespace = "team-b"
	if got := evaluated(t, nil).Demands.Checks([]audit.Use{a, b, other, elsewhere}); len(got) != 5 { // the tag and two digests for team-a, the tag and one for team-b
		t.Errorf("%d checks: %+v", len(got), got)
	}
}

func TestMergedAddsUpPods(t *testing.T) {
	one, two := web(first), web(second)
	got := audit.Merged([]audit.Use{two, one, one})
	if len(got) != 2 || got[0].Running != first || got[0].Pods != 6 || got[1].Pods != 3 {
		t.Errorf("merged %+v", got)
	}
}

func TestRunningDigest(t *testing.T) {
	for imageID, want := range map[string]string{
		"docker.io/library/nginx@" + first:                   first,
		"docker-pullable://docker.io/library/nginx@" + first: first,
		"quay.io/acme/app@" + first:                          first,
		first:                                                "", // the identifier of an unpacked image is the digest of no manifest
		"docker://" + first:                                  "",
		strings.Repeat("1", 64):                              "",
		"":                                                   "",
		"acme/app@sha256:12":                                 "",
		"acme/app@" + first + " ":                            "",
		"acme/app@sha512:" + strings.Repeat("1", 128): "",
	} {
		if got := audit.RunningDigest(imageID); got != want {
			t.Errorf("RunningDigest(%q) = %q, want %q", imageID, got, want)
		}
	}
}

func TestTrustPolicyOfANamespace(t *testing.T) {
	for template, want := range map[string]string{
		"tp-{{ namespace }}": "tp-team-a", "{{namespace}}-{{  namespace  }}": "team-a-team-a", "demo": "demo", "": "",
		"tp-{{ request.namespace }}": "refused", "tp-{{ namespace": "refused", "}}": "refused",
	} {
		d, err := audit.Everywhere(template, nil)
		if err != nil {
			if want != "refused" {
				t.Errorf("%q: %v", template, err)
			}
			continue
		}
		if none := d.Of(""); len(none) != 1 || none[0].TrustPolicy != template {
			t.Errorf("%q without a namespace is %+v", template, none)
		}
		if got := d.Of("team-a"); len(got) != 1 || got[0].TrustPolicy != want || got[0].Unknown != nil {
			t.Errorf("%q is %+v, want %q", template, got, want)
		}
	}
}

func TestEveryStateAndChangeHasWords(t *testing.T) {
	seen := map[string]bool{}
	for _, state := range audit.States() {
		seen[state.Words()] = true
	}
	if len(seen) != len(audit.States()) {
		t.Errorf("words of states: %v", seen)
	}
	seen = map[string]bool{}
	for _, change := range audit.Changes() {
		seen[change.Words()] = true
	}
	if len(seen) != len(audit.Changes()) {
		t.Errorf("words of changes: %v", seen)
	}
}
